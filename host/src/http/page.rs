//! `GET /docs`: `/openapi.json` as a page, written out here. It has no script and loads nothing, from here or elsewhere.

use std::fmt::Write;

use axum::http::header;
use axum::response::{Html, IntoResponse, Response};
use serde_json::{Map, Value};

use super::openapi;

/// Schemas within schemas are shown down to here; what recurs does not go on for ever.
const DEEPEST: usize = 6;

const HEAD: &str = "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
<meta name=\"viewport\" content=\"width=device-width\"><title>Impetus: HTTP API</title><style>\
body{font:15px/1.45 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222;background:#fff}\
code{font:13px ui-monospace,monospace}details{border:1px solid #ccc;border-radius:4px;margin:.4rem 0;padding:.4rem .7rem}\
details details{border:0;margin:0;padding:0 0 0 1rem}summary{cursor:pointer}b.m{display:inline-block;width:4.2rem}\
ul{margin:.2rem 0;padding-left:1.2rem}i{color:#666}h2{margin-top:1.6rem}\
@media(prefers-color-scheme:dark){body{color:#ddd;background:#181818}details{border-color:#444}i{color:#999}}\
</style></head><body>";

const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; \
                      frame-ancestors 'none'";

/// The page.
#[utoipa::path(
    get, path = "/docs", tag = "server", summary = "This document as a page",
    responses((status = 200, description = "HTML without scripts", body = String, content_type = "text/html"))
)]
pub(crate) async fn read() -> Response {
    ([(header::CONTENT_SECURITY_POLICY, POLICY)], Html(page(openapi::shown()))).into_response()
}

fn page(document: &Value) -> String {
    let info = &document["info"];
    let mut out = HEAD.to_owned();
    let (title, version) = (escaped(&info["title"]), escaped(&info["version"]));
    let _ = write!(out, "<h1>{title} {version}</h1><p>{}</p>", escaped(&info["description"]));
    out += "<p>For programs: <a href=\"/openapi.json\">/openapi.json</a></p>";
    for tag in ["OpenAI", "llama-server", "server"] {
        let _ = write!(out, "<h2>{tag}</h2>");
        for (path, operations) in entries(&document["paths"]) {
            for (method, operation) in
                entries(operations).filter(|(_, operation)| operation["tags"][0] == tag)
            {
                write_operation(&mut out, document, (method, path), operation);
            }
        }
    }
    out + "</body></html>"
}

fn write_operation(out: &mut String, document: &Value, (method, path): (&str, &str), operation: &Value) {
    let method = method.to_ascii_uppercase();
    let (path, summary) = (escape(path), escaped(&operation["summary"]));
    let _ = write!(
        out,
        "<details><summary><b class=\"m\">{method}</b> <code>{path}</code> {summary}</summary><p>{}</p>",
        escaped(&operation["description"])
    );
    for (kind, content) in entries(&operation["requestBody"]["content"]) {
        let _ = write!(out, "<p><b>takes</b> <code>{}</code></p>", escape(kind));
        write_schema(out, document, &content["schema"], 0);
    }
    for (status, answer) in entries(&operation["responses"]) {
        let told = escaped(&answer["description"]);
        let _ = write!(out, "<p><b>{}</b> {told}</p>", escape(status));
        for (kind, content) in entries(&answer["content"]) {
            let _ = write!(out, "<p><code>{}</code></p>", escape(kind));
            write_schema(out, document, &content["schema"], 0);
        }
    }
    *out += "</details>";
}

/// A schema's fields as a list, those of its parts within.
fn write_schema(out: &mut String, document: &Value, schema: &Value, depth: usize) {
    let schema = resolved(document, schema);
    if depth > DEEPEST {
        return;
    }
    for part in ["allOf", "anyOf", "oneOf"] {
        for schema in schema[part].as_array().into_iter().flatten() {
            write_schema(out, document, schema, depth + 1);
        }
    }
    if schema["items"].is_object() {
        write_schema(out, document, &schema["items"], depth + 1);
    }
    let required = schema["required"].as_array().cloned().unwrap_or_default();
    let mut fields = entries(&schema["properties"]).peekable();
    if fields.peek().is_none() {
        return;
    }
    *out += "<ul>";
    for (name, field) in fields {
        let must = if required.iter().any(|own| own == name) { ", required" } else { "" };
        let kind = escape(&kind(document, field));
        let text = escaped(&field["description"]);
        let _ = write!(out, "<li><code>{}</code> <i>{kind}{must}</i> {text}", escape(name));
        write_schema(out, document, field, depth + 1);
        *out += "</li>";
    }
    *out += "</ul>";
}

/// What a schema's values are, in a word or a few.
fn kind(document: &Value, schema: &Value) -> String {
    let schema = resolved(document, schema);
    if let Some(values) = schema["enum"].as_array() {
        return values.iter().map(Value::to_string).collect::<Vec<_>>().join(" | ");
    }
    match (&schema["type"], &schema["anyOf"], &schema["oneOf"]) {
        (Value::String(kind), ..) if kind == "array" => {
            format!("array of {}", self::kind(document, &schema["items"]))
        }
        (Value::String(kind), ..) => kind.clone(),
        (Value::Array(kinds), ..) => kinds
            .iter()
            .filter_map(Value::as_str)
            .filter(|kind| *kind != "null")
            .collect::<Vec<_>>()
            .join(" | "),
        (_, Value::Array(kinds), _) | (_, _, Value::Array(kinds)) => {
            let told = kinds.iter().map(|schema| self::kind(document, schema)).filter(|kind| kind != "null");
            told.collect::<Vec<_>>().join(" | ")
        }
        _ => "any".to_owned(),
    }
}

fn resolved<'a>(document: &'a Value, schema: &'a Value) -> &'a Value {
    let reference = schema["$ref"].as_str().and_then(|reference| reference.strip_prefix('#'));
    reference.and_then(|pointer| document.pointer(pointer)).unwrap_or(schema)
}

fn entries(value: &Value) -> impl Iterator<Item = (&str, &Value)> {
    value.as_object().into_iter().flat_map(Map::iter).map(|(key, value)| (key.as_str(), value))
}

fn escaped(text: &Value) -> String {
    escape(text.as_str().unwrap_or_default())
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_route_is_on_the_page_which_loads_nothing() {
        let document = openapi::shown();
        let page = page(document);
        for (path, operations) in entries(&document["paths"]) {
            let told = page.matches(&format!("<code>{}</code>", escape(path))).count();
            assert_eq!(told, entries(operations).count(), "{path}: its tag is none of the page's");
        }
        for word in ["<script", "src=", "@import", "url(", "http://", "https://"] {
            assert!(!page.contains(word), "{word} is on the page");
        }
        assert!(page.contains("the fewest tokens of this probability together"));
    }
}
