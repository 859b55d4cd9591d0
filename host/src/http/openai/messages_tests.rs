//! Tables: JSON in, messages or a refusal with its place out.

use serde_json::json;

use super::super::params::tests::told;
use super::*;

fn messages(messages: Value) -> Result<Vec<Message>> {
    take(&mut Fields::of("", json!({"messages": messages})).unwrap())
}

#[test]
fn what_is_said_is_handed_on() {
    let check = |message: Value, content: Option<&str>, extra: Value| {
        let role = message["role"].as_str().unwrap().to_owned();
        let expected =
            Message { role, content: content.map(str::to_owned), extra: extra.as_object().unwrap().clone() };
        assert_eq!(messages(json!([message.clone()])).unwrap(), [expected], "{message}");
    };
    for role in ["system", "developer", "user", "assistant", "tool"] {
        check(json!({"role": role, "content": " a\n"}), Some(" a\n"), json!({}));
    }
    let parts = json!([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]);
    check(json!({"role": "user", "content": parts, "name": "n"}), Some("a\nb"), json!({"name": "n"}));
    check(json!({"role": "user", "content": []}), Some(""), json!({}));
    check(
        json!({"role": "tool", "content": "4", "tool_call_id": "c"}),
        Some("4"),
        json!({"tool_call_id": "c"}),
    );
    let echoed = json!({
        "role": "assistant", "content": "a", "refusal": null, "annotations": [], "audio": null, "tool_calls": [],
        "reasoning_content": "r",
    });
    check(echoed, Some("a"), json!({"reasoning_content": "r"}));
    let call = |arguments: Value| json!([{"id": "c", "type": "function", "function": {"name": "f", "arguments": arguments}}]);
    check(
        json!({"role": "assistant", "content": null, "tool_calls": call(json!("{\"x\": 1}"))}),
        None,
        json!({"tool_calls": call(json!("{\"x\": 1}"))}),
    );
    check(
        json!({"role": "assistant", "tool_calls": call(json!("no json"))}),
        None,
        json!({"tool_calls": call(json!("no json"))}),
    );
    check(
        json!({"role": "assistant", "tool_calls": call(json!({"x": 1}))}),
        None,
        json!({"tool_calls": call(json!({"x": 1}))}),
    );
    check(
        json!({"role": "assistant", "tool_calls": call(Value::Null)}),
        None,
        json!({"tool_calls": call(json!("{}"))}),
    );
}

/// Which place a second message is refused for.
fn refused_for(second: Value, status: u16, param: &str) {
    let (found_status, found_param, message) =
        told(messages(json!([{"role": "system", "content": "s"}, second.clone()])));
    assert_eq!((found_status, found_param.as_str()), (status, param), "{second}: {message}");
}

#[test]
fn what_cannot_be_read_is_refused_with_its_place() {
    let check = refused_for;
    check(json!("hi"), 422, "messages[1]");
    check(json!({"content": "hi"}), 400, "messages[1].role");
    check(json!({"role": 1, "content": "hi"}), 422, "messages[1].role");
    check(json!({"role": "robot", "content": "hi"}), 400, "messages[1].role");
    check(json!({"role": "user"}), 400, "messages[1].content");
    check(json!({"role": "user", "content": null}), 400, "messages[1].content");
    check(json!({"role": "user", "content": 5}), 422, "messages[1].content");
    check(json!({"role": "user", "content": ["hi"]}), 422, "messages[1].content[0]");
    check(json!({"role": "user", "content": [{"text": "hi"}]}), 400, "messages[1].content[0].type");
    check(json!({"role": "user", "content": [{"type": "text"}]}), 400, "messages[1].content[0].text");
}

#[test]
fn what_is_not_text_and_what_no_message_has_is_refused_with_its_place() {
    let check = refused_for;
    let image = json!({"type": "image_url", "image_url": {"url": "data:"}});
    check(
        json!({"role": "user", "content": [{"type": "text", "text": "a"}, image]}),
        400,
        "messages[1].content[1]",
    );
    check(json!({"role": "user", "content": [{"type": "input_audio"}]}), 400, "messages[1].content[0]");
    check(json!({"role": "user", "content": "hi", "images": ["x"]}), 400, "messages[1].images");
    check(json!({"role": "user", "content": "hi", "tool_calls": [{}]}), 400, "messages[1].tool_calls");
    check(json!({"role": "assistant", "tool_calls": [{}]}), 400, "messages[1].tool_calls[0].function");
    check(
        json!({"role": "assistant", "tool_calls": [{"function": {}}]}),
        400,
        "messages[1].tool_calls[0].function.name",
    );
    check(
        json!({"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": 1}}]}),
        422,
        "messages[1].tool_calls[0].function.arguments",
    );
    check(
        json!({"role": "assistant", "tool_calls": [{"type": "custom"}]}),
        400,
        "messages[1].tool_calls[0].type",
    );
}
