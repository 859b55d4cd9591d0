//! Shapes and refusals of the HTTP API.

use impetus_tests::House;
use serde_json::{Value, json};

const CHAT: &str = "/v1/chat/completions";

fn body() -> Value {
    json!({"model": "m", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 5, "temperature": 0})
}

fn with(key: &str, value: Value) -> Value {
    let mut body = body();
    body[key] = value;
    body
}

#[tokio::test]
async fn wrong_requests_are_refused_by_name() {
    let server = House::with(&["fake"]).model("m.fake", "").serve();
    for (body, status, param) in [
        (with("temperature", json!("hot")), 422, "temperature"),
        (with("temperature", json!(-1)), 400, "temperature"),
        (with("messages", json!([])), 400, "messages"),
        (with("response_format", json!({"type": "xml"})), 400, "response_format.type"),
        (with("tools", json!([{"type": "custom"}])), 400, "tools[0].type"),
        (with("tool_choice", json!("required")), 400, "tool_choice"),
        (with("nonsense", json!(1)), 400, "nonsense"),
        (with("stream_options", json!({"include_usage": true})), 400, "stream_options"),
        (with("model", json!("unknown")), 404, "model"),
        (with("logit_bias", json!({"9999": 1})), 400, "logit_bias"),
    ] {
        let answer = server.post(CHAT, &body).await;
        assert_eq!(answer.status, status, "{body}: {}", answer.text);
        let error = answer.json["error"].as_object().unwrap();
        assert_eq!(
            error.keys().map(String::as_str).collect::<Vec<_>>(),
            ["message", "type", "param", "code"]
        );
        let named = error["param"].as_str().unwrap_or_default();
        assert!(named.starts_with(param), "{body}: {named}");
        assert!(answer.headers.contains_key("x-request-id"));
    }
    assert_eq!(server.get("/nothing").await.status, 404);
    assert_eq!(server.get(CHAT).await.status, 405);
    let broken = server.client.post(format!("{}{CHAT}", server.address));
    let broken = broken.header("content-type", "application/json").body("{").send().await.unwrap();
    assert_eq!(broken.status().as_u16(), 400);
}

#[tokio::test]
async fn a_stream_has_every_part_once() {
    let server = House::with(&["fake"]).model("m.fake", "say = héllo").serve();
    let mut body = with("stream", json!(true));
    body["stream_options"] = json!({"include_usage": true});
    body["max_tokens"] = 12.into();
    let answer = server.post(CHAT, &body).await;
    let (events, done) = answer.events();
    assert!(done);
    assert_eq!(events[0]["choices"][0]["delta"]["role"], "assistant");
    let finishes = events.iter().filter(|event| event["choices"][0]["finish_reason"].is_string()).count();
    assert_eq!(finishes, 1);
    let last = events.last().unwrap();
    assert_eq!((&last["choices"], &last["usage"]["completion_tokens"]), (&json!([]), &json!(12)));
    assert!(
        events.iter().all(|event| event["id"] == events[0]["id"] && event["created"] == events[0]["created"])
    );
    let whole = {
        body["stream"] = json!(false);
        body.as_object_mut().unwrap().remove("stream_options");
        server.post(CHAT, &body).await
    };
    assert_eq!(whole.chat_text(), answer.chat_text());
    assert!(!answer.chat_text().contains('\u{fffd}'), "a character was cut: {}", answer.chat_text());
}

#[tokio::test]
async fn a_stop_string_ends_the_answer_before_it() {
    let server = House::with(&["fake"]).model("m.fake", "say = abcdef").serve();
    let mut body = with("stop", json!(["de"]));
    body["max_tokens"] = 20.into();
    let answer = server.post(CHAT, &body).await;
    assert_eq!(answer.json["choices"][0]["finish_reason"], "stop");
    assert!(!answer.chat_text().contains('d') && answer.chat_text().ends_with('c'), "{}", answer.text);
}

#[tokio::test]
async fn only_what_can_be_served_is_advertised() {
    let house = House::with(&["fake", "gguf"]).model("m.fake", "").smollm2();
    let server = house.config("[plugin.gguf]\nenabled = false").serve();
    let ids = |list: &Value| -> Vec<String> {
        list.as_array().unwrap().iter().map(|model| model["id"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(ids(&server.get("/v1/models").await.json["data"]), ["m"]);
    let formats = server.get("/api/formats").await;
    assert!(formats.text.contains("\"fake\"") && !formats.text.contains("gguf"), "{}", formats.text);
    assert!(server.get("/api/plugins").await.text.contains("disabled"));
    let answer = server.post(CHAT, &with("model", json!(impetus_tests::SMOLLM2))).await;
    assert_eq!(
        (answer.status, &answer.json["error"]["code"]),
        (503, &json!("plugin_unavailable")),
        "{}",
        answer.text
    );
    assert!(answer.text.contains("disabled"), "{}", answer.text);
    assert_eq!(server.get("/readyz").await.status, 200);
}

#[tokio::test]
async fn a_seed_repeats_itself_alone_and_in_company() {
    let server = House::with(&["gguf"]).smollm2().serve();
    let body = json!({"model": impetus_tests::SMOLLM2, "prompt": "Once upon a time", "max_tokens": 12, "seed": 7,
        "temperature": 1.2, "top_p": 0.95});
    let text =
        |answer: &impetus_tests::Answer| answer.json["choices"][0]["text"].as_str().unwrap().to_owned();
    let alone = text(&server.post("/v1/completions", &body).await);
    let (one, two) =
        tokio::join!(server.post("/v1/completions", &body), server.post("/v1/completions", &body));
    assert_eq!((text(&one), text(&two)), (alone.clone(), alone));
}

#[tokio::test]
async fn the_best_of_several_answers_and_the_prompt_come_back() {
    let server = House::with(&["fake"]).model("m.fake", "say = abcdef").serve();
    let body =
        json!({"model": "m", "prompt": ["one", "two"], "n": 1, "best_of": 3, "max_tokens": 4, "seed": 1});
    let answer = server.post("/v1/completions", &body).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert_eq!(answer.json["choices"].as_array().unwrap().len(), 2);
    assert_eq!(answer.json["choices"][1]["index"], 1);
    assert_eq!(answer.json["choices"][0]["logprobs"], Value::Null, "they were not asked for");
    assert_eq!(answer.json["usage"]["completion_tokens"], 24, "all that was computed counts");

    let tokens = server.post("/tokenize", &json!({"content": "one two"})).await.json["tokens"].take();
    let body = json!({"model": "m", "prompt": tokens, "echo": true, "max_tokens": 2});
    let answer = server.post("/v1/completions", &body).await;
    assert!(answer.json["choices"][0]["text"].as_str().unwrap().starts_with("one two"), "{}", answer.text);
}

#[tokio::test]
async fn the_api_answers_without_its_version_too() {
    let server = House::with(&["fake"]).model("m.fake", "").serve();
    assert_eq!(server.get("/models").await.json, server.get("/v1/models").await.json);
    assert_eq!(server.post("/chat/completions", &body()).await.status, 200);
}
