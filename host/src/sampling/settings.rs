//! What a request may ask of the sampler, and which values make sense. Knows no defaults of models or of an API beyond
//! its own `Default`, and no vocabulary except where one is handed in.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How the next token is chosen. `Default` is OpenAI's: temperature 1 and everything else off.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// Divides the logits before the draw, 0 to 5; 0 takes the best token without a draw.
    pub temperature: f32,
    /// Keep this many of the best tokens; 0 keeps all. Fan et al. 2018, <https://arxiv.org/abs/1805.04833>.
    pub top_k: u32,
    /// Keep the fewest best tokens that together have at least this probability, over 0 to 1; 1 keeps all.
    /// Nucleus sampling, Holtzman et al. 2019, <https://arxiv.org/abs/1904.09751>.
    pub top_p: f32,
    /// Keep tokens with at least this share of the best token's probability, 0 to under 1; 0 keeps all.
    /// Nguyen et al. 2024, <https://arxiv.org/abs/2407.01082>.
    pub min_p: f32,
    /// Divides a positive logit, multiplies any other, of each token in the penalty window; over 0 to 100, 1 is off.
    /// Keskar et al. 2019 (CTRL), <https://arxiv.org/abs/1909.05858>, section 4.1, which only divides: that would make
    /// tokens with a negative logit likelier.
    pub repeat_penalty: f32,
    /// Taken once from the logit of each token that the answer has, -2 to 2. OpenAI API reference: the answer alone
    /// counts, all of it, and not the prompt (llama.cpp counts both, within its window).
    pub presence_penalty: f32,
    /// Taken from a token's logit for each time that the answer has it, -2 to 2. As above.
    pub frequency_penalty: f32,
    /// How many last tokens, prompt and answer together, the repeat penalty looks at; 0 turns it off.
    pub penalty_window: u32,
    /// Added to these tokens' logits, each -100 to 100; a token named twice gets both.
    pub logit_bias: Vec<(u32, f32)>,
    /// Tokens that are never chosen, such as end tokens under `ignore_eos`.
    pub banned: Vec<u32>,
}

/// A setting with a value that makes no sense.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidSetting {
    /// The field of [`Settings`].
    pub field: &'static str,
    /// What was expected and what was there, the field's name included.
    pub message: String,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            temperature: 1.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            repeat_penalty: 1.0,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            penalty_window: 64,
            logit_bias: Vec::new(),
            banned: Vec::new(),
        }
    }
}

impl Settings {
    /// Checks each number against the range in its field's description.
    ///
    /// OpenAI ends temperature at 2. Five is allowed here because min-p keeps high temperatures sensible; beyond it
    /// what passed the filters is as good as uniform.
    ///
    /// # Errors
    /// Names the first field, in the order of declaration, that is out of range or not a finite number.
    pub fn validate(&self) -> Result<(), InvalidSetting> {
        let within = |field, value: f32, low: f32, high: f32| {
            let good = (low..=high).contains(&value);
            expect(good, field, value, || format!("a number from {low} to {high}"))
        };
        within("temperature", self.temperature, 0.0, 5.0)?;
        expect(self.top_p > 0.0 && self.top_p <= 1.0, "top_p", self.top_p, || {
            "a number over 0 and at most 1".to_owned()
        })?;
        expect((0.0..1.0).contains(&self.min_p), "min_p", self.min_p, || {
            "a number from 0 to under 1".to_owned()
        })?;
        let repeat = self.repeat_penalty;
        expect(repeat > 0.0 && repeat <= 100.0, "repeat_penalty", repeat, || {
            "a number over 0 and at most 100, where 1 is off".to_owned()
        })?;
        within("presence_penalty", self.presence_penalty, -2.0, 2.0)?;
        within("frequency_penalty", self.frequency_penalty, -2.0, 2.0)?;
        for (token, bias) in &self.logit_bias {
            let good = (-100.0..=100.0).contains(bias);
            expect(good, "logit_bias", *bias, || format!("a number from -100 to 100 for token {token}"))?;
        }
        Ok(())
    }

    /// Checks that each token named in `logit_bias` and `banned` is one of a vocabulary of `tokens` tokens. The sampler
    /// itself passes over others, for it learns the vocabulary's size only from the logits.
    ///
    /// # Errors
    /// Names the field and the first token that is not in the vocabulary.
    pub fn validate_tokens(&self, tokens: u32) -> Result<(), InvalidSetting> {
        let biased = self.logit_bias.iter().map(|(token, _)| ("logit_bias", *token));
        let banned = self.banned.iter().map(|token| ("banned", *token));
        match biased.chain(banned).find(|(_, token)| *token >= tokens) {
            None => Ok(()),
            Some((field, token)) => Err(InvalidSetting {
                field,
                message: format!(
                    "{field} names token {token}, but this model has only {tokens} tokens, from 0 on"
                ),
            }),
        }
    }
}

/// NaN is in no range, so that every comparison above refuses it.
fn expect(
    good: bool,
    field: &'static str,
    got: f32,
    expected: impl FnOnce() -> String,
) -> Result<(), InvalidSetting> {
    if good {
        return Ok(());
    }
    Err(InvalidSetting { field, message: format!("{field} must be {}, got {got}", expected()) })
}

impl fmt::Display for InvalidSetting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for InvalidSetting {}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(change: impl FnOnce(&mut Settings)) -> Option<(&'static str, String)> {
        let mut settings = Settings::default();
        change(&mut settings);
        settings.validate().err().map(|error| (error.field, error.to_string()))
    }

    /// Each field, the values that it takes and those that it refuses.
    #[test]
    fn ranges() {
        type Set = fn(&mut Settings, f32);
        let (nan, infinity) = (f32::NAN, f32::INFINITY);
        let table: [(&str, Set, &[f32], &[f32]); 7] = [
            ("temperature", |s, v| s.temperature = v, &[0.0, 0.7, 2.0, 5.0], &[-0.1, 5.1, nan, infinity]),
            ("top_p", |s, v| s.top_p = v, &[1e-9, 0.9, 1.0], &[0.0, -0.5, 1.01, nan, infinity]),
            ("min_p", |s, v| s.min_p = v, &[0.0, 0.05, 0.999], &[1.0, -0.1, nan, infinity]),
            (
                "repeat_penalty",
                |s, v| s.repeat_penalty = v,
                &[0.5, 1.0, 1.1],
                &[0.0, -1.0, 101.0, nan, infinity],
            ),
            (
                "presence_penalty",
                |s, v| s.presence_penalty = v,
                &[-2.0, 0.0, 2.0],
                &[-2.1, 2.1, nan, -infinity],
            ),
            ("frequency_penalty", |s, v| s.frequency_penalty = v, &[-2.0, 2.0], &[-2.1, 2.1, nan, infinity]),
            ("logit_bias", |s, v| s.logit_bias = vec![(7, v)], &[-100.0, 100.0], &[-101.0, 101.0, nan]),
        ];
        for (field, set, good, bad) in table {
            for value in good {
                assert_eq!(refused(|s| set(s, *value)), None, "{field} = {value}");
            }
            for value in bad {
                let (named, message) = refused(|s| set(s, *value)).unwrap();
                assert_eq!(named, field, "{field} = {value}");
                assert!(message.ends_with(&format!("got {value}")), "{message}");
            }
        }
    }

    #[test]
    fn messages_say_what_was_expected() {
        let (_, message) = refused(|s| s.temperature = 9.0).unwrap();
        assert_eq!(message, "temperature must be a number from 0 to 5, got 9");
        let (_, message) = refused(|s| s.logit_bias = vec![(1, 0.0), (50, 300.0)]).unwrap();
        assert_eq!(message, "logit_bias must be a number from -100 to 100 for token 50, got 300");
    }

    #[test]
    fn tokens_outside_the_vocabulary_are_named() {
        let mut settings = Settings { logit_bias: vec![(9, 1.0)], banned: vec![3], ..Settings::default() };
        assert_eq!(settings.validate_tokens(10), Ok(()));
        let error = settings.validate_tokens(9).unwrap_err();
        assert_eq!(
            error.to_string(),
            "logit_bias names token 9, but this model has only 9 tokens, from 0 on"
        );
        settings.logit_bias.clear();
        assert_eq!(settings.validate_tokens(3).unwrap_err().field, "banned");
    }
}
