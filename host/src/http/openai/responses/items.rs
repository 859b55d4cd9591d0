//! A response's `input`: a text, or items that become the chat's messages.
//!
//! Reasoning, text and calls of one answer are items of their own here and one message to a chat template: they are put
//! together again. Items that this server never makes are refused by their types.

use serde_json::{Map, Value, json};

use super::super::messages;
use crate::chat::Message;
use crate::error::Error;
use crate::http::error::{Failure, Result};
use crate::http::fields::{Fields, elements, found};

const ROLES: [&str; 4] = ["user", "assistant", "system", "developer"];

/// Takes `input`. `history` is what was said before it; the outputs of its calls may be in here.
pub(super) fn take(fields: &mut Fields, history: &[Message]) -> Result<Vec<Message>> {
    match fields.value("input") {
        None => Err(fields.missing("input")),
        Some(Value::String(text)) => Ok(vec![Message::new("user", text)]),
        Some(Value::Array(items)) if items.is_empty() => {
            Err(Error::invalid("input", "`input` is empty: there is nothing to answer").into())
        }
        Some(Value::Array(items)) => {
            let calls = history.iter().flat_map(ids_of_calls).map(str::to_owned).collect();
            let mut chat = Chat { calls, ..Chat::default() };
            for (path, item) in elements("input", items) {
                chat.item(Fields::of(&path, item)?)?;
            }
            Ok(chat.finish())
        }
        Some(other) => Err(Failure::wrong_shape("input", "a string or a list of items", found(&other))),
    }
}

/// What an answer was, as a message for the next request.
pub(super) fn answer(content: String, reasoning: String, calls: Vec<Value>) -> Message {
    let mut extra = Map::new();
    if !reasoning.is_empty() {
        extra.insert("reasoning_content".to_owned(), reasoning.into());
    }
    let says_nothing = content.is_empty() && !calls.is_empty();
    if !calls.is_empty() {
        extra.insert("tool_calls".to_owned(), calls.into());
    }
    Message { role: "assistant".to_owned(), content: (!says_nothing).then_some(content), extra }
}

/// A call in the shape that templates know.
pub(super) fn call(id: &str, name: &str, arguments: &str) -> Value {
    json!({"id": id, "type": "function", "function": {"name": name, "arguments": arguments}})
}

fn ids_of_calls(message: &Message) -> impl Iterator<Item = &str> {
    let calls = message.extra.get("tool_calls").and_then(Value::as_array);
    calls.into_iter().flatten().filter_map(|call| call["id"].as_str())
}

/// A chat while it is put together.
#[derive(Default)]
struct Chat {
    messages: Vec<Message>,
    /// The answer to which the items belong that come now.
    answer: Option<Answer>,
    /// Ids of the calls so far.
    calls: Vec<String>,
}

#[derive(Default)]
struct Answer {
    reasoning: String,
    content: Option<String>,
    calls: Vec<Value>,
}

impl Chat {
    fn item(&mut self, mut item: Fields) -> Result<()> {
        let kind = item.text("type")?;
        match kind.as_deref() {
            None | Some("message") => self.message(&mut item)?,
            Some("function_call") => self.call(&mut item)?,
            Some("function_call_output") => self.output(&mut item)?,
            Some("reasoning") => self.reasoning(&mut item)?,
            Some(other) => {
                let path = item.path("type");
                let message = format!(
                    "`{path}` can be `message`, `function_call`, `function_call_output` or `reasoning`; found `{other}`"
                );
                return Err(Error::unsupported(path, message).into());
            }
        }
        // What an item was called and what became of it when it was an output.
        item.text("id")?;
        item.text("status")?;
        item.finish()
    }

    fn message(&mut self, item: &mut Fields) -> Result<()> {
        let role = item.required_text("role")?;
        if !ROLES.contains(&role.as_str()) {
            let path = item.path("role");
            let message = format!("`{path}` must be one of {}; found `{role}`", ROLES.join(", "));
            return Err(Error::invalid(path, message).into());
        }
        let text = content(item, "content")?;
        if role != "assistant" {
            self.end_answer();
            self.messages.push(Message::new(role, text));
            return Ok(());
        }
        if self.answer.as_ref().is_some_and(|answer| answer.content.is_some() || !answer.calls.is_empty()) {
            self.end_answer();
        }
        self.answer.get_or_insert_default().content = Some(text);
        Ok(())
    }

    fn call(&mut self, item: &mut Fields) -> Result<()> {
        let id = item.required_text("call_id")?;
        let (name, arguments) = (item.required_text("name")?, item.required_text("arguments")?);
        self.answer.get_or_insert_default().calls.push(call(&id, &name, &arguments));
        self.calls.push(id);
        Ok(())
    }

    fn output(&mut self, item: &mut Fields) -> Result<()> {
        let id = item.required_text("call_id")?;
        if !self.calls.contains(&id) {
            let path = item.path("call_id");
            let message = format!("`{path}` is `{id}`, and no `function_call` before it has this `call_id`");
            return Err(Error::invalid(path, message).into());
        }
        let mut message = Message::new("tool", content(item, "output")?);
        message.extra.insert("tool_call_id".to_owned(), id.into());
        if let Some(name) = item.text("name")? {
            message.extra.insert("name".to_owned(), name.into());
        }
        self.end_answer();
        self.messages.push(message);
        Ok(())
    }

    fn reasoning(&mut self, item: &mut Fields) -> Result<()> {
        for foreign in ["summary", "encrypted_content"] {
            let path = item.path(foreign);
            let is_nothing = |value: &Value| value.as_array().is_some_and(Vec::is_empty);
            if item.value(foreign).is_some_and(|value| !is_nothing(&value)) {
                let message = format!(
                    "`{path}` cannot be read: reasoning of this server is plain text in `content`; leave it out"
                );
                return Err(Error::unsupported(path, message).into());
            }
        }
        let path = item.path("content");
        let parts = item.list("content")?.unwrap_or_default().into_iter().map(|(_, part)| part).collect();
        let text = texts(&path, parts, &["reasoning_text"])?;
        self.end_answer();
        self.answer.get_or_insert_default().reasoning = text;
        Ok(())
    }

    fn end_answer(&mut self) {
        if let Some(Answer { reasoning, content, calls }) = self.answer.take() {
            self.messages.push(answer(content.unwrap_or_default(), reasoning, calls));
        }
    }

    fn finish(mut self) -> Vec<Message> {
        self.end_answer();
        self.messages
    }
}

/// A text, or parts of text, which are joined by line breaks as those of chat messages are.
fn content(item: &mut Fields, name: &str) -> Result<String> {
    let path = item.path(name);
    match item.value(name) {
        None => Err(item.missing(name)),
        Some(Value::String(text)) => Ok(text),
        Some(Value::Array(parts)) => texts(&path, parts, &["input_text", "output_text"]),
        Some(other) => Err(Failure::wrong_shape(&path, "a string or a list of parts", found(&other))),
    }
}

fn texts(path: &str, parts: Vec<Value>, kinds: &[&str]) -> Result<String> {
    let texts = elements(path, parts).into_iter().map(|(path, part)| text(Fields::of(&path, part)?, kinds));
    Ok(texts.collect::<Result<Vec<String>>>()?.join("\n"))
}

fn text(mut part: Fields, kinds: &[&str]) -> Result<String> {
    let path = part.path("type");
    let kind = part.required_text("type")?;
    if !kinds.contains(&kind.as_str()) {
        let message = match kind.as_str() {
            "input_image" => messages::no_images(path.trim_end_matches(".type")),
            _ => format!("`{path}` can be {}; found `{kind}`", kinds.join(" or ")),
        };
        return Err(Error::unsupported(path, message).into());
    }
    let text = part.required_text("text")?;
    // What an answer of this server bore beside its text, or nothing.
    part.list("logprobs")?;
    if part.list("annotations")?.is_some_and(|annotations| !annotations.is_empty()) {
        let path = part.path("annotations");
        let message = format!("`{path}` can only be empty: leave it out");
        return Err(Error::unsupported(path, message).into());
    }
    part.finish()?;
    Ok(text)
}

#[cfg(test)]
#[path = "items_tests.rs"]
mod tests;
