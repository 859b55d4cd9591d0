//! What fields are, as JSON schemas.

use serde_json::{Value, json};

pub(super) fn text() -> Value {
    json!({"type": "string"})
}
pub(super) fn flag() -> Value {
    json!({"type": "boolean"})
}
pub(super) fn number() -> Value {
    json!({"type": "number"})
}
pub(super) fn integer() -> Value {
    json!({"type": "integer"})
}
pub(super) fn count() -> Value {
    json!({"type": "integer", "minimum": 1})
}
pub(super) fn object() -> Value {
    json!({"type": "object"})
}
pub(super) fn any() -> Value {
    json!({})
}
pub(super) fn penalty() -> Value {
    json!({"type": "number", "minimum": -2, "maximum": 2})
}
pub(super) fn objects() -> Value {
    json!({"type": "array", "items": {"type": "object"}})
}
pub(super) fn texts() -> Value {
    json!({"type": "array", "items": {"type": "string"}})
}
pub(super) fn messages() -> Value {
    json!({"type": "array", "minItems": 1, "items": {"$ref": "#/components/schemas/RequestMessage"}})
}
pub(super) fn prompt() -> Value {
    json!({"anyOf": [
        {"type": "string"},
        {"type": "array", "minItems": 1, "items": {"type": "string"}},
        {"type": "array", "minItems": 1, "items": {"type": "integer", "minimum": 0}},
        {"type": "array", "minItems": 1, "items": {"type": "array", "minItems": 1, "items": {"type": "integer", "minimum": 0}}},
    ]})
}
pub(super) fn one_or_many() -> Value {
    json!({"anyOf": [{"type": "string"}, {"type": "array", "maxItems": 16, "items": {"type": "string"}}]})
}
pub(super) fn biases() -> Value {
    json!({"type": "object", "additionalProperties": {"type": "number", "minimum": -100, "maximum": 100}})
}
pub(super) fn choice() -> Value {
    json!({"anyOf": [{"type": "string", "enum": ["none", "auto", "required"]}, {"type": "object"}]})
}
pub(super) fn input() -> Value {
    json!({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "object"}}]})
}
pub(super) fn top() -> Value {
    json!({"type": "integer", "minimum": 0, "maximum": 20})
}
pub(super) fn keep_alive() -> Value {
    json!({"anyOf": [{"type": "string"}, {"type": "number"}]})
}
pub(super) fn stream_options_of_a_response() -> Value {
    json!({"type": "object", "properties": {"include_obfuscation": {"const": false}}})
}
pub(super) fn stream_options() -> Value {
    json!({"type": "object", "properties": {"include_usage": {"type": "boolean"}, "continuous_usage_stats": {"type": "boolean"}}})
}
pub(super) fn format() -> Value {
    json!({"type": "object", "required": ["type"], "properties": {
        "type": {"type": "string", "enum": ["text", "json_object", "json_schema"]},
        "json_schema": {"type": "object"},
    }})
}
