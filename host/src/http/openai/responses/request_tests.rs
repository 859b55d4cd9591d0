//! Tables: JSON to requests.

use super::super::super::params::Delivery;
use super::super::super::params::tests::told;
use super::*;
use crate::http::openai::responses::store::Kept;
use crate::sampling::constraint::Grammar;

fn parse_with(extra: Value, store: &Store) -> Result<ResponseRequest> {
    let mut body = json!({"model": "m", "input": "hi"});
    body.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    ResponseRequest::parse(Fields::of("", body).unwrap(), store)
}

fn parse(extra: Value) -> Result<ResponseRequest> {
    parse_with(extra, &Store::new(10, 1 << 20))
}

fn chat(request: &ResponseRequest) -> Vec<(&str, &str)> {
    request.chat.messages.iter().map(|m| (m.role.as_str(), m.content.as_deref().unwrap())).collect()
}

#[test]
fn a_request_becomes_a_chat() {
    let request = parse(json!({
        "instructions": "be brief", "max_output_tokens": 7, "temperature": 0.5, "top_p": 0.9, "top_k": 3, "seed": 1,
        "stream": true, "metadata": {"a": "b"}, "reasoning": {"effort": "low", "summary": null},
        "text": {"format": {"type": "json_schema", "name": "n", "schema": {"type": "null"}, "strict": true},
            "verbosity": "medium"},
        "tools": [{"type": "function", "name": "f", "parameters": {}}], "tool_choice": "auto",
        "include": ["message.output_text.logprobs"], "truncation": "disabled", "background": false, "store": null,
        "stream_options": {"include_obfuscation": false}, "user": "u", "prompt_cache_key": "k", "service_tier": "auto",
    }))
    .unwrap();
    assert_eq!(chat(&request), [("system", "be brief"), ("user", "hi")]);
    let parameters = &request.chat.parameters;
    let top_k = parameters.sampling.filters().unwrap().top_k;
    assert_eq!((parameters.max_tokens, parameters.seed, top_k), (Some(7), Some(1), 3));
    assert!(matches!(parameters.delivery, Delivery::Stream { .. }));
    let structure = parameters.structure.as_ref().unwrap();
    assert_eq!(structure.field, "text.format.schema");
    assert_eq!(structure.grammar, Grammar::JsonSchema(json!({"type": "null"})));
    assert_eq!(request.chat.logprobs, Some(0));
    assert_eq!(request.chat.variables[EFFORT], "low");
    assert_eq!(
        request.asked.tools,
        [json!({"type": "function", "name": "f", "parameters": {}, "strict": false})]
    );
    assert_eq!(request.asked.metadata["a"], "b");
    assert!(request.asked.store);
}

#[test]
fn a_chat_goes_on_from_a_response_without_its_instructions() {
    let store = Store::new(10, 1 << 20);
    let turn = vec![Message::new("user", "a"), Message::new("assistant", "b")];
    store.put("resp_1".to_owned(), Kept { json: "{}".into(), history: vec![turn.into()] });
    let request =
        parse_with(json!({"previous_response_id": "resp_1", "instructions": "now this"}), &store).unwrap();
    assert_eq!(chat(&request), [("system", "now this"), ("user", "a"), ("assistant", "b"), ("user", "hi")]);
    let (status, param, _) = told(parse(json!({"previous_response_id": "resp_1"})));
    assert_eq!((status, param.as_str()), (400, "previous_response_id"));
}

#[test]
fn instructions_stand_before_a_system_message_of_the_input() {
    let input = json!([{"role": "developer", "content": "dev"}, {"role": "user", "content": "hi"}]);
    let request = parse(json!({"instructions": "be brief", "input": input})).unwrap();
    assert_eq!(chat(&request), [("developer", "be brief\n\ndev"), ("user", "hi")]);
}

#[test]
fn nothing_is_kept_where_nothing_can_be() {
    let none = Store::new(0, 0);
    assert!(!parse_with(json!({}), &none).unwrap().asked.store);
    assert!(!parse(json!({"store": false})).unwrap().asked.store);
    let (status, param, _) = told(parse_with(json!({"store": true}), &none));
    assert_eq!((status, param.as_str()), (400, "store"));
}

#[test]
fn what_cannot_be_honoured_is_refused_by_name() {
    let check = |extra: Value, status: u16, param: &str| {
        let (found_status, found_param, message) = told(parse(extra.clone()));
        assert_eq!((found_status, found_param.as_str()), (status, param), "{extra}: {message}");
    };
    for (name, value) in [
        ("messages", json!([])),
        ("max_tokens", json!(1)),
        ("response_format", json!({"type": "text"})),
        ("reasoning_effort", json!("low")),
        ("logprobs", json!(true)),
        ("n", json!(1)),
        ("background", json!(true)),
        ("truncation", json!("auto")),
        ("conversation", json!("conv_1")),
        ("prompt", json!({"id": "p"})),
        ("max_tool_calls", json!(1)),
        ("service_tier", json!("flex")),
        ("max_output_tokens", json!(0)),
        ("top_logprobs", json!(21)),
    ] {
        check(json!({ name: value }), 400, name);
    }
    check(json!({"input": null}), 400, "input");
    check(json!({"instructions": ["x"]}), 422, "instructions");
    check(json!({"include": ["reasoning.encrypted_content"]}), 400, "include[0]");
    check(json!({"reasoning": {"summary": "auto"}}), 400, "reasoning.summary");
    check(json!({"reasoning": {"x": 1}}), 400, "reasoning.x");
    check(json!({"text": {"verbosity": "low"}}), 400, "text.verbosity");
    check(json!({"text": {"format": {"type": "xml"}}}), 400, "text.format.type");
    check(json!({"text": {"format": {"type": "json_schema", "name": "n"}}}), 400, "text.format.schema");
    check(json!({"text": {"format": {"type": "json_object"}}, "grammar": "start: \"a\""}), 400, "grammar");
    check(json!({"tools": [{"type": "web_search"}]}), 400, "tools[0].type");
    check(json!({"tools": [{"type": "function", "function": {"name": "f"}}]}), 400, "tools[0].name");
    check(json!({"tool_choice": {"type": "allowed_tools"}}), 400, "tool_choice.type");
    check(json!({"metadata": {"a": 1}}), 422, "metadata.a");
    check(json!({"metadata": {"a": "x".repeat(513)}}), 400, "metadata.a");
    check(
        json!({"stream": true, "stream_options": {"include_obfuscation": true}}),
        400,
        "stream_options.include_obfuscation",
    );
    check(json!({"stream_options": {"include_obfuscation": false}}), 400, "stream_options");
    check(
        json!({"stream": true, "stream_options": {"include_usage": true}}),
        400,
        "stream_options.include_usage",
    );
}
