//! Tables: JSON to requests, events to JSON.

use serde_json::json;

use super::super::answer::tests::script;
use super::super::params::tests::told;
use super::*;
use crate::engine::message::{Alternative, Event};

fn parse(extra: Value) -> Result<ChatRequest> {
    let mut body = json!({"model": "m", "messages": [{"role": "user", "content": "hi"}]});
    body.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    ChatRequest::parse(Fields::of("", body).unwrap())
}

#[test]
fn a_request_is_taken() {
    let request = parse(json!({})).unwrap();
    assert_eq!((request.model.as_str(), request.messages.len(), request.logprobs), ("m", 1, None));
    assert_eq!((request.parameters.max_tokens, request.parameters.delivery), (None, Delivery::Whole));
    assert_eq!(parse(json!({"logprobs": true})).unwrap().logprobs, Some(0));
    assert_eq!(parse(json!({"logprobs": true, "top_logprobs": 20})).unwrap().logprobs, Some(20));
    assert_eq!(parse(json!({"logprobs": false, "top_logprobs": 0})).unwrap().logprobs, None);
    let variables = json!({"chat_template_kwargs": {"enable_thinking": false}, "reasoning_effort": "low"});
    assert_eq!(
        Value::Object(parse(variables).unwrap().variables),
        json!({"enable_thinking": false, "reasoning_effort": "low"})
    );
    for harmless in [
        json!({"tools": [], "tool_choice": "none", "parallel_tool_calls": true}),
        json!({"tools": null, "tool_choice": null, "functions": null}),
        json!({"response_format": {"type": "text"}, "modalities": ["text"]}),
    ] {
        parse(harmless).unwrap();
    }
}

#[test]
fn what_cannot_be_honoured_is_refused_by_name() {
    let check = |extra: Value, status: u16, param: &str| {
        let (found_status, found_param, message) = told(parse(extra.clone()));
        assert_eq!((found_status, found_param.as_str()), (status, param), "{extra}: {message}");
    };
    check(json!({"model": null}), 400, "model");
    check(json!({"model": ["m"]}), 422, "model");
    check(json!({"messages": null}), 400, "messages");
    check(json!({"messages": []}), 400, "messages");
    check(json!({"messages": "hi"}), 422, "messages");
    check(json!({"messages": [1]}), 422, "messages[0]");
    check(json!({"prompt": "x"}), 400, "prompt");
    check(json!({"logprobs": 5}), 422, "logprobs");
    check(json!({"top_logprobs": 5}), 400, "top_logprobs");
    check(json!({"logprobs": true, "top_logprobs": 21}), 400, "top_logprobs");
    check(json!({"tools": [{"type": "function"}]}), 400, "tools");
    check(json!({"tool_choice": "auto"}), 400, "tool_choice");
    check(json!({"tool_choice": {"type": "function"}}), 400, "tool_choice");
    check(json!({"response_format": {"type": "json_object"}}), 400, "response_format");
    check(json!({"response_format": {"type": "text", "x": 1}}), 400, "response_format.x");
    check(json!({"response_format": "text"}), 422, "response_format");
    check(json!({"modalities": ["text", "audio"]}), 400, "modalities");
    check(json!({"chat_template_kwargs": 1}), 422, "chat_template_kwargs");
    check(json!({"chat_template_kwargs": {"a": 1, "tools": []}}), 400, "chat_template_kwargs.tools");
    check(json!({"reasoning_effort": 1}), 422, "reasoning_effort");
    check(json!({"functions": []}), 400, "functions");
    check(json!({"temprature": 0.5}), 400, "temprature");
}

#[test]
fn errors_about_the_prompt_are_about_the_messages() {
    let param = |error: Error| about_messages(error).param;
    let messages = Some("messages".to_owned());
    assert_eq!(param(Error::invalid("prompt", "m")), messages);
    assert_eq!(param(Error::new(Kind::ContextLengthExceeded, "m")), messages);
    assert_eq!(param(Error::invalid("n", "m")), Some("n".to_owned()));
    assert_eq!(param(Error::new(Kind::QueueFull, "m")), None);
}

fn shape(include_usage: bool, logprobs: bool) -> ChatShape {
    let stamp = Stamp { id: "chatcmpl-1".to_owned(), created: 9, model: "m".to_owned() };
    ChatShape { stamp, include_usage, logprobs }
}

fn text(text: &str) -> Event {
    Event::Text { text: text.to_owned(), tokens: Vec::new() }
}

const USAGE: Usage = Usage { prompt_tokens: 3, cached_tokens: 1, completion_tokens: 2 };
const FINISHED: Event = Event::Finished { reason: FinishReason::Stop, usage: USAGE };

fn chunk(index: usize, delta: Value, finish_reason: Value) -> Value {
    json!({
        "id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 9, "model": "m",
        "system_fingerprint": concat!("impetus-", env!("CARGO_PKG_VERSION")),
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
    let said = script(shape(false, true), 1, &[(0, Event::Text { text: "a".to_owned(), tokens })]);
    let expected = json!({
        "content": [{"token": "a", "logprob": -0.5, "bytes": [97], "top_logprobs": []}], "refusal": null,
    });
    assert_eq!(said[1]["choices"][0]["logprobs"], expected);
}

#[test]
fn an_answer_has_the_original_s_shape() {
    let choice = |text: &str, reason| Choice { text: text.to_owned(), tokens: Vec::new(), reason };
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
        "system_fingerprint": concat!("impetus-", env!("CARGO_PKG_VERSION")),
        "choices": [choice(0, " a ", "stop"), choice(1, "", "length")],
        "usage": {
            "prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5,
            "prompt_tokens_details": {"cached_tokens": 1}, "completion_tokens_details": {"reasoning_tokens": 0},
        },
    });
    assert_eq!(whole, expected);
}
