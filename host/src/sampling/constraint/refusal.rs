//! Why a grammar cannot be followed, in words for whoever wrote it.

use std::fmt;

use super::Grammar;

/// The longest that llguidance's own words may be; some of them quote whole grammars.
const MAX_CHARS: usize = 300;

/// A grammar that is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The request's field that holds the grammar, where it is not the one that asks for it.
    pub field: Option<String>,
    /// Where in the grammar, as `.properties.age`; empty for the whole of it.
    pub at: String,
    /// What is wrong, the keyword included.
    pub message: String,
}

impl Refusal {
    pub(super) fn new(message: impl Into<String>) -> Self {
        Refusal { field: None, at: String::new(), message: message.into() }
    }

    pub(super) fn at(path: &str, message: impl Into<String>) -> Self {
        Refusal { field: None, at: path.to_owned(), message: message.into() }
    }

    /// The same about what this field of a request holds.
    pub(super) fn of_field(self, field: &str) -> Self {
        Refusal { field: Some(field.to_owned()), ..self }
    }

    /// This model's tokens cannot be used for any grammar.
    pub(super) fn of_vocabulary(words: &str) -> Self {
        Refusal::new(format!("this model's vocabulary cannot be put into a trie: {words}"))
    }

    /// llguidance refused to compile it.
    pub(super) fn of_grammar(grammar: &Grammar, error: &anyhow::Error) -> Self {
        let words = plain(error);
        Refusal::new(match grammar {
            Grammar::JsonObject | Grammar::JsonSchema(_) => schema_words(words),
            // What follows in one line is an excerpt of the grammar, which its writer has.
            Grammar::Regex(_) | Grammar::Choice(_) => without_excerpt(&words),
            // It looks for a token of that name, and there are none to be found.
            Grammar::Lark(_) if words.contains("special token") => return Refusal::of_token_names(),
            Grammar::Lark(_) | Grammar::Gbnf(_) | Grammar::Pattern(_) => words,
        })
    }

    pub(super) fn of_token_names() -> Self {
        Refusal::new("it names tokens (`<…>`): only text can be asked for")
    }

    /// What an answer took in all is more than it may.
    pub(crate) fn too_slow(seconds: u64) -> Self {
        Refusal::new(format!(
            "the grammar took {seconds} s to be followed this far, as no unambiguous one does"
        ))
    }

    /// It was asked for again after it was refused.
    pub(crate) fn lost() -> Self {
        Refusal::new("the grammar cannot be followed any further: this is a bug")
    }

    /// llguidance, or what prepares its work, panicked.
    pub(crate) fn panicked() -> Self {
        Refusal::new("it made the reader of grammars panic: this is a bug")
    }

    /// llguidance gave up in the middle of an answer.
    pub(super) fn on_the_way(error: &anyhow::Error) -> Self {
        let words = plain(error);
        // llguidance's name for an empty set of tokens.
        Refusal::new(if words.contains("NoExtensionBias") {
            "no text can go on here: the grammar leads back to itself without an end, as a `$ref` or a rule may".to_owned()
        } else {
            format!("the grammar is too complex to be followed any further: {words}")
        })
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Refusal {}

/// All that the error says, on one line, without excerpts of parser states and backtraces.
fn plain(error: &anyhow::Error) -> String {
    let mut parts: Vec<String> = Vec::new();
    for part in error.chain().map(ToString::to_string) {
        let part = part.split("\n<").next().unwrap_or_default();
        let line = part.split_whitespace().collect::<Vec<_>>().join(" ");
        if !line.is_empty() && !parts.iter().any(|other| other.contains(&line)) {
            parts.push(line);
        }
    }
    short(&parts.join(": "))
}

/// As much of it as a message has room for.
pub(super) fn short(text: &str) -> String {
    match text.char_indices().nth(MAX_CHARS) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}

/// What is wrong with an expression.
pub(super) fn of_regex(error: &anyhow::Error) -> String {
    without_excerpt(&plain(error))
}

/// The reason alone: between it and the beginning stands the expression itself.
fn without_excerpt(words: &str) -> String {
    let behind = |mark: &str| words.rfind(mark).map(|at| &words[at + mark.len()..]);
    let rest = behind("error: ").or_else(|| behind("(in regex): ")).unwrap_or(words);
    rest.split(" 1 | ").next().unwrap_or(rest).to_owned()
}

/// llguidance's words for what it finds in a schema, and the keywords that are meant.
const KEYWORDS: [(&str, &str); 9] = [
    ("Regex is empty", "`pattern` or `format`, together with what else is asked of the string"),
    ("patternProperty regexes", "`patternProperties`"),
    ("contain a multiple of", "`multipleOf`"),
    ("multipleOf", "`multipleOf`"),
    ("required item", "`minItems`"),
    ("required property", "`required`, against the property's schema or `additionalProperties`"),
    ("Pointer", "`$ref`"),
    ("circular references", "`$ref`"),
    ("incompatible", "`type`, `const`, `enum`, `allOf` and `$ref`, each of which must hold,"),
];

/// Says which keyword is meant, where llguidance does not.
fn schema_words(words: String) -> String {
    // Its options are not the client's.
    if words.contains("oneOf constraints are not supported") {
        return "`oneOf` is supported where no instance can match two of its schemas, such as schemas of different types, \
                or objects that require one property with different constants; use `anyOf`"
            .to_owned();
    }
    match KEYWORDS.iter().find(|(found, _)| words.contains(found)) {
        Some((_, keyword)) if !words.contains('`') => format!("{keyword}: {words}"),
        _ => words,
    }
}
