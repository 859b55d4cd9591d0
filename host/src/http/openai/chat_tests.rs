//! Tables: JSON to requests, events to JSON.

use serde_json::json;

use super::super::params::tests::told;
use super::*;
use crate::http::openai::params::Delivery;

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
        json!({"tool_choice": "auto"}),
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
    check(json!({"tools": [{"type": "function"}]}), 400, "tools[0].function");
    check(json!({"tool_choice": "required"}), 400, "tool_choice");
    check(json!({"tool_choice": {"type": "function"}}), 400, "tool_choice.function");
    check(json!({"response_format": {"type": "xml"}}), 400, "response_format.type");
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
    let param = |error: Error| about_messages(error, "messages").param;
    let messages = Some("messages".to_owned());
    assert_eq!(param(Error::invalid("prompt", "m")), messages);
    assert_eq!(param(Error::new(Kind::ContextLengthExceeded, "m")), messages);
    assert_eq!(param(Error::invalid("n", "m")), Some("n".to_owned()));
    assert_eq!(param(Error::new(Kind::QueueFull, "m")), None);
}
