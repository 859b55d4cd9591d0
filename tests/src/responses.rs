//! `/v1/responses` through HTTP: items whole and in events, chats that go on, what is kept and what is refused.

use impetus_tests::{Answer, House, Server};
use serde_json::{Value, json};

const RESPONSES: &str = "/v1/responses";

/// A template in the manner of Hermes that shows every message.
const TEMPLATE: &str = "{% for t in tools %}{{ t | tojson }}{% endfor %}{% for m in messages %}{{ m.role }}: \
    {{ m.content }}{% for c in m.tool_calls %}<tool_call>{{ c.function | tojson }}</tool_call>{% endfor %} \
    {% endfor %}{% if enable_thinking is false %}<think></think>{% endif %}<answer>";

const ANSWER: &str = r#"<think>\nThey want weather.\n</think>\n\nI look.\n<tool_call>\n{"name": "get_weather", "arguments": {"city": "Zürich", "days": 2}}\n</tool_call>"#;

fn house(answer: &str) -> House {
    let file = format!("sequence_tokens = 8192\ntemplate = {TEMPLATE}\nanswer = {answer}\n");
    House::with(&["fake"]).model("m.fake", file)
}

fn request(change: Value) -> Value {
    let mut body = json!({"model": "m", "temperature": 0, "input": "Weather?"});
    body.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
    body
}

fn with_tool(change: Value) -> Value {
    let tool = json!({"type": "function", "name": "get_weather", "parameters": {
        "type": "object", "properties": {"city": {"type": "string"}}}});
    let mut body = request(json!({"tools": [tool]}));
    body.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
    body
}

async fn respond(server: &Server, body: &Value) -> Value {
    let answer = server.post(RESPONSES, body).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.json
}

async fn delete(server: &Server, path: &str) -> (u16, Value) {
    let response = server.client.delete(format!("{}{path}", server.address)).send().await.unwrap();
    (response.status().as_u16(), response.json().await.unwrap())
}

fn output_text(response: &Value) -> String {
    let messages = response["output"].as_array().unwrap().iter().filter(|item| item["type"] == "message");
    messages.map(|item| item["content"][0]["text"].as_str().unwrap()).collect()
}

/// The events of a stream, checked for what every stream has: names, numbers, one end.
fn events(answer: &Answer) -> Vec<Value> {
    let (events, done) = answer.events();
    assert!(!done, "there is no [DONE] here: {}", answer.text);
    let names: Vec<&str> = answer.text.lines().filter_map(|line| line.strip_prefix("event: ")).collect();
    assert_eq!(names, events.iter().map(|event| event["type"].as_str().unwrap()).collect::<Vec<_>>());
    for (number, event) in events.iter().enumerate() {
        assert_eq!(event["sequence_number"], number, "{event}");
    }
    events
}

/// Each event is an instance of the schema of its type in `/openapi.json`, and of no other's.
async fn judge(server: &Server, events: &[Value]) {
    let document = server.get("/openapi.json").await.json;
    let schema =
        &document["paths"][RESPONSES]["post"]["responses"]["200"]["content"]["text/event-stream"]["schema"];
    assert!(schema["oneOf"].as_array().unwrap().len() > 10, "{schema}");
    let whole = json!({"allOf": [schema], "components": document["components"]});
    let validator = jsonschema::draft202012::new(&whole).unwrap();
    for event in events {
        let errors: Vec<String> = validator.iter_errors(event).map(|error| error.to_string()).collect();
        assert!(errors.is_empty(), "{event:#}: {errors:?}");
    }
}

fn types(events: &[Value]) -> Vec<&str> {
    let mut types: Vec<&str> = events.iter().map(|event| event["type"].as_str().unwrap()).collect();
    types.dedup();
    types.into_iter().map(|kind| kind.strip_prefix("response.").unwrap_or(kind)).collect()
}

/// An item without its ids.
fn bare(mut item: Value) -> Value {
    for id in ["id", "call_id"] {
        item.as_object_mut().unwrap().remove(id);
    }
    item
}

#[tokio::test]
async fn a_response_has_the_original_s_shape() {
    let server = house("Sunny.").serve();
    let response = respond(&server, &request(json!({"metadata": {"a": "b"}, "temperature": 0.7}))).await;
    let text = json!({"type": "output_text", "text": "Sunny.", "annotations": [], "logprobs": []});
    let message = json!({"type": "message", "role": "assistant", "status": "completed", "content": [text]});
    assert_eq!(bare(response["output"][0].clone()), message);
    let usage = &response["usage"];
    assert_eq!(usage["output_tokens"], 7, "{usage}");
    assert_eq!(
        usage["total_tokens"].as_u64().unwrap(),
        usage["input_tokens"].as_u64().unwrap() + 7,
        "{usage}"
    );
    assert!(usage["input_tokens_details"]["cached_tokens"].is_u64());
    assert_eq!(usage["output_tokens_details"]["reasoning_tokens"], 0);
    assert!(response["id"].as_str().unwrap().starts_with("resp_"), "{response}");
    assert!(response["completed_at"].as_u64() >= response["created_at"].as_u64());
    for (key, value) in [
        ("object", json!("response")),
        ("status", json!("completed")),
        ("model", json!("m")),
        ("error", Value::Null),
        ("incomplete_details", Value::Null),
        ("instructions", Value::Null),
        ("max_output_tokens", Value::Null),
        ("metadata", json!({"a": "b"})),
        ("parallel_tool_calls", json!(true)),
        ("previous_response_id", Value::Null),
        ("reasoning", json!({"effort": null, "summary": null})),
        ("store", json!(true)),
        ("temperature", json!(0.7)),
        ("text", json!({"format": {"type": "text"}})),
        ("tool_choice", json!("auto")),
        ("tools", json!([])),
        ("top_p", json!(1.0)),
        ("truncation", json!("disabled")),
        ("background", json!(false)),
    ] {
        assert_eq!(response[key], value, "{key}");
    }
}

#[tokio::test]
async fn reasoning_text_and_calls_are_items_whole_and_in_events() {
    let server = house(ANSWER).serve();
    let arguments = "{\"city\": \"Zürich\", \"days\": 2}";
    let expected = [
        json!({"type": "reasoning", "summary": [], "status": "completed",
            "content": [{"type": "reasoning_text", "text": "They want weather."}]}),
        json!({"type": "message", "role": "assistant", "status": "completed", "content": [
            {"type": "output_text", "text": "I look.", "annotations": [], "logprobs": []}]}),
        json!({"type": "function_call", "name": "get_weather", "arguments": arguments, "status": "completed"}),
    ];
    let bare_output = |response: &Value| -> Vec<Value> {
        response["output"].as_array().unwrap().iter().cloned().map(bare).collect()
    };
    let whole = respond(&server, &with_tool(json!({}))).await;
    assert_eq!(bare_output(&whole), expected, "{whole}");
    assert!(whole["usage"]["output_tokens_details"]["reasoning_tokens"].as_u64().unwrap() > 20);
    assert_eq!(whole["tools"][0]["strict"], false);

    let streamed = server.post(RESPONSES, &with_tool(json!({"stream": true}))).await;
    let events = events(&streamed);
    judge(&server, &events).await;
    let expected_types = [
        "created",
        "in_progress",
        "output_item.added",
        "content_part.added",
        "reasoning_text.delta",
        "reasoning_text.done",
        "content_part.done",
        "output_item.done",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "output_item.added",
        "function_call_arguments.delta",
        "function_call_arguments.done",
        "output_item.done",
        "completed",
    ];
    assert_eq!(types(&events), expected_types, "{}", streamed.text);
    let last = &events.last().unwrap()["response"];
    assert_eq!(bare_output(last), expected);
    assert_eq!(last["usage"]["output_tokens"], whole["usage"]["output_tokens"]);
    let done = events.iter().filter(|event| event["type"] == "response.output_item.done");
    for (index, event) in done.enumerate() {
        assert_eq!(event["output_index"], index);
        assert_eq!(event["item"], last["output"][index]);
        let id = &last["output"][index]["id"];
        let deltas = events.iter().filter(|event| event["item_id"] == *id && event["delta"].is_string());
        let text: String = deltas.map(|event| event["delta"].as_str().unwrap()).collect();
        let item = &event["item"];
        let whole = item["arguments"].as_str().or(item["content"][0]["text"].as_str()).unwrap();
        assert_eq!(text, whole);
    }
    assert_eq!(events[0]["response"]["status"], "in_progress");
    assert_eq!(events[0]["response"]["id"], last["id"]);
}

#[tokio::test]
async fn a_chat_goes_on_by_id_as_it_does_by_its_items() {
    let server = house(ANSWER).serve();
    let first = respond(&server, &with_tool(json!({"instructions": "Help."}))).await;
    let call = first["output"][2]["call_id"].clone();
    let output = json!({"type": "function_call_output", "call_id": call, "output": "sun"});
    let by_id = with_tool(json!({"previous_response_id": first["id"], "input": [output]}));
    let by_id = respond(&server, &by_id).await;
    let items = first["output"].as_array().unwrap();
    let mut input = vec![json!({"role": "user", "content": "Weather?"})];
    input.extend(items.iter().cloned().chain([output]));
    let by_items = respond(&server, &with_tool(json!({"input": input}))).await;
    assert_eq!(by_id["usage"]["input_tokens"], by_items["usage"]["input_tokens"], "{by_id} {by_items}");
    assert_eq!(by_id["previous_response_id"], first["id"]);
    // The beginning was computed before.
    assert!(by_items["usage"]["input_tokens_details"]["cached_tokens"].as_u64().unwrap() > 50, "{by_items}");
    // And on from there, also after a stream.
    let body = with_tool(json!({"previous_response_id": by_id["id"], "input": "And now?", "stream": true}));
    let streamed = server.post(RESPONSES, &body).await;
    judge(&server, &events(&streamed)).await;
    let third = events(&streamed).pop().unwrap()["response"].clone();
    let fourth = with_tool(json!({"previous_response_id": third["id"], "input": "Well?"}));
    let fourth = respond(&server, &fourth).await;
    let tokens = |response: &Value| response["usage"]["input_tokens"].as_u64().unwrap();
    assert!(tokens(&first) < tokens(&by_id) && tokens(&by_id) < tokens(&third), "{first} {third}");
    assert!(tokens(&third) < tokens(&fourth), "{fourth}");
}

#[tokio::test]
async fn what_is_kept_is_told_again_until_it_is_deleted() {
    let server = house("Sunny.").config("kept_responses = 2").serve();
    let first = respond(&server, &request(json!({}))).await;
    let path = format!("{RESPONSES}/{}", first["id"].as_str().unwrap());
    assert_eq!(server.get(&path).await.json, first);
    let refused = server.get(&format!("{path}?stream=true")).await;
    assert_eq!((refused.status, &refused.json["error"]["param"]), (400, &json!("stream")));
    let (status, told) = delete(&server, &path).await;
    assert_eq!((status, told), (200, json!({"id": first["id"], "object": "response", "deleted": true})));
    for (status, error) in
        [delete(&server, &path).await, (server.get(&path).await.status, server.get(&path).await.json)]
    {
        assert_eq!((status, &error["error"]["code"]), (404, &json!("response_not_found")), "{error}");
    }
    let gone = server.post(RESPONSES, &request(json!({"previous_response_id": first["id"]}))).await;
    assert_eq!((gone.status, &gone.json["error"]["code"]), (400, &json!("previous_response_not_found")));

    let unkept = respond(&server, &request(json!({"store": false}))).await;
    assert_eq!(unkept["store"], false);
    let oldest = respond(&server, &request(json!({}))).await;
    let streamed = server.post(RESPONSES, &request(json!({"stream": true}))).await;
    judge(&server, &events(&streamed)).await;
    let newer = events(&streamed).pop().unwrap()["response"].clone();
    let newest = respond(&server, &request(json!({}))).await;
    for (response, status) in [(&unkept, 404), (&oldest, 404), (&newer, 200), (&newest, 200)] {
        let path = format!("{RESPONSES}/{}", response["id"].as_str().unwrap());
        assert_eq!(server.get(&path).await.status, status, "{response}");
    }
    let path = format!("{RESPONSES}/{}", newer["id"].as_str().unwrap());
    assert_eq!(server.get(&path).await.json, newer, "a stream's last event and what is kept are the same");
}

#[tokio::test]
async fn an_answer_that_is_cut_off_is_incomplete() {
    let server = house("<think>\\nwell well\\n</think>\\n\\nSunny days.").serve();
    let reasoning = respond(&server, &request(json!({"max_output_tokens": 12}))).await;
    assert_eq!(reasoning["status"], "incomplete");
    assert_eq!(reasoning["incomplete_details"], json!({"reason": "max_output_tokens"}));
    assert_eq!(reasoning["completed_at"], Value::Null);
    assert_eq!(reasoning["output"][0]["type"], "reasoning", "{reasoning}");
    assert_eq!(reasoning["output"][0]["status"], "incomplete", "{reasoning}");
    let body = request(json!({"max_output_tokens": 34, "stream": true}));
    let streamed = server.post(RESPONSES, &body).await;
    let events = events(&streamed);
    judge(&server, &events).await;
    let last = events.last().unwrap();
    assert_eq!(last["type"], "response.incomplete", "{}", streamed.text);
    let output = &last["response"]["output"];
    assert_eq!((&output[0]["status"], &output[1]["status"]), (&json!("completed"), &json!("incomplete")));
    assert!("Sunny days.".starts_with(&output_text(&last["response"])), "{output}");
}

#[tokio::test]
async fn a_stream_that_fails_says_so_in_its_last_event() {
    // The plugin fails once in its life.
    let failing = || House::with(&["fake"]).model("m.fake", "fail_at = 4\nsequence_tokens = 8192").serve();
    let server = failing();
    let whole = server.post(RESPONSES, &request(json!({}))).await;
    assert_eq!((whole.status, &whole.json["error"]["code"]), (503, &json!("engine_crashed")));
    let server = failing();
    let streamed = server.post(RESPONSES, &request(json!({"stream": true}))).await;
    judge(&server, &events(&streamed)).await;
    let last = events(&streamed).pop().unwrap();
    assert_eq!(last["type"], "response.failed", "{}", streamed.text);
    let response = &last["response"];
    assert_eq!((&response["status"], &response["error"]["code"]), (&json!("failed"), &json!("server_error")));
    assert!(response["error"]["message"].as_str().unwrap().contains("told to fail"), "{response}");
    let open = response["output"].as_array().unwrap().iter().any(|item| item["status"] == "in_progress");
    assert!(!open, "{response}");
    let path = format!("{RESPONSES}/{}", response["id"].as_str().unwrap());
    assert_eq!(server.get(&path).await.status, 404, "what failed is not kept");
}

#[tokio::test]
async fn a_broken_call_is_text() {
    let text = r#"<tool_call>{"name": "get_weather", "arguments": {"city": Paris}}</tool_call>"#;
    let server = house(text).serve();
    // Functions of one name are kept to no form, so that the model can still break its call.
    let tool = with_tool(json!({}))["tools"][0].clone();
    let with_tools = |stream: bool| with_tool(json!({"tools": [tool, tool], "stream": stream}));
    let response = respond(&server, &with_tools(false)).await;
    assert_eq!(output_text(&response), text, "{response}");
    assert_eq!(response["output"].as_array().unwrap().len(), 1);
    // What a stream told of it cannot be taken back, but is called incomplete.
    let streamed = server.post(RESPONSES, &with_tools(true)).await;
    judge(&server, &events(&streamed)).await;
    let last = events(&streamed).pop().unwrap()["response"].clone();
    let output = last["output"].as_array().unwrap();
    assert!(output.iter().all(|item| item["type"] == "message" || item["status"] == "incomplete"), "{last}");
    assert!(text.ends_with(&output_text(&last)) && !output_text(&last).is_empty(), "{last}");
}

#[tokio::test]
async fn tokens_are_told_with_the_text_they_became() {
    let server = house("<think>\\nhm\\n</think>\\n\\nSun.").serve();
    let response = respond(&server, &request(json!({"top_logprobs": 2}))).await;
    let part = &response["output"][1]["content"][0];
    assert_eq!(part["text"], "Sun.");
    let tokens = part["logprobs"].as_array().unwrap();
    assert!(tokens.iter().all(|token| token["top_logprobs"].as_array().unwrap().len() == 2), "{part}");
    let said: String = tokens.iter().map(|token| token["token"].as_str().unwrap()).collect();
    assert!(said.ends_with("Sun.") && !said.contains("hm"), "{said}");
    let body = request(json!({"include": ["message.output_text.logprobs"], "stream": true}));
    let streamed = server.post(RESPONSES, &body).await;
    judge(&server, &events(&streamed)).await;
    let deltas = events(&streamed).into_iter().filter(|event| event["type"] == "response.output_text.delta");
    assert!(deltas.map(|event| event["logprobs"].as_array().unwrap().len()).sum::<usize>() >= 4);
}

#[tokio::test]
async fn wrong_requests_are_refused_by_name() {
    let server = house("Sunny.").serve();
    for (change, status, param) in [
        (json!({"model": "unknown"}), 404, "model"),
        (
            json!({"input": [{"role": "user", "content": [{"type": "input_file"}]}]}),
            400,
            "input[0].content[0].type",
        ),
        (json!({"background": true}), 400, "background"),
        (json!({"tools": [{"type": "web_search"}]}), 400, "tools[0].type"),
        (json!({"reasoning": {"effort": "high"}}), 400, "reasoning.effort"),
        (json!({"input": "x".repeat(20_000)}), 400, "input"),
        (
            json!({"text": {"format": {"type": "json_schema", "name": "n", "schema": {"type": "nothing"}}}}),
            400,
            "text.format.schema",
        ),
        (
            json!({"tools": [{"type": "function", "name": "f", "strict": true, "parameters": {"type": "nothing"}}]}),
            400,
            "tools[0].parameters",
        ),
        (json!({"nonsense": 1}), 400, "nonsense"),
    ] {
        for stream in [false, true] {
            let mut body = request(change.clone());
            body["stream"] = stream.into();
            let answer = server.post(RESPONSES, &body).await;
            assert_eq!(answer.status, status, "{change}: {}", answer.text);
            let named = answer.json["error"]["param"].as_str().unwrap_or_default();
            assert!(named.starts_with(param), "{change}: {}", answer.text);
        }
    }
}

#[tokio::test]
async fn a_developer_is_heard_by_a_template_that_knows_none() {
    let template = "{% for m in messages %}{% if m.role == 'system' %}S{{ m.content }}{% endif %}\
        {% if m.role == 'user' %}U{{ m.content }}{% endif %}{% endfor %}<answer>";
    let file = format!("sequence_tokens = 4096\ntemplate = {template}\nanswer = ok");
    let server = House::with(&["fake"]).model("m.fake", file).serve();
    let tokens = async |role: &str| {
        let input = json!([{"role": role, "content": "be brief"}, {"role": "user", "content": "hi"}]);
        respond(&server, &request(json!({"input": input}))).await["usage"]["input_tokens"].as_u64().unwrap()
    };
    assert_eq!(tokens("developer").await, tokens("system").await);
}

#[tokio::test]
async fn the_real_model_keeps_to_a_schema_and_goes_on() {
    let server = House::with(&["gguf"]).smollm2().serve();
    let schema = json!({"type": "object", "properties": {"color": {"enum": ["red", "blue"]}}, "required": ["color"],
        "additionalProperties": false});
    let format = json!({"type": "json_schema", "name": "c", "schema": schema, "strict": true});
    let body = json!({"model": impetus_tests::SMOLLM2, "input": "Which color has the sky?", "temperature": 0,
        "text": {"format": format}, "max_output_tokens": 40});
    let first = respond(&server, &body).await;
    let told: Value = serde_json::from_str(&output_text(&first)).unwrap();
    assert!(told["color"] == "red" || told["color"] == "blue", "{told}");
    let body = json!({"model": impetus_tests::SMOLLM2, "input": "Are you sure?", "temperature": 0,
        "previous_response_id": first["id"], "max_output_tokens": 8, "stream": true});
    let streamed = server.post(RESPONSES, &body).await;
    judge(&server, &events(&streamed)).await;
    let last = events(&streamed).pop().unwrap();
    let cached = &last["response"]["usage"]["input_tokens_details"]["cached_tokens"];
    assert!(cached.as_u64().unwrap() > 20, "{last}");
}
