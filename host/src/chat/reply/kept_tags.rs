//! Arguments written with tags, each property between its own: what a schema leaves of them, as a pattern.
//!
//! A text stands there as it is, and is kept to its length or its choices; everything else is JSON, with all that schemas
//! say of it. What a text would have to be beyond that is refused by name.

use serde_json::{Map, Value};

use super::canon::Tags;
use super::kept::{Callable, Unkept, written};
use super::tagged::kinds;
use crate::sampling::constraint::{Free, Pattern, Schema};

/// What says nothing of an instance.
const NOTES: [&str; 10] = [
    "title",
    "description",
    "default",
    "examples",
    "deprecated",
    "$schema",
    "$id",
    "$comment",
    "$defs",
    "definitions",
];

/// What may be said of all arguments.
const OF_ALL: [&str; 4] = ["type", "properties", "required", "additionalProperties"];

/// What may be said of a text.
const OF_TEXT: [&str; 5] = ["type", "enum", "const", "minLength", "maxLength"];

/// The longest text that is counted.
const MAX_LENGTH: u64 = 2_000;

/// The arguments of a tool, in the order of its properties.
///
/// # Errors
/// The keyword that cannot be kept to here.
pub(super) fn arguments(callable: &Callable, tags: &Tags, marks: &[&str]) -> Result<Vec<Pattern>, Unkept> {
    let field = format!("{}.parameters", callable.field);
    let Value::Object(root) = &callable.tool.parameters else { return Ok(Vec::new()) };
    refuse_other(root, &OF_ALL, &field)?;
    let none = Map::new();
    let properties = root.get("properties").and_then(Value::as_object).unwrap_or(&none);
    let required = root.get("required").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let is_declared = |name: &Value| name.as_str().is_some_and(|name| properties.contains_key(name));
    if !required.iter().all(is_declared) {
        return Err(refusal(&format!("{field}.required"), "names what `properties` has not"));
    }
    let mut arguments = Vec::new();
    for (name, property) in properties {
        let field = format!("{field}.properties.{name}");
        if name.is_empty() || name.trim() != name || name.contains(['<', '>', '"', '\n']) {
            return Err(refusal(&field, "has a name that cannot be written as a tag"));
        }
        let mut argument = written(&format!("{}{name}{}", tags.before, tags.between), marks);
        argument.extend(value(property, root, &field, tags)?);
        argument.extend(written(tags.after, marks));
        let argument = Pattern::Sequence(argument);
        let is_required = required.iter().any(|required| required == name);
        arguments.push(if is_required { argument } else { Pattern::Maybe(Box::new(argument)) });
    }
    Ok(arguments)
}

/// A value and the tag that ends it.
fn value(
    schema: &Value,
    root: &Map<String, Value>,
    field: &str,
    tags: &Tags,
) -> Result<Vec<Pattern>, Unkept> {
    let end = Pattern::Mark(tags.behind.to_owned());
    let kinds = kinds(schema, root);
    let one = |texts: &[&str]| {
        let texts = texts.iter().map(|text| Pattern::Text((*text).to_owned())).collect();
        Ok(vec![Pattern::Choice(texts), end.clone()])
    };
    match kinds.as_deref() {
        None => text(schema, root, field, tags),
        Some(kinds) if kinds.contains(&"string") => text(schema, root, field, tags),
        // Templates write these as Python does, and readers take both.
        Some(["boolean"]) if schema.get("type").is_some() && !is_chosen(schema) => {
            one(&["true", "false", "True", "False"])
        }
        Some(_) => {
            let mut whole = schema.as_object().cloned().unwrap_or_default();
            for definitions in ["$defs", "definitions"] {
                if let Some(found) = root.get(definitions) {
                    whole.insert(definitions.to_owned(), found.clone());
                }
            }
            let schema = Schema { field: field.to_owned(), schema: whole.into() };
            Ok(vec![Pattern::Json(schema), end])
        }
    }
}

/// A text as it is. Where something else may stand too, it is a text all the same.
fn text(schema: &Value, root: &Map<String, Value>, field: &str, tags: &Tags) -> Result<Vec<Pattern>, Unkept> {
    let none = Map::new();
    let keywords = schema.as_object().unwrap_or(&none);
    let is_text = |schema: &&Value| kinds(schema, root).is_some_and(|kinds| kinds.contains(&"string"));
    if let Some(options) = keywords.get("anyOf").and_then(Value::as_array)
        && let Some(option) = options.iter().find(is_text)
    {
        refuse_other(keywords, &["anyOf"], field)?;
        return text(option, root, field, tags);
    }
    refuse_other(keywords, &OF_TEXT, field)?;
    let chosen = match (keywords.get("const"), keywords.get("enum").and_then(Value::as_array)) {
        (Some(value), _) => Some(vec![value]),
        (None, Some(values)) => Some(values.iter().collect()),
        (None, None) => None,
    };
    let length = |keyword: &str| keywords.get(keyword).and_then(Value::as_u64);
    if let Some(values) = chosen {
        let texts: Vec<&str> = values.into_iter().filter_map(Value::as_str).collect();
        let is_plain = |text: &&str| !text.contains("</") && !text.trim_start().starts_with(['{', '[']);
        if texts.is_empty() || !texts.iter().all(is_plain) || keywords.contains_key("minLength") {
            return Err(refusal(field, "has choices that cannot be written between tags"));
        }
        let texts = texts.into_iter().map(|text| Pattern::Text(text.to_owned())).collect();
        return Ok(vec![Pattern::Choice(texts), Pattern::Mark(tags.behind.to_owned())]);
    }
    let like = match (length("minLength").unwrap_or(0), length("maxLength")) {
        (0, None) => Free::ANY.to_owned(),
        (least, None) if least <= MAX_LENGTH => format!("(?s:.{{{least},}})"),
        (least, Some(most)) if least <= most && most <= MAX_LENGTH => format!("(?s:.{{{least},{most}}})"),
        _ => return Err(refusal(field, &format!("may bound a text by lengths up to {MAX_LENGTH}"))),
    };
    let without = tags.never.iter().map(|&text| text.to_owned()).collect();
    Ok(vec![Pattern::Free(Free { like, until: Some(tags.behind.to_owned()), without, not_first: None })])
}

fn is_chosen(schema: &Value) -> bool {
    schema.get("enum").is_some() || schema.get("const").is_some()
}

fn refuse_other(keywords: &Map<String, Value>, known: &[&str], field: &str) -> Result<(), Unkept> {
    let is_other =
        |keyword: &&String| !known.contains(&keyword.as_str()) && !NOTES.contains(&keyword.as_str());
    match keywords.keys().find(is_other) {
        None => Ok(()),
        Some(keyword) => Err(refusal(
            &format!("{field}.{keyword}"),
            &format!(
                "has the keyword `{keyword}`, which is not supported here for this model, whose calls are no JSON"
            ),
        )),
    }
}

fn refusal(field: &str, message: &str) -> Unkept {
    Unkept::Tool(field.to_owned(), format!("`{field}` {message}"))
}
