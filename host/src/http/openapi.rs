//! `GET /openapi.json`: every route with what it takes, what it answers and how it refuses, for people and generators.
//!
//! Answers are described by the types that are sent (`ToSchema` on each), requests to models by the table of their
//! fields (`openai/known.rs`), the rest here. `page` shows the same to a browser.

use std::sync::LazyLock;

use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};
use utoipa::OpenApi;

use super::error::ErrorBody;
use super::guard::OPEN_TO_ALL;
use super::openai::known::{Endpoint, KNOWN, Known};
use super::openai::responses::events;
use super::{ALIASES, api, benchmarks, health, life, metrics, openai, page, status, uploads, web};
use crate::bench::{MachineOptions, ModelOptions, ServeOptions};
use crate::models::capability::EMBEDDINGS;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Impetus",
        description = "A local server for language models in which every model format is a plugin. The routes below \
            /v1 are OpenAI's; a field that cannot be honoured is refused by name, never dropped."
    ),
    paths(
        openai::chat::handle,
        openai::completions::handle,
        openai::embeddings::handle,
        openai::responses::create,
        openai::responses::one,
        openai::responses::delete,
        openai::models::list,
        openai::models::one,
        openai::llama::handle,
        openai::tokens::tokenize,
        openai::tokens::detokenize,
        openai::tokens::apply_template,
        api::plugins,
        api::formats,
        api::models,
        life::about,
        life::change,
        life::delete,
        life::processes,
        status::read,
        uploads::list,
        uploads::begin,
        uploads::take,
        uploads::discard,
        api::events,
        benchmarks::start,
        benchmarks::list,
        benchmarks::one,
        benchmarks::remove,
        benchmarks::against,
        metrics::read,
        health::alive,
        health::live,
        health::ready,
        read,
        page::read,
        web::page,
        web::asset,
    ),
    components(schemas(ErrorBody, MachineOptions, ModelOptions, ServeOptions))
)]
struct Document;

static DOCUMENT: LazyLock<Value> = LazyLock::new(document);
static TEXT: LazyLock<String> = LazyLock::new(|| DOCUMENT.to_string());

/// The document.
#[utoipa::path(
    get, path = "/openapi.json", tag = "server", summary = "This document",
    responses((status = 200, description = "OpenAPI 3.1", body = Value))
)]
pub(crate) async fn read() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], TEXT.as_str()).into_response()
}

/// The same, to be shown.
pub(crate) fn shown() -> &'static Value {
    &DOCUMENT
}

fn document() -> Value {
    let mut document = serde_json::to_value(Document::openapi()).unwrap_or_default();
    for (path, schema) in requests() {
        let body = json!({"required": true, "content": {"application/json": {"schema": schema}}});
        document["paths"][path]["post"]["requestBody"] = body;
    }
    document["paths"]["/api/benchmarks"]["post"]["requestBody"] =
        json!({"required": true, "content": {"application/json": {"schema": benchmark(&document)}}});
    document["paths"]["/v1/responses"]["post"]["responses"]["200"]["content"]["text/event-stream"]["schema"] =
        events::schema();
    for (alias, path) in ALIASES {
        document["paths"][alias] = document["paths"][path].clone();
    }
    document["components"]["schemas"]["RequestMessage"] = message();
    document["components"]["securitySchemes"] = json!({
        "bearer": {"type": "http", "scheme": "bearer"},
        "x-api-key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
    });
    document["security"] = json!([{"bearer": []}, {"x-api-key": []}]);
    let error = json!({
        "description": "Why not. A 429 or 503 may bear `retry-after`, one that no retry cures `x-should-retry: false`.",
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/ErrorBody"}}},
    });
    let paths = document["paths"].as_object_mut().into_iter().flat_map(Map::iter_mut);
    for (path, operations) in paths {
        for (method, operation) in operations.as_object_mut().into_iter().flat_map(Map::iter_mut) {
            // Handlers of several routes have one name; an operation has one of its own.
            operation["operationId"] =
                format!("{method}{path}").replace(|letter: char| !letter.is_ascii_alphanumeric(), "_").into();
            operation["responses"]["default"] = error.clone();
            if OPEN_TO_ALL.contains(&path.as_str()) || web::is_of_the_page(path) {
                operation["security"] = json!([]);
            }
        }
    }
    document
}

/// What each route takes that takes a body.
fn requests() -> [(&'static str, Value); 8] {
    let text = json!({"type": "string"});
    let model =
        json!({"type": ["string", "null"], "description": "may be missing where only one can be served"});
    let flag = json!({"type": ["boolean", "null"]});
    let of = |required: Value, properties: Value| json!({"type": "object", "additionalProperties": false, "required": required, "properties": properties});
    let tokenize = json!({
        "model": model, "content": text, "add_special": flag, "parse_special": flag, "with_pieces": flag,
    });
    let detokenize = json!({"model": model, "tokens": {"type": "array", "items": {"type": "integer"}}});
    let mut chat = as_a_template_sees_it();
    (chat["model"], chat["add_generation_prompt"]) = (model.clone(), flag.clone());
    [
        ("/v1/chat/completions", to_model(Endpoint::Chat, &["model", "messages"])),
        ("/v1/completions", to_model(Endpoint::Completions, &["model", "prompt"])),
        ("/v1/embeddings", to_model(Endpoint::Embeddings, &["model", "input"])),
        ("/v1/responses", to_model(Endpoint::Responses, &["model", "input"])),
        ("/completion", to_model(Endpoint::Llama, &["prompt"])),
        ("/tokenize", of(json!(["content"]), tokenize)),
        ("/detokenize", of(json!(["tokens"]), detokenize)),
        ("/apply-template", of(json!(["messages"]), chat)),
    ]
}

/// Those fields of a chat completion of which its prompt is made.
fn as_a_template_sees_it() -> Value {
    let seen = [
        "messages",
        "tools",
        "tool_choice",
        "parallel_tool_calls",
        "chat_template_kwargs",
        "reasoning_effort",
    ];
    let mut schema = to_model(Endpoint::Chat, &["messages"]);
    let properties = schema["properties"].as_object_mut().map(std::mem::take).unwrap_or_default();
    properties.into_iter().filter(|(name, _)| seen.contains(&name.as_str())).collect()
}

/// A benchmark's options, by its kind, and what goes with every one.
fn benchmark(document: &Value) -> Value {
    let kinds = [("machine", "MachineOptions"), ("model", "ModelOptions"), ("serve", "ServeOptions")];
    let of_kind = |(kind, name): (&str, &str)| {
        let mut schema = document["components"]["schemas"][name].clone();
        schema["properties"]["kind"] = json!({"const": kind});
        schema["properties"]["force"] =
            json!({"type": ["boolean", "null"], "description": "also while requests are being served"});
        schema["properties"]["save"] =
            json!({"type": ["boolean", "null"], "description": "keep it in the database"});
        schema["required"] = if kind == "machine" { json!(["kind"]) } else { json!(["kind", "model"]) };
        schema
    };
    json!({"oneOf": kinds.map(of_kind)})
}

/// The fields of a request to a model. `null` counts as absent.
fn to_model(endpoint: Endpoint, required: &[&str]) -> Value {
    let embeds = endpoint == Endpoint::Embeddings;
    let everywhere = |known: &Known| embeds && ["model", "user"].contains(&known.name);
    let fields = KNOWN.iter().filter(|known| known.on.contains(&endpoint) || everywhere(known));
    let properties: Map<String, Value> = fields
        .map(|known| {
            let mut schema = (known.schema)();
            if !required.contains(&known.name) {
                schema = or_null(schema);
            }
            schema["description"] = known.text.into();
            schema["x-capability"] = if embeds { EMBEDDINGS } else { known.needs }.into();
            (known.name.to_owned(), schema)
        })
        .collect();
    json!({"type": "object", "additionalProperties": false, "required": required, "properties": properties})
}

fn or_null(mut schema: Value) -> Value {
    if let Some(kind) = schema.get("type").cloned() {
        schema["type"] = json!([kind, "null"]);
    } else if let Some(kinds) = schema.get_mut("anyOf").and_then(Value::as_array_mut) {
        kinds.push(json!({"type": "null"}));
    }
    schema
}

fn message() -> Value {
    let part = json!({"type": "object", "required": ["type", "text"], "properties": {
        "type": {"const": "text"}, "text": {"type": "string"},
    }});
    json!({
        "type": "object",
        "required": ["role"],
        "description": "Only an assistant's message may lack content.",
        "properties": {
            "role": {"type": "string", "enum": ["system", "developer", "user", "assistant", "tool"]},
            "content": {"anyOf": [
                {"type": "string"}, {"type": "array", "items": part}, {"type": "null"},
            ]},
            "name": {"type": ["string", "null"]},
            "reasoning_content": {"type": ["string", "null"]},
            "tool_calls": {"type": ["array", "null"], "items": {"type": "object"}},
            "tool_call_id": {"type": ["string", "null"]},
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `(method, path)` of every route in the router's source.
    fn routes() -> Vec<(String, String)> {
        let source = include_str!("mod.rs").split("#[cfg(test)]").next().unwrap_or_default();
        let mut routes = Vec::new();
        for route in source.split(".route(").skip(1).map(str::trim_start) {
            // Aliases stand in the router by their names.
            let Some(route) = route.strip_prefix('"') else { continue };
            let path = route.split('"').next().unwrap().replace("{*", "{");
            let handlers = route.split(".layer(").next().unwrap_or_default();
            for method in ["get", "post", "delete", "put", "patch"] {
                if handlers.contains(&format!(" {method}(")) || handlers.contains(&format!(".{method}(")) {
                    routes.push((method.to_owned(), path.clone()));
                }
            }
        }
        routes
    }

    #[test]
    fn every_route_is_in_the_document_and_nothing_else() {
        let found = routes();
        assert!(found.len() >= 19, "the router's source is read wrongly: {found:?}");
        for (method, path) in &found {
            let operation = &DOCUMENT["paths"][path][method];
            assert!(
                operation.is_object(),
                "{method} {path} is not in /openapi.json: put #[utoipa::path] on its handler and name it in openapi.rs"
            );
        }
        let paths = DOCUMENT["paths"].as_object().unwrap();
        let told: usize = paths.values().map(|operations| operations.as_object().unwrap().len()).sum();
        assert_eq!(told, found.len() + ALIASES.len(), "{:?}", paths.keys().collect::<Vec<_>>());
    }

    #[test]
    fn every_operation_says_what_it_answers_and_how_it_refuses() {
        for (path, operations) in DOCUMENT["paths"].as_object().unwrap() {
            for (method, operation) in operations.as_object().unwrap() {
                let answers = operation["responses"].as_object().unwrap();
                assert!(answers.contains_key("200") && answers.contains_key("default"), "{method} {path}");
                assert!(operation["summary"].is_string(), "{method} {path} has no summary");
                let id = operation["operationId"].as_str().unwrap();
                assert_eq!(
                    DOCUMENT.to_string().matches(&format!("\"{id}\"")).count(),
                    1,
                    "{id} names two operations"
                );
                if ["post", "put"].contains(&method.as_str()) {
                    assert!(operation["requestBody"].is_object(), "{method} {path} takes nothing");
                }
            }
        }
    }

    /// Each `$ref` leads to a schema.
    #[test]
    fn nothing_is_referred_to_that_is_not_there() {
        let text = DOCUMENT.to_string();
        for reference in text.split("\"$ref\":\"#").skip(1) {
            let pointer = reference.split('"').next().unwrap();
            assert!(DOCUMENT.pointer(pointer).is_some(), "{pointer} is not there");
        }
    }
}
