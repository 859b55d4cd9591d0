//! What `POST /v1/responses` is sent: its own fields are taken here, what it shares with chat completions there, and
//! the whole becomes the same chat.

use serde_json::{Map, Value, json};

use super::super::chat::{ChatRequest, EFFORT, Names, template_variables};
use super::super::known::Endpoint;
use super::super::params::{MAX_LOGPROBS, Parameters};
use super::super::structure;
use super::super::tools::{Form, Tools};
use super::items;
use super::store::{Store, Turn};
use super::types::{Asked, Reasoning, Text};
use crate::chat::Message;
use crate::error::Error;
use crate::http::error::{Failure, Result, WireKind};
use crate::http::fields::{Fields, found};

const NAMES: Names = Names { endpoint: Endpoint::Responses, messages: "input", effort: "reasoning.effort" };

/// What chat completions call otherwise.
const OTHER_NAMES: [(&str, &str); 6] = [
    ("messages", "`input`"),
    ("max_tokens", "`max_output_tokens`"),
    ("max_completion_tokens", "`max_output_tokens`"),
    ("response_format", "`text.format`"),
    ("reasoning_effort", "`reasoning.effort`"),
    ("logprobs", "`include: [\"message.output_text.logprobs\"]`"),
];

const LOGPROBS: &str = "message.output_text.logprobs";

const MAX_PAIRS: usize = 16;
const MAX_KEY_CHARACTERS: usize = 64;
const MAX_VALUE_CHARACTERS: usize = 512;

/// What was asked for.
#[derive(Debug)]
pub(super) struct ResponseRequest {
    pub(super) chat: ChatRequest,
    pub(super) asked: Asked,
    /// What was said before, and what this request adds.
    pub(super) history: Vec<Turn>,
    pub(super) input: Vec<Message>,
}

impl ResponseRequest {
    pub(super) fn parse(mut fields: Fields, store: &Store) -> Result<Self> {
        refuse_other_names(&mut fields)?;
        let known = fields.names();
        let model = fields.required_text("model")?;
        let (previous_response_id, history) = previous(&mut fields, store)?;
        let before: Vec<Message> = history.iter().flat_map(|turn| turn.iter()).cloned().collect();
        let input = items::take(&mut fields, &before)?;
        let instructions = fields.text("instructions")?;
        let stored = keeps(&mut fields, store)?;
        let metadata = metadata(&mut fields)?;
        let (text, own) = text(&mut fields)?;
        let max_output_tokens = fields.count("max_output_tokens", 1..=u32::MAX)?;
        let logprobs = logprobs(&mut fields)?;
        let (effort, variables) = reasoning(&mut fields)?;
        refuse_what_cannot_be(&mut fields)?;
        let (told_tools, tool_choice) = told_tools(&fields);
        let tools = Tools::take(&mut fields, Form::Flat)?;
        let mut parameters = Parameters::take(&mut fields)?;
        fields.finish()?;
        parameters.structure = structure::one_of(own, parameters.structure.take())?;
        parameters.max_tokens = max_output_tokens;
        let mut asked = Asked {
            background: false,
            max_output_tokens,
            metadata,
            parallel_tool_calls: tools.many_calls,
            previous_response_id,
            reasoning: Reasoning { effort, summary: None },
            service_tier: "default",
            store: stored,
            temperature: 1.0,
            text,
            tool_choice,
            tools: told_tools,
            top_logprobs: logprobs.unwrap_or(0),
            top_p: 1.0,
            truncation: "disabled",
            instructions: instructions.clone(),
        };
        asked.tell(&parameters.sampling);
        let messages = instructed(instructions, before.into_iter().chain(input.iter().cloned()).collect());
        let chat = ChatRequest {
            model,
            asked: known,
            messages,
            parameters,
            logprobs,
            variables,
            tools,
            names: NAMES,
        };
        Ok(ResponseRequest { chat, asked, history, input })
    }
}

fn refuse_other_names(fields: &mut Fields) -> Result<()> {
    match OTHER_NAMES.into_iter().find(|(name, _)| fields.value(name).is_some()) {
        None => Ok(()),
        Some((name, here)) => {
            let message = format!("`{name}` belongs to /v1/chat/completions: here it is {here}");
            Err(Error::unsupported(name, message).into())
        }
    }
}

/// `previous_response_id`, and what was said up to its end.
fn previous(fields: &mut Fields, store: &Store) -> Result<(Option<String>, Vec<Turn>)> {
    let Some(id) = fields.text("previous_response_id")? else { return Ok((None, Vec::new())) };
    match store.get(&id) {
        Some(kept) => Ok((Some(id), kept.history)),
        None => {
            let message = format!(
                "there is no response `{id}` to go on from: it was never kept, was deleted, or made room for newer \
                 ones; send its items in `input` instead"
            );
            Err(Failure::wire_at(WireKind::NoPreviousResponse, "previous_response_id", message))
        }
    }
}

/// Many templates take one system message, and only at the beginning.
fn instructed(instructions: Option<String>, mut messages: Vec<Message>) -> Vec<Message> {
    let Some(instructions) = instructions else { return messages };
    match messages.first_mut() {
        Some(first) if first.role == "system" || first.role == "developer" => {
            let said = first.content.take().unwrap_or_default();
            first.content = Some(format!("{instructions}\n\n{said}"));
        }
        _ => messages.insert(0, Message::new("system", instructions)),
    }
    messages
}

/// Whether the response is kept.
fn keeps(fields: &mut Fields, store: &Store) -> Result<bool> {
    match fields.flag("store")? {
        Some(true) if !store.keeps() => {
            let message =
                "`store` cannot be true: this server keeps no responses (`kept_responses` of [server] is 0)";
            Err(Error::unsupported("store", message).into())
        }
        wanted => Ok(wanted.unwrap_or(true) && store.keeps()),
    }
}

fn metadata(fields: &mut Fields) -> Result<Map<String, Value>> {
    let Some(pairs) = fields.object("metadata")? else { return Ok(Map::new()) };
    let mut metadata = Map::new();
    for (key, value) in pairs.into_values() {
        let path = format!("metadata.{key}");
        let Value::String(text) = &value else {
            return Err(Failure::wrong_shape(&path, "a string", found(&value)));
        };
        if key.chars().count() > MAX_KEY_CHARACTERS || text.chars().count() > MAX_VALUE_CHARACTERS {
            let message = format!(
                "keys of `metadata` may have {MAX_KEY_CHARACTERS} characters and values {MAX_VALUE_CHARACTERS}; \
                 `{path}` has more"
            );
            return Err(Error::invalid(path, message).into());
        }
        metadata.insert(key, value);
    }
    if metadata.len() > MAX_PAIRS {
        let message = format!("`metadata` may have {MAX_PAIRS} pairs; found {}", metadata.len());
        return Err(Error::invalid("metadata", message).into());
    }
    Ok(metadata)
}

/// `text`: as it is told back, and what it asks of the answer.
fn text(fields: &mut Fields) -> Result<(Text, Option<crate::engine::message::Structure>)> {
    let format = fields.peek("text").and_then(|text| text.get("format")).filter(|format| !format.is_null());
    let told = Text { format: format.cloned().unwrap_or_else(|| json!({"type": "text"})) };
    let Some(mut text) = fields.object("text")? else { return Ok((told, None)) };
    let structure = structure::of_response(&mut text)?;
    if let Some(other) = text.text("verbosity")?.filter(|verbosity| verbosity != "medium") {
        let message = format!(
            "`text.verbosity` can only be `medium`, which changes nothing: no model here knows it; found `{other}`"
        );
        return Err(Error::unsupported("text.verbosity", message).into());
    }
    text.finish()?;
    Ok((told, structure))
}

/// `include` and `top_logprobs`.
fn logprobs(fields: &mut Fields) -> Result<Option<u32>> {
    let mut wanted = false;
    for (path, included) in fields.list("include")?.unwrap_or_default() {
        if included != LOGPROBS {
            let message = format!("`{path}` can only be `{LOGPROBS}`; found {included}");
            return Err(Error::unsupported(path, message).into());
        }
        wanted = true;
    }
    let top = fields.count("top_logprobs", 0..=MAX_LOGPROBS)?.unwrap_or(0);
    Ok((wanted || top > 0).then_some(top))
}

/// `reasoning` and `chat_template_kwargs`: the effort, and the template's variables.
fn reasoning(fields: &mut Fields) -> Result<(Option<String>, Map<String, Value>)> {
    let mut variables = template_variables(fields)?;
    let Some(mut reasoning) = fields.object("reasoning")? else { return Ok((None, variables)) };
    let effort = reasoning.text("effort")?;
    for name in ["summary", "generate_summary"] {
        if reasoning.value(name).is_some() {
            let path = reasoning.path(name);
            let message = format!(
                "`{path}` is not supported: reasoning is not summarised, it comes whole; leave it out"
            );
            return Err(Error::unsupported(path, message).into());
        }
    }
    reasoning.finish()?;
    if let Some(effort) = &effort {
        variables.insert(EFFORT.to_owned(), effort.as_str().into());
    }
    Ok((effort, variables))
}

/// Fields that are known, but of which only the value that asks for nothing can be honoured.
fn refuse_what_cannot_be(fields: &mut Fields) -> Result<()> {
    if fields.flag("background")?.unwrap_or(false) {
        let message =
            "`background` cannot be true: a response is computed while its client waits; use `stream`";
        return Err(Error::unsupported("background", message).into());
    }
    if let Some(other) = fields.text("truncation")?.filter(|truncation| truncation != "disabled") {
        let message =
            format!("`truncation` can only be `disabled`: nothing is dropped from an input; found `{other}`");
        return Err(Error::unsupported("truncation", message).into());
    }
    if fields.integer("n")?.is_some() {
        return Err(Error::unsupported("n", "`n` belongs to /v1/chat/completions: a response is one").into());
    }
    let streams = fields.peek("stream").and_then(Value::as_bool).unwrap_or(false);
    let Some(mut options) = fields.object("stream_options")? else { return Ok(()) };
    if !streams {
        let message = "`stream_options` says how to stream, but `stream` is not true";
        return Err(Error::invalid("stream_options", message).into());
    }
    if options.flag("include_obfuscation")?.unwrap_or(false) {
        let path = "stream_options.include_obfuscation";
        let message = format!("`{path}` is not supported: no padding is added to a stream");
        return Err(Error::unsupported(path, message).into());
    }
    options.finish()
}

/// Tools and the choice among them as they are told back.
fn told_tools(fields: &Fields) -> (Vec<Value>, Value) {
    let mut tools = fields.peek("tools").and_then(Value::as_array).cloned().unwrap_or_default();
    for tool in tools.iter_mut().filter_map(Value::as_object_mut) {
        let strict = tool.entry("strict").or_insert(Value::Null);
        if strict.is_null() {
            *strict = false.into();
        }
    }
    let choice = fields.peek("tool_choice").filter(|choice| !choice.is_null());
    (tools, choice.cloned().unwrap_or_else(|| "auto".into()))
}

#[cfg(test)]
#[path = "request_tests.rs"]
mod tests;
