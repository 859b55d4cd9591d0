//! `/v1/completions` beyond the plain answer: how probable a prompt is, and the gap between two texts.

use impetus_tests::{House, Server};
use serde_json::{Value, json};

const ROUTE: &str = "/v1/completions";

fn fake(script: &str) -> Server {
    House::with(&["fake"]).model("m.fake", script).serve()
}

/// The one choice of an answer that must come.
async fn choice(server: &Server, body: Value) -> Value {
    let answer = server.post(ROUTE, &body).await;
    assert_eq!(answer.status, 200, "{body}: {}", answer.text);
    answer.json["choices"][0].clone()
}

fn list(choice: &Value, name: &str) -> Vec<Value> {
    choice["logprobs"][name].as_array().unwrap_or_else(|| panic!("{choice}")).clone()
}

#[tokio::test]
async fn a_prompt_is_told_how_probable_it_is() {
    let server = fake("");
    let answered = choice(
        &server,
        json!({"model": "m", "prompt": "hello", "max_tokens": 6, "logprobs": 2, "temperature": 0}),
    )
    .await;
    let text = format!("hello{}", answered["text"].as_str().unwrap());
    let scored = json!({"model": "m", "prompt": text, "max_tokens": 0, "echo": true, "logprobs": 2});
    // The second time, the context holds the whole prompt.
    for _ in 0..2 {
        let scored = choice(&server, scored.clone()).await;
        assert_eq!((&scored["text"], &scored["finish_reason"]), (&json!(text), &json!("length")));
        let names = ["tokens", "token_logprobs", "top_logprobs", "text_offset"];
        let lists = names.map(|name| list(&scored, name));
        assert!(lists.iter().all(|list| list.len() == text.len()), "{scored}");
        assert_eq!((&lists[1][0], &lists[2][0]), (&Value::Null, &Value::Null), "nothing is before the first");
        assert_eq!(lists[1][5..], list(&answered, "token_logprobs"), "the answer's, when it was generated");
        assert_eq!(lists[3], (0..text.len()).map(Value::from).collect::<Vec<_>>());
    }
}

/// Longer than a step, in company, and with an answer behind it.
#[tokio::test]
async fn scores_come_in_order_with_the_answer_behind_them() {
    let server = fake("");
    let prompt = "abcdefghij".repeat(20);
    let body = |prompt: &str| json!({"model": "m", "prompt": prompt, "max_tokens": 3, "echo": true, "logprobs": 0, "temperature": 0});
    let (one, two) = tokio::join!(choice(&server, body(&prompt)), choice(&server, body(&prompt)));
    assert_eq!(one, two);
    let tokens = list(&one, "tokens");
    assert_eq!(tokens.len(), 203);
    let told: String = tokens.iter().filter_map(Value::as_str).collect();
    assert_eq!(one["text"], told);

    let streamed = json!({"model": "m", "prompt": prompt, "max_tokens": 3, "echo": true, "logprobs": 0, "temperature": 0, "stream": true});
    let (events, done) = server.post(ROUTE, &streamed).await.events();
    assert!(done);
    let text: String = events.iter().filter_map(|event| event["choices"][0]["text"].as_str()).collect();
    let scores =
        events.iter().filter_map(|event| event["choices"][0]["logprobs"]["token_logprobs"].as_array());
    assert_eq!((text, scores.flatten().cloned().collect::<Vec<_>>()), (told, list(&one, "token_logprobs")));
}

#[tokio::test]
async fn a_gap_is_filled_where_the_model_has_the_tokens() {
    let server = fake("infill");
    let body = |prompt: &str| json!({"model": "m", "prompt": prompt, "max_tokens": 8, "temperature": 0});
    let mut gap = body("def f(");
    gap["suffix"] = "return x".into();
    let by_hand = body("<|fim_prefix|>def f(<|fim_suffix|>return x<|fim_middle|>");
    assert_eq!(choice(&server, gap.clone()).await["text"], choice(&server, by_hand).await["text"]);
    assert_ne!(choice(&server, gap.clone()).await["text"], choice(&server, body("def f(")).await["text"]);
    let models = server.get("/v1/models").await.json;
    assert!(
        models["data"][0]["meta"]["capabilities"].as_array().unwrap().contains(&json!("infill")),
        "{models}"
    );

    let without = fake("").post(ROUTE, &gap).await;
    assert_eq!(
        (without.status, &without.json["error"]["param"]),
        (400, &json!("suffix")),
        "{}",
        without.text
    );
    gap["suffix"] = "".into();
    assert_eq!(fake("").post(ROUTE, &gap).await.status, 200, "an empty one asks for nothing");
}
