//! `POST /tokenize`, `/detokenize` and `/apply-template`, in the shapes of llama.cpp's server: what a model makes of text
//! and chats, without generating. `model` may be left out where only one can be served.

use axum::extract::State;
use axum::response::Json;
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::chat;
use super::generation;
use super::messages;
use super::tools::{Form, Tools};
use crate::chat::RenderOptions;
use crate::engine::message::{Prompt, Question, Segment};
use crate::error::Error;
use crate::http::App;
use crate::http::body::JsonBody;
use crate::http::error::Result;
use crate::http::fields::{Fields, integer};

/// Of `/tokenize`.
#[derive(Serialize, ToSchema)]
pub(crate) struct Tokens {
    /// Ids, or `{"id", "piece"}`.
    tokens: Vec<Value>,
}

/// Of `/detokenize`.
#[derive(Serialize, ToSchema)]
pub(crate) struct Content {
    content: String,
}

/// Of `/apply-template`.
#[derive(Serialize, ToSchema)]
pub(crate) struct PromptText {
    prompt: String,
}

/// `{"tokens": [1, 2]}`, or with `with_pieces` `{"tokens": [{"id": 1, "piece": "a"}, …]}`; a piece that is no whole UTF-8
/// is a list of its bytes.
#[utoipa::path(
    post, path = "/tokenize", tag = "llama-server", summary = "A text to tokens",
    responses((status = 200, description = "ids, or objects with pieces", body = Tokens))
)]
pub(crate) async fn tokenize(State(app): State<App>, JsonBody(mut fields): JsonBody) -> Result<Json<Tokens>> {
    let model = fields.text("model")?;
    let content = fields.required_text("content")?;
    let add_special = fields.flag("add_special")?.unwrap_or(false);
    let parse_special = fields.flag("parse_special")?.unwrap_or(true);
    let with_pieces = fields.flag("with_pieces")?.unwrap_or(false);
    fields.finish()?;
    let model = generation::open_or_only(&app, model.as_deref()).await?;
    let tokens = model.tokens(Question::Tokens { text: content, add_special, parse_special }).await?;
    if !with_pieces {
        return Ok(Json(Tokens { tokens: tokens.into_iter().map(Value::from).collect() }));
    }
    let pieces = model.token_bytes(tokens.clone()).await?;
    let told = |(token, bytes): (u32, Vec<u8>)| {
        let piece = String::from_utf8(bytes).map_or_else(|error| json!(error.into_bytes()), Value::from);
        json!({ "id": token, "piece": piece })
    };
    Ok(Json(Tokens { tokens: tokens.into_iter().zip(pieces).map(told).collect() }))
}

/// `{"content": "…"}`. Bytes that are no whole UTF-8 become U+FFFD.
#[utoipa::path(
    post, path = "/detokenize", tag = "llama-server", summary = "Tokens to text",
    responses((status = 200, description = "the text", body = Content))
)]
pub(crate) async fn detokenize(
    State(app): State<App>,
    JsonBody(mut fields): JsonBody,
) -> Result<Json<Content>> {
    let model = fields.text("model")?;
    let tokens = token_ids(&mut fields)?;
    fields.finish()?;
    let model = generation::open_or_only(&app, model.as_deref()).await?;
    let mut known_tokens = Vec::with_capacity(tokens.len());
    for (path, token) in tokens {
        let known = u32::try_from(token).ok().filter(|&token| token < model.vocab_size());
        let token = known.ok_or_else(|| {
            let size = model.vocab_size();
            Error::invalid(
                path.as_str(),
                format!("`{path}` must be a token id from 0 to {}; found {token}", size - 1),
            )
        })?;
        known_tokens.push(token);
    }
    let bytes = model.token_bytes(known_tokens).await?.concat();
    Ok(Json(Content { content: String::from_utf8_lossy(&bytes).into_owned() }))
}

/// `{"prompt": "…"}`: the chat as the model's own template writes it, by the fields of a chat completion that the template
/// sees: `messages`, `tools` with `tool_choice`, `chat_template_kwargs`, `reasoning_effort`. With `add_generation_prompt` false
/// it ends behind the last message.
#[utoipa::path(
    post, path = "/apply-template", tag = "llama-server", summary = "A chat as the model's template writes it",
    responses((status = 200, description = "the prompt", body = PromptText))
)]
pub(crate) async fn apply_template(
    State(app): State<App>,
    JsonBody(mut fields): JsonBody,
) -> Result<Json<PromptText>> {
    let model = fields.text("model")?;
    let messages = messages::take(&mut fields)?;
    let variables = chat::variables(&mut fields)?;
    let tools = Tools::take(&mut fields, Form::Nested)?;
    let add_generation_prompt = fields.flag("add_generation_prompt")?.unwrap_or(true);
    fields.finish()?;
    let model = generation::open_or_only(&app, model.as_deref()).await?;
    let options = chat::rendering(&model, variables, &tools, chat::NAMES)?;
    // What a chat completion would refuse is no prompt of one.
    chat::manner(&model, &tools)?;
    let options = RenderOptions { add_generation_prompt, ..options };
    let prompt = match model.render_chat(&messages, &options)? {
        Prompt::Chat(segments) => segments.into_iter().map(text).collect(),
        Prompt::Text(text) => text,
        Prompt::Tokens(_) => String::new(),
    };
    Ok(Json(PromptText { prompt }))
}

fn text(segment: Segment) -> String {
    match segment {
        Segment::Template(text) | Segment::Literal(text) => text,
    }
}

fn token_ids(fields: &mut Fields) -> Result<Vec<(String, i128)>> {
    let tokens = fields.list("tokens")?.ok_or_else(|| fields.missing("tokens"))?;
    tokens.into_iter().map(|(path, value)| integer(&path, &value).map(|token| (path, token))).collect()
}
