//! What an answer can be constrained to, as the request says it. Compiles nothing.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Refusal;

/// What an answer must be.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Grammar {
    /// Any JSON object.
    JsonObject,
    /// A JSON instance of a schema (<https://json-schema.org>).
    JsonSchema(Value),
    /// A text that a regular expression (Rust's syntax, without look-around and back-references) matches as a whole.
    Regex(String),
    /// llguidance's variant of Lark: <https://github.com/guidance-ai/llguidance/blob/main/docs/syntax.md>.
    Lark(String),
    /// llama.cpp's grammars: <https://github.com/ggml-org/llama.cpp/blob/master/grammars/README.md>.
    Gbnf(String),
}

impl Grammar {
    /// A grammar whose language is told by its text: what begins with `%llguidance`, or has a rule written as Lark does, is
    /// Lark; what has a rule written with `::=` is GBNF.
    pub fn of_text(text: String) -> Self {
        let is_lark = text.trim_start().starts_with("%llguidance") || !text.contains("::=");
        if is_lark { Grammar::Lark(text) } else { Grammar::Gbnf(text) }
    }

    /// Two grammars are the same where this is.
    pub(super) fn key(&self) -> String {
        match self {
            Grammar::JsonObject => "o".to_owned(),
            Grammar::JsonSchema(schema) => format!("s{schema}"),
            Grammar::Regex(text) => format!("r{text}"),
            Grammar::Lark(text) => format!("l{text}"),
            Grammar::Gbnf(text) => format!("g{text}"),
        }
    }

    /// Whether its language has a way to ask for tokens instead of text.
    pub(super) fn may_name_tokens(&self) -> bool {
        matches!(self, Grammar::Lark(_))
    }
}

/// Where all of a text must match, `^` before and `$` after the expression say nothing, and llguidance knows neither.
pub(super) fn unanchored(regex: &str) -> Result<&str, Refusal> {
    let backslashes = |text: &str| text.bytes().rev().take_while(|&byte| byte == b'\\').count();
    if backslashes(regex) % 2 == 1 {
        return Err(Refusal::new("a backslash ends the expression, with nothing behind it to escape"));
    }
    let rest = regex.strip_prefix('^').unwrap_or(regex);
    let rest = match rest.strip_suffix('$') {
        Some(before) if backslashes(before).is_multiple_of(2) => before,
        _ => rest,
    };
    if rest.is_empty() {
        return Err(Refusal::new("the expression matches only the empty text"));
    }
    Ok(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn anchors_at_the_ends_are_taken_off() {
        for (regex, expected) in [
            ("^ab$", Some("ab")),
            ("ab", Some("ab")),
            (r"a\$", Some(r"a\$")),
            (r"a\\$", Some(r"a\\")),
            ("^a|b$", Some("a|b")),
            ("^$", None),
            ("", None),
            (r"ab\", None),
            (r"ab\\", Some(r"ab\\")),
        ] {
            assert_eq!(unanchored(regex).ok(), expected, "{regex}");
        }
    }

    #[test]
    fn the_language_of_a_grammar_is_told_by_its_text() {
        for (text, gbnf) in
            [("root ::= \"a\"", true), ("start: \"a\"", false), ("%llguidance {}\nstart: \"::=\"", false)]
        {
            assert_eq!(matches!(Grammar::of_text(text.to_owned()), Grammar::Gbnf(_)), gbnf, "{text}");
        }
    }
}
