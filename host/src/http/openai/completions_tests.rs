//! Tables: JSON to requests, events to JSON.

use serde_json::{Value, json};

use super::super::answer::tests::script;
use super::super::params::tests::told;
use super::*;
use crate::engine::message::{Alternative, Event, TokenLogprob};

fn parse(body: Value) -> Result<CompletionRequest> {
    CompletionRequest::parse(Fields::of("", body).unwrap())
}

#[test]
fn a_request_is_taken() {
    let request =
        parse(json!({"model": "m", "prompt": ["a", "b"], "n": 2, "best_of": 2, "logprobs": 3})).unwrap();
    assert_eq!(request.prompts, [Prompt::Text("a".to_owned()), Prompt::Text("b".to_owned())]);
    assert_eq!((request.logprobs, request.echo, request.parameters.choices), (Some(3), false, 2));
    assert_eq!(request.parameters.max_tokens, Some(16));
    let request =
        parse(json!({"model": "m", "prompt": "a", "echo": true, "max_tokens": 7, "suffix": ""})).unwrap();
    assert_eq!((request.echo, request.parameters.max_tokens), (true, Some(7)));
    assert!(request.suffix.is_none() && !request.asked.contains(&"suffix".to_owned()));
    let scored = json!({"model": "m", "prompt": "a", "echo": true, "logprobs": 1, "max_tokens": 0});
    assert_eq!(parse(scored).unwrap().parameters.max_tokens, Some(0));
}

#[test]
fn what_cannot_be_honoured_is_refused_by_name() {
    let check = |extra: Value, status: u16, param: &str| {
        let mut body = json!({"model": "m", "prompt": "a"});
        body.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        let (found_status, found_param, message) = told(parse(body.clone()));
        assert_eq!((found_status, found_param.as_str()), (status, param), "{body}: {message}");
    };
    check(json!({"model": null}), 400, "model");
    check(json!({"model": 1}), 422, "model");
    check(json!({"prompt": null}), 400, "prompt");
    check(json!({"messages": []}), 400, "messages");
    check(json!({"logprobs": true}), 422, "logprobs");
    check(json!({"logprobs": 21}), 400, "logprobs");
    check(json!({"best_of": 2, "stream": true}), 400, "best_of");
    check(json!({"best_of": 129}), 400, "best_of");
    check(json!({"n": 2, "best_of": 1}), 400, "best_of");
    check(json!({"suffix": "end", "prompt": [1]}), 400, "suffix");
    check(json!({"suffix": "end", "echo": true}), 400, "suffix");
    check(json!({"max_tokens": 0}), 400, "max_tokens");
}

fn shape(include_usage: bool, echo: &[&str]) -> CompletionShape {
    CompletionShape {
        stamp: Stamp { id: "cmpl-1".to_owned(), created: 9, model: "m".to_owned() },
        include_usage,
        so_far: None,
        logprobs: None,
        echo: echo.iter().map(|&text| text.to_owned()).collect(),
        best: None,
    }
}

#[test]
fn the_best_are_those_with_the_most_probable_tokens() {
    let choice = |text: &str, logprobs: &[f32]| {
        let alternative = |&logprob: &f32| Alternative { token: 0, bytes: Vec::new(), logprob };
        let token = |logprob: &f32| TokenLogprob { chosen: alternative(logprob), top: Vec::new() };
        let tokens = logprobs.iter().map(token).collect();
        let piece = Piece { text: text.to_owned(), tokens, told: logprobs.len() as u32 };
        Choice { pieces: vec![piece], usage: USAGE, ..Choice::new() }
    };
    let choices = vec![
        choice("a", &[-1.0, -3.0]),
        choice("b", &[-1.5]),
        choice("c", &[-0.5, -0.5, -3.0]),
        choice("d", &[-2.0]),
        choice("e", &[]),
        choice("f", &[-9.0]),
    ];
    let best = Best { of: 3, told: 2 }.choose(choices);
    let texts: Vec<String> = best.into_iter().map(|choice| choice.joined().0).collect();
    assert_eq!(texts, ["c", "b", "e", "d"]);
}

const USAGE: Usage =
    Usage { prompt_tokens: 3, cached_tokens: 1, completion_tokens: 2, drafted_tokens: 0, accepted_tokens: 0 };

#[test]
fn a_stream_has_the_original_s_shape() {
    let text = Event::Text { text: "b".to_owned(), tokens: Vec::new(), told: 1 };
    let finished = Event::Finished { reason: FinishReason::Length, usage: USAGE };
    let chunk = |text: &str, finish_reason: Value| {
        json!({
            "id": "cmpl-1", "object": "text_completion", "created": 9, "model": "m",
            "system_fingerprint": concat!("build-", env!("CARGO_PKG_VERSION")),
            "choices": [{"text": text, "index": 0, "logprobs": null, "finish_reason": finish_reason}],
        })
    };
    let said = script(shape(false, &["a"]), 1, &[(0, text.clone()), (0, finished.clone())]);
    assert_eq!(
        said,
        [chunk("a", Value::Null), chunk("b", Value::Null), chunk("", json!("length")), json!("[DONE]")]
    );

    let said = script(shape(true, &[]), 1, &[(0, text), (0, finished)]);
    assert_eq!(said.len(), 4);
    assert_eq!(said[0]["usage"], Value::Null);
    assert!(said[0].as_object().unwrap().contains_key("usage"));
    assert_eq!(said[2]["choices"], json!([]));
    assert_eq!(said[2]["usage"]["total_tokens"], 5);
}

#[test]
fn an_answer_has_the_original_s_shape() {
    let piece = Piece { text: "b".to_owned(), tokens: Vec::new(), told: 1 };
    let choice = Choice { pieces: vec![piece], usage: USAGE, ..Choice::new() };
    let whole: Value = serde_json::from_str(&shape(false, &["a"]).whole(vec![choice], USAGE)).unwrap();
    let expected = json!({
        "id": "cmpl-1", "object": "text_completion", "created": 9, "model": "m",
        "system_fingerprint": concat!("build-", env!("CARGO_PKG_VERSION")),
        "choices": [{"text": "ab", "index": 0, "logprobs": null, "finish_reason": "stop"}],
        "usage": {
            "prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5,
            "prompt_tokens_details": {"cached_tokens": 1}, "completion_tokens_details": {"reasoning_tokens": 0},
        },
    });
    assert_eq!(whole, expected);
}
