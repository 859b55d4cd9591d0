//! Calls written with tags: Qwen3-Coder's, GLM's and DeepSeek's. A value stands there as it is; whether `5` is a number or
//! a text is known from the tool's schema.

use serde_json::{Map, Value};

use super::{Tool, object};
use crate::chat::json::dumps;

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
        let (value, behind) = behind.split_once("</parameter>")?;
        let value = value.strip_prefix('\n').unwrap_or(value);
        let value = value.strip_suffix('\n').unwrap_or(value);
        arguments.insert(key.trim().to_owned(), typed(value, schema(tools, name, key.trim())));
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
        let (value, behind) = behind.trim_start().strip_prefix("<arg_value>")?.split_once("</arg_value>")?;
        arguments.insert(key.trim().to_owned(), typed(value, schema(tools, name, key.trim())));
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

fn schema<'a>(tools: &'a [Tool], name: &str, key: &str) -> Option<&'a Value> {
    let tool = tools.iter().find(|tool| tool.name == name.trim())?;
    tool.parameters.get("properties")?.get(key)
}

/// A text is what the schema calls one, or what is nothing else. Python's words count, for templates write them.
fn typed(text: &str, schema: Option<&Value>) -> Value {
    let kind = schema.and_then(|schema| schema.get("type"));
    let is = |name: &str| match kind {
        Some(Value::String(kind)) => kind == name,
        Some(Value::Array(kinds)) => kinds.iter().any(|kind| kind == name),
        _ => false,
    };
    if is("string") {
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
        Some(value) if kind.is_some() || value.is_object() || value.is_array() => value,
        _ => text.into(),
    }
}
