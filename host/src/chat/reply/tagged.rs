//! Calls written with tags: Qwen3-Coder's, GLM's and DeepSeek's. A value stands there as it is; whether `5` is a number or
//! a text is known from the tool's schema.

use serde::de::IgnoredAny;
use serde_json::{Map, Value};

use super::{Tool, object};
use crate::chat::json::dumps;

/// References in a row, and options within options, before a type counts as open.
const MOST_STEPS: usize = 16;

/// `<function=name>`, and for each argument `<parameter=key>`, a line break, the value, a line break, `</parameter>`.
pub(super) fn qwen(block: &str, tools: &[Tool]) -> Option<Vec<(String, String)>> {
    let block = block.trim();
    if block.starts_with('{') {
        // What the older models of the family write between the same tags.
        return object::take(block);
    }
    let (name, body) = block.strip_prefix("<function=")?.split_once('>')?;
    let body = body.trim_end();
    let mut rest = body.strip_suffix("</function>").unwrap_or(body).trim();
    let mut arguments = Map::new();
    while !rest.is_empty() {
        let (key, behind) = rest.strip_prefix("<parameter=")?.split_once('>')?;
        let kinds = kinds_of(tools, name, key.trim());
        let (value, behind) = split(behind, "</parameter>", kinds.as_deref())?;
        let value = value.strip_prefix('\n').unwrap_or(value);
        let value = value.strip_suffix('\n').unwrap_or(value);
        arguments.insert(key.trim().to_owned(), typed(value, kinds.as_deref()));
        rest = behind.trim_start();
    }
    call(name, arguments)
}

/// `name`, and for each argument `<arg_key>key</arg_key>` and `<arg_value>value</arg_value>`.
pub(super) fn glm(block: &str, tools: &[Tool]) -> Option<Vec<(String, String)>> {
    let at = block.find("<arg_key>").unwrap_or(block.len());
    let name = block[..at].trim();
    let mut rest = block[at..].trim();
    let mut arguments = Map::new();
    while !rest.is_empty() {
        let (key, behind) = rest.strip_prefix("<arg_key>")?.split_once("</arg_key>")?;
        let kinds = kinds_of(tools, name, key.trim());
        let behind = behind.trim_start().strip_prefix("<arg_value>")?;
        let (value, behind) = split(behind, "</arg_value>", kinds.as_deref())?;
        arguments.insert(key.trim().to_owned(), typed(value, kinds.as_deref()));
        rest = behind.trim_start();
    }
    call(name, arguments)
}

/// `name">`, and for each argument `<｜DSML｜parameter name="key" string="true">value</｜DSML｜parameter>`.
pub(super) fn dsml(block: &str, _: &[Tool]) -> Option<Vec<(String, String)>> {
    let (name, rest) = block.split_once("\">")?;
    let mut rest = rest.trim();
    let mut arguments = Map::new();
    while !rest.is_empty() {
        let (key, behind) = rest.strip_prefix("<｜DSML｜parameter name=\"")?.split_once('"')?;
        let (kind, behind) = behind.trim_start().strip_prefix("string=\"")?.split_once("\">")?;
        let (value, behind) = behind.split_once("</｜DSML｜parameter>")?;
        let value = match kind {
            "false" => serde_json::from_str(value).unwrap_or_else(|_| value.into()),
            _ => value.into(),
        };
        arguments.insert(key.to_owned(), value);
        rest = behind.trim_start();
    }
    call(name, arguments)
}

fn call(name: &str, arguments: Map<String, Value>) -> Option<Vec<(String, String)>> {
    let name = name.trim();
    let is_word = !name.is_empty() && !name.contains(|c: char| c.is_whitespace() || c == '<');
    is_word.then(|| vec![(name.to_owned(), dumps(&arguments))])
}

/// A value and what stands behind its end. Texts within JSON may have the end's text.
fn split<'a>(text: &'a str, end: &str, kinds: Option<&[&str]>) -> Option<(&'a str, &'a str)> {
    if kinds.is_some_and(|kinds| !kinds.contains(&"string")) {
        let mut values = serde_json::Deserializer::from_str(text).into_iter::<IgnoredAny>();
        match values.next() {
            Some(Ok(_)) => {
                let (value, behind) = text.split_at(values.byte_offset());
                if let Some(behind) = behind.trim_start().strip_prefix(end) {
                    return Some((value, behind));
                }
            }
            // The end that was found stands within a text of it.
            Some(Err(error)) if error.is_eof() => return None,
            Some(Err(_)) | None => {}
        }
    }
    text.split_once(end)
}

/// What a tool's argument may be.
fn kinds_of<'a>(tools: &'a [Tool], name: &str, key: &str) -> Option<Vec<&'a str>> {
    let tool = tools.iter().find(|tool| tool.name == name.trim())?;
    let root = tool.parameters.as_object()?;
    kinds(root.get("properties")?.get(key)?, root)
}

/// The types that a schema names, itself, by reference or for one of its options; nothing where it leaves them open.
pub(super) fn kinds<'a>(schema: &'a Value, root: &'a Map<String, Value>) -> Option<Vec<&'a str>> {
    named_kinds(schema, root, MOST_STEPS)
}

fn named_kinds<'a>(schema: &'a Value, root: &'a Map<String, Value>, steps: usize) -> Option<Vec<&'a str>> {
    let steps = steps.checked_sub(1)?;
    match schema.get("type") {
        Some(Value::String(kind)) => return Some(vec![kind]),
        Some(Value::Array(kinds)) => return kinds.iter().map(Value::as_str).collect(),
        _ => {}
    }
    if let Some(reference) = schema.get("$ref").and_then(Value::as_str) {
        let mut place = reference.strip_prefix("#/")?.split('/');
        let first = root.get(place.next()?)?;
        return named_kinds(place.try_fold(first, |value, step| value.get(step))?, root, steps);
    }
    let options = ["anyOf", "oneOf"].iter().find_map(|keyword| schema.get(keyword)?.as_array())?;
    let kinds: Option<Vec<Vec<&str>>> =
        options.iter().map(|option| named_kinds(option, root, steps)).collect();
    Some(kinds?.concat())
}

/// A text is what the schema calls one, or what is nothing else. Python's words count, for templates write them.
fn typed(text: &str, kinds: Option<&[&str]>) -> Value {
    if kinds.is_some_and(|kinds| kinds.contains(&"string")) {
        return text.into();
    }
    let value = match text.trim() {
        "True" => Some(Value::Bool(true)),
        "False" => Some(Value::Bool(false)),
        "None" => Some(Value::Null),
        trimmed => serde_json::from_str(trimmed).ok(),
    };
    match value {
        // Without a type, only what can be nothing else.
        Some(value) if kinds.is_some() || value.is_object() || value.is_array() => value,
        _ => text.into(),
    }
}
