//! `/completion` in llama-server's shapes.

use impetus_tests::{House, SMOLLM2};
use serde_json::{Value, json};

#[tokio::test]
async fn a_prompt_goes_on_in_the_shapes_of_llama_server() {
    let server = House::with(&["gguf"]).smollm2().serve();
    let ask = async |fields: Value| {
        let mut body = json!({"prompt": "Once upon a time", "n_predict": 8, "temperature": 0});
        body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        let answer = server.post("/completion", &body).await;
        assert_eq!(answer.status, 200, "{body}: {}", answer.text);
        answer
    };
    let plain = ask(json!({"return_tokens": true})).await.json;
    let body = json!({"model": SMOLLM2, "prompt": "Once upon a time", "max_tokens": 8, "temperature": 0});
    let original = server.post("/v1/completions", &body).await.json;
    assert_eq!(plain["content"], original["choices"][0]["text"]);
    assert_eq!((&plain["stop_type"], &plain["timings"]["predicted_n"]), (&json!("limit"), &json!(8)));
    let tokens = json!({"tokens": plain["tokens"]});
    assert_eq!(server.post("/detokenize", &tokens).await.json["content"], plain["content"]);

    // The same prompt in its other shapes, and the same words in a stream.
    let tokens =
        server.post("/tokenize", &json!({"content": "Once upon a time"})).await.json["tokens"].take();
    let split = json!([tokens[0], " upon", tokens[2], tokens[3]]);
    let all = json!({"prompt": [tokens, split, {"prompt_string": "Once upon a time"}]});
    let answers = server.post("/completions", &ask_with(&all)).await.json;
    for answer in answers.as_array().unwrap() {
        assert_eq!(answer["content"], plain["content"], "{answers}");
    }
    let (events, _) = ask(json!({"stream": true})).await.events();
    let said: String = events.iter().map(|event| event["content"].as_str().unwrap()).collect();
    assert_eq!(said, plain["content"].as_str().unwrap());
    assert_eq!(events.last().unwrap()["stop"], true);

    // What was computed for it before is used again, unless that is not wanted.
    let cached = ask(json!({})).await.json["tokens_cached"].as_u64().unwrap();
    let afresh = ask(json!({"cache_prompt": false})).await.json;
    assert!(cached > 0 && afresh["tokens_cached"] == 0, "{cached}, {afresh}");
    assert_eq!(afresh["timings"]["prompt_n"], afresh["tokens_evaluated"]);
}

fn ask_with(fields: &Value) -> Value {
    let mut body = json!({"n_predict": 8, "temperature": 0});
    body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    body
}

#[tokio::test]
async fn stop_strings_biases_and_seeds_are_told_and_kept_to() {
    let server = House::with(&["gguf"]).smollm2().serve();
    let ask = async |fields: Value| server.post("/completion", &ask_with(&fields)).await.json;
    let stopped = ask(json!({"prompt": "1, 2, 3, 4, 5,", "stop": ["zebra", " 7"], "n_predict": 16})).await;
    assert_eq!(
        (&stopped["stop_type"], &stopped["stopping_word"]),
        (&json!("word"), &json!(" 7")),
        "{stopped}"
    );
    assert_eq!(stopped["content"], " 6,");
    let biased =
        json!({"prompt": "1, 2, 3, 4, 5,", "logit_bias": [["6", false], ["6 ", -50.0]], "n_predict": 4});
    let biased = ask(biased).await;
    assert!(!biased["content"].as_str().unwrap().contains('6'), "{biased}");

    // A seed that was drawn is told: with it, the answer comes again.
    let hot = json!({"prompt": "Once", "temperature": 1.5, "cache_prompt": false});
    let first = ask(hot.clone()).await;
    let seed = &first["generation_settings"]["seed"];
    let mut again = hot;
    again["seed"] = seed.clone();
    assert_eq!(ask(again).await["content"], first["content"]);
    let refused = server.post("/completion", &json!({"prompt": "a", "logit_bias": [[49152, 1.0]]})).await;
    assert_eq!((refused.status, refused.json["error"]["param"].as_str()), (400, Some("logit_bias")));
}
