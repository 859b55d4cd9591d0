//! Any messages to a model's own template, and any text as a template: a prompt or a refusal, in bounded time, in which
//! no message's text became a control token.

#![no_main]

use std::sync::OnceLock;

use impetus::chat::{ChatTemplate, Message, RenderOptions, Segment, SpecialTokens};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

/// Its text is in no template: where it stands in a prompt, a message brought it.
const FOREIGN: &str = "<|foreign|>";

fn tokens() -> SpecialTokens {
    SpecialTokens {
        named: vec![("bos".to_owned(), "<s>".to_owned()), ("eos".to_owned(), "</s>".to_owned())],
        control: vec![FOREIGN.to_owned(), "<s>".to_owned(), "</s>".to_owned(), "<|im_end|>".to_owned()],
    }
}

fn templates() -> &'static [ChatTemplate] {
    static TEMPLATES: OnceLock<Vec<ChatTemplate>> = OnceLock::new();
    TEMPLATES.get_or_init(|| {
        let texts = [
            include_str!("../../tests/fixtures/templates/smollm2.jinja"),
            include_str!("../../tests/fixtures/templates/qwen3.jinja"),
            include_str!("../../tests/fixtures/templates/llama-3.1.jinja"),
            include_str!("../../tests/fixtures/templates/mistral-nemo.jinja"),
            include_str!("../../tests/fixtures/templates/gpt-oss.jinja"),
        ];
        texts.map(|text| ChatTemplate::compile(text, tokens()).expect("the fixtures are templates")).into()
    })
}

/// Messages from lines of `role: content`, or from a JSON list of objects.
fn messages(text: &str) -> Vec<Message> {
    if let Ok(Value::Array(values)) = serde_json::from_str(text) {
        let message = |value: &Value| {
            let mut extra = value.as_object()?.clone();
            let role = extra.remove("role")?.as_str()?.to_owned();
            let content = extra.remove("content").and_then(|content| content.as_str().map(str::to_owned));
            Some(Message { role, content, extra })
        };
        return values.iter().filter_map(message).collect();
    }
    let line = |line: &str| {
        let (role, content) = line.split_once(": ").unwrap_or(("user", line));
        Message::new(role, content)
    };
    text.lines().map(line).collect()
}

fuzz_target!(|bytes: &[u8]| {
    let Some((&which, rest)) = bytes.split_first() else { return };
    let Ok(text) = std::str::from_utf8(rest) else { return };
    let options = RenderOptions::default();
    let Some(template) = templates().get(usize::from(which)) else {
        // The text is a template itself, as a model's file may have it.
        if let Ok(template) = ChatTemplate::compile(text, tokens()) {
            let _ = template.render(&[Message::new("user", "hello")], &options);
        }
        return;
    };
    if let Ok(prompt) = template.render(&messages(text), &options) {
        for segment in &prompt.segments {
            if let Segment::Template(text) = segment {
                assert!(!text.contains(FOREIGN), "{prompt:?}");
            }
        }
    }
});
