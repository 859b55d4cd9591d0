//! Tools and reasoning through HTTP: what a model writes, and what clients read.

use async_openai::Client;
use async_openai::config::OpenAIConfig;
use async_openai::types::chat::CreateChatCompletionRequest;
use futures_util::StreamExt;
use impetus_tests::{Answer, House, Server};
use serde_json::{Value, json};

const CHAT: &str = "/v1/chat/completions";

/// A template in the manner of Hermes.
pub(crate) const TEMPLATE: &str = "{% for t in tools %}{{ t | tojson }}{% endfor %}{% for m in messages %}{{ m.role }}: \
    {{ m.content }}{% for c in m.tool_calls %}<tool_call>{{ c.function | tojson }}</tool_call>{% endfor %} \
    {% endfor %}{% if enable_thinking is false %}<think></think>{% endif %}<answer>";

const ANSWER: &str = r#"<think>\nThey want weather.\n</think>\n\nI look.\n<tool_call>\n{"name": "get_weather", "arguments": {"city": "Zürich", "days": 2}}\n</tool_call>\n<tool_call>\n{"name": "get_weather", "arguments": {}}\n</tool_call>"#;

fn serve(answer: &str, more: &str) -> Server {
    let file = format!("sequence_tokens = 4096\ntemplate = {TEMPLATE}\nanswer = {answer}\n{more}");
    House::with(&["fake"]).model("m.fake", file).serve()
}

fn request(change: Value) -> Value {
    let tool = json!({"type": "function", "function": {"name": "get_weather", "description": "d", "parameters": {
        "type": "object", "properties": {"city": {"type": "string"}}}}});
    let mut body = json!({"model": "m", "temperature": 0, "messages": [{"role": "user", "content": "Weather?"}],
        "tools": [tool]});
    body.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
    body
}

/// A streamed message put together as clients do it.
pub(crate) fn assembled(answer: &Answer) -> Value {
    let (events, done) = answer.events();
    assert!(done, "{}", answer.text);
    let (mut content, mut reasoning, mut calls) = (String::new(), String::new(), Vec::<Value>::new());
    for event in &events {
        let delta = &event["choices"][0]["delta"];
        content += delta["content"].as_str().unwrap_or_default();
        reasoning += delta["reasoning_content"].as_str().unwrap_or_default();
        for piece in delta["tool_calls"].as_array().into_iter().flatten() {
            let index = piece["index"].as_u64().unwrap() as usize;
            if index == calls.len() {
                assert!(piece["id"].is_string() && piece["type"] == "function", "{piece}");
                calls.push(piece["function"].clone());
            } else {
                assert!(piece.get("id").is_none() && piece["function"].get("name").is_none(), "{piece}");
                let before = calls[index]["arguments"].as_str().unwrap().to_owned();
                calls[index]["arguments"] =
                    (before + piece["function"]["arguments"].as_str().unwrap()).into();
            }
        }
    }
    let finish = events.iter().find_map(|event| event["choices"][0]["finish_reason"].as_str());
    json!({"content": content, "reasoning": reasoning, "calls": calls, "finish": finish})
}

pub(crate) fn whole(answer: &Answer) -> Value {
    assert_eq!(answer.status, 200, "{}", answer.text);
    let choice = &answer.json["choices"][0];
    let message = &choice["message"];
    let calls: Vec<Value> =
        message["tool_calls"].as_array().into_iter().flatten().map(|call| call["function"].clone()).collect();
    json!({"content": message["content"].as_str().unwrap_or_default(), "calls": calls, "finish": choice["finish_reason"],
        "reasoning": message["reasoning_content"].as_str().unwrap_or_default()})
}

#[tokio::test]
async fn calls_and_reasoning_are_told_whole_and_in_pieces() {
    for control in ["", "control = <tool_call>", "control = </think>"] {
        let server = serve(ANSWER, control);
        let expected = json!({
            "content": "I look.", "reasoning": "They want weather.", "finish": "tool_calls",
            "calls": [
                {"name": "get_weather", "arguments": "{\"city\": \"Zürich\", \"days\": 2}"},
                {"name": "get_weather", "arguments": "{}"},
            ],
        });
        let answer = server.post(CHAT, &request(json!({}))).await;
        assert_eq!(whole(&answer), expected, "{control}: {}", answer.text);
        let streamed = server.post(CHAT, &request(json!({"stream": true}))).await;
        assert_eq!(assembled(&streamed), expected, "{control}: {}", streamed.text);
        let usage = &answer.json["usage"];
        let reasoning_bytes = "<think>\nThey want weather.\n</think>".len() as u64;
        let expected = if control.contains("think") { reasoning_bytes - 7 } else { reasoning_bytes };
        assert_eq!(usage["completion_tokens_details"]["reasoning_tokens"], expected, "{control}");
        let models = server.get("/v1/models").await;
        let can = &models.json["data"][0]["meta"]["capabilities"];
        assert!(
            ["chat", "tools", "reasoning"].iter().all(|one| can.as_array().unwrap().contains(&json!(one))),
            "{can}"
        );
        let single = server.post(CHAT, &request(json!({"parallel_tool_calls": false}))).await;
        assert_eq!(whole(&single)["calls"].as_array().unwrap().len(), 1, "{control}");
    }
}

#[tokio::test]
async fn without_tools_nothing_is_a_call() {
    let server = serve(ANSWER, "");
    for change in [json!({"tools": []}), json!({"tool_choice": "none"})] {
        let answer = server.post(CHAT, &request(change)).await;
        assert_eq!(answer.json["choices"][0]["finish_reason"], "stop", "{}", answer.text);
        assert!(answer.chat_text().starts_with("I look.\n<tool_call>\n{"), "{}", answer.text);
    }
}

#[tokio::test]
async fn a_chat_goes_on_after_a_call() {
    let server = serve("Sunny.", "");
    let first = serve(ANSWER, "").post(CHAT, &request(json!({}))).await;
    let message = first.json["choices"][0]["message"].clone();
    let id = message["tool_calls"][0]["id"].clone();
    let messages = json!([{"role": "user", "content": "Weather?"}, message,
        {"role": "tool", "tool_call_id": id, "content": "sun"}]);
    let answer = server.post(CHAT, &request(json!({"messages": messages}))).await;
    assert_eq!(whole(&answer)["content"], "Sunny.", "{}", answer.text);
    assert_eq!(whole(&answer)["finish"], "stop");
}

#[tokio::test]
async fn a_broken_call_is_content() {
    let text = r#"<tool_call>{"name": "get_weather", "arguments": {"city": Paris}}</tool_call>"#;
    let server = serve(text, "");
    // Functions of one name are kept to no form, so that the model can still break its call.
    let tool = request(json!({}))["tools"][0].clone();
    let answer = server.post(CHAT, &request(json!({"tools": [tool, tool]}))).await;
    let expected = json!({"content": text, "reasoning": "", "calls": [], "finish": "stop"});
    assert_eq!(whole(&answer), expected, "{}", answer.text);
}

#[tokio::test]
async fn a_model_without_tools_is_told_how_to_call() {
    let template = "{% for m in messages %}{{ m.role }}: {{ m.content }} {% endfor %}<answer>";
    let answer = r#"{"name": "get_weather", "arguments": {"city": "Paris"}}"#;
    let file = format!("sequence_tokens = 4096\ntemplate = {template}\nanswer = {answer}");
    let server = House::with(&["fake"]).model("m.fake", file).serve();
    let told = server.post(CHAT, &request(json!({}))).await;
    let calls = json!([{"name": "get_weather", "arguments": "{\"city\": \"Paris\"}"}]);
    assert_eq!(whole(&told)["calls"], calls, "{}", told.text);
    // The prompt has grown by what the model is told.
    let untold = server.post(CHAT, &request(json!({"tools": []}))).await;
    let tokens = |answer: &Answer| answer.json["usage"]["prompt_tokens"].as_u64().unwrap();
    assert!(tokens(&told) > tokens(&untold) + 400, "{} {}", told.text, untold.text);
    assert_eq!(untold.chat_text(), answer);
}

#[tokio::test]
async fn a_template_in_an_unknown_form_is_refused() {
    let template = "{% for t in tools %}{{ t | tojson }}{% endfor %}{{ messages[0].content }}<answer>";
    let file = format!("sequence_tokens = 4096\ntemplate = {template}\nanswer = hi");
    let server = House::with(&["fake"]).model("m.fake", file).serve();
    let answer = server.post(CHAT, &request(json!({}))).await;
    assert_eq!((answer.status, &answer.json["error"]["param"]), (400, &json!("tools")), "{}", answer.text);
}

#[tokio::test]
async fn the_openai_client_reads_calls() {
    let server = serve(ANSWER, "");
    let config = OpenAIConfig::new().with_api_base(format!("{}/v1", server.address)).with_api_key("any");
    let client = Client::with_config(config);
    let request: CreateChatCompletionRequest = serde_json::from_value(request(json!({}))).unwrap();
    let answer = client.chat().create(request.clone()).await.unwrap();
    assert_eq!(answer.choices[0].message.tool_calls.as_ref().unwrap().len(), 2);
    let mut stream = client.chat().create_stream(request).await.unwrap();
    let mut arguments = String::new();
    while let Some(chunk) = stream.next().await {
        for choice in chunk.unwrap().choices {
            for call in choice.delta.tool_calls.into_iter().flatten() {
                arguments += &call.function.and_then(|function| function.arguments).unwrap_or_default();
            }
        }
    }
    assert_eq!(arguments, "{\"city\": \"Zürich\", \"days\": 2}{}");
}

/// What `/apply-template` tells is the prompt that a chat with these fields has: gone on from as text, it gives the same
/// answer. Every byte of the prompt has a part in each byte that the model says.
#[tokio::test]
async fn the_prompt_that_is_told_is_the_one_that_is_answered() {
    let server = House::with(&["fake"])
        .model("m.fake", format!("sequence_tokens = 4096\ntemplate = {TEMPLATE}"))
        .serve();
    let messages =
        json!([{"role": "developer", "content": "Be brief."}, {"role": "user", "content": "Weather?"}]);
    let tools = request(json!({}))["tools"].clone();
    let off = json!({"enable_thinking": false});
    let mut prompts = Vec::new();
    for fields in [
        json!({"messages": messages}),
        json!({"messages": messages, "tools": tools}),
        json!({"messages": messages, "tools": tools, "tool_choice": "none"}),
        json!({"messages": messages, "chat_template_kwargs": off}),
    ] {
        let told = server.post("/apply-template", &fields).await;
        assert_eq!(told.status, 200, "{fields}: {}", told.text);
        let prompt = told.json["prompt"].as_str().unwrap().to_owned();
        let mut chat = fields.clone();
        (chat["model"], chat["max_tokens"], chat["temperature"]) = ("m".into(), 20.into(), 0.into());
        let chat = server.post(CHAT, &chat).await;
        let text = json!({"model": "m", "prompt": prompt, "max_tokens": 20, "temperature": 0});
        let text = server.post("/v1/completions", &text).await;
        assert_eq!(chat.chat_text(), text.json["choices"][0]["text"].as_str().unwrap(), "{fields}");
        assert_eq!(chat.json["usage"]["prompt_tokens"], prompt.len(), "{fields}: {prompt}");
        assert!(prompt.contains("system: Be brief."), "{prompt}");
        prompts.push(prompt);
    }
    assert!(
        prompts[1].contains("get_weather") && prompts[3].ends_with("<think></think><answer>"),
        "{prompts:?}"
    );
    assert_eq!(prompts[0], prompts[2]);
    let unknown = json!({"messages": messages, "chat_template_kwargs": {"no_such": 1}});
    let refused = server.post("/apply-template", &unknown).await;
    assert_eq!(
        (refused.status, &refused.json["error"]["param"]),
        (400, &json!("chat_template_kwargs.no_such"))
    );
}
