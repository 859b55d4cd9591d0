//! What an answer can be constrained to, as the request says it. Compiles nothing.

use llguidance::api::ParserLimits;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Pattern, Refusal};

/// What an answer must be.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Grammar {
    /// Any JSON object.
    JsonObject,
    /// A JSON instance of a schema (<https://json-schema.org>).
    JsonSchema(Value),
    /// A text that a regular expression (Rust's syntax, without look-around and back-references) matches as a whole.
    Regex(String),
    /// One of these texts.
    Choice(Vec<String>),
    /// llguidance's variant of Lark: <https://github.com/guidance-ai/llguidance/blob/main/docs/syntax.md>.
    Lark(String),
    /// llama.cpp's grammars: <https://github.com/ggml-org/llama.cpp/blob/master/grammars/README.md>.
    Gbnf(String),
    /// A form that this host gives to answers, with schemas in it.
    Pattern(Pattern),
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
            Grammar::Choice(texts) => format!("c{texts:?}"),
            Grammar::Lark(text) => format!("l{text}"),
            Grammar::Gbnf(text) => format!("g{text}"),
            Grammar::Pattern(pattern) => format!("p{pattern:?}"),
        }
    }

    /// How far llguidance goes for it, with a vocabulary of so many tokens. A step takes up to the square of the items in a
    /// row where a grammar is ambiguous, which schemas hardly are: there it is four for each property that may be left
    /// out. GBNF is followed character by character, each token's of its own.
    pub(super) fn limit(&self, limits: &mut ParserLimits, vocab_size: usize) {
        match self {
            Grammar::JsonObject | Grammar::JsonSchema(_) | Grammar::Pattern(_) => {
                limits.max_items_in_row = 5_000;
            }
            Grammar::Regex(_) | Grammar::Choice(_) | Grammar::Lark(_) => limits.max_items_in_row = 1_000,
            Grammar::Gbnf(_) => {
                limits.max_items_in_row = 2_000;
                limits.step_max_items = 8 * vocab_size.max(10_000);
            }
        }
    }
}

/// The longest that a grammar or an expression may be: its depth, and with it what a stack must hold, is bounded so too.
const MAX_TEXT_BYTES: usize = 64 << 10;

/// The text of a grammar or an expression, unless it is too long.
pub(super) fn bounded(text: &str) -> Result<&str, Refusal> {
    if text.len() <= MAX_TEXT_BYTES {
        return Ok(text);
    }
    Err(Refusal::new(format!("it has {} bytes, and may have {MAX_TEXT_BYTES}", text.len())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_language_of_a_grammar_is_told_by_its_text() {
        for (text, gbnf) in
            [("root ::= \"a\"", true), ("start: \"a\"", false), ("%llguidance {}\nstart: \"::=\"", false)]
        {
            assert_eq!(matches!(Grammar::of_text(text.to_owned()), Grammar::Gbnf(_)), gbnf, "{text}");
        }
    }
}
