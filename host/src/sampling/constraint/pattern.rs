//! The form of an answer that is more than JSON: marks, texts and instances of schemas one after another, such as calls
//! of tools in the very way of a model's family. Written by this host, not by clients: it may name tokens.
//!
//! Becomes llguidance's Lark. A mark is the one token with its text where the model has it, for that is what the model
//! was trained with; written out in pieces it is then forbidden, also in free text.

use llguidance::api::{GrammarWithLexer, TopLevelGrammar};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Refusal, regex, schema};

/// A form.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Pattern {
    /// This text.
    Text(String),
    /// The token with this text; where the model has none, the text.
    Mark(String),
    /// A text that this expression (in Rust's syntax, our own) matches as a whole.
    Regex(String),
    /// An instance of a JSON schema.
    Json(Schema),
    /// A text as far as its end.
    Free(Free),
    /// One after another.
    Sequence(Vec<Pattern>),
    /// One of these.
    Choice(Vec<Pattern>),
    /// This or nothing.
    Maybe(Box<Pattern>),
    /// One or more of these.
    List {
        /// Each of them.
        item: Box<Pattern>,
        /// What stands between two.
        between: Box<Pattern>,
    },
}

/// A schema, and who asks for it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Schema {
    /// The request's field, as `tools[0].function.parameters`.
    pub field: String,
    /// The JSON schema.
    pub schema: Value,
}

/// A text of which only its end is known. It may be empty.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Free {
    /// What the text before the end is like: our own expression.
    pub like: String,
    /// The mark or text behind it, which it does not contain; without one it ends with the answer.
    pub until: Option<String>,
    /// What else is not in it.
    pub without: Vec<String>,
    /// What it does not begin with, blanks aside.
    pub not_first: Option<String>,
}

impl Free {
    /// Any text.
    pub const ANY: &'static str = "(?s:.*)";

    /// Any text, to the answer's end.
    pub fn any() -> Free {
        Free { like: Free::ANY.to_owned(), until: None, without: Vec::new(), not_first: None }
    }
}

impl Pattern {
    /// Free text and the mark behind it.
    pub fn until(mark: &str) -> Pattern {
        Pattern::Free(Free { until: Some(mark.to_owned()), ..Free::any() })
    }

    /// Every schema in it.
    pub(super) fn schemas(&self) -> Vec<&Schema> {
        match self {
            Pattern::Json(schema) => vec![schema],
            Pattern::Sequence(parts) | Pattern::Choice(parts) => {
                parts.iter().flat_map(Pattern::schemas).collect()
            }
            Pattern::Maybe(part) => part.schemas(),
            Pattern::List { item, between } => [item.schemas(), between.schemas()].concat(),
            Pattern::Text(_) | Pattern::Mark(_) | Pattern::Regex(_) | Pattern::Free(_) => Vec::new(),
        }
    }
}

/// A pattern as llguidance is to have it. `token` finds the token with a text.
///
/// # Errors
/// What a schema has that cannot be kept to, and where.
pub(super) fn lower(
    pattern: &Pattern,
    token: impl Fn(&str) -> Option<u32>,
) -> Result<TopLevelGrammar, Refusal> {
    let mut lark =
        Lark { token: &token, rules: String::new(), made: 0, schemas: Vec::new(), known: Vec::new() };
    let start = lark.expression(pattern)?;
    let text = format!("start: {start}\n{}", lark.rules);
    let mut grammar = TopLevelGrammar::from_lark(text);
    grammar.grammars.extend(lark.schemas);
    Ok(grammar)
}

/// A grammar that is being written.
struct Lark<'a> {
    token: &'a dyn Fn(&str) -> Option<u32>,
    rules: String,
    made: usize,
    schemas: Vec<GrammarWithLexer>,
    /// The rules of schemas that were met before.
    known: Vec<(Schema, String)>,
}

impl Lark<'_> {
    fn expression(&mut self, pattern: &Pattern) -> Result<String, Refusal> {
        Ok(match pattern {
            Pattern::Text(text) => quoted(text),
            Pattern::Mark(text) => self.mark(text),
            Pattern::Regex(regex) => format!("/{regex}/"),
            Pattern::Json(schema) => self.instance(schema)?,
            Pattern::Free(free) => self.free(free),
            Pattern::Sequence(parts) => format!("({})", self.expressions(parts)?.join(" ")),
            Pattern::Choice(parts) => format!("({})", self.expressions(parts)?.join(" | ")),
            Pattern::Maybe(part) => format!("({})?", self.expression(part)?),
            Pattern::List { item, between } => {
                let (item, between) = (self.expression(item)?, self.expression(between)?);
                let item = self.rule("r", "", &item);
                format!("{item} ({between} {item})*")
            }
        })
    }

    fn expressions(&mut self, parts: &[Pattern]) -> Result<Vec<String>, Refusal> {
        parts.iter().map(|part| self.expression(part)).collect()
    }

    fn mark(&self, text: &str) -> String {
        (self.token)(text).map_or_else(|| quoted(text), |id| format!("<[{id}]>"))
    }

    fn instance(&mut self, schema: &Schema) -> Result<String, Refusal> {
        if let Some((_, rule)) = self.known.iter().find(|(known, _)| known == schema) {
            return Ok(rule.clone());
        }
        let prepared = schema::prepare(&schema.schema).map_err(|refusal| refusal.of_field(&schema.field))?;
        let name = format!("j{}", self.schemas.len());
        let grammar = GrammarWithLexer::from_json_schema(prepared);
        self.schemas.push(GrammarWithLexer { name: Some(name.clone()), ..grammar });
        let rule = self.rule("s", "", &format!("@{name}"));
        self.known.push((schema.clone(), rule.clone()));
        Ok(rule)
    }

    /// A lexeme takes as much as it can and does not come back. What ends with a token is no part of it; what ends with a
    /// text is the shortest that does.
    fn free(&mut self, free: &Free) -> String {
        let mut without = free.without.clone();
        let token = free.until.as_deref().and_then(|end| (self.token)(end));
        without.extend(free.until.iter().filter(|_| token.is_some()).cloned());
        let mut body = format!("/{}/", free.like);
        if !without.is_empty() {
            body += &format!(" & ~/(?s:.*)({})(?s:.*)/", regex::choice(&without));
        }
        if let Some(first) = &free.not_first {
            body += &format!(r" & ~/\s*{}(?s:.*)/", regex::choice(std::slice::from_ref(first)));
        }
        let text = self.rule("T", "", &body);
        match (&free.until, token) {
            (None, _) => text,
            (Some(_), Some(id)) => format!("{text} <[{id}]>"),
            (Some(end), None) => self.rule("l", "[lazy]", &format!("{text} {}", quoted(end))),
        }
    }

    fn rule(&mut self, kind: &str, attributes: &str, body: &str) -> String {
        let name = format!("{kind}{}", self.made);
        self.made += 1;
        self.rules += &format!("{name}{attributes}: {body}\n");
        name
    }
}

/// Lark's strings are JSON's.
fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}
