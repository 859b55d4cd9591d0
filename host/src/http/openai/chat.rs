//! `POST /v1/chat/completions`: messages become a prompt by the model's own template, and `n` answers come back.

use axum::Extension;
use axum::extract::State;
use axum::response::Response;
use serde_json::{Map, Value};

use super::answer;
use super::calls;
use super::chat_shape::{Answer, ChatShape, Ids};
use super::generation::{self, Generation, about};
use super::known::Endpoint;
use super::messages;
use super::params::{MAX_LOGPROBS, Parameters};
use super::tools::{Form, Tools};
use super::types::{ChatChoice, ChatDelta, Envelope, Stamp};
use crate::chat::{Manner, Message, RenderOptions};
use crate::engine::message::{Prompt, Segment, Structure};
use crate::error::{Error, Kind};
use crate::http::App;
use crate::http::account::Account;
use crate::http::body::JsonBody;
use crate::http::error::{Failure, Result};
use crate::http::fields::{Fields, found};
use crate::models::Loaded;
use crate::sampling::Settings;

/// Template variables that no one but us sets.
const OF_THE_REQUEST: [&str; 4] = ["messages", "tools", "documents", "add_generation_prompt"];

/// The template's variable that says how much a model is to think.
pub(super) const EFFORT: &str = "reasoning_effort";

/// Answers.
#[utoipa::path(
    post, path = "/v1/chat/completions", tag = "OpenAI", summary = "A chat goes on",
    responses((status = 200, description = "whole, or with `stream` as server-sent events", content((Envelope<ChatChoice> = "application/json"), (Envelope<ChatDelta> = "text/event-stream"))))
)]
pub(crate) async fn handle(
    State(app): State<App>,
    Extension(account): Extension<Account>,
    JsonBody(fields): JsonBody,
) -> Result<Response> {
    let request = ChatRequest::parse(fields)?;
    answer::respond(account, request.parameters.delivery, start(app, request)).await
}

async fn start(app: App, request: ChatRequest) -> Result<(Generation, ChatShape)> {
    let delivery = request.parameters.delivery;
    let logprobs = request.logprobs.is_some();
    let Started { generation, model, ids, answers, .. } = begin(&app, request).await?;
    let stamp = Stamp::new("chatcmpl", &model);
    let so_far = delivery.includes_usage_throughout().then(|| generation.so_far());
    let include_usage = delivery.includes_usage();
    Ok((generation, ChatShape { stamp, include_usage, so_far, logprobs, ids, answers }))
}

/// A chat that an engine has accepted.
pub(super) struct Started {
    pub(super) generation: Generation,
    /// The model's id.
    pub(super) model: String,
    /// How tokens are chosen, what the model's authors recommend included.
    pub(super) sampling: Settings,
    pub(super) ids: Ids,
    /// What is read of each answer: nothing yet.
    pub(super) answers: Vec<Answer>,
}

/// Renders a chat and submits it, under whichever names its fields came.
pub(super) async fn begin(app: &App, request: ChatRequest) -> Result<Started> {
    let ChatRequest { model, asked, messages, mut parameters, logprobs, variables, tools, names } = request;
    let model = generation::open_for(app, &model, (names.endpoint, &asked)).await?;
    parameters.fill(&asked, &model.metadata().recommended);
    parameters.check_vocabulary(model.vocab_size())?;
    parameters.settle(&model);
    let options = rendering(&model, variables, &tools, names)?;
    let about_messages = |error| about_messages(error, names.messages);
    let prompt = model.render_chat(&messages, &options).map_err(about_messages)?;
    let manner = manner(&model, &tools)?;
    let mut requests = parameters.requests(&prompt, logprobs);
    let shown = manner.marks(!tools.is_empty());
    let calls::Kept { structure, offered, lookout } =
        calls::keep(&tools, parameters.structure.clone(), &manner, end_of(&prompt))?;
    let after = manner.reasoning_end(end_of(&prompt)).map(str::to_owned);
    let structure = structure.map(|structure| Structure { after, ..structure });
    for request in &mut requests {
        request.shown.clone_from(&shown);
        request.structure.clone_from(&structure);
        request.offered.clone_from(&offered);
    }
    let reader = manner.reader(end_of(&prompt), tools.known, tools.many_calls).with_lookout(lookout);
    let ids = if manner.has_short_ids() { Ids::Short } else { Ids::Usual };
    let answers = requests.iter().map(|_| Answer::new(reader.clone())).collect();
    let id = model.id.clone();
    let generation = Generation::start(model, requests, parameters.choices as usize).await;
    let generation = generation.map_err(about_messages)?;
    Ok(Started { generation, model: id, sampling: parameters.sampling, ids, answers })
}

/// With what a template renders a chat, beside its messages.
///
/// # Errors
/// A variable that the template does not know.
pub(super) fn rendering(
    model: &Loaded,
    variables: Map<String, Value>,
    tools: &Tools,
    names: Names,
) -> Result<RenderOptions> {
    let source = model.template_source(!tools.is_empty());
    check_variables(&variables, (&model.id, source), names)?;
    let tools = (!tools.is_empty()).then(|| Value::Array(tools.objects.clone()));
    Ok(RenderOptions { variables, tools, ..RenderOptions::default() })
}

/// How the model writes, if it can be offered these tools.
pub(super) fn manner(model: &Loaded, tools: &Tools) -> Result<Manner> {
    let manner = *model.chat_template(!tools.is_empty())?.manner();
    if tools.is_empty() || manner.has_tools() {
        return Ok(manner);
    }
    let message = format!(
        "model `{}` writes tool calls in a form that this version cannot read; leave `tools` out",
        model.id
    );
    Err(Error::unsupported("tools", message).into())
}

/// The last that the template wrote: it may have begun the answer's reasoning.
fn end_of(prompt: &Prompt) -> &str {
    match prompt {
        Prompt::Chat(segments) => match segments.last() {
            Some(Segment::Template(text)) => text,
            Some(Segment::Literal(_)) | None => "",
        },
        Prompt::Text(_) | Prompt::Tokens(_) => "",
    }
}

/// A chat's prompt is made of its messages: what is wrong with the one is wrong with the other.
fn about_messages(error: Error, messages: &str) -> Error {
    let of_messages = matches!(error.param.as_deref(), Some("prompt" | "messages"));
    match error.kind {
        _ if of_messages => Error { param: Some(messages.to_owned()), ..error },
        Kind::ContextLengthExceeded | Kind::TemplateRefused | Kind::TemplateBroken => about(messages, error),
        _ => error,
    }
}

/// A variable that the template never names would be dropped in silence. One that switches something off is obeyed by
/// a model that has no such thing.
fn check_variables(
    variables: &Map<String, Value>,
    (model, template): (&str, Option<&str>),
    names: Names,
) -> Result<()> {
    let Some(source) = template else { return Ok(()) };
    let off = |value: &Value| matches!(value, Value::Null | Value::Bool(false));
    match variables.iter().find(|(name, value)| !off(value) && !source.contains(name.as_str())) {
        None => Ok(()),
        Some((name, _)) => {
            let param =
                if name == EFFORT { names.effort.to_owned() } else { format!("chat_template_kwargs.{name}") };
            let message = format!("the chat template of model `{model}` knows no `{name}`; leave it out");
            Err(Error::unsupported(param, message).into())
        }
    }
}

/// What was asked for.
#[derive(Debug)]
pub(super) struct ChatRequest {
    pub(super) model: String,
    /// The fields that say something.
    pub(super) asked: Vec<String>,
    pub(super) messages: Vec<Message>,
    pub(super) parameters: Parameters,
    pub(super) logprobs: Option<u32>,
    /// For the template.
    pub(super) variables: Map<String, Value>,
    pub(super) tools: Tools,
    pub(super) names: Names,
}

/// What the request calls those of its fields that only a model can refuse.
#[derive(Debug, Clone, Copy)]
pub(super) struct Names {
    pub(super) endpoint: Endpoint,
    pub(super) messages: &'static str,
    pub(super) effort: &'static str,
}

pub(super) const NAMES: Names = Names { endpoint: Endpoint::Chat, messages: "messages", effort: EFFORT };

impl ChatRequest {
    pub(super) fn parse(mut fields: Fields) -> Result<Self> {
        let asked = fields.names();
        let model = fields.required_text("model")?;
        let messages = messages::take(&mut fields)?;
        let parameters = Parameters::take(&mut fields)?;
        let logprobs = logprobs(&mut fields)?;
        let variables = variables(&mut fields)?;
        let tools = Tools::take(&mut fields, Form::Nested)?;
        refuse_other_answers(&mut fields)?;
        fields.finish()?;
        Ok(ChatRequest { model, asked, messages, parameters, logprobs, variables, tools, names: NAMES })
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

/// What the template is told beside messages and tools.
pub(super) fn variables(fields: &mut Fields) -> Result<Map<String, Value>> {
    let mut variables = template_variables(fields)?;
    if let Some(effort) = fields.text(EFFORT)? {
        variables.insert(EFFORT.to_owned(), effort.into());
    }
    Ok(variables)
}

/// `chat_template_kwargs`.
pub(super) fn template_variables(fields: &mut Fields) -> Result<Map<String, Value>> {
    let variables = match fields.value("chat_template_kwargs") {
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
    Ok(variables)
}

fn refuse_other_answers(fields: &mut Fields) -> Result<()> {
    let modalities = fields.list("modalities")?.unwrap_or_default();
    match modalities.iter().find(|(_, modality)| modality != "text") {
        None => Ok(()),
        Some((_, other)) => {
            let message = format!("`modalities` can only be [\"text\"]: answers are text; found {other}");
            Err(Error::unsupported("modalities", message).into())
        }
    }
}

#[cfg(test)]
#[path = "chat_tests.rs"]
mod tests;
