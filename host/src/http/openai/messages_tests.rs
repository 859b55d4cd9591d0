//! Tables: JSON in, messages or a refusal with its place out.

use serde_json::json;

use super::super::params::tests::told;
use super::*;

fn messages(messages: Value) -> Result<Vec<Message>> {
    take(&mut Fields::of("", json!({"messages": messages})).unwrap())
}

#[test]
fn what_cannot_be_read_is_refused_with_its_place() {
    let check = |second: Value, status: u16, param: &str| {
        let (found_status, found_param, message) = told(messages(
            json!([{"role": "system", "content": "s"}, second.clone()]),
        ));
        assert_eq!(
            (found_status, found_param.as_str()),
            (status, param),
            "{second}: {message}"
        );
    };
    check(json!("hi"), 422, "messages[1]");
    check(json!({"content": "hi"}), 400, "messages[1].role");
    check(json!({"role": 1, "content": "hi"}), 422, "messages[1].role");
    check(json!({"role": "robot", "content": "hi"}), 400, "messages[1].role");
    check(json!({"role": "user"}), 400, "messages[1].content");
    check(
        json!({"role": "user", "content": null}),
        400,
        "messages[1].content",
    );
    check(json!({"role": "user", "content": 5}), 422, "messages[1].content");
    check(
        json!({"role": "user", "content": ["hi"]}),
        422,
        "messages[1].content[0]",
    );
    check(
        json!({"role": "user", "content": [{"text": "hi"}]}),
        400,
        "messages[1].content[0].type",
    );
    check(
        json!({"role": "user", "content": [{"type": "text"}]}),
        400,
        "messages[1].content[0].text",
    );
    let image = json!({"type": "image_url", "image_url": {"url": "data:"}});
    check(
        json!({"role": "user", "content": [{"type": "text", "text": "a"}, image]}),
        400,
        "messages[1].content[1]",
    );
    check(
        json!({"role": "user", "content": [{"type": "input_audio"}]}),
        400,
        "messages[1].content[0]",
    );
    check(
        json!({"role": "user", "content": "hi", "images": ["x"]}),
        400,
        "messages[1].images",
    );
    check(
        json!({"role": "user", "content": "hi", "tool_calls": [{}]}),
        400,
        "messages[1].tool_calls",
    );
    check(
        json!({"role": "assistant", "tool_calls": [{}]}),
        400,
        "messages[1].tool_calls[0].function",
    );
    check(
        json!({"role": "assistant", "tool_calls": [{"function": {}}]}),
        400,
        "messages[1].tool_calls[0].function.name",
    );
    check(
        json!({"role": "assistant", "tool_calls": [{"type": "custom"}]}),
        400,
        "messages[1].tool_calls[0].type",
    );
}
