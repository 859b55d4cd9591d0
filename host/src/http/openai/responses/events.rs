//! The events of a stream as `/openapi.json` has them: one schema for each type, and no type that is not sent.

use serde_json::{Map, Value, json};

/// What an event has beside its type and number.
type Field = (&'static str, fn() -> Value);

/// Each type of event, what it has, and what it may have.
const EVENTS: [(&str, &[Field], &[Field]); 15] = [
    ("response.created", OF_RESPONSE, &[]),
    ("response.in_progress", OF_RESPONSE, &[]),
    ("response.completed", OF_RESPONSE, &[]),
    ("response.incomplete", OF_RESPONSE, &[]),
    ("response.failed", OF_RESPONSE, &[]),
    ("response.output_item.added", OF_ITEM, &[]),
    ("response.output_item.done", OF_ITEM, &[]),
    ("response.content_part.added", &[ITEM_ID, OUTPUT_INDEX, CONTENT_INDEX, PART], &[]),
    ("response.content_part.done", &[ITEM_ID, OUTPUT_INDEX, CONTENT_INDEX, PART], &[]),
    ("response.output_text.delta", &[ITEM_ID, OUTPUT_INDEX, CONTENT_INDEX, ("delta", text)], &[LOGPROBS]),
    ("response.output_text.done", &[ITEM_ID, OUTPUT_INDEX, CONTENT_INDEX, ("text", text)], &[LOGPROBS]),
    ("response.reasoning_text.delta", &[ITEM_ID, OUTPUT_INDEX, CONTENT_INDEX, ("delta", text)], &[]),
    ("response.reasoning_text.done", &[ITEM_ID, OUTPUT_INDEX, CONTENT_INDEX, ("text", text)], &[]),
    ("response.function_call_arguments.delta", &[ITEM_ID, OUTPUT_INDEX, ("delta", text)], &[]),
    (
        "response.function_call_arguments.done",
        &[ITEM_ID, OUTPUT_INDEX, ("name", text), ("arguments", text)],
        &[],
    ),
];

const OF_RESPONSE: &[Field] = &[("response", response)];
const OF_ITEM: &[Field] = &[OUTPUT_INDEX, ("item", item)];
const ITEM_ID: Field = ("item_id", text);
const OUTPUT_INDEX: Field = ("output_index", index);
const CONTENT_INDEX: Field = ("content_index", index);
const PART: Field = ("part", part);
const LOGPROBS: Field = ("logprobs", tokens);

/// Of what comes before there is a response: it was refused while others waited for it.
const ERROR: &[Field] = &[("code", text_or_null), ("message", text), ("param", text_or_null)];

fn text() -> Value {
    json!({"type": "string"})
}
fn text_or_null() -> Value {
    json!({"type": ["string", "null"]})
}
fn index() -> Value {
    json!({"type": "integer", "minimum": 0})
}
fn response() -> Value {
    json!({"$ref": "#/components/schemas/Response"})
}
fn item() -> Value {
    json!({"$ref": "#/components/schemas/ResponseItem"})
}
fn part() -> Value {
    json!({"$ref": "#/components/schemas/ResponsePart"})
}
fn tokens() -> Value {
    json!({"type": "array", "items": {"$ref": "#/components/schemas/ChatToken"}})
}

/// Any event of a stream.
pub(crate) fn schema() -> Value {
    let error = ("error", ERROR, &[][..]);
    let kinds = EVENTS.into_iter().chain([error]);
    json!({"oneOf": kinds.map(|(kind, has, may)| one(kind, has, may)).collect::<Vec<_>>()})
}

fn one(kind: &str, has: &[Field], may: &[Field]) -> Value {
    let fields = has.iter().chain(may).map(|(name, schema)| ((*name).to_owned(), schema()));
    let mut properties: Map<String, Value> = fields.collect();
    properties.insert("type".to_owned(), json!({"type": "string", "enum": [kind]}));
    properties.insert("sequence_number".to_owned(), index());
    let required: Vec<&str> =
        ["type", "sequence_number"].into_iter().chain(has.iter().map(|(name, _)| *name)).collect();
    json!({"type": "object", "required": required, "properties": properties, "additionalProperties": false})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sent_has_a_schema_and_what_has_a_schema_is_sent() {
        let sources = [include_str!("output.rs"), include_str!("stream.rs")].concat();
        let mut sent: Vec<&str> = sources
            .split('"')
            .filter(|text| text.starts_with("response.") && !text.contains([' ', '(']))
            .collect();
        let mut known: Vec<&str> = EVENTS.iter().map(|(kind, ..)| *kind).collect();
        sent.sort_unstable();
        sent.dedup();
        known.sort_unstable();
        assert_eq!(sent, known);
        assert!(sources.contains("Line::Named(\"error\""));
    }
}
