//! A chat's `messages`, checked one by one and handed on to the template.
//!
//! Text parts of one message are joined by line breaks, as the peers do. What a template knows nothing of is left to
//! the template; what no message has is refused by name.

use serde_json::{Map, Value, json};

use crate::chat::Message;
use crate::error::Error;
use crate::http::error::{Failure, Result};
use crate::http::fields::{Fields, elements, found};
use crate::models::capability::VISION;

const ROLES: [&str; 5] = ["system", "developer", "user", "assistant", "tool"];

/// Takes `messages`: at least one.
pub(super) fn take(fields: &mut Fields) -> Result<Vec<Message>> {
    let messages = fields.list("messages")?.ok_or_else(|| fields.missing("messages"))?;
    if messages.is_empty() {
        return Err(Error::invalid("messages", "`messages` is empty: there is nothing to answer").into());
    }
    messages.into_iter().map(|(path, value)| message(Fields::of(&path, value)?)).collect()
}

fn message(mut fields: Fields) -> Result<Message> {
    let role = fields.required_text("role")?;
    if !ROLES.contains(&role.as_str()) {
        let path = fields.path("role");
        let message = format!("`{path}` must be one of {}; found `{role}`", ROLES.join(", "));
        return Err(Error::invalid(path, message).into());
    }
    let content = content(&mut fields, &role)?;
    let mut extra = Map::new();
    if let Some(name) = fields.text("name")? {
        extra.insert("name".to_owned(), name.into());
    }
    if role == "assistant" {
        take_answer(&mut fields, &mut extra)?;
    }
    if role == "tool"
        && let Some(id) = fields.text("tool_call_id")?
    {
        extra.insert("tool_call_id".to_owned(), id.into());
    }
    fields.finish()?;
    Ok(Message { role, content, extra })
}

/// What only an assistant's message may have: earlier reasoning, earlier calls of tools.
fn take_answer(fields: &mut Fields, extra: &mut Map<String, Value>) -> Result<()> {
    if let Some(reasoning) = fields.text("reasoning_content")? {
        extra.insert("reasoning_content".to_owned(), reasoning.into());
    }
    // Clients send an answer back as they got it, from whichever server: an empty list says nothing.
    if fields.list("annotations")?.is_some_and(|annotations| !annotations.is_empty()) {
        let path = fields.path("annotations");
        return Err(
            Error::unsupported(path.as_str(), format!("`{path}` can only be empty: leave it out")).into()
        );
    }
    let calls = fields.list("tool_calls")?.unwrap_or_default();
    if !calls.is_empty() {
        let calls = calls.into_iter().map(|(path, call)| tool_call(Fields::of(&path, call)?));
        extra.insert("tool_calls".to_owned(), calls.collect::<Result<Vec<Value>>>()?.into());
    }
    Ok(())
}

/// A call's arguments are JSON text on the wire; whether a template takes them as an object is known in `chat`.
fn tool_call(mut call: Fields) -> Result<Value> {
    let id = call.text("id")?;
    let kind = call.text("type")?.unwrap_or_else(|| "function".to_owned());
    if kind != "function" {
        let path = call.path("type");
        return Err(Error::unsupported(
            path.as_str(),
            format!("`{path}` can only be `function`; found `{kind}`"),
        )
        .into());
    }
    let mut function = call.object("function")?.ok_or_else(|| call.missing("function"))?;
    let name = function.required_text("name")?;
    let path = function.path("arguments");
    let arguments = match function.value("arguments") {
        None => "{}".into(),
        Some(arguments @ (Value::String(_) | Value::Object(_))) => arguments,
        Some(other) => return Err(Failure::wrong_shape(&path, "JSON text", found(&other))),
    };
    function.finish()?;
    // A stream's pieces bear an index; clients that put them together may leave it in.
    call.integer("index")?;
    call.finish()?;
    Ok(json!({"id": id, "type": kind, "function": {"name": name, "arguments": arguments}}))
}

fn content(fields: &mut Fields, role: &str) -> Result<Option<String>> {
    let path = fields.path("content");
    match fields.value("content") {
        None if role == "assistant" => Ok(None),
        None => {
            let message = format!("`{path}` is missing: only an assistant's message may have none");
            Err(Error::invalid(path, message).into())
        }
        Some(Value::String(text)) => Ok(Some(text)),
        Some(Value::Array(parts)) => {
            let texts =
                elements(&path, parts).into_iter().map(|(path, part)| part_text(Fields::of(&path, part)?));
            Ok(Some(texts.collect::<Result<Vec<String>>>()?.join("\n")))
        }
        Some(other) => Err(Failure::wrong_shape(&path, "a string or a list of parts", found(&other))),
    }
}

fn part_text(mut part: Fields) -> Result<String> {
    let path = part.path("type");
    match part.required_text("type")?.as_str() {
        "text" => {
            let text = part.required_text("text")?;
            part.finish()?;
            Ok(text)
        }
        "image_url" => {
            let path = path.trim_end_matches(".type");
            Err(Error::unsupported(path, no_images(path)).into())
        }
        other => {
            let message = format!("a part of type `{other}` cannot be read here: send parts of type `text`");
            Err(Error::unsupported(path.trim_end_matches(".type"), message).into())
        }
    }
}

/// Why an image at this place is refused, whatever the model.
pub(super) fn no_images(path: &str) -> String {
    format!(
        "`{path}` needs the capability `{VISION}`, which no model has here: no plugin can be handed an image; send text parts only"
    )
}

#[cfg(test)]
#[path = "messages_tests.rs"]
mod tests;
