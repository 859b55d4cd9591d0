//! Reads a JSON object field by field. Each field is taken once, an explicit `null` counts as absent, and what nobody
//! took is refused by name: nothing is accepted and then ignored.
//!
//! Shapes only; what values mean is decided by whoever takes them.

use std::ops::RangeInclusive;

use serde_json::{Map, Value};

use super::error::{Failure, Result};
use crate::error::Error;

/// The fields of an object that nobody has taken yet.
#[derive(Debug)]
pub(crate) struct Fields {
    /// Where the object stands in the body, as `messages[2]`; empty for the body itself.
    at: String,
    values: Map<String, Value>,
}

impl Fields {
    /// The body itself.
    pub(crate) fn of_body(values: Map<String, Value>) -> Self {
        Fields { at: String::new(), values }
    }

    /// An object within it.
    pub(crate) fn of(at: &str, value: Value) -> Result<Self> {
        match value {
            Value::Object(values) => Ok(Fields { at: at.to_owned(), values }),
            other => Err(Failure::wrong_shape(at, "an object", found(&other))),
        }
    }

    /// A field's place in the body, as `messages[2].content`.
    pub(crate) fn path(&self, name: &str) -> String {
        if self.at.is_empty() { name.to_owned() } else { format!("{}.{name}", self.at) }
    }

    /// The names of those that say something.
    pub(crate) fn names(&self) -> Vec<String> {
        self.values.iter().filter(|(_, value)| !value.is_null()).map(|(name, _)| name.clone()).collect()
    }

    /// A value that somebody else takes.
    pub(crate) fn peek(&self, name: &str) -> Option<&Value> {
        self.values.get(name)
    }

    /// Any value.
    pub(crate) fn value(&mut self, name: &str) -> Option<Value> {
        #[cfg(test)]
        looked_for::note(&self.at, name);
        self.values.remove(name).filter(|value| !value.is_null())
    }

    /// A string.
    pub(crate) fn text(&mut self, name: &str) -> Result<Option<String>> {
        self.read(name, |path, value| match value {
            Value::String(text) => Ok(text),
            other => Err(Failure::wrong_shape(path, "a string", found(&other))),
        })
    }

    /// A string that must be there.
    pub(crate) fn required_text(&mut self, name: &str) -> Result<String> {
        self.text(name)?.ok_or_else(|| self.missing(name))
    }

    /// `true` or `false`.
    pub(crate) fn flag(&mut self, name: &str) -> Result<Option<bool>> {
        self.read(name, |path, value| match value {
            Value::Bool(flag) => Ok(flag),
            other => Err(Failure::wrong_shape(path, "true or false", found(&other))),
        })
    }

    /// A number.
    pub(crate) fn number(&mut self, name: &str) -> Result<Option<f32>> {
        self.read(name, |path, value| number(path, &value))
    }

    /// A whole number.
    pub(crate) fn integer(&mut self, name: &str) -> Result<Option<i128>> {
        self.read(name, |path, value| integer(path, &value))
    }

    /// A whole number within bounds.
    pub(crate) fn count(&mut self, name: &str, bounds: RangeInclusive<u32>) -> Result<Option<u32>> {
        let Some(value) = self.integer(name)? else {
            return Ok(None);
        };
        let within = u32::try_from(value).ok().filter(|value| bounds.contains(value));
        within.map(Some).ok_or_else(|| {
            let (least, most) = (bounds.start(), bounds.end());
            let expected = if *most == u32::MAX {
                format!("at least {least}")
            } else {
                format!("between {least} and {most}")
            };
            let path = self.path(name);
            Error::invalid(path.as_str(), format!("`{path}` must be {expected}; found {value}")).into()
        })
    }

    /// A list, each element with its place.
    pub(crate) fn list(&mut self, name: &str) -> Result<Option<Vec<(String, Value)>>> {
        self.read(name, |path, value| match value {
            Value::Array(values) => Ok(elements(path, values)),
            other => Err(Failure::wrong_shape(path, "a list", found(&other))),
        })
    }

    /// An object's fields.
    pub(crate) fn object(&mut self, name: &str) -> Result<Option<Fields>> {
        self.read(name, Fields::of)
    }

    /// What is left, as it stands.
    pub(crate) fn into_values(self) -> impl Iterator<Item = (String, Value)> {
        self.values.into_iter().filter(|(_, value)| !value.is_null())
    }

    /// Refuses what nobody took.
    pub(crate) fn finish(self) -> Result<()> {
        match self.values.iter().find(|(_, value)| !value.is_null()) {
            None => Ok(()),
            Some((name, _)) => {
                let path = self.path(name);
                let message = format!("`{path}` is no field that this server knows here; leave it out");
                Err(Error::unsupported(path, message).into())
            }
        }
    }

    /// The refusal for a field that must be there.
    pub(crate) fn missing(&self, name: &str) -> Failure {
        let path = self.path(name);
        Error::invalid(path.as_str(), format!("`{path}` is missing")).into()
    }

    fn read<T>(&mut self, name: &str, read: impl FnOnce(&str, Value) -> Result<T>) -> Result<Option<T>> {
        let path = self.path(name);
        self.value(name).map(|value| read(&path, value)).transpose()
    }
}

/// A list's elements with their places, as `stop[1]`.
pub(crate) fn elements(path: &str, values: Vec<Value>) -> Vec<(String, Value)> {
    values.into_iter().enumerate().map(|(index, value)| (format!("{path}[{index}]"), value)).collect()
}

/// Any JSON number; one too large for 32 bits becomes infinite, which every range refuses.
pub(crate) fn number(path: &str, value: &Value) -> Result<f32> {
    let number = value.as_f64().map(|number| number as f32);
    number.ok_or_else(|| Failure::wrong_shape(path, "a number", found(value)))
}

/// A whole number, also where it is written with a fraction of zero.
pub(crate) fn integer(path: &str, value: &Value) -> Result<i128> {
    let whole = value.as_i64().map(i128::from).or_else(|| value.as_u64().map(i128::from));
    let rounded =
        || value.as_f64().filter(|number| number.fract() == 0.0 && number.abs() < 9e15).map(|n| n as i128);
    whole.or_else(rounded).ok_or_else(|| {
        let found = if value.is_number() { value.to_string() } else { found(value).to_owned() };
        Failure::wrong_shape(path, "a whole number", &found)
    })
}

/// What a value is, for messages.
pub(crate) fn found(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// For the test that what is read is also told: the fields of bodies that were looked for on this thread.
#[cfg(test)]
pub(crate) mod looked_for {
    use std::cell::RefCell;
    use std::collections::BTreeSet;

    thread_local! {
        static NAMES: RefCell<BTreeSet<String>> = const { RefCell::new(BTreeSet::new()) };
    }

    pub(super) fn note(at: &str, name: &str) {
        if at.is_empty() {
            NAMES.with_borrow_mut(|names| names.insert(name.to_owned()));
        }
    }

    /// Those since the last time.
    pub(crate) fn take() -> BTreeSet<String> {
        NAMES.take()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn fields(value: Value) -> Fields {
        Fields::of("at", value).unwrap()
    }

    fn told<T: std::fmt::Debug>(result: Result<T>) -> String {
        serde_json::to_value(result.unwrap_err().body()).unwrap()["error"]["message"]
            .as_str()
            .unwrap()
            .to_owned()
    }

    #[test]
    fn null_is_absent_and_the_rest_is_refused_by_name() {
        let mut taken = fields(json!({"a": null, "b": "text", "c": null}));
        assert_eq!(taken.text("a").unwrap(), None);
        assert_eq!(taken.text("b").unwrap(), Some("text".to_owned()));
        taken.finish().unwrap();
        assert_eq!(
            told(fields(json!({"x": 1})).finish()),
            "`at.x` is no field that this server knows here; leave it out"
        );
    }

    #[test]
    fn wrong_types_are_told_with_their_place() {
        let object = || fields(json!({"x": "1"}));
        assert_eq!(told(object().number("x")), "`at.x` must be a number; found a string");
        assert_eq!(told(object().flag("x")), "`at.x` must be true or false; found a string");
        assert_eq!(told(object().list("x")), "`at.x` must be a list; found a string");
        assert_eq!(told(object().object("x")), "`at.x` must be an object; found a string");
        assert_eq!(told(object().integer("x")), "`at.x` must be a whole number; found a string");
        assert_eq!(told(fields(json!({"x": 1.5})).integer("x")), "`at.x` must be a whole number; found 1.5");
        assert_eq!(told(fields(json!({"x": 1})).text("x")), "`at.x` must be a string; found a number");
    }

    #[test]
    fn whole_numbers_keep_to_their_bounds() {
        let count = |value: Value| fields(json!({"x": value})).count("x", 1..=16);
        assert_eq!(count(json!(16)).unwrap(), Some(16));
        assert_eq!(count(json!(2.0)).unwrap(), Some(2));
        assert_eq!(told(count(json!(17))), "`at.x` must be between 1 and 16; found 17");
        assert_eq!(told(count(json!(-1))), "`at.x` must be between 1 and 16; found -1");
        let open = fields(json!({"x": 0})).count("x", 1..=u32::MAX);
        assert_eq!(told(open), "`at.x` must be at least 1; found 0");
    }
}
