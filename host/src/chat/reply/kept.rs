//! Answers that are kept to calls: what a request and a family's way to write calls leave of all answers, as a pattern.
//!
//! Reasoning stays free, and so does what is said before calls where they are only offered. Knows no tokens: which marks
//! are some is found out where the vocabulary is known.

use serde_json::{Map, Value, json};

use super::canon::{Canon, Opening, Part};
use super::family::{Family, Thinking};
use super::{Tool, harmony, kept_tags};
use crate::sampling::constraint::{Free, Pattern, Schema};

/// What an answer is kept to.
#[derive(Debug, Clone, PartialEq)]
pub struct Asked {
    /// The tools that may be called; at least one.
    pub tools: Vec<Callable>,
    /// Whether several calls may be made.
    pub many: bool,
    /// What the answer may be instead.
    pub otherwise: Otherwise,
}

/// A tool that may be called.
#[derive(Debug, Clone, PartialEq)]
pub struct Callable {
    /// The tool.
    pub tool: Tool,
    /// Whether its arguments are kept to its schema, or to being an object.
    pub is_strict: bool,
    /// The request's field of the function, as `tools[0].function`.
    pub field: String,
}

/// What an answer is that calls nothing.
#[derive(Debug, Clone, PartialEq)]
pub enum Otherwise {
    /// There is none: it must call.
    Nothing,
    /// Any text.
    Text,
    /// An instance of a schema.
    Json(Schema),
}

/// Why an answer cannot be kept to calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unkept {
    /// This family writes calls in a form that no grammar is made of here.
    Family(&'static str),
    /// This family's calls cannot be told from other JSON.
    Otherwise(&'static str),
    /// The field of a tool, and what is wrong with it.
    Tool(String, String),
}

/// The pattern of a marked answer. `with_thinking`: it may begin with its reasoning.
pub(super) fn marked(family: &Family, thinking: Option<Thinking>, asked: &Asked) -> Result<Pattern, Unkept> {
    let Some(canon) = family.canon else { return Err(Unkept::Family(family.name)) };
    let calls = calls(family, canon, asked)?;
    let thought = thinking.map(thought);
    let answer = match (&asked.otherwise, canon.opening) {
        (Otherwise::Nothing, _) => Pattern::Sequence(vec![blank(), Pattern::Sequence(calls)]),
        (Otherwise::Json(_), Opening::First(_)) => return Err(Unkept::Otherwise(family.name)),
        (Otherwise::Json(schema), Opening::Anywhere(_)) => {
            let ways = vec![Pattern::Sequence(calls), Pattern::Json(schema.clone())];
            Pattern::Sequence(vec![blank(), Pattern::Choice(ways)])
        }
        (Otherwise::Text, opening) => {
            let without = text_or_calls(opening, &calls, thinking.map(|marks| marks.open));
            // What is thought may be like a call, and what is said may not be like a thought.
            return Ok(match thought {
                None => without,
                Some(thought) => Pattern::Choice(vec![
                    Pattern::Sequence(vec![thought, text_or_calls(opening, &calls, None)]),
                    without,
                ]),
            });
        }
    };
    Ok(match thought {
        None => answer,
        Some(thought) => Pattern::Sequence(vec![Pattern::Maybe(Box::new(thought)), answer]),
    })
}

/// What stands behind the mark that begins a call, and that mark; nothing for families whose calls no mark begins, or whose
/// arguments stand between tags: these would be kept to an order that nobody asked for.
pub(super) fn behind_mark(family: &Family, asked: &Asked) -> Option<(&'static str, Pattern)> {
    let canon = family.canon?;
    let Opening::Anywhere(mark) = canon.opening else { return None };
    if canon.call.iter().any(|part| matches!(part, Part::Tagged(_))) {
        return None;
    }
    let calls = calls(family, canon, asked).ok()?;
    // The mark is the first of the calls' parts.
    Some((mark, Pattern::Sequence(calls.into_iter().skip(1).collect())))
}

/// What is said, calls behind it, or both. What is said does not begin with `not_first`.
fn text_or_calls(opening: Opening, calls: &[Pattern], not_first: Option<&str>) -> Pattern {
    let free = Free { not_first: not_first.map(str::to_owned), ..Free::any() };
    match opening {
        Opening::First(first) => {
            let other = Free { like: format!(r"\s*[^\s{}](?s:.*)", escaped(first)), ..free };
            let calls = Pattern::Sequence([&[blank()], calls].concat());
            Pattern::Maybe(Box::new(Pattern::Choice(vec![calls, Pattern::Free(other)])))
        }
        Opening::Anywhere(mark) => {
            let text = Pattern::Free(Free { without: vec![mark.to_owned()], ..free.clone() });
            // The mark is the first of the calls' parts: here it ends the text before them.
            let before = Pattern::Free(Free { until: Some(mark.to_owned()), ..free });
            Pattern::Choice(vec![text, Pattern::Sequence([&[before], &calls[1..]].concat())])
        }
    }
}

/// Reasoning.
fn thought(marks: Thinking) -> Pattern {
    // Gemma's mark is a token and a word.
    let token = marks.open.trim_end_matches("thought");
    let word = Pattern::Text(marks.open[token.len()..].to_owned());
    // GLM begins with a line break.
    let open = Free { like: r"\n{0,2}".to_owned(), until: Some(token.to_owned()), ..Free::any() };
    Pattern::Sequence(vec![Pattern::Free(open), word, Pattern::until(marks.close)])
}

/// Line breaks behind reasoning.
fn blank() -> Pattern {
    Pattern::Maybe(Box::new(Pattern::Regex(r"\n{1,2}".to_owned())))
}

/// One call or more. The first part is the mark that opens them, where there is one.
fn calls(family: &Family, canon: &Canon, asked: &Asked) -> Result<Vec<Pattern>, Unkept> {
    let marks = marks(family, canon);
    let written = |text: &str| written(text, &marks);
    let mut bodies = Vec::new();
    for callable in &asked.tools {
        bodies.push(Pattern::Sequence(body(callable, canon.call, &marks)?));
    }
    // What all calls begin with stands before the choice of one.
    let opening = match canon.call.first() {
        Some(Part::Text(text)) => written(text),
        _ => Vec::new(),
    };
    let body = Pattern::Choice(bodies);
    let one = [opening.clone(), vec![body.clone()]].concat();
    let mut parts = written(canon.before);
    parts.extend(one.clone());
    if let Some(between) = canon.between.filter(|_| asked.many) {
        let next = [written(between), one].concat();
        let more = Pattern::List {
            item: Box::new(Pattern::Sequence(next)),
            between: Box::new(Pattern::Text(String::new())),
        };
        parts.push(Pattern::Maybe(Box::new(more)));
    }
    parts.extend(inner(canon.behind, &marks));
    Ok(parts)
}

/// A call behind what all calls begin with.
fn body(callable: &Callable, parts: &[Part], marks: &[&str]) -> Result<Vec<Pattern>, Unkept> {
    let parts = if matches!(parts.first(), Some(Part::Text(_))) { &parts[1..] } else { parts };
    let mut patterns = Vec::new();
    for part in parts {
        match part {
            Part::Text(text) => patterns.extend(written(text, marks)),
            Part::Name => patterns.push(Pattern::Text(plain_name(callable)?)),
            Part::QuotedName => {
                patterns.push(Pattern::Text(Value::from(callable.tool.name.as_str()).to_string()));
            }
            Part::Tagged(tags) => patterns.extend(kept_tags::arguments(callable, tags, marks)?),
            Part::Arguments => patterns.push(Pattern::Json(arguments(callable))),
            Part::Like(_) | Part::Maybe(_) => patterns.extend(inner(&[*part], marks)),
        }
    }
    Ok(patterns)
}

/// Parts that say nothing of the tool.
fn inner(parts: &[Part], marks: &[&str]) -> Vec<Pattern> {
    let one = |part: &Part| match part {
        Part::Text(text) => written(text, marks),
        Part::Like(regex) => vec![Pattern::Regex((*regex).to_owned())],
        Part::Maybe(parts) => vec![Pattern::Maybe(Box::new(Pattern::Sequence(inner(parts, marks))))],
        Part::Name | Part::QuotedName | Part::Arguments | Part::Tagged(_) => Vec::new(),
    };
    parts.iter().flat_map(one).collect()
}

/// A name that stands there without quotes.
fn plain_name(callable: &Callable) -> Result<String, Unkept> {
    let name = &callable.tool.name;
    if name.chars().all(|c| c.is_ascii_alphanumeric() || "_-.".contains(c)) {
        return Ok(name.clone());
    }
    let field = format!("{}.name", callable.field);
    let message =
        format!("`{field}` must be of letters, digits, `_`, `-` and `.` for this model; found `{name}`");
    Err(Unkept::Tool(field, message))
}

/// The schema of a tool's arguments: an object, and where all that it says of them are properties, with no others: a
/// function takes what it declares.
pub(super) fn arguments(callable: &Callable) -> Schema {
    let field = format!("{}.parameters", callable.field);
    let schema = match &callable.tool.parameters {
        _ if !callable.is_strict => json!({"type": "object"}),
        Value::Object(schema) => Value::Object(of_object(schema.clone())),
        _ => json!({"type": "object", "additionalProperties": false}),
    };
    Schema { field, schema }
}

fn of_object(mut schema: Map<String, Value>) -> Map<String, Value> {
    let is_object = |kind: &Value| match kind {
        Value::Array(kinds) => kinds.contains(&"object".into()),
        _ => false,
    };
    if schema.get("type").is_none_or(is_object) {
        schema.insert("type".to_owned(), "object".into());
    }
    let joins = ["allOf", "anyOf", "oneOf", "$ref", "patternProperties", "additionalProperties"];
    if schema.contains_key("properties") && !joins.iter().any(|keyword| schema.contains_key(*keyword)) {
        schema.insert("additionalProperties".to_owned(), false.into());
    }
    schema
}

/// The texts that may be single tokens, longest first.
fn marks(family: &Family, canon: &Canon) -> Vec<&'static str> {
    let is_token = |mark: &&str| mark.starts_with(['<', '[']) && mark.ends_with(['>', ']']);
    let mut marks: Vec<&str> = family.marks().filter(is_token).collect();
    marks.extend(match canon.opening {
        Opening::Anywhere(mark) => Some(mark),
        Opening::First(_) => None,
    });
    marks.sort_by_key(|mark| std::cmp::Reverse(mark.len()));
    marks
}

/// A text with its marks.
pub(super) fn written(text: &str, marks: &[&str]) -> Vec<Pattern> {
    let found = marks.iter().filter_map(|mark| Some((text.find(mark)?, *mark)));
    let Some((at, mark)) = found.min_by_key(|(at, mark)| (*at, std::cmp::Reverse(mark.len()))) else {
        return if text.is_empty() { Vec::new() } else { vec![Pattern::Text(text.to_owned())] };
    };
    let before = (at > 0).then(|| Pattern::Text(text[..at].to_owned()));
    let rest = written(&text[at + mark.len()..], marks);
    before.into_iter().chain([Pattern::Mark(mark.to_owned())]).chain(rest).collect()
}

fn escaped(text: &str) -> String {
    text.chars().map(|c| format!("\\x{{{:x}}}", u32::from(c))).collect()
}

/// The pattern of an answer of gpt-oss, behind `<|start|>assistant`: messages that are thought or said, then a call or the
/// answer.
pub(super) fn harmony(asked: &Asked) -> Result<Pattern, Unkept> {
    let written = |text: &str| written(text, &harmony::MARKS);
    let message = |channel: &str| {
        let without = ["<|start|>", "<|call|>", "<|return|>"].map(str::to_owned).to_vec();
        let free = Free { until: Some("<|end|>".to_owned()), without, ..Free::any() };
        let head = written(&format!("<|channel|>{channel}<|message|>"));
        Pattern::Sequence([head, vec![Pattern::Free(free)], written("<|start|>assistant")].concat())
    };
    let before = Pattern::List {
        item: Box::new(Pattern::Choice(vec![message("analysis"), message("commentary")])),
        between: Box::new(Pattern::Text(String::new())),
    };
    let json = [
        vec![Pattern::Maybe(Box::new(Pattern::Mark("<|constrain|>".to_owned())))],
        written("json<|message|>"),
    ]
    .concat();
    let mut ways = Vec::new();
    for callable in &asked.tools {
        let name = plain_name(callable)?;
        for head in [
            format!("<|channel|>commentary to=functions.{name} "),
            format!(" to=functions.{name}<|channel|>commentary "),
        ] {
            let arguments = Pattern::Json(arguments(callable));
            ways.push(Pattern::Sequence([written(&head), json.clone(), vec![arguments]].concat()));
        }
    }
    let last = match &asked.otherwise {
        Otherwise::Nothing => None,
        Otherwise::Text => {
            let without = ["<|start|>", "<|end|>", "<|call|>", "<|return|>"].map(str::to_owned).to_vec();
            Some(Pattern::Free(Free { without, ..Free::any() }))
        }
        Otherwise::Json(schema) => Some(Pattern::Json(schema.clone())),
    };
    if let Some(last) = last {
        ways.push(Pattern::Sequence([written("<|channel|>final<|message|>"), vec![last]].concat()));
    }
    Ok(Pattern::Sequence(vec![Pattern::Maybe(Box::new(before)), Pattern::Choice(ways)]))
}
