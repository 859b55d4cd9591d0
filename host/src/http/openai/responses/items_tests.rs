//! Tables: items to messages.

use super::super::super::params::tests::told;
use super::*;

fn taken(input: Value) -> Result<Vec<Message>> {
    let mut fields = Fields::of("", json!({"input": input}))?;
    let messages = take(&mut fields, &[])?;
    fields.finish()?;
    Ok(messages)
}

/// Messages as JSON, to be read at a glance.
fn shown(messages: Vec<Message>) -> Vec<Value> {
    let one = |message: Message| {
        let mut object = json!({"role": message.role, "content": message.content});
        object.as_object_mut().unwrap().extend(message.extra);
        object
    };
    messages.into_iter().map(one).collect()
}

#[test]
fn a_text_is_what_the_user_says() {
    assert_eq!(shown(taken(json!("hi")).unwrap()), [json!({"role": "user", "content": "hi"})]);
}

#[test]
fn an_answer_is_put_together_again() {
    let input = json!([
        {"role": "developer", "content": "be brief"},
        {"type": "message", "role": "user", "content": [
            {"type": "input_text", "text": "a"}, {"type": "input_text", "text": "b"}]},
        {"type": "reasoning", "id": "rs_1", "summary": [], "status": "completed",
            "content": [{"type": "reasoning_text", "text": "hm"}]},
        {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": [
            {"type": "output_text", "text": "I look", "annotations": [], "logprobs": []}]},
        {"type": "function_call", "id": "fc_1", "call_id": "c1", "name": "f", "arguments": "{}", "status": "completed"},
        {"type": "function_call", "call_id": "c2", "name": "g", "arguments": "{\"a\": 1}"},
        {"type": "function_call_output", "call_id": "c1", "output": "sun"},
        {"type": "function_call_output", "call_id": "c2", "output": [{"type": "input_text", "text": "rain"}]},
        {"role": "assistant", "content": "done"},
        {"type": "function_call", "call_id": "c3", "name": "f", "arguments": "{}"},
        {"role": "user", "content": "more"},
    ]);
    let expected = [
        json!({"role": "developer", "content": "be brief"}),
        json!({"role": "user", "content": "a\nb"}),
        json!({"role": "assistant", "content": "I look", "reasoning_content": "hm",
            "tool_calls": [call("c1", "f", "{}"), call("c2", "g", "{\"a\": 1}")]}),
        json!({"role": "tool", "content": "sun", "tool_call_id": "c1"}),
        json!({"role": "tool", "content": "rain", "tool_call_id": "c2"}),
        json!({"role": "assistant", "content": "done", "tool_calls": [call("c3", "f", "{}")]}),
        json!({"role": "user", "content": "more"}),
    ];
    assert_eq!(shown(taken(input).unwrap()), expected);
}

#[test]
fn two_answers_stay_two() {
    let input = json!([{"role": "assistant", "content": "a"}, {"role": "assistant", "content": "b"},
        {"type": "reasoning", "content": []}, {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}]);
    let expected = [
        json!({"role": "assistant", "content": "a"}),
        json!({"role": "assistant", "content": "b"}),
        json!({"role": "assistant", "content": null, "tool_calls": [call("c", "f", "{}")]}),
    ];
    assert_eq!(shown(taken(input).unwrap()), expected);
}

#[test]
fn an_output_may_belong_to_a_call_of_the_history() {
    let history = [answer(String::new(), String::new(), vec![call("c0", "f", "{}")])];
    let input = json!({"input": [{"type": "function_call_output", "call_id": "c0", "output": "sun"}]});
    let messages = take(&mut Fields::of("", input.clone()).unwrap(), &history).unwrap();
    assert_eq!(shown(messages), [json!({"role": "tool", "content": "sun", "tool_call_id": "c0"})]);
    let (status, param, _) = told(take(&mut Fields::of("", input).unwrap(), &[]));
    assert_eq!((status, param.as_str()), (400, "input[0].call_id"));
}

#[test]
fn what_cannot_be_read_is_refused_by_name() {
    for (input, status, param) in [
        (json!(null), 400, "input"),
        (json!([]), 400, "input"),
        (json!(1), 422, "input"),
        (json!(["a"]), 422, "input[0]"),
        (json!([{"type": "item_reference", "id": "msg_1"}]), 400, "input[0].type"),
        (json!([{"type": "web_search_call"}]), 400, "input[0].type"),
        (json!([{"role": "tool", "content": "x"}]), 400, "input[0].role"),
        (json!([{"role": "user"}]), 400, "input[0].content"),
        (json!([{"role": "user", "content": "x", "phase": "commentary"}]), 400, "input[0].phase"),
        (
            json!([{"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}]),
            400,
            "input[0].content[0].type",
        ),
        (
            json!([{"role": "user", "content": [{"type": "input_text", "text": "x", "annotations": [1]}]}]),
            400,
            "input[0].content[0].annotations",
        ),
        (json!([{"type": "function_call", "call_id": "c", "name": "f"}]), 400, "input[0].arguments"),
        (json!([{"type": "reasoning", "encrypted_content": "x"}]), 400, "input[0].encrypted_content"),
        (json!([{"type": "reasoning", "summary": [{"text": "x"}]}]), 400, "input[0].summary"),
    ] {
        let (found_status, found_param, message) = told(taken(input.clone()));
        assert_eq!((found_status, found_param.as_str()), (status, param), "{input}: {message}");
    }
}
