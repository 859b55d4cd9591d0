//! A message as templates see it.

use serde_json::{Map, Value};

/// One message of a chat.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    /// Who says it: `system`, `user`, `assistant`, `tool`, or what else a template knows.
    pub role: String,
    /// What is said; an assistant that only called tools says nothing.
    pub content: Option<String>,
    /// What else the template is given: `name`, `tool_calls` in OpenAI's shape, `tool_call_id`, `reasoning_content` …
    pub extra: Map<String, Value>,
}

impl Message {
    /// A message with nothing but a role and a text.
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Self {
        Message { role: role.into(), content: Some(content.into()), extra: Map::new() }
    }
}
