//! `POST /v1/chat/completions`: messages become a prompt by the model's own template, and `n` answers come back.

use axum::Extension;
use axum::extract::State;
use axum::response::Response;
use serde_json::{Map, Value};

use super::answer::{self, Choice, Shape};
use super::generation::{self, Generation, about};
use super::logprobs;
use super::messages;
use super::params::{Delivery, MAX_LOGPROBS, Parameters};
use super::types::{ChatChoice, ChatDelta, ChatMessage, Delta, Envelope, Stamp, UsageField};
use crate::chat::{Message, RenderOptions};
use crate::engine::message::{FinishReason, TokenLogprob, Usage};
use crate::error::{Error, Kind};
use crate::http::App;
use crate::http::body::JsonBody;
use crate::http::error::{Failure, Result};
use crate::http::fields::{Fields, found};
use crate::http::request_id::RequestId;
use crate::http::sse::json;
use crate::models::Loaded;

const OBJECT: &str = "chat.completion";
const CHUNK: &str = "chat.completion.chunk";
const ASSISTANT: &str = "assistant";

/// Template variables that no one but us sets.
const OF_THE_REQUEST: [&str; 4] = ["messages", "tools", "documents", "add_generation_prompt"];

/// Answers.
pub(crate) async fn handle(
    State(app): State<App>,
    Extension(id): Extension<RequestId>,
    JsonBody(fields): JsonBody,
) -> Result<Response> {
    let request = ChatRequest::parse(fields)?;
    answer::respond(id, request.parameters.delivery, start(app, request)).await
}

async fn start(app: App, request: ChatRequest) -> Result<(Generation, ChatShape)> {
    let ChatRequest { model, messages, parameters, logprobs, variables } = request;
    let model = generation::open(&app, &model).await?;
    parameters.check_vocabulary(model.vocab_size())?;
    check_variables(&variables, &model)?;
    let options = RenderOptions { variables, ..RenderOptions::default() };
    let prompt = model.render_chat(&messages, &options).map_err(about_messages)?;
    let requests = parameters.requests(&prompt, logprobs);
    let shape = ChatShape {
        stamp: Stamp::new("chatcmpl", &model.id),
        include_usage: parameters.delivery == Delivery::Stream { include_usage: true },
        logprobs: logprobs.is_some(),
    };
    let generation = Generation::start(model, requests, parameters.choices as usize).await;
    Ok((generation.map_err(about_messages)?, shape))
}

/// A chat's prompt is made of its messages: what is wrong with the one is wrong with the other.
fn about_messages(error: Error) -> Error {
    let of_prompt = error.param.as_deref() == Some("prompt");
    match error.kind {
        _ if of_prompt => Error { param: Some("messages".to_owned()), ..error },
        Kind::ContextLengthExceeded | Kind::TemplateRefused | Kind::TemplateBroken => {
            about("messages", error)
        }
        _ => error,
    }
}

/// A variable that the template never names would be dropped in silence. One that switches something off is obeyed by
/// a model that has no such thing.
fn check_variables(variables: &Map<String, Value>, model: &Loaded) -> Result<()> {
    let Some(source) = model.metadata().chat_template.as_deref() else {
        return Ok(());
    };
    let off = |value: &Value| matches!(value, Value::Null | Value::Bool(false));
    match variables.iter().find(|(name, value)| !off(value) && !source.contains(name.as_str())) {
        None => Ok(()),
        Some((name, _)) => {
            let param = if name == "reasoning_effort" {
                name.clone()
            } else {
                format!("chat_template_kwargs.{name}")
            };
            let message =
                format!("the chat template of model `{}` knows no `{name}`; leave it out", model.id);
            Err(Error::unsupported(param, message).into())
        }
    }
}

/// What was asked for.
#[derive(Debug)]
struct ChatRequest {
    model: String,
    messages: Vec<Message>,
    parameters: Parameters,
    logprobs: Option<u32>,
    /// For the template.
    variables: Map<String, Value>,
}

impl ChatRequest {
    fn parse(mut fields: Fields) -> Result<Self> {
        let model = fields.required_text("model")?;
        let messages = messages::take(&mut fields)?;
        let parameters = Parameters::take(&mut fields)?;
        let logprobs = logprobs(&mut fields)?;
        let variables = variables(&mut fields)?;
        refuse_tools(&mut fields)?;
        refuse_other_answers(&mut fields)?;
        fields.finish()?;
        Ok(ChatRequest { model, messages, parameters, logprobs, variables })
    }
}

fn logprobs(fields: &mut Fields) -> Result<Option<u32>> {
    let wanted = fields.flag("logprobs")?.unwrap_or(false);
    match fields.count("top_logprobs", 0..=MAX_LOGPROBS)? {
        Some(top) if top > 0 && !wanted => {
            let message = "`top_logprobs` says how many, but `logprobs` is not true";
            Err(Error::invalid("top_logprobs", message).into())
        }
        top => Ok(wanted.then(|| top.unwrap_or(0))),
    }
}

fn variables(fields: &mut Fields) -> Result<Map<String, Value>> {
    let mut variables = match fields.value("chat_template_kwargs") {
        None => Map::new(),
        Some(Value::Object(variables)) => variables,
        Some(other) => {
            return Err(Failure::wrong_shape("chat_template_kwargs", "an object", found(&other)));
        }
    };
    if let Some(name) = OF_THE_REQUEST.into_iter().find(|name| variables.contains_key(*name)) {
        let message =
            format!("`chat_template_kwargs.{name}` cannot be set: it is made of the rest of the request");
        return Err(Error::unsupported(format!("chat_template_kwargs.{name}"), message).into());
    }
    if let Some(effort) = fields.text("reasoning_effort")? {
        variables.insert("reasoning_effort".to_owned(), effort.into());
    }
    Ok(variables)
}

fn refuse_tools(fields: &mut Fields) -> Result<()> {
    if fields.list("tools")?.is_some_and(|tools| !tools.is_empty()) {
        let message = "`tools` is not supported by this version: it calls no tools";
        return Err(Error::unsupported("tools", message).into());
    }
    // Without tools this asks for nothing.
    fields.flag("parallel_tool_calls")?;
    match fields.value("tool_choice") {
        None => Ok(()),
        Some(Value::String(choice)) if choice == "none" => Ok(()),
        Some(other) => {
            let message =
                format!("`tool_choice` can only be `none`: this version calls no tools; found {other}");
            Err(Error::unsupported("tool_choice", message).into())
        }
    }
}

fn refuse_other_answers(fields: &mut Fields) -> Result<()> {
    if let Some(mut format) = fields.object("response_format")? {
        let kind = format.required_text("type")?;
        if kind != "text" {
            let message =
                format!("`response_format` of type `{kind}` is not supported by this version; use `text`");
            return Err(Error::unsupported("response_format", message).into());
        }
        format.finish()?;
    }
    let modalities = fields.list("modalities")?.unwrap_or_default();
    match modalities.iter().find(|(_, modality)| modality != "text") {
        None => Ok(()),
        Some((_, other)) => {
            let message = format!("`modalities` can only be [\"text\"]: answers are text; found {other}");
            Err(Error::unsupported("modalities", message).into())
        }
    }
}

/// The JSON of this endpoint.
struct ChatShape {
    stamp: Stamp,
    include_usage: bool,
    logprobs: bool,
}

impl ChatShape {
    fn chunk(&self, delta: ChatDelta) -> String {
        json(&self.streamed(vec![delta]))
    }

    fn streamed(&self, choices: Vec<ChatDelta>) -> Envelope<'_, ChatDelta> {
        let mut envelope = self.stamp.envelope(CHUNK, choices);
        envelope.usage = if self.include_usage { UsageField::Null } else { UsageField::Absent };
        envelope
    }
}

impl Shape for ChatShape {
    fn opening(&mut self, index: usize) -> Option<String> {
        let delta = Delta { role: Some(ASSISTANT), content: Some(String::new()) };
        Some(self.chunk(ChatDelta { index, delta, logprobs: None, finish_reason: None }))
    }

    fn piece(&mut self, index: usize, text: String, tokens: &[TokenLogprob]) -> String {
        let delta = Delta { role: None, content: Some(text) };
        let logprobs = self.logprobs.then(|| logprobs::chat(tokens));
        self.chunk(ChatDelta { index, delta, logprobs, finish_reason: None })
    }

    fn ending(&mut self, index: usize, reason: FinishReason) -> String {
        self.chunk(ChatDelta { index, delta: Delta::default(), logprobs: None, finish_reason: Some(reason) })
    }

    fn usage(&mut self, usage: Usage) -> Option<String> {
        let mut envelope = self.streamed(Vec::new());
        envelope.usage = UsageField::Told(usage.into());
        self.include_usage.then(|| json(&envelope))
    }

    fn whole(self, choices: Vec<Choice>, usage: Usage) -> String {
        let choice = |(index, choice): (usize, Choice)| ChatChoice {
            index,
            logprobs: self.logprobs.then(|| logprobs::chat(&choice.tokens)),
            message: ChatMessage { role: ASSISTANT, content: choice.text, refusal: None },
            finish_reason: choice.reason,
        };
        let choices = choices.into_iter().enumerate().map(choice).collect();
        let mut envelope = self.stamp.envelope(OBJECT, choices);
        envelope.usage = UsageField::Told(usage.into());
        json(&envelope)
    }
}

#[cfg(test)]
#[path = "chat_tests.rs"]
mod tests;
