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
    for path in ["/v1/chat/completions", "/v1/completions", "/completion", "/v1/responses", "/v1/embeddings"]
    {
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

/// What a request asks for and its model cannot do is refused with the field and the capability, field by field.
#[tokio::test]
async fn what_a_model_cannot_do_is_refused_by_field_and_capability() {
    let chat = json!({"model": "m", "messages": [{"role": "user", "content": "hello"}]});
    let text = json!({"model": "m", "prompt": "hello"});
    let gap = json!({"model": "m", "prompt": "hello", "suffix": "there"});
    let response = json!({"model": "m", "input": "hello"});
    let image = json!({"model": "m", "messages": [{"role": "user", "content": [
        {"type": "text", "text": "What is it?"}, {"type": "image_url", "image_url": {"url": "data:image/png;base64,"}}]}]});
    let seen = json!({"model": "m", "input": [{"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}]});
    for (script, path, body, param, capability) in [
        ("embeddings = 8\ngenerates_nothing", "/v1/completions", &text, "model", "generate"),
        ("embeddings = 8\ngenerates_nothing", "/v1/chat/completions", &chat, "model", "generate"),
        ("embeddings = 8\ngenerates_nothing", "/completion", &text, "model", "generate"),
        ("", "/v1/completions", &gap, "suffix", "infill"),
        ("no_template", "/v1/chat/completions", &chat, "messages", "chat template"),
        ("no_template", "/v1/responses", &response, "input", "chat template"),
        ("template = {{", "/v1/chat/completions", &chat, "messages", "chat template"),
        ("", "/v1/embeddings", &response, "model", "embeddings"),
        ("", "/v1/chat/completions", &image, "messages[0].content[1]", "`vision`"),
        ("", "/v1/responses", &seen, "input[0].content[0].type", "`vision`"),
    ] {
        let server = House::with(&["fake"]).model("m.fake", script).serve();
        let refused = server.post(path, body).await;
        let error = &refused.json["error"];
        assert_eq!(
            (refused.status, &error["param"]),
            (400, &json!(param)),
            "{script} {path}: {}",
            refused.text
        );
        assert!(error["message"].as_str().unwrap().contains(capability), "{script} {path}: {}", refused.text);
        if script == "no_template" {
            let told = server.get("/v1/models/m").await.json["meta"]["capabilities"].clone();
            assert!(!told.as_array().unwrap().contains(&json!("chat")), "{told}");
            assert_eq!(server.post("/v1/completions", &text).await.status, 200);
        }
    }
}

/// Before a model is loaded its record has what its headers say; loading adds to it and takes nothing.
#[tokio::test]
async fn the_record_before_loading_is_a_part_of_the_one_after() {
    let server = house().serve();
    for (_, model) in FORMATS {
        let before = server.get(&format!("/v1/models/{model}")).await.json["meta"].take();
        assert_eq!(before["loaded"], false);
        let before = before["capabilities"].as_array().unwrap().clone();
        assert!(
            before.contains(&json!("generate")) && before.contains(&json!("json")),
            "{model}: {before:?}"
        );
        let (_, after) = record(&server, model).await;
        for name in before {
            assert!(after.contains(&name.as_str().unwrap().to_owned()), "{model} loses {name}: {after:?}");
        }
    }
}
