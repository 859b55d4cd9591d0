//! `/openapi.json` and real answers: each is an instance of the schema that the document has for it.

use impetus_tests::{Answer, House, Server};
use serde_json::{Value, json};

/// Checks a JSON answer against what the document says of its route and status.
fn check(document: &Value, method: &str, path: &str, answer: &Answer) {
    let answers = &document["paths"][path][method]["responses"];
    let status = answer.status.to_string();
    let told = answers.get(&status).unwrap_or(&answers["default"]);
    let schema = &told["content"]["application/json"]["schema"];
    assert!(!schema.is_null(), "{method} {path} says nothing of {status}: {told}");
    judge(document, schema, &answer.json, &format!("{method} {path} {status}"));
}

fn judge(document: &Value, schema: &Value, instance: &Value, what: &str) {
    let whole = json!({"allOf": [schema], "components": document["components"]});
    let validator = jsonschema::draft202012::new(&whole).unwrap();
    let errors: Vec<String> = validator
        .iter_errors(instance)
        .map(|error| format!("{error} at {}", error.instance_path()))
        .collect();
    assert!(errors.is_empty(), "{what}: {errors:?} in {instance:#}");
}

fn chat(extra: Value) -> Value {
    let mut body = json!({"model": "m", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 6});
    body.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    body
}

/// The body is what the document asks for, and so is the answer.
async fn exchange(server: &Server, document: &Value, path: &str, body: Value) -> Answer {
    let takes = &document["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"];
    judge(document, takes, &body, path);
    let answer = server.post(path, &body).await;
    assert_eq!(answer.status, 200, "{path} {body}: {}", answer.text);
    if body["stream"] != true {
        check(document, "post", path, &answer);
    }
    answer
}

#[tokio::test]
async fn what_is_answered_is_what_the_document_says() {
    let server = House::with(&["fake"]).model("m.fake", "say = abcdef").serve();
    let document = server.get("/openapi.json").await.json;
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
    for path in [
        "/v1/models",
        "/api/plugins",
        "/api/formats",
        "/api/models",
        "/api/ps",
        "/api/server",
        "/api/uploads",
        "/api/benchmarks",
        "/health",
        "/livez",
        "/readyz",
        "/openapi.json",
    ] {
        check(&document, "get", path, &server.get(path).await);
    }
    check(&document, "get", "/api/models/{path}", &server.get("/api/models/m/plan").await);
    check(&document, "get", "/v1/models/{id}", &server.get("/v1/models/m").await);
    check(&document, "get", "/v1/models/{id}", &server.get("/v1/models/nobody").await);

    let chats = "/v1/chat/completions";
    exchange(&server, &document, chats, chat(json!({"logprobs": true, "top_logprobs": 2, "n": 2}))).await;
    let form = json!({"type": "json_schema", "json_schema": {"name": "x", "schema": {"enum": [1, 2]}}});
    exchange(&server, &document, chats, chat(json!({"response_format": form, "seed": 1, "stop": ["x"]})))
        .await;
    let streamed = chat(json!({"stream": true, "stream_options": {"include_usage": true}, "logprobs": true}));
    let answer = exchange(&server, &document, chats, streamed).await;
    let chunk =
        &document["paths"][chats]["post"]["responses"]["200"]["content"]["text/event-stream"]["schema"];
    let (events, done) = answer.events();
    assert!(done && events.len() > 2);
    events.iter().for_each(|event| judge(&document, chunk, event, "a chunk"));
    let wrong = server.post(chats, &chat(json!({"temperature": "hot"}))).await;
    check(&document, "post", chats, &wrong);

    let body =
        json!({"model": "m", "prompt": ["a", "b"], "max_tokens": 3, "logprobs": 2, "temperature": 0.5});
    exchange(&server, &document, "/v1/completions", body).await;
    let body = json!({"model": "m", "input": "hi", "max_output_tokens": 4, "metadata": {"a": "b"}});
    let answer = exchange(&server, &document, "/v1/responses", body).await;
    let kept = format!("/v1/responses/{}", answer.json["id"].as_str().unwrap());
    check(&document, "get", "/v1/responses/{id}", &server.get(&kept).await);

    let body = json!({"prompt": "a", "n_predict": 3, "n_probs": 2, "return_tokens": true});
    exchange(&server, &document, "/completion", body).await;

    let tokens = exchange(&server, &document, "/tokenize", json!({"content": "abc"})).await;
    exchange(&server, &document, "/tokenize", json!({"content": "abc", "with_pieces": true})).await;
    exchange(&server, &document, "/detokenize", json!({"tokens": tokens.json["tokens"]})).await;
    let messages = json!([{"role": "user", "content": "hello"}]);
    exchange(&server, &document, "/apply-template", json!({"messages": messages, "model": "m"})).await;
}

#[tokio::test]
async fn benchmarks_are_told_as_the_document_says() {
    let server = House::with(&["fake"]).model("m.fake", "say = abcdef").serve();
    let document = server.get("/openapi.json").await.json;
    let body = json!({"kind": "machine", "parts": ["devices"], "runs": 1});
    let job = exchange(&server, &document, "/api/benchmarks", body).await;
    let job = format!("/api/benchmarks/{}", job.json["id"].as_str().unwrap());
    for _ in 0..200 {
        let answer = server.get(&job).await;
        check(&document, "get", "/api/benchmarks/{id}", &answer);
        if answer.json["state"] != "running" {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    let twice = format!("{job}/against/{}", job.rsplit('/').next().unwrap());
    check(&document, "get", "/api/benchmarks/{id}/against/{other}", &server.get(&twice).await);
    check(&document, "get", "/api/benchmarks/{id}", &server.get("/api/benchmarks/nobody").await);
}
