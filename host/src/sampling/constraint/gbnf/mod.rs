//! GBNF, llama.cpp's notation for grammars, as llguidance's Lark
//! (<https://github.com/ggml-org/llama.cpp/blob/master/grammars/README.md>).
//!
//! llguidance's lexer takes the longest lexeme, and does not come back: `[a-z]+ "b"` written as two lexemes would never
//! end. GBNF has no lexemes, so that a grammar becomes either one, where no rule leads back to itself, or one for each
//! character, which is exact for every grammar, and costs some milliseconds a token where a lexeme costs microseconds.

mod lower;
mod parse;

use super::Refusal;

/// The same language in Lark.
///
/// # Errors
/// What is no GBNF, with its line.
pub(super) fn to_lark(grammar: &str) -> Result<String, Refusal> {
    lower::lark(&parse::rules(grammar)?)
}

/// A rule.
#[derive(Debug, Clone, PartialEq)]
struct Rule {
    name: String,
    body: Node,
}

/// What a rule is made of.
#[derive(Debug, Clone, PartialEq)]
enum Node {
    /// One character.
    One(Set),
    /// A rule, by its name, and the line that names it.
    Rule(String, usize),
    /// One after another.
    Sequence(Vec<Node>),
    /// One of these.
    Choice(Vec<Node>),
    /// From so many times to so many.
    Repeat(Box<Node>, u32, Option<u32>),
}

/// A set of characters.
#[derive(Debug, Clone, PartialEq)]
struct Set {
    negated: bool,
    /// First and last of each, both in it.
    ranges: Vec<(char, char)>,
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
