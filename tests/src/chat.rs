//! A stranger's client, and the real model.

use async_openai::Client;
use async_openai::config::OpenAIConfig;
use async_openai::types::chat::{ChatCompletionRequestUserMessageArgs, CreateChatCompletionRequestArgs};
use futures_util::StreamExt;
use impetus_tests::{House, SMOLLM2};

#[tokio::test]
async fn the_openai_client_streams_a_chat() {
    let server = House::with(&["gguf"]).smollm2().serve();
    let config = OpenAIConfig::new().with_api_base(format!("{}/v1", server.address)).with_api_key("any");
    let message = ChatCompletionRequestUserMessageArgs::default().content("Say hello.").build().unwrap();
    let request = CreateChatCompletionRequestArgs::default()
        .model(SMOLLM2)
        .messages([message.into()])
        .max_completion_tokens(16_u32)
        .temperature(0.0)
        .build()
        .unwrap();
    let mut stream = Client::with_config(config).chat().create_stream(request).await.unwrap();
    let (mut text, mut finished) = (String::new(), 0);
    while let Some(chunk) = stream.next().await {
        for choice in chunk.unwrap().choices {
            text += choice.delta.content.as_deref().unwrap_or_default();
            finished += usize::from(choice.finish_reason.is_some());
        }
    }
    assert!(!text.trim().is_empty());
    assert_eq!(finished, 1);
}

#[test]
fn the_command_line_answers() {
    let house = House::with(&["gguf"]).smollm2();
    let output = house.run(&["run", SMOLLM2, "Say hello.", "--temperature", "0", "--max-tokens", "8"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(!String::from_utf8(output.stdout).unwrap().trim().is_empty());
    let unknown = house.run(&["run", "nobody", "x"]);
    assert_eq!(unknown.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&unknown.stderr).contains(SMOLLM2), "it lists what there is");
    assert_eq!(house.run(&["nonsense"]).status.code(), Some(2));
}
