//! Keeps the text of control tokens in a request from becoming control tokens.
//!
//! Before a template is rendered, each such text in the request is replaced by a marker; afterwards the markers become
//! literal segments. A request without such text is not touched, so that its prompt is one text, exactly as Hugging
//! Face renders it. A control token's text that only comes about where two texts of a request meet without anything
//! of the template between them is not seen.

use serde_json::Value;

use super::template::{Segment, TemplateError};

/// The texts that were cut out, and the character around their numbers.
pub(super) struct Literals<'a> {
    control: &'a [String],
    mark: char,
    cut: Vec<&'a str>,
}

impl<'a> Literals<'a> {
    /// For these control tokens, longest first, with a mark that occurs in none of the values and not in the template.
    pub(super) fn new(control: &'a [String], template: &str, values: &[&Value]) -> Self {
        let is_free =
            |mark: &char| !template.contains(*mark) && !values.iter().any(|value| contains(value, *mark));
        // The private use area has 6400 characters. If a request uses them all it is no text but an attack, and the
        // mutilated markers that follow are refused.
        let mark = ('\u{e000}'..='\u{f8ff}').find(is_free).unwrap_or('\u{e000}');
        Literals { control, mark, cut: Vec::new() }
    }

    /// Replaces control tokens' texts in every string of the value.
    pub(super) fn cut_out(&mut self, value: &mut Value) {
        match value {
            Value::String(text) => {
                if let Some(marked) = self.marked(text) {
                    *text = marked;
                }
            }
            Value::Array(items) => items.iter_mut().for_each(|item| self.cut_out(item)),
            Value::Object(object) => {
                let entries = std::mem::take(object);
                for (key, mut item) in entries {
                    self.cut_out(&mut item);
                    object.insert(self.marked(&key).unwrap_or(key), item);
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    /// The text with markers, if anything in it had to be cut out. The leftmost occurrence goes first, and at one place
    /// the longest, as tokenisers do it.
    fn marked(&mut self, text: &str) -> Option<String> {
        let mut result = String::new();
        let mut rest = text;
        while let Some((at, token)) = self.first_in(rest) {
            result.push_str(&rest[..at]);
            result.push_str(&format!("{mark}{number}{mark}", mark = self.mark, number = self.cut.len()));
            self.cut.push(token);
            rest = &rest[at + token.len()..];
        }
        if result.is_empty() && rest.len() == text.len() {
            return None;
        }
        result.push_str(rest);
        Some(result)
    }

    fn first_in(&self, text: &str) -> Option<(usize, &'a str)> {
        let found = self.control.iter().filter(|token| !token.is_empty());
        let places = found.filter_map(|token| Some((text.find(token.as_str())?, token.as_str())));
        places.min_by_key(|(at, token)| (*at, usize::MAX - token.len()))
    }

    /// Splits a rendered text at its markers.
    ///
    /// # Errors
    /// [`TemplateError::Failed`] where the template took a marker apart.
    pub(super) fn split(&self, rendered: String) -> Result<Vec<Segment>, TemplateError> {
        if self.cut.is_empty() {
            return Ok(vec![Segment::Template(rendered)]);
        }
        let mut segments = Vec::new();
        // Between marks stand, in turn, the template's text and a number.
        for (place, piece) in rendered.split(self.mark).enumerate() {
            if place % 2 == 0 {
                if !piece.is_empty() {
                    segments.push(Segment::Template(piece.to_owned()));
                }
                continue;
            }
            let literal = piece.parse().ok().and_then(|number: usize| self.cut.get(number));
            let literal = literal.ok_or_else(mutilated)?;
            segments.push(Segment::Literal((*literal).to_owned()));
        }
        if rendered.matches(self.mark).count().is_multiple_of(2) { Ok(segments) } else { Err(mutilated()) }
    }
}

fn mutilated() -> TemplateError {
    TemplateError::Failed(
        "a message contains the text of a control token, and the template takes that text apart; leave it out".to_owned(),
    )
}

fn contains(value: &Value, mark: char) -> bool {
    match value {
        Value::String(text) => text.contains(mark),
        Value::Array(items) => items.iter().any(|item| contains(item, mark)),
        Value::Object(object) => object.iter().any(|(key, item)| key.contains(mark) || contains(item, mark)),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}
