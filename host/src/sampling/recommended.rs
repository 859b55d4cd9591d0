//! What a model's authors recommend, in the words of Hugging Face's generation_config.json. Knows no requests: who asks
//! says what a request has said already.

use serde_json::{Map, Value};

use super::{Filters, Selection, Settings};

/// Settings that hold where a request says nothing.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Recommended {
    /// `temperature`; 0 where `do_sample` is false.
    pub temperature: Option<f32>,
    /// `top_k`
    pub top_k: Option<u32>,
    /// `top_p`
    pub top_p: Option<f32>,
    /// `min_p`
    pub min_p: Option<f32>,
    /// `repetition_penalty`
    pub repeat_penalty: Option<f32>,
}

impl Recommended {
    /// Reads the object. What makes no sense is left out and told.
    pub fn read(object: &Map<String, Value>) -> (Self, Vec<String>) {
        let mut wrong = Vec::new();
        let mut number = |name: &'static str, sound: &dyn Fn(f32) -> Settings| {
            let value = object.get(name).filter(|value| !value.is_null())?;
            let number = value.as_f64().map(|number| number as f32);
            let sound = number.filter(|&number| sound(number).validate().is_ok());
            if sound.is_none() {
                wrong.push(format!("generation_defaults: `{name}` is {value}, which cannot be used"));
            }
            sound
        };
        let filters = |filters| Settings { selection: Selection::Filters(filters), ..Settings::default() };
        let temperature =
            number("temperature", &|temperature| Settings { temperature, ..Settings::default() });
        let top_p = number("top_p", &|top_p| filters(Filters { top_p, ..Filters::default() }));
        let min_p = number("min_p", &|min_p| filters(Filters { min_p, ..Filters::default() }));
        let repeat_penalty = number("repetition_penalty", &|repeat_penalty| Settings {
            repeat_penalty,
            ..Settings::default()
        });
        let top_k = object.get("top_k").filter(|value| !value.is_null());
        let count = top_k.and_then(Value::as_u64).and_then(|count| u32::try_from(count).ok());
        if let (Some(value), None) = (top_k, count) {
            wrong.push(format!("generation_defaults: `top_k` is {value}, which cannot be used"));
        }
        let greedy = object.get("do_sample") == Some(&Value::Bool(false));
        let temperature = if greedy { Some(0.0) } else { temperature };
        (Recommended { temperature, top_k: count, top_p, min_p, repeat_penalty }, wrong)
    }

    /// Puts them into settings, but for the fields that were `said`, by the names that the HTTP API has for them.
    pub fn fill(&self, settings: &mut Settings, said: impl Fn(&str) -> bool) {
        let unsaid = |name: &str| !said(name);
        if let Some(temperature) = self.temperature.filter(|_| unsaid("temperature")) {
            settings.temperature = temperature;
        }
        let penalty = unsaid("repeat_penalty") && unsaid("repetition_penalty");
        if let Some(penalty) = self.repeat_penalty.filter(|_| penalty) {
            settings.repeat_penalty = penalty;
            // As it is meant there: over all that was said.
            if unsaid("repeat_last_n") {
                settings.penalty_window = u32::MAX;
            }
        }
        // Mirostat chooses its own border.
        let Selection::Filters(filters) = &mut settings.selection else { return };
        if let Some(top_k) = self.top_k.filter(|_| unsaid("top_k")) {
            filters.top_k = top_k;
        }
        if let Some(top_p) = self.top_p.filter(|_| unsaid("top_p")) {
            filters.top_p = top_p;
        }
        if let Some(min_p) = self.min_p.filter(|_| unsaid("min_p")) {
            filters.min_p = min_p;
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(value: &Value) -> (Recommended, Vec<String>) {
        Recommended::read(value.as_object().unwrap())
    }

    #[test]
    fn a_generation_config_is_read_and_what_makes_no_sense_is_told() {
        let (found, wrong) = read(&json!({
            "do_sample": true, "temperature": 0.6, "top_k": 20, "top_p": 0.95, "repetition_penalty": 1.05,
            "eos_token_id": [1, 2], "transformers_version": "4.51.0",
        }));
        let expected = Recommended {
            temperature: Some(0.6),
            top_k: Some(20),
            top_p: Some(0.95),
            min_p: None,
            repeat_penalty: Some(1.05),
        };
        assert_eq!((found, wrong.len()), (expected, 0));
        let (greedy, _) = read(&json!({"do_sample": false, "temperature": 0.6}));
        assert_eq!(greedy.temperature, Some(0.0));
        let (none, wrong) =
            read(&json!({"temperature": "hot", "top_p": 1.5, "top_k": -1, "repetition_penalty": 0}));
        assert_eq!(none, Recommended::default());
        for name in ["temperature", "top_p", "top_k", "repetition_penalty"] {
            assert!(wrong.iter().any(|line| line.contains(&format!("`{name}`"))), "{wrong:?}");
        }
    }

    #[test]
    fn what_was_said_goes_before_what_is_recommended() {
        let (all, _) = read(
            &json!({"temperature": 0.5, "top_k": 3, "top_p": 0.9, "min_p": 0.1, "repetition_penalty": 1.2}),
        );
        let filled = |said: &[&str]| {
            let mut settings = Settings::default();
            all.fill(&mut settings, |name| said.contains(&name));
            settings
        };
        let none = filled(&[]);
        assert_eq!((none.temperature, none.repeat_penalty, none.penalty_window), (0.5, 1.2, u32::MAX));
        let filters = none.filters().unwrap();
        assert_eq!((filters.top_k, filters.top_p, filters.min_p), (3, 0.9, 0.1));
        let names = ["temperature", "top_k", "top_p", "min_p", "repetition_penalty"];
        assert_eq!(filled(&names), Settings::default());
        assert_eq!(filled(&["repeat_penalty"]).repeat_penalty, 1.0);
        assert_eq!(filled(&["repeat_last_n"]).penalty_window, Settings::default().penalty_window);
    }
}
