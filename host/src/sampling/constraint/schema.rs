//! Reads a JSON schema before llguidance does: refuses what it cannot keep, with the keyword and its place, bounds what
//! a stranger's schema may cost, and sets llguidance's own options. Nothing is fetched: references stay within the schema.

use serde_json::{Map, Value, json};

use super::unions;
use super::{Refusal, numbers, refusal, regex};

/// Schemas within a schema, at most.
const MAX_SCHEMAS: usize = 5_000;

/// How deeply they may be nested, references aside.
const MAX_DEPTH: usize = 64;

/// Constants and names of required properties, at most. Each becomes states of the lexer.
const MAX_NAMES: usize = 10_000;

/// Properties of an object. As many may come next as may be left out, and the parser looks at each.
const MAX_PROPERTIES: usize = 1_000;

/// The largest bound on a number of items, characters or properties: each costs states of the parser.
const MAX_COUNT: u64 = 10_000;

/// The longest pattern, and the longest constant.
const MAX_TEXT_BYTES: usize = 64 << 10;

/// One space, or a new line with some indentation: enough for every usual layout, and no model can get lost in it.
const WHITESPACE: &str = r"[\x20]|\n[\x20\t]{0,20}";

/// What would have to hold for an instance, and cannot be told from its beginnings, or is not done by llguidance.
const UNSUPPORTED: [&str; 17] = [
    "not",
    "if",
    "then",
    "else",
    "contains",
    "minContains",
    "maxContains",
    "uniqueItems",
    "propertyNames",
    "dependencies",
    "dependentRequired",
    "dependentSchemas",
    "unevaluatedItems",
    "unevaluatedProperties",
    "$dynamicRef",
    "$recursiveRef",
    "x-guidance",
];

const FORMATS: [&str; 10] =
    ["date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid", "uri"];

const TYPES: [&str; 7] = ["null", "boolean", "integer", "number", "string", "array", "object"];

/// The schema of any JSON object.
pub(super) fn any_object() -> Value {
    with_options(Map::from_iter([("type".to_owned(), json!("object"))]))
}

/// A schema as llguidance is to have it.
///
/// # Errors
/// Names the first keyword that cannot be kept, and where it stands.
pub(super) fn prepare(schema: &Value) -> Result<Value, Refusal> {
    let mut schema = schema.clone();
    let mut walk = Walk { steps: 1.0, ..Walk::default() };
    walk.schema(&mut schema, 0)?;
    if walk.combines && walk.steps > numbers::MAX_STEP {
        let message = format!(
            "the values of `multipleOf` together have a least common multiple beyond {}",
            numbers::MAX_STEP
        );
        return Err(Refusal::new(message));
    }
    unions::settle(&mut schema);
    match schema {
        Value::Object(schema) => Ok(with_options(schema)),
        _ => Ok(with_options(Map::new())),
    }
}

fn with_options(mut schema: Map<String, Value>) -> Value {
    schema.insert("x-guidance".to_owned(), json!({ "whitespace_pattern": WHITESPACE }));
    Value::Object(schema)
}

/// A walk over every schema within a schema.
#[derive(Default)]
struct Walk {
    schemas: usize,
    names: usize,
    /// The least common multiple of all steps, and whether some may have to be kept together.
    steps: f64,
    combines: bool,
    /// Where it is, as `.properties.age`.
    path: String,
}

impl Walk {
    fn schema(&mut self, schema: &mut Value, depth: usize) -> Result<(), Refusal> {
        self.schemas += 1;
        if self.schemas > MAX_SCHEMAS {
            return Err(Refusal::new(format!(
                "the schema is too large: it has more than {MAX_SCHEMAS} schemas in it"
            )));
        }
        if depth > MAX_DEPTH {
            return self.refuse(format!("schemas are nested more than {MAX_DEPTH} deep"));
        }
        match schema {
            Value::Bool(true) => Ok(()),
            Value::Bool(false) if depth == 0 => self.refuse("the schema is `false`, which nothing matches"),
            Value::Bool(false) => Ok(()),
            Value::Object(keywords) => self.keywords(keywords, depth),
            other => {
                let name = self.path.rsplit('.').next().unwrap_or_default();
                let found = refusal::short(&other.to_string());
                self.refuse(format!("`{name}` must be a schema: an object, true or false; found {found}"))
            }
        }
    }

    fn keywords(&mut self, keywords: &mut Map<String, Value>, depth: usize) -> Result<(), Refusal> {
        // It asks for nothing, and llguidance knows it as little as `true`.
        if keywords.get("uniqueItems") == Some(&Value::Bool(false)) {
            keywords.shift_remove("uniqueItems");
        }
        if let Some(keyword) = UNSUPPORTED.into_iter().find(|keyword| keywords.contains_key(*keyword)) {
            return self
                .within(keyword, |walk| walk.refuse(format!("the keyword `{keyword}` is not supported")));
        }
        let joins = ["$ref", "anyOf", "oneOf"].iter().any(|keyword| keywords.contains_key(*keyword));
        self.combines |= keywords.contains_key("allOf") || (joins && keywords.len() > 1);
        if let Some(Value::Number(step)) = keywords.get("multipleOf") {
            self.steps = numbers::least_common_multiple(self.steps, numbers::digits(step));
        }
        self.bounds(keywords)?;
        self.distinct_names(keywords)?;
        for (keyword, value) in keywords.iter_mut() {
            self.within(keyword, |walk| walk.keyword(keyword, value, depth))?;
        }
        Ok(())
    }

    fn keyword(&mut self, keyword: &str, value: &mut Value, depth: usize) -> Result<(), Refusal> {
        match keyword {
            "properties" | "patternProperties" | "$defs" | "definitions" => {
                let Value::Object(schemas) = value else { return self.shape(keyword, "an object", value) };
                if keyword.ends_with("roperties") && schemas.len() > MAX_PROPERTIES {
                    return self.refuse(format!("`{keyword}` has more than {MAX_PROPERTIES} properties"));
                }
                for (name, schema) in schemas {
                    self.within(name, |walk| {
                        if keyword == "patternProperties" {
                            walk.pattern(keyword, name)?;
                        }
                        walk.schema(schema, depth + 1)
                    })?;
                }
                Ok(())
            }
            "pattern" => match value.as_str() {
                Some(pattern) => self.pattern(keyword, pattern),
                None => self.shape(keyword, "a string", value),
            },
            "required" => match value.as_array() {
                Some(names) => names.iter().try_for_each(|name| match name {
                    Value::String(name) => self.name(keyword, name),
                    other => self.shape(keyword, "a list of strings", other),
                }),
                None => self.shape(keyword, "a list of strings", value),
            },
            "allOf" | "anyOf" | "oneOf" | "prefixItems" => self.list(keyword, value, depth),
            "items" if value.is_array() => self.list(keyword, value, depth),
            "items" | "additionalItems" | "additionalProperties" => self.schema(value, depth + 1),
            "type" => self.types(value),
            "enum" => match value.as_array() {
                Some(values) if values.is_empty() => self.refuse("`enum` is empty: nothing matches it"),
                Some(values) => values.iter().try_for_each(|value| self.constant(keyword, value)),
                None => self.shape(keyword, "a list", value),
            },
            "const" => self.constant(keyword, value),
            "format" => match value.as_str() {
                Some(format) if FORMATS.contains(&format) => Ok(()),
                Some(format) => {
                    let known = FORMATS.join(", ");
                    self.refuse(format!("`format` can be one of {known}; found `{format}`"))
                }
                None => self.shape(keyword, "a string", value),
            },
            "$ref" => match value.as_str() {
                Some(reference) if reference.starts_with('#') => Ok(()),
                _ => self
                    .refuse(format!("`$ref` must point into this schema, as `#/$defs/name`; found {value}")),
            },
            "minimum" | "maximum" | "exclusiveMinimum" | "exclusiveMaximum" | "multipleOf" => {
                self.number(keyword, value)
            }
            _ => Ok(()),
        }
    }

    fn list(&mut self, keyword: &str, value: &mut Value, depth: usize) -> Result<(), Refusal> {
        let Value::Array(schemas) = value else { return self.shape(keyword, "a list", value) };
        if schemas.is_empty() && keyword != "prefixItems" && keyword != "items" {
            return self.refuse(format!("`{keyword}` is empty"));
        }
        for (index, schema) in schemas.iter_mut().enumerate() {
            self.within(&format!("[{index}]"), |walk| walk.schema(schema, depth + 1))?;
        }
        Ok(())
    }

    fn types(&self, value: &Value) -> Result<(), Refusal> {
        let names = match value {
            Value::Array(names) => names.as_slice(),
            one => std::slice::from_ref(one),
        };
        let known = |name: &Value| name.as_str().is_some_and(|name| TYPES.contains(&name));
        match names.iter().find(|name| !known(name)) {
            None if !names.is_empty() => Ok(()),
            found => {
                let found = found.unwrap_or(value);
                self.refuse(format!("`type` must be one or more of {}; found {found}", TYPES.join(", ")))
            }
        }
    }

    fn constant(&mut self, keyword: &str, value: &Value) -> Result<(), Refusal> {
        self.name(keyword, value.as_str().unwrap_or_default())?;
        match value {
            Value::Number(_) => self.number(keyword, value),
            Value::Array(values) => values.iter().try_for_each(|value| self.constant(keyword, value)),
            Value::Object(values) => values.values().try_for_each(|value| self.constant(keyword, value)),
            Value::Null | Value::Bool(_) | Value::String(_) => Ok(()),
        }
    }

    fn name(&mut self, keyword: &str, name: &str) -> Result<(), Refusal> {
        self.names += 1;
        if self.names > MAX_NAMES {
            return self
                .refuse(format!("the schema has more than {MAX_NAMES} constants, the last in `{keyword}`"));
        }
        self.text(keyword, name)
    }

    fn text(&self, keyword: &str, text: &str) -> Result<(), Refusal> {
        if text.len() <= MAX_TEXT_BYTES {
            return Ok(());
        }
        self.refuse(format!("a text in `{keyword}` has {} bytes, and may have {MAX_TEXT_BYTES}", text.len()))
    }

    fn pattern(&self, keyword: &str, pattern: &str) -> Result<(), Refusal> {
        self.text(keyword, pattern)?;
        regex::check(pattern).or_else(|refusal| self.refuse(format!("`{keyword}`: {}", refusal.message)))
    }

    fn number(&self, keyword: &str, value: &Value) -> Result<(), Refusal> {
        match value {
            // Draft 4 has flags in the place of exclusive bounds.
            Value::Bool(_) if keyword.starts_with("exclusive") => Ok(()),
            Value::Number(number) if keyword == "multipleOf" && number.as_f64().is_none_or(|n| n <= 0.0) => {
                self.refuse(format!("`multipleOf` must be over 0; found {number}"))
            }
            Value::Number(number)
                if keyword == "multipleOf" && numbers::digits(number) > numbers::MAX_STEP =>
            {
                self.refuse(format!("`multipleOf` may have up to 4 digits; found {number}"))
            }
            Value::Number(number) if numbers::is_exact(number) => Ok(()),
            Value::Number(number) => {
                self.refuse(format!("`{keyword}` has {number}: numbers beyond ±2^53 are not supported"))
            }
            other => self.shape(keyword, "a number", other),
        }
    }

    /// The keywords that count, alone and in pairs.
    fn bounds(&mut self, keywords: &Map<String, Value>) -> Result<(), Refusal> {
        for (least, most) in
            [("minLength", "maxLength"), ("minItems", "maxItems"), ("minProperties", "maxProperties")]
        {
            let low = self.count(keywords, least)?.unwrap_or(0);
            let high = self.count(keywords, most)?.unwrap_or(u64::MAX);
            if low > high {
                return self.within(least, |walk| {
                    walk.refuse(format!("`{least}` is {low} and `{most}` is {high}: nothing matches both"))
                });
            }
        }
        Ok(())
    }

    /// Names that the schema leaves open may be the same, and two of the same are one property.
    fn distinct_names(&mut self, keywords: &Map<String, Value>) -> Result<(), Refusal> {
        let wanted = self.count(keywords, "minProperties")?.unwrap_or(0);
        let required = keywords.get("required").and_then(Value::as_array).map_or(0, Vec::len) as u64;
        let closed = keywords.get("additionalProperties") == Some(&Value::Bool(false));
        if wanted < required + 2 || (closed && !keywords.contains_key("patternProperties")) {
            return Ok(());
        }
        let message = "`minProperties` may be up to one more than there are names in `required`, unless all properties are listed";
        self.within("minProperties", |walk| walk.refuse(message))
    }

    fn count(&mut self, keywords: &Map<String, Value>, keyword: &str) -> Result<Option<u64>, Refusal> {
        let Some(value) = keywords.get(keyword) else { return Ok(None) };
        // `2.0` is a whole number to JSON Schema, but not to llguidance.
        match value.as_u64() {
            Some(count) if count <= MAX_COUNT => Ok(Some(count)),
            _ => self.within(keyword, |walk| {
                walk.refuse(format!(
                    "`{keyword}` must be a whole number from 0 to {MAX_COUNT}; found {value}"
                ))
            }),
        }
    }

    fn within<T>(&mut self, step: &str, visit: impl FnOnce(&mut Self) -> T) -> T {
        let before = self.path.len();
        if !step.starts_with('[') {
            self.path.push('.');
        }
        self.path.push_str(step);
        let result = visit(self);
        self.path.truncate(before);
        result
    }

    fn refuse<T>(&self, message: impl Into<String>) -> Result<T, Refusal> {
        Err(Refusal::at(&self.path, message))
    }

    fn shape<T>(&self, keyword: &str, expected: &str, found: &Value) -> Result<T, Refusal> {
        self.refuse(format!("`{keyword}` must be {expected}; found {}", refusal::short(&found.to_string())))
    }
}
