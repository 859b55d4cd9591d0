//! Real models' templates, rendered by `transformers` (tests/oracles/chat_templates.py) and by us: the same bytes.

use chrono::NaiveDateTime;
use serde_json::{Map, Value};

use super::*;

const GOLDEN: &str = include_str!("../../../tests/fixtures/chat_templates.json");

/// The templates of the fixtures by name.
pub(super) fn template(name: &str) -> String {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/templates");
    std::fs::read_to_string(format!("{folder}/{name}.jinja")).unwrap()
}

/// Compiled, with the special tokens that the oracle gave, at its time.
pub(super) fn compiled(name: &str) -> ChatTemplate {
    let golden: Value = serde_json::from_str(GOLDEN).unwrap();
    let tokens = golden["tokens"].as_object().unwrap().iter();
    let named = tokens
        .map(|(name, text)| (name.trim_end_matches("_token").to_owned(), text.as_str().unwrap().to_owned()));
    let tokens = SpecialTokens { named: named.collect(), control: Vec::new() };
    let mut template = ChatTemplate::compile(&template(name), tokens).unwrap();
    let now: NaiveDateTime = golden["now"].as_str().unwrap().parse().unwrap();
    template.stop_the_clock(now);
    template
}

pub(super) fn messages(chat: &Value) -> Vec<Message> {
    let message = |message: &Value| {
        let mut extra = message.as_object().unwrap().clone();
        let role = extra.remove("role").unwrap().as_str().unwrap().to_owned();
        let content = extra.remove("content").and_then(|content| content.as_str().map(str::to_owned));
        Message { role, content, extra }
    };
    chat["messages"].as_array().unwrap().iter().map(message).collect()
}

pub(super) fn chat(name: &str) -> Value {
    let golden: Value = serde_json::from_str(GOLDEN).unwrap();
    golden["chats"].as_array().unwrap().iter().find(|chat| chat["name"] == name).unwrap().clone()
}

pub(super) fn options(chat: &Value) -> RenderOptions {
    RenderOptions {
        add_generation_prompt: chat["add_generation_prompt"].as_bool().unwrap_or(true),
        tools: chat.get("tools").cloned(),
        variables: chat.get("variables").and_then(Value::as_object).cloned().unwrap_or_else(Map::new),
    }
}

/// Where two renderings part, or which of them there is not.
fn parting(rendered: &Result<Prompt, TemplateError>, expected: &Value) -> String {
    let (Ok(prompt), Some(text)) = (rendered, expected.as_str()) else {
        return format!("ours {rendered:?}, theirs {expected}");
    };
    let [Segment::Template(found)] = prompt.segments.as_slice() else { return "many segments".to_owned() };
    let same = found.chars().zip(text.chars()).take_while(|(a, b)| a == b).count();
    let from = |text: &str| text.chars().skip(same.saturating_sub(20)).take(60).collect::<String>();
    format!("ours {:?}, theirs {:?}", from(found), from(text))
}

#[test]
fn transformers_renders_the_same() {
    let golden: Value = serde_json::from_str(GOLDEN).unwrap();
    let mut differences = Vec::new();
    let mut compared = 0;
    for (name, renderings) in golden["renderings"].as_object().unwrap() {
        let template = compiled(name);
        for (chat_name, expected) in renderings.as_object().unwrap() {
            let chat = chat(chat_name);
            let rendered = template.render_plain(&messages(&chat), &options(&chat));
            let same = match (&rendered, expected) {
                // Python fails at something that is no harm here.
                (_, Value::Null) => continue,
                (Ok(prompt), Value::String(text)) => prompt.segments == [Segment::Template(text.clone())],
                (Err(TemplateError::Raised(words)), refusal) => refusal["raised"] == words.as_str(),
                _ => false,
            };
            compared += 1;
            if !same {
                differences.push(format!("{name}, {chat_name}: {}", parting(&rendered, expected)));
            }
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
    assert!(compared >= 200, "{compared}");
}
