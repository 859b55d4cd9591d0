//! Jinja as Hugging Face sets it up for chat templates (`transformers`, `utils/chat_template_utils.py`): block
//! trimming, loop controls, Python's methods and words, `raise_exception`, `strftime_now`, `tojson`.

use std::fmt;

use chrono::{Local, NaiveDateTime};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::ValueKind;
use minijinja::{AutoEscape, Environment, Error, ErrorKind, Output, State, Value};

use super::json::{float, tojson};

/// Steps that a template may take: a real one takes thousands, one that loops for ever takes them all.
pub(super) const FUEL: u64 = 50_000_000;

/// Steps that it may take for a chat of three short messages.
pub(super) const PROBE_FUEL: u64 = 500_000;

/// What a template said by `raise_exception`.
#[derive(Debug)]
pub(super) struct Raised(pub(super) String);

impl fmt::Display for Raised {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Raised {}

/// An environment without templates.
///
/// # Errors
/// None: minijinja checks the syntax's delimiters, and these are its own.
pub(super) fn environment() -> Result<Environment<'static>, Error> {
    let mut environment = Environment::new();
    environment.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?);
    environment.set_fuel(Some(PROBE_FUEL));
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
    environment.set_formatter(print_as_python);
    environment.add_filter("tojson", tojson);
    environment.add_filter("string", string);
    environment.add_test("sequence", is_sequence);
    environment.add_test("iterable", is_iterable);
    environment.add_function("raise_exception", raise_exception);
    environment.add_function("strftime_now", |format: &str| strftime(Local::now().naive_local(), format));
    Ok(environment)
}

/// From here on it is this time in this environment.
#[cfg(test)]
pub(super) fn stop_the_clock(environment: &mut Environment<'static>, now: NaiveDateTime) {
    environment.add_function("strftime_now", move |format: &str| strftime(now, format));
}

/// `{% generation %}` marks an assistant's text for training and changes nothing in what is rendered.
pub(super) fn without_generation_marks(source: &str) -> String {
    let mut result = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(start) = rest.find("{%") {
        // Behind the opening: `{%}` is no whole tag.
        let Some(length) = rest[start + 2..].find("%}").map(|length| length + 2) else { break };
        let (before, tag) = rest[..start + length].split_at(start + 2);
        let word = tag.trim_matches(|c: char| c == '-' || c == '+' || c.is_whitespace());
        result.push_str(before);
        match word {
            "generation" => result.push_str(&tag.replace("generation", "if true")),
            "endgeneration" => result.push_str(&tag.replace("endgeneration", "endif")),
            _ => result.push_str(tag),
        }
        rest = &rest[start + length..];
    }
    result + rest
}

/// minijinja prints as Python does, but for large and small floats.
fn print_as_python(out: &mut Output, state: &mut State, value: &Value) -> Result<(), Error> {
    match as_float(value) {
        Some(number) => Ok(out.write_str(&float(number))?),
        None => minijinja::escape_formatter(out, state, value),
    }
}

fn string(value: &Value) -> Value {
    match as_float(value) {
        Some(number) => float(number).into(),
        None if value.kind() == ValueKind::String => value.clone(),
        None => value.to_string().into(),
    }
}

fn as_float(value: &Value) -> Option<f64> {
    let is_float = value.kind() == ValueKind::Number && !value.is_integer();
    is_float.then(|| f64::try_from(value.clone()).ok()).flatten().filter(|number| number.is_finite())
}

/// What has a length and elements: in Python texts and mappings too.
fn is_sequence(value: &Value) -> bool {
    matches!(value.kind(), ValueKind::String | ValueKind::Seq | ValueKind::Map | ValueKind::Undefined)
}

/// What can be gone through. `None` cannot.
fn is_iterable(value: &Value) -> bool {
    !value.is_none() && (value.kind() == ValueKind::String || value.try_iter().is_ok())
}

fn raise_exception(message: String) -> Result<Value, Error> {
    Err(Error::new(ErrorKind::InvalidOperation, message.clone()).with_source(Raised(message)))
}

fn strftime(now: NaiveDateTime, format: &str) -> Result<String, Error> {
    use fmt::Write as _;

    let mut text = String::new();
    // A format that does not exist is an error of the formatter, not a panic, when it is written this way.
    write!(text, "{}", now.format(format)).map_err(|_| {
        Error::new(ErrorKind::InvalidOperation, format!("strftime_now: unknown format {format:?}"))
    })?;
    Ok(text)
}
