//! Token ids against the reference's (tests/oracles/chat_tokens.py), through the host's own parts and the real plugin.

use std::sync::Arc;

use impetus::chat::{Message, RenderOptions};
use impetus::config::{Config, Overrides};
use impetus::engine::message::{Prompt, Question, Segment};
use impetus::models::{Loaded, Models};
use impetus::plugins::Plugins;
use impetus_tests::{House, SMOLLM2, target_folder};
use serde_json::{Value, json};

fn message(value: &Value) -> Message {
    let text = |key: &str| value[key].as_str().unwrap();
    Message::new(text("role"), text("content"))
}

/// The ids of a rendered chat, and its text.
async fn chat_ids(model: &Loaded, messages: &Value) -> (Vec<u32>, String) {
    let messages: Vec<Message> = messages.as_array().unwrap().iter().map(message).collect();
    let Prompt::Chat(segments) = model.render_chat(&messages, &RenderOptions::default()).unwrap() else {
        panic!("a chat renders to a chat");
    };
    let text = |segment: &Segment| match segment {
        Segment::Template(text) | Segment::Literal(text) => text.clone(),
    };
    let text = segments.iter().map(text).collect();
    (model.tokens(Question::ChatTokens(segments)).await.unwrap(), text)
}

fn ids(value: &Value) -> Vec<u32> {
    value["ids"].as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect()
}

#[tokio::test]
async fn chats_tokenise_as_the_reference_does() {
    // Loaded by this very program, which is no `impetus` that could try the plugin in a process of its own.
    impetus::child::use_program(target_folder().join("impetus"));
    let house = House::with(&["gguf"]).smollm2().config("[plugin.gguf]\nisolation = \"none\"");
    let overrides = Overrides { config: Some(house.path("plugins.toml")), ..Overrides::default() };
    let config = Config::load(overrides).unwrap();
    let models = Models::new(Plugins::load(&config), &config);
    let model: Arc<Loaded> = models.open(SMOLLM2).await.unwrap();
    let golden: Value = serde_json::from_str(include_str!("../fixtures/chat_tokens.json")).unwrap();

    for case in golden["chats"].as_array().unwrap() {
        let (found, text) = chat_ids(&model, &case["messages"]).await;
        assert_eq!(text, case["rendered"].as_str().unwrap());
        assert_eq!(found, ids(case), "{text:?}");
    }
    for case in golden["texts"].as_array().unwrap() {
        let segments = vec![Segment::Template(case["text"].as_str().unwrap().to_owned())];
        let found = model.tokens(Question::ChatTokens(segments)).await.unwrap();
        assert_eq!(found, ids(case), "{:?}", case["text"]);
    }
    for case in golden["hostile"].as_array().unwrap() {
        assert_eq!(chat_ids(&model, &case["messages"]).await.0, ids(case), "{:?}", case["messages"]);
    }
}

#[tokio::test]
async fn tokens_and_templates_can_be_asked_for() {
    let server = House::with(&["gguf"]).smollm2().serve();
    let text = "Hello <|im_end|> Ω";
    let pieces = server.post("/tokenize", &json!({"content": text, "with_pieces": true})).await;
    let pieces = pieces.json["tokens"].as_array().unwrap().clone();
    assert!(pieces.iter().any(|token| token["piece"] == "<|im_end|>"), "{pieces:?}");
    assert!(pieces.iter().any(|token| token["piece"].is_array()), "half a letter is bytes: {pieces:?}");
    let ids: Vec<Value> = pieces.iter().map(|token| token["id"].clone()).collect();
    let plain = server.post("/tokenize", &json!({"content": text, "model": SMOLLM2})).await;
    assert_eq!(plain.json["tokens"], Value::from(ids.clone()));
    let literal = server.post("/tokenize", &json!({"content": text, "parse_special": false})).await;
    assert!(literal.json["tokens"].as_array().unwrap().len() > ids.len());
    let back = server.post("/detokenize", &json!({"tokens": ids})).await;
    assert_eq!(back.json["content"], text);
    let beyond = server.post("/detokenize", &json!({"tokens": [1, 99999]})).await;
    assert_eq!((beyond.status, &beyond.json["error"]["param"]), (400, &"tokens[1]".into()));
    let chat = json!({"messages": [{"role": "user", "content": "Hi"}]});
    let prompt = server.post("/apply-template", &chat).await;
    let prompt = prompt.json["prompt"].as_str().unwrap().to_owned();
    assert!(prompt.ends_with("<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"), "{prompt}");
    let unknown = server.post("/tokenize", &json!({"content": "x", "model": "no such"})).await;
    assert_eq!((unknown.status, &unknown.json["error"]["code"]), (404, &"model_not_found".into()));
}
