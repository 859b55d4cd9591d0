//! What models can do: told, kept to, and written down in docs/capabilities.md format by format.

use std::fmt::Write;

use impetus::models::capability::MEANINGS;
use impetus_tests::{House, SMOLLM2, Server, root};
use serde_json::{Value, json};

/// A format, and a model that stands for it.
const FORMATS: [(&str, &str); 3] = [("gguf", SMOLLM2), ("safetensors", "checkpoint"), ("mlx", "rounded")];

/// What is decided by the single model: what it was trained for, and its chat template.
const OF_MODELS: [&str; 7] =
    ["embeddings", "chat", "tools", "reasoning", "partial_seq_rm", "seq_cp", "recurrent"];

const HEAD: &str = "# What models can do\n\n\
    `GET /v1/models` lists a loaded model's capabilities by these names (`meta.capabilities`), the same names for every\n\
    format. A request that asks for more than its model can do is answered 400, with the field as `param` and the\n\
    capability in the message. Written by the test `capabilities` from what running models of each format say, and from\n\
    the table of fields in the code (`x-capability` in `/openapi.json`).\n\n";

fn house() -> House {
    let house = House::with(&["gguf", "safetensors"]).smollm2();
    for (from, name) in [("checkpoints/llama", "checkpoint"), ("mlx/qwen3_8bit", "rounded")] {
        let folder = house.path("models").join(name);
        std::fs::create_dir_all(&folder).unwrap();
        for file in ["config.json", "tokenizer.json", "model.safetensors"] {
            std::fs::copy(root().join("tests/fixtures").join(from).join(file), folder.join(file)).unwrap();
        }
    }
    house
}

/// A loaded model's format and capabilities.
async fn record(server: &Server, model: &str) -> (String, Vec<String>) {
    let body = json!({"model": model, "prompt": "One", "max_tokens": 1});
    let answer = server.post("/v1/completions", &body).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let meta = server.get(&format!("/v1/models/{model}")).await.json["meta"].take();
    let names = meta["capabilities"].as_array().unwrap().iter();
    let names = names.map(|name| name.as_str().unwrap().to_owned()).collect();
    (meta["format"].as_str().unwrap().to_owned(), names)
}

/// The fields of requests that need a capability.
fn fields(document: &Value, capability: &str) -> String {
    let mut found: Vec<&str> = Vec::new();
    for path in ["/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/embeddings"] {
        let schema = &document["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"];
        for (name, field) in schema["properties"].as_object().into_iter().flatten() {
            if field["x-capability"] == capability && !found.contains(&name.as_str()) {
                found.push(name);
            }
        }
    }
    found.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

#[tokio::test]
async fn the_table_in_the_documents_is_what_models_say() {
    let server = house().serve();
    let document = server.get("/openapi.json").await.json;
    let mut records = Vec::new();
    for (format, model) in FORMATS {
        let (found, names) = record(&server, model).await;
        assert_eq!(found, format);
        for name in &names {
            assert!(MEANINGS.iter().any(|(known, _)| known == name), "`{name}` has no meaning");
        }
        records.push(names);
    }
    let mut table = HEAD.to_owned();
    let formats = FORMATS.map(|(format, _)| format);
    let _ = writeln!(table, "| capability | meaning | fields that need it | {} |", formats.join(" | "));
    let _ = writeln!(table, "|---|---|---|{}", "---|".repeat(formats.len()));
    for (name, meaning) in MEANINGS {
        let cell = |names: &Vec<String>| match names.iter().any(|own| own == name) {
            _ if OF_MODELS.contains(&name) => "by the model",
            true => "yes",
            false => "no",
        };
        let cells: Vec<&str> = records.iter().map(cell).collect();
        let _ =
            writeln!(table, "| `{name}` | {meaning} | {} | {} |", fields(&document, name), cells.join(" | "));
    }
    let path = root().join("docs/capabilities.md");
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    if written != table {
        std::fs::write(&path, table).unwrap();
        panic!(
            "docs/capabilities.md was not what models say; it has been written anew: look at it and commit it"
        );
    }
}
