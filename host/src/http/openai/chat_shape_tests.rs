//! Tables: events to JSON.

use serde_json::{Value, json};

use super::super::answer::tests::script;
use super::*;
use crate::chat::{ChatTemplate, SpecialTokens, Tool};
use crate::engine::message::{Alternative, Event};

fn shape(include_usage: bool, logprobs: bool) -> ChatShape {
    let stamp = Stamp { id: "chatcmpl-1".to_owned(), created: 9, model: "m".to_owned() };
    reading(stamp, include_usage, logprobs, &plain())
}

fn plain() -> Reader {
    let template = ChatTemplate::compile("", SpecialTokens::default()).unwrap();
    template.manner().reader("", Vec::new(), true)
}

fn reading(stamp: Stamp, include_usage: bool, logprobs: bool, reader: &Reader) -> ChatShape {
    let answers = (0..2).map(|_| Answer::new(reader.clone())).collect();
    ChatShape { stamp, include_usage, so_far: None, logprobs, ids: Ids::Short, answers }
}

fn text(text: &str) -> Event {
    Event::Text { text: text.to_owned(), tokens: Vec::new(), told: 1 }
}

const USAGE: Usage =
    Usage { prompt_tokens: 3, cached_tokens: 1, completion_tokens: 2, drafted_tokens: 0, accepted_tokens: 0 };
const FINISHED: Event = Event::Finished { reason: FinishReason::Stop, usage: USAGE };

fn chunk(index: usize, delta: Value, finish_reason: Value) -> Value {
    json!({
        "id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 9, "model": "m",
        "system_fingerprint": concat!("build-", env!("CARGO_PKG_VERSION")),
        "choices": [{"index": index, "delta": delta, "logprobs": null, "finish_reason": finish_reason}],
    })
}

#[test]
fn a_stream_has_the_original_s_shape() {
    let said =
        script(shape(false, false), 2, &[(1, text(" b\n")), (1, FINISHED), (0, text("a")), (0, FINISHED)]);
    let opening = json!({"role": "assistant", "content": ""});
    let expected = [
        chunk(0, opening.clone(), Value::Null),
        chunk(1, opening, Value::Null),
        chunk(1, json!({"content": " b\n"}), Value::Null),
        chunk(1, json!({}), json!("stop")),
        chunk(0, json!({"content": "a"}), Value::Null),
        chunk(0, json!({}), json!("stop")),
        json!("[DONE]"),
    ];
    assert_eq!(said, expected);
}

#[test]
fn usage_so_far_is_in_every_piece_when_asked_for() {
    let before = Usage { prompt_tokens: 3, ..Usage::default() };
    let shape = ChatShape { so_far: Some(vec![before; 2]), ..shape(true, false) };
    let said = script(shape, 1, &[(0, text("a")), (0, FINISHED)]);
    let told: Vec<u64> = said.iter().filter_map(|line| line["usage"]["completion_tokens"].as_u64()).collect();
    assert_eq!(told, [0, 1, 2, 2]);
    assert!(said[..4].iter().all(|line| line["usage"]["prompt_tokens"] == 3), "{said:?}");
}

#[test]
fn usage_comes_last_and_only_when_asked_for() {
    let said = script(shape(true, false), 1, &[(0, FINISHED)]);
    assert_eq!(said.len(), 4);
    assert!(said[..2].iter().all(|chunk| chunk.as_object().unwrap().get("usage") == Some(&Value::Null)));
    assert_eq!(said[2]["choices"], json!([]));
    assert_eq!(said[2]["usage"]["prompt_tokens_details"]["cached_tokens"], 1);
    assert_eq!(said[3], "[DONE]");
}

#[test]
fn log_probabilities_come_with_their_piece() {
    let chosen = Alternative { token: 1, bytes: b"a".to_vec(), logprob: -0.5 };
    let tokens = vec![TokenLogprob { chosen, top: Vec::new() }];
    let said = script(shape(false, true), 1, &[(0, Event::Text { text: "a".to_owned(), tokens, told: 1 })]);
    let expected = json!({
        "content": [{"token": "a", "logprob": -0.5, "bytes": [97], "top_logprobs": []}], "refusal": null,
    });
    assert_eq!(said[1]["choices"][0]["logprobs"], expected);
}

#[test]
fn an_answer_has_the_original_s_shape() {
    let choice = |text: &str, reason| Choice {
        pieces: vec![Piece { text: text.to_owned(), tokens: Vec::new(), told: 1 }],
        reason,
        usage: USAGE,
        ..Choice::new()
    };
    let choices = vec![choice(" a ", FinishReason::Stop), choice("", FinishReason::Length)];
    let whole: Value = serde_json::from_str(&shape(false, false).whole(choices, USAGE)).unwrap();
    let choice = |index: usize, content: &str, finish_reason: &str| {
        json!({
            "index": index, "message": {"role": "assistant", "content": content, "refusal": null},
            "logprobs": null, "finish_reason": finish_reason,
        })
    };
    let expected = json!({
        "id": "chatcmpl-1", "object": "chat.completion", "created": 9, "model": "m",
        "system_fingerprint": concat!("build-", env!("CARGO_PKG_VERSION")),
        "choices": [choice(0, " a ", "stop"), choice(1, "", "length")],
        "usage": {
            "prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5,
            "prompt_tokens_details": {"cached_tokens": 1}, "completion_tokens_details": {"reasoning_tokens": 0},
        },
    });
    assert_eq!(whole, expected);
}

/// Reads calls as Hermes writes them, and reasoning.
fn hermes() -> Reader {
    let template = "<tool_call></think>{% for t in tools %}{{ t.function.name }}{% endfor %}";
    let template = ChatTemplate::compile(template, SpecialTokens::default()).unwrap();
    let tools = vec![Tool { name: "f".to_owned(), parameters: Value::Null }];
    template.manner().reader("", tools, true)
}

fn hermes_shape() -> ChatShape {
    let stamp = Stamp { id: "chatcmpl-1".to_owned(), created: 9, model: "m".to_owned() };
    reading(stamp, true, false, &hermes())
}

fn told(text: &str, told: u32) -> Event {
    Event::Text { text: text.to_owned(), tokens: Vec::new(), told }
}

const CALLS: [(&str, u32); 6] = [
    ("<think>Hm", 3),
    (".</think>\n", 6),
    ("\n<tool_call>{\"name\": \"f\", \"arg", 12),
    ("uments\": {\"a\": ", 15),
    ("1}}</tool_call>\n<tool_call>{\"name\": \"f\"}", 25),
    ("</tool_call>", 27),
];

#[test]
fn reasoning_and_calls_come_in_pieces_of_their_own() {
    let events = CALLS.map(|(text, tokens)| (0, told(text, tokens)));
    let events: Vec<(usize, Event)> = events.into_iter().chain([(0, FINISHED)]).collect();
    let said = script(hermes_shape(), 1, &events);
    let deltas: Vec<&Value> = said.iter().filter_map(|line| line["choices"].get(0)).collect();
    let id = |at: usize| deltas[at]["delta"]["tool_calls"][0]["id"].clone();
    assert!(id(3).as_str().is_some_and(|id| id.len() == 9) && id(3) != id(6), "{deltas:?}");
    let begun = |index: usize, id: Value| json!({"tool_calls": [{"index": index, "id": id, "type": "function", "function": {"name": "f", "arguments": ""}}]});
    let arguments =
        |index: usize, text: &str| json!({"tool_calls": [{"index": index, "function": {"arguments": text}}]});
    let expected = [
        json!({"role": "assistant", "content": ""}),
        json!({"reasoning_content": "Hm"}),
        json!({"reasoning_content": "."}),
        begun(0, id(3)),
        arguments(0, "{\"a\": "),
        arguments(0, "1}"),
        begun(1, id(6)),
        arguments(1, "{}"),
        json!({}),
    ];
    let found: Vec<&Value> = deltas.iter().map(|delta| &delta["delta"]).collect();
    assert_eq!(found, expected.iter().collect::<Vec<_>>());
    assert_eq!(deltas.last().unwrap()["finish_reason"], "tool_calls");
    let usage = &said[said.len() - 2]["usage"];
    assert_eq!(usage["completion_tokens_details"]["reasoning_tokens"], 6);
}

/// The only choice of a whole answer of these pieces.
fn whole(pieces: &[(&str, u32)], reason: FinishReason) -> Value {
    let pieces =
        pieces.iter().map(|(text, told)| Piece { text: (*text).to_owned(), tokens: Vec::new(), told: *told });
    let choice = Choice { pieces: pieces.collect(), reason, usage: USAGE, ..Choice::new() };
    let whole: Value = serde_json::from_str(&hermes_shape().whole(vec![choice], USAGE)).unwrap();
    assert!(whole["usage"]["completion_tokens_details"]["reasoning_tokens"].is_number());
    whole["choices"][0].clone()
}

#[test]
fn a_whole_answer_has_calls_and_reasoning() {
    let choice = whole(&CALLS, FinishReason::Stop);
    let message = &choice["message"];
    assert_eq!((&choice["finish_reason"], &message["content"]), (&json!("tool_calls"), &Value::Null));
    assert_eq!(message["reasoning_content"], "Hm.");
    let call = |index: usize, arguments: &str| {
        let id = message["tool_calls"][index]["id"].clone();
        json!({"id": id, "type": "function", "function": {"name": "f", "arguments": arguments}})
    };
    assert_eq!(message["tool_calls"], json!([call(0, "{\"a\": 1}"), call(1, "{}")]));
}

#[test]
fn a_call_that_is_cut_off_is_content() {
    let choice = whole(&CALLS[2..4], FinishReason::Length);
    let text = "\n<tool_call>{\"name\": \"f\", \"arguments\": {\"a\": ";
    assert_eq!(choice["message"], json!({"role": "assistant", "content": text, "refusal": null}));
    assert_eq!(choice["finish_reason"], "length");
    // In a stream the call was told; what was not is content.
    let events = [(0, told("<tool_call>{\"name\": \"f\", \"id\": 7, \"arguments\": ", 1)), (0, FINISHED)];
    let said = script(hermes_shape(), 1, &events);
    assert_eq!(said[1]["choices"][0]["delta"]["tool_calls"][0]["function"]["name"], "f");
    assert_eq!(said[2]["choices"][0]["delta"]["content"], ", \"id\": 7, \"arguments\": ");
    assert_eq!(said[3]["choices"][0]["finish_reason"], "stop");
}

#[test]
fn reasoning_alone_leaves_an_empty_content() {
    let choice = whole(&[("<think>Hm", 2)], FinishReason::Length);
    let message = json!({"role": "assistant", "content": "", "reasoning_content": "Hm", "refusal": null});
    assert_eq!(choice["message"], message);
}
