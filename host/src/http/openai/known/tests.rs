//! What is told is what is read.

use serde_json::json;

use super::super::chat::ChatRequest;
use super::super::completions::CompletionRequest;
use super::super::embeddings::EmbeddingRequest;
use super::super::llama::LlamaRequest;
use super::Endpoint::{Chat, Completions, Embeddings, Llama, Responses};
use super::*;
use crate::http::error::Result;
use crate::http::fields::{Fields, looked_for};
use crate::models::capability::MEANINGS;

#[test]
fn every_need_is_a_capability() {
    for Known { name, needs, .. } in KNOWN {
        assert!(MEANINGS.iter().any(|(known, _)| known == needs), "`{name}` needs an unknown `{needs}`");
    }
}

/// The table of the fields in `openai/mod.rs` and this one are of the same.
#[test]
fn what_the_module_s_table_names_is_known() {
    let table = include_str!("../mod.rs").lines().filter(|line| line.starts_with("//! | `"));
    for row in table {
        let names = row.split('|').nth(1).unwrap_or_default().split('`').skip(1).step_by(2);
        for name in names.map(|name| name.split('.').next().unwrap_or_default()) {
            assert!(KNOWN.iter().any(|known| known.name == name), "`{name}` is not in KNOWN");
        }
    }
}

/// A request to each endpoint that has all that is required.
const ENDPOINTS: [Endpoint; 5] = [Chat, Completions, Llama, Responses, Embeddings];

fn parse(endpoint: Endpoint, fields: Value) -> Result<()> {
    let body = match endpoint {
        Chat => json!({"model": "m", "messages": [{"role": "user", "content": "c"}]}),
        Completions | Llama => json!({"model": "m", "prompt": "p"}),
        Responses | Embeddings => json!({"model": "m", "input": "i"}),
    };
    let (Value::Object(mut body), Value::Object(fields)) = (body, fields) else { panic!("two objects") };
    body.extend(fields);
    let fields = Fields::of_body(body);
    match endpoint {
        Chat => ChatRequest::parse(fields).map(drop),
        Completions => CompletionRequest::parse(fields).map(drop),
        Llama => LlamaRequest::parse(fields).map(drop),
        Responses => super::super::responses::parse_alone(fields),
        Embeddings => EmbeddingRequest::parse(fields).map(drop),
    }
}

/// What `/openapi.json` says that an endpoint takes, as `openapi.rs` has it.
fn told(endpoint: Endpoint) -> Vec<&'static str> {
    let everywhere = |known: &Known| endpoint == Embeddings && ["model", "user"].contains(&known.name);
    let here = KNOWN.iter().filter(|known| known.on.contains(&endpoint) || everywhere(known));
    here.map(|known| known.name).collect()
}

/// A field in a shape that nothing has is refused by its own name, not as one that nobody knows.
#[test]
fn every_field_that_is_told_is_read() {
    for endpoint in ENDPOINTS {
        parse(endpoint, json!({})).unwrap_or_else(|_| panic!("{endpoint:?} without anything more"));
        for name in told(endpoint) {
            // No field of a request is a list that holds a list with nothing in it and the truth.
            let refused = parse(endpoint, json!({name: [[], true]}));
            // A schema may be any JSON until it is looked into.
            if refused.is_ok() {
                continue;
            }
            let told = super::super::params::tests::told(refused);
            assert!(told.1.starts_with(name), "{endpoint:?} {name}: {told:?}");
            assert!(!told.2.contains("no field"), "{endpoint:?} {name}: {told:?}");
        }
    }
}

/// Whatever a parser looks for is told, unless it is looked for to be refused with a word on what to send instead.
#[test]
fn every_field_that_is_read_is_told() {
    let refused_by_name = [
        "messages",
        "max_tokens",
        "max_completion_tokens",
        "response_format",
        "reasoning_effort",
        "logprobs",
        "n",
    ];
    for endpoint in ENDPOINTS {
        looked_for::take();
        parse(endpoint, json!({})).unwrap_or_else(|_| panic!("{endpoint:?} without anything more"));
        let told = told(endpoint);
        for name in looked_for::take() {
            let is_refused = endpoint == Responses && refused_by_name.contains(&name.as_str());
            assert!(
                told.contains(&name.as_str()) || is_refused,
                "{endpoint:?} reads `{name}`, KNOWN lacks it"
            );
            if is_refused {
                assert!(parse(endpoint, json!({name.as_str(): 1})).is_err(), "{name}");
            }
        }
    }
}
