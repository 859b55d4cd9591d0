//! Any text as a model's answer, for each family of calls: content, reasoning and calls are the same however the text is
//! cut, arguments are JSON, and nothing is lost of what is no call.

#![no_main]

use std::sync::OnceLock;

use impetus::chat::{ChatTemplate, Delta, SpecialTokens, Tool};
use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};

fn templates() -> &'static [ChatTemplate] {
    static TEMPLATES: OnceLock<Vec<ChatTemplate>> = OnceLock::new();
    TEMPLATES.get_or_init(|| {
        let texts = [
            include_str!("../../tests/fixtures/templates/qwen3.jinja"),
            include_str!("../../tests/fixtures/templates/llama-3.1.jinja"),
            include_str!("../../tests/fixtures/templates/mistral-nemo.jinja"),
            include_str!("../../tests/fixtures/templates/deepseek-v3.1.jinja"),
            include_str!("../../tests/fixtures/templates/phi-4-mini.jinja"),
            include_str!("../../tests/fixtures/templates/granite-3.3.jinja"),
            include_str!("../../tests/fixtures/templates/glm-4.6.jinja"),
            include_str!("../../tests/fixtures/templates/kimi-k2.jinja"),
            include_str!("../../tests/fixtures/templates/gemma-4.jinja"),
            include_str!("../../tests/fixtures/templates/gpt-oss.jinja"),
            include_str!("../../tests/fixtures/templates/qwen3-coder.jinja"),
            include_str!("../../tests/fixtures/templates/smollm2.jinja"),
        ];
        let compile = |text| ChatTemplate::compile(text, SpecialTokens::default());
        texts.map(|text| compile(text).expect("the fixtures are templates")).into()
    })
}

fn tools() -> Vec<Tool> {
    let parameters = json!({"type": "object", "properties": {
        "city": {"type": "string"}, "days": {"type": "integer"}, "tags": {"type": "array"}}});
    vec![Tool { name: "get_weather".to_owned(), parameters }, Tool { name: "f".to_owned(), parameters: Value::Null }]
}

/// What came out, those of one kind that follow each other in one, broken calls put back as content.
fn read(template: &ChatTemplate, pieces: &[&str]) -> Vec<(&'static str, String)> {
    let mut reader = template.manner().reader("", tools(), true);
    let mut deltas: Vec<Delta> = pieces.iter().flat_map(|piece| reader.push(piece)).collect();
    deltas.extend(reader.finish());
    let mut read: Vec<(&'static str, String)> = Vec::new();
    for delta in deltas {
        let (kind, text) = match delta {
            Delta::Content(text) => ("content", text),
            Delta::Reasoning(text) => ("reasoning", text),
            Delta::Call { name } => {
                read.push(("call", name));
                read.push(("arguments", String::new()));
                continue;
            }
            Delta::Arguments(text) => ("arguments", text),
            Delta::Broken { text, .. } => {
                while read.pop().is_some_and(|(kind, _)| kind != "call") {}
                ("content", text)
            }
        };
        match read.last_mut() {
            Some((last, before)) if *last == kind => before.push_str(&text),
            _ if text.is_empty() => {}
            _ => read.push((kind, text)),
        }
    }
    read
}

fuzz_target!(|bytes: &[u8]| {
    let [which, cut, rest @ ..] = bytes else { return };
    let Ok(text) = std::str::from_utf8(rest) else { return };
    let Some(template) = templates().get(usize::from(*which)) else { return };
    let whole = read(template, &[text]);
    let mut at = usize::from(*cut).min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    assert_eq!(read(template, &[&text[..at], &text[at..]]), whole, "cut at {at}");
    let letters: Vec<&str> = text.char_indices().map(|(at, c)| &text[at..at + c.len_utf8()]).collect();
    assert_eq!(read(template, &letters), whole, "letter by letter");
    for (_, arguments) in whole.iter().filter(|(kind, _)| *kind == "arguments") {
        assert!(serde_json::from_str::<Value>(arguments).is_ok_and(|value| value.is_object()), "{arguments}");
    }
});
