//! `oneOf` made `anyOf` where that is the same: where no instance can match two of its schemas. Code generators write
//! `oneOf` for tagged unions, and llguidance sees through no reference to find the tags.
//!
//! Proves disjointness from types, constants and required properties alone; what it cannot prove stays `oneOf`, which
//! llguidance then judges itself.

use serde_json::{Map, Value};

/// Steps through references and nested schemas before a proof is given up.
const MAX_STEPS: usize = 12;

/// Rewrites every `oneOf` that can be.
pub(super) fn settle(root: &mut Value) {
    let whole = root.clone();
    rewrite(root, &whole);
}

fn rewrite(value: &mut Value, root: &Value) {
    match value {
        Value::Object(map) => {
            if let Some(Value::Array(options)) = map.get("oneOf")
                && !map.contains_key("anyOf")
                && all_disjoint(options, root)
            {
                // In its place, for the order of keywords is the order of properties.
                let entries = std::mem::take(map).into_iter();
                *map = entries
                    .map(|(key, value)| (if key == "oneOf" { "anyOf".to_owned() } else { key }, value))
                    .collect();
            }
            for (key, value) in map.iter_mut() {
                // These hold instances, not schemas.
                if key != "const" && key != "enum" && key != "default" && key != "examples" {
                    rewrite(value, root);
                }
            }
        }
        Value::Array(values) => values.iter_mut().for_each(|value| rewrite(value, root)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// A hundred options are compared five thousand times; nobody writes more by hand.
fn all_disjoint(options: &[Value], root: &Value) -> bool {
    options.len() <= 100
        && options.iter().enumerate().all(|(index, one)| {
            options[index + 1..].iter().all(|other| disjoint(one, other, root, MAX_STEPS))
        })
}

/// Whether it is certain that nothing matches both.
fn disjoint(one: &Value, other: &Value, root: &Value, steps: usize) -> bool {
    let Some(steps) = steps.checked_sub(1) else { return false };
    let (a, b) = match (one, other) {
        (Value::Bool(false), _) | (_, Value::Bool(false)) => return true,
        (Value::Object(a), Value::Object(b)) => (a, b),
        _ => return false,
    };
    by_parts(a, other, root, steps)
        || by_parts(b, one, root, steps)
        || by_type(a, b)
        || by_value(a, b)
        || by_property(a, b, root, steps)
        || by_property(b, a, root, steps)
}

/// Whether a reference of `a`, one of all its parts, or each of any, is disjoint from `other`.
fn by_parts(a: &Map<String, Value>, other: &Value, root: &Value, steps: usize) -> bool {
    let target = || root.pointer(a.get("$ref")?.as_str()?.strip_prefix('#')?);
    let parts = |keyword: &str| a.get(keyword).and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let apart = |part: &Value| disjoint(part, other, root, steps);
    target().is_some_and(apart)
        || parts("allOf").iter().any(apart)
        || ["anyOf", "oneOf"]
            .iter()
            .any(|keyword| !parts(keyword).is_empty() && parts(keyword).iter().all(apart))
}

fn by_type(a: &Map<String, Value>, b: &Map<String, Value>) -> bool {
    match (types(a), types(b)) {
        (Some(a), Some(b)) => !a.iter().any(|one| b.contains(one)),
        _ => false,
    }
}

/// The types that instances can have, an integer being a number; `None` where any is possible.
fn types(schema: &Map<String, Value>) -> Option<Vec<&str>> {
    let name = |value: &Value| match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    if let Some(values) = values(schema) {
        return Some(values.into_iter().map(name).collect());
    }
    let broad = |kind: &Value| match kind.as_str() {
        Some("integer") => Some("number"),
        // The lifetime of a literal: what is told is one of the known names.
        Some(kind) => {
            ["null", "boolean", "number", "string", "array", "object"].into_iter().find(|name| *name == kind)
        }
        None => None,
    };
    match schema.get("type")? {
        Value::Array(kinds) => kinds.iter().map(broad).collect(),
        kind => Some(vec![broad(kind)?]),
    }
}

fn by_value(a: &Map<String, Value>, b: &Map<String, Value>) -> bool {
    let equal = |a: &Value, b: &Value| match (a.as_f64(), b.as_f64()) {
        (Some(a), Some(b)) => a == b,
        // Numbers within these may be written in two ways.
        _ => a == b || a.is_array() || a.is_object(),
    };
    match (values(a), values(b)) {
        (Some(a), Some(b)) => !a.iter().any(|one| b.iter().any(|other| equal(one, other))),
        _ => false,
    }
}

/// The only instances there are.
fn values(schema: &Map<String, Value>) -> Option<Vec<&Value>> {
    match (schema.get("const"), schema.get("enum").and_then(Value::as_array)) {
        (Some(value), _) => Some(vec![value]),
        (None, Some(values)) => Some(values.iter().collect()),
        (None, None) => None,
    }
}

/// Whether `a` requires a property that `b` forbids, or for which both have disjoint schemas. That tells of objects alone.
fn by_property(a: &Map<String, Value>, b: &Map<String, Value>, root: &Value, steps: usize) -> bool {
    if types(a).is_none_or(|types| types != ["object"]) && types(b).is_none_or(|types| types != ["object"]) {
        return false;
    }
    let required =
        a.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
    let closed =
        b.get("additionalProperties") == Some(&Value::Bool(false)) && !b.contains_key("patternProperties");
    let property = |schema: &'_ Map<String, Value>, name: &str| {
        schema.get("properties").and_then(|properties| properties.get(name)).cloned()
    };
    required.into_iter().any(|name| match (property(a, name), property(b, name)) {
        (_, None) => closed,
        (Some(a), Some(b)) => disjoint(&a, &b, root, steps),
        (None, Some(_)) => false,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn settled(options: Value, definitions: Value) -> bool {
        let mut schema = json!({"oneOf": options, "$defs": definitions});
        settle(&mut schema);
        schema.get("anyOf").is_some()
    }

    #[test]
    fn what_is_certainly_disjoint_becomes_any_of() {
        let tagged = |tag: &str| json!({"type": "object", "properties": {"kind": {"const": tag}}, "required": ["kind"]});
        let closed = |name: &str| json!({"type": "object", "properties": {name: {}}, "required": [name], "additionalProperties": false});
        let definitions =
            json!({"cat": tagged("cat"), "dog": tagged("dog"), "loop": {"$ref": "#/$defs/loop"}});
        for (options, expected) in [
            (json!([{"type": "string"}, {"type": "integer"}]), true),
            (json!([{"type": "number"}, {"type": "integer"}]), false),
            (json!([{"type": ["string", "null"]}, {"type": "null"}]), false),
            (json!([{"const": 1}, {"enum": [2, 3]}]), true),
            (json!([{"const": 1}, {"enum": [1.0]}]), false),
            (json!([{"$ref": "#/$defs/cat"}, {"$ref": "#/$defs/dog"}]), true),
            (json!([{"$ref": "#/$defs/cat"}, {"$ref": "#/$defs/cat"}]), false),
            (json!([{"$ref": "#/$defs/loop"}, {"$ref": "#/$defs/dog"}]), false),
            (json!([{"anyOf": [{"$ref": "#/$defs/cat"}, {"type": "null"}]}, {"$ref": "#/$defs/dog"}]), true),
            (json!([closed("a"), closed("b")]), true),
            (
                json!([{"properties": {"a": {"const": 1}}, "required": ["a"]}, {"properties": {"a": {"const": 2}}}]),
                false,
            ),
            (json!([{"pattern": "^a"}, {"pattern": "^b"}]), false),
            (json!([{"type": "string"}, true]), false),
        ] {
            assert_eq!(settled(options.clone(), definitions.clone()), expected, "{options}");
        }
    }

    #[test]
    fn instances_are_left_alone() {
        let mut schema = json!({"const": {"oneOf": [{"type": "string"}, {"type": "null"}]}});
        let before = schema.clone();
        settle(&mut schema);
        assert_eq!(schema, before);
    }
}
