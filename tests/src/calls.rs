//! Calls that must be made, or must be instances of their schemas, against the real model: its template knows no tools, so
//! that what it writes is the form that it is told. Judged by a validator that shares nothing with the host.

use futures_util::stream::{self, StreamExt};
use impetus_tests::{House, SMOLLM2, Server};
use serde_json::{Value, json};

use crate::tools::{TEMPLATE, assembled, whole};

const CHAT: &str = "/v1/chat/completions";

/// Without guesses: when they are made depends on measured times, and llama.cpp's last bits on the number of rows, so that
/// an answer at temperature 1 would not be the same on a busy machine.
fn real() -> Server {
    House::with(&["gguf"]).config("[engine]\nspeculate = false").smollm2().serve()
}

fn weather() -> Value {
    json!({"type": "object", "required": ["city", "days", "unit"], "additionalProperties": false, "properties": {
        "city": {"type": "string", "maxLength": 12, "pattern": "^[A-Z][a-z]+$"},
        "days": {"type": "integer", "minimum": 1, "maximum": 14},
        "unit": {"enum": ["celsius", "fahrenheit"]}}})
}

fn order() -> Value {
    json!({"type": "object", "required": ["items"], "properties": {"items": {"type": "array", "minItems": 1, "maxItems": 3,
        "items": {"$ref": "#/$defs/item"}}},
        "$defs": {"item": {"type": "object", "required": ["id", "gift"], "additionalProperties": false,
            "properties": {"id": {"type": "string", "maxLength": 6}, "gift": {"type": "boolean"}}}}})
}

fn tool(name: &str, schema: &Value, strict: bool) -> Value {
    json!({"type": "function", "function": {"name": name, "description": "Does it.", "parameters": schema,
        "strict": strict}})
}

fn request(change: Value) -> Value {
    let tools = [tool("get_weather", &weather(), false), tool("place_order", &order(), false)];
    let mut body = json!({"model": SMOLLM2, "temperature": 1, "max_tokens": 160, "tools": tools,
        "messages": [{"role": "user", "content": "What is the weather in Paris this week? Then order two books."}]});
    body.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
    body
}

/// What is wrong with a message's calls.
fn fault(said: &Value) -> Option<String> {
    said["calls"].as_array().unwrap().iter().find_map(|call| {
        let schema = match call["name"].as_str().unwrap() {
            "get_weather" => weather(),
            "place_order" => order(),
            other => return Some(format!("no tool: {other}")),
        };
        let validator = jsonschema::options().should_validate_formats(true).build(&schema).unwrap();
        let arguments = call["arguments"].as_str().unwrap();
        match serde_json::from_str(arguments) {
            Err(error) => Some(format!("no JSON: {error}: {arguments}")),
            Ok(instance) => validator.validate(&instance).err().map(|error| format!("{error}: {arguments}")),
        }
    })
}

/// Asks with this seed, whole or streamed, and checks what holds for every answer that was not cut off.
async fn ask(server: &Server, change: &Value, seed: u64, stream: bool) -> Value {
    let mut body = request(change.clone());
    (body["seed"], body["stream"]) = (seed.into(), stream.into());
    let answer = server.post(CHAT, &body).await;
    let said = if stream { assembled(&answer) } else { whole(&answer) };
    if said["finish"] != "length" {
        assert_eq!(fault(&said), None, "{said}");
    }
    said
}

/// Those of these answers that were not cut off, every second one streamed.
async fn answers(server: &Server, change: &Value, seeds: std::ops::Range<u64>) -> Vec<Value> {
    let ask = |seed| ask(server, change, seed, seed % 2 == 1);
    let answers: Vec<Value> = stream::iter(seeds).map(ask).buffered(8).collect().await;
    let complete: Vec<Value> = answers.into_iter().filter(|said| said["finish"] != "length").collect();
    assert!(!complete.is_empty(), "{change}: no answer was complete");
    complete
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_required_call_is_made_and_valid() {
    let server = real();
    let mut made = Vec::new();
    for (change, most) in [
        (json!({"tool_choice": "required"}), usize::MAX),
        (json!({"tool_choice": "required", "parallel_tool_calls": false}), 1),
        (json!({"tool_choice": {"type": "function", "function": {"name": "place_order"}}}), 1),
    ] {
        for said in answers(&server, &change, 0..5).await {
            let calls = said["calls"].as_array().unwrap();
            assert!((1..=most).contains(&calls.len()), "{change}: {said}");
            assert_eq!((&said["finish"], &said["content"]), (&json!("tool_calls"), &json!("")), "{said}");
            if change["tool_choice"].is_object() {
                assert_eq!(calls[0]["name"], "place_order");
            }
            made.push(calls[0]["arguments"].clone());
        }
    }
    made.dedup();
    assert!(made.len() > 3, "at temperature 1 answers differ: {made:?}");
    // Alone, the same answer comes whole and in pieces.
    let change = json!({"tool_choice": "required", "parallel_tool_calls": false});
    assert_eq!(ask(&server, &change, 3, false).await, ask(&server, &change, 3, true).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_strict_call_is_valid_and_what_is_said_is_free() {
    let server = real();
    let tools = [tool("get_weather", &weather(), true), tool("place_order", &order(), true)];
    // So small a model rarely finds the way to call by itself: here it goes on as it is said to have done.
    let turn = |id: &str| {
        let arguments = json!({"items": [{"id": id, "gift": true}]});
        let call = json!({"id": "c", "type": "function", "function": {"name": "place_order", "arguments": arguments}});
        [
            json!({"role": "user", "content": format!("Order {id}.")}),
            json!({"role": "assistant", "tool_calls": [call]}),
        ]
    };
    let mut messages = [turn("a"), turn("b"), turn("c")].concat();
    messages.push(json!({"role": "user", "content": "Order d."}));
    let change = json!({"tools": tools, "messages": messages});
    let said = answers(&server, &change, 0..8).await;
    let with_calls = said.iter().filter(|said| said["finish"] == "tool_calls").count();
    assert!(with_calls > said.len() / 4, "{with_calls} of {said:?}");
    let change = json!({"tools": tools, "messages": [{"role": "user", "content": "Hi."}]});
    let said = answers(&server, &change, 0..4).await;
    assert!(said.iter().any(|said| said["finish"] == "stop" && said["content"] != ""), "{said:?}");
}

/// Either a call or an instance of the answer's schema, and never anything else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_or_an_instance() {
    let server = real();
    let schema = json!({"type": "object", "required": ["answer"], "additionalProperties": false,
        "properties": {"answer": {"type": "string", "maxLength": 30}}});
    let format = json!({"type": "json_schema", "json_schema": {"name": "a", "schema": schema}});
    let tools = [tool("get_weather", &weather(), true), tool("place_order", &order(), true)];
    let change = json!({"response_format": format, "tool_choice": "auto", "tools": tools});
    let validator = jsonschema::options().build(&schema).unwrap();
    for said in answers(&server, &change, 0..6).await {
        if said["calls"].as_array().unwrap().is_empty() {
            let content = said["content"].as_str().unwrap();
            assert!(validator.is_valid(&serde_json::from_str(content).unwrap()), "{said}");
            assert_eq!(said["finish"], "stop");
        }
    }
}

#[tokio::test]
async fn what_cannot_be_kept_to_is_refused_by_name() {
    let server = real();
    let bad = |keyword: &str| {
        let mut schema = weather();
        schema["properties"]["city"][keyword] = json!({"const": "x"});
        [tool("get_weather", &weather(), false), tool("bad", &schema, true)]
    };
    for (change, param) in [
        (
            json!({"tool_choice": "required", "tools": bad("not")}),
            "tools[1].function.parameters.properties.city.not",
        ),
        (json!({"tools": bad("if")}), "tools[1].function.parameters.properties.city.if"),
        (json!({"tool_choice": "required", "tools": []}), "tool_choice"),
        (
            json!({"tool_choice": {"type": "function", "function": {"name": "x"}}}),
            "tool_choice.function.name",
        ),
        (json!({"guided_regex": "a+"}), "guided_regex"),
        (
            json!({"tool_choice": "required", "tools": [tool("f", &weather(), false), tool("f", &order(), false)]}),
            "tools[1].function.name",
        ),
    ] {
        let answer = server.post(CHAT, &request(change.clone())).await;
        assert_eq!(
            (answer.status, &answer.json["error"]["param"]),
            (400, &json!(param)),
            "{change}: {}",
            answer.text
        );
    }
    // A schema that is not to be kept to may have any keyword.
    let unkept =
        json!({"tools": [tool("bad", &bad("not")[1]["function"]["parameters"], false)], "max_tokens": 1});
    assert_eq!(server.post(CHAT, &request(unkept)).await.status, 200);
}

/// A family with marks, which are control tokens here and text there, and a model that thinks before.
#[tokio::test]
async fn reasoning_stays_free_before_a_call() {
    let thought = "<think>\\n{<tool_call> or not?\\n</think>\\n\\n";
    let call = r#"<tool_call>\n{"name": "get_weather", "arguments": {"city": "Paris", "days": 2, "unit": "celsius"}}\n</tool_call>"#;
    for (template_end, answer) in [
        ("", format!("{thought}{call}")),
        ("", call.to_owned()),
        ("<think>", format!("<think>Hm, {{.</think>\\n\\n{call}")),
    ] {
        for control in ["", "control = <tool_call>", "control = </think>"] {
            let file = format!(
                "sequence_tokens = 4096\ntemplate = {TEMPLATE}{template_end}\nanswer = {answer}\n{control}"
            );
            let server = House::with(&["fake"]).model("m.fake", file).serve();
            for choice in [json!("required"), json!("auto")] {
                let tools = [tool("get_weather", &weather(), true)];
                let change = json!({"model": "m", "temperature": 0, "tools": tools, "tool_choice": choice, "max_tokens": 400});
                let said = whole(&server.post(CHAT, &request(change)).await);
                assert_eq!((&said["finish"], &said["content"]), (&json!("tool_calls"), &json!("")), "{said}");
                assert_eq!(said["calls"][0]["name"], "get_weather", "{said}");
                assert_eq!(fault(&said), None);
                assert_eq!(said["reasoning"] != "", answer.contains("</think>"), "{said}");
            }
        }
    }
}

/// Where tools are only offered, what is said is free, and a call is kept to its family's form from its mark on: this
/// script misspells the tool and a key behind the mark, and says the same before it and while it thinks.
#[tokio::test]
async fn an_offered_call_is_kept_to_its_form_from_its_mark_on() {
    let wrong = r#"{"name": "get_weathir", "argumentz": {"town": "Paris"}}"#;
    let thought = format!("<think>\\n<tool_call>\\n{wrong}\\n</tool_call>\\n</think>\\n\\n");
    let call = format!("<tool_call>\\n{wrong}\\n</tool_call>");
    for (reasons, control) in
        [(false, ""), (true, ""), (true, "control = <tool_call>"), (false, "control = <tool_call>")]
    {
        let before = if reasons { thought.as_str() } else { "" };
        let file = format!(
            "sequence_tokens = 4096\ntemplate = {TEMPLATE}\nanswer = {before}Of {wrong}:\\n{call}\\n{call}\n{control}"
        );
        let server = House::with(&["fake"]).model("m.fake", file).serve();
        for (stream, many) in [(false, true), (true, true), (false, false)] {
            let tools = [tool("get_weather", &weather(), false)];
            let change = json!({"model": "m", "temperature": 0, "tools": tools, "max_tokens": 600, "stream": stream,
                "parallel_tool_calls": many});
            let answer = server.post(CHAT, &request(change)).await;
            let said = if stream { assembled(&answer) } else { whole(&answer) };
            assert_eq!(said["finish"], "tool_calls", "{said}");
            assert!(said["content"].as_str().unwrap().starts_with(&format!("Of {wrong}:")), "{said}");
            assert_eq!(said["reasoning"].as_str().unwrap().contains("get_weathir"), reasons, "{said}");
            let calls = said["calls"].as_array().unwrap();
            assert_eq!(calls.len(), if many { 2 } else { 1 }, "{said}");
            for call in calls {
                assert_eq!(
                    (&call["name"], &call["arguments"]),
                    (&json!("get_weather"), &json!(r#"{"town": "Paris"}"#))
                );
            }
        }
        let none = json!({"model": "m", "temperature": 0, "tools": [tool("no <name>", &weather(), false)], "max_tokens": 600});
        assert_eq!(server.post(CHAT, &request(none)).await.status, 200, "what cannot be kept is not refused");
    }
}

/// `response_format` says what an answer is that calls nothing: beside a call that must be made it changes nothing, but it
/// must make sense.
#[tokio::test]
async fn a_format_beside_a_required_call_must_make_sense() {
    let call = r#"<tool_call>\n{"name": "get_weather", "arguments": {"city": "Paris", "days": 2, "unit": "celsius"}}\n</tool_call>"#;
    let file = format!("sequence_tokens = 4096\ntemplate = {TEMPLATE}\nanswer = {call}");
    let server = House::with(&["fake"]).model("m.fake", file).serve();
    let ask = async |schema: Value, choice: &Value| {
        let format = json!({"type": "json_schema", "json_schema": {"name": "n", "schema": schema}});
        let tools = [tool("get_weather", &weather(), false)];
        let change = json!({"model": "m", "temperature": 0, "tools": tools, "tool_choice": choice, "max_tokens": 400,
            "response_format": format});
        server.post(CHAT, &request(change)).await
    };
    for choice in [json!("required"), json!({"type": "function", "function": {"name": "get_weather"}})] {
        let said = whole(&ask(json!({"type": "object"}), &choice).await);
        assert_eq!(said["calls"][0]["name"], "get_weather", "{said}");
        let refused = ask(json!({"type": "object", "not": {"const": 1}}), &choice).await;
        let error = &refused.json["error"];
        assert_eq!((refused.status, &error["code"]), (400, &json!("invalid_grammar")), "{}", refused.text);
        assert_eq!(error["param"], "response_format.json_schema.schema.not", "{}", refused.text);
    }
}
