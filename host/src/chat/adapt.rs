//! Tools for templates that know none: they are described in the system message, earlier calls become the text that
//! the model is told to write, and results become what the user says.

use serde_json::{Map, Value};

use super::dialect::{Dialect, NoContent};
use super::json::dumps;
use super::reply::Family;

/// What a system message says that there was none of, as the makers of Phi have it.
const SYSTEM: &str = "You are a helpful assistant with some tools.";

/// Rewrites messages, as a template sees them, for a template with these ways.
pub(super) fn adapt(
    messages: &mut Vec<Value>,
    tools: &Value,
    dialect: Dialect,
    family: Family,
    takes_tools_in_system: bool,
) {
    // Where a message without content must be null, one with content loses its calls.
    let loses_calls = |message: &Value| match dialect.calls {
        None => true,
        Some(form) => form.no_content == NoContent::Null && !message["content"].is_null(),
    };
    for message in messages.iter_mut().filter(|message| loses_calls(message)) {
        write_calls(message, family);
    }
    if dialect.calls.is_some() && !dialect.many_calls {
        *messages = one_call_each(std::mem::take(messages));
    }
    if dialect.calls.is_none() && !dialect.describes_tools {
        *messages = results_as_user(std::mem::take(messages));
    }
    let Some(tools) = tools.as_array().filter(|tools| !tools.is_empty() && !dialect.describes_tools) else {
        return;
    };
    if takes_tools_in_system {
        let functions: Vec<&Value> = tools.iter().map(|tool| tool.get("function").unwrap_or(tool)).collect();
        return change_system(messages, SYSTEM, |system| {
            system.insert("tools".to_owned(), dumps(&functions).into());
        });
    }
    let description = describe(tools, family);
    let is_system = |message: &Value| message["role"] == "system" || message["role"] == "developer";
    if dialect.system || messages.first().is_some_and(is_system) {
        change_system(messages, "", |system| append(system, &description));
    } else if let Some(Value::Object(user)) = messages.iter_mut().find(|message| message["role"] == "user") {
        let said = user.get("content").and_then(Value::as_str).unwrap_or_default();
        let said = format!("{description}\n\n{said}");
        user.insert("content".to_owned(), said.into());
    }
}

/// In the words that Hermes and Qwen were trained with, and many others with their texts.
fn describe(tools: &[Value], family: Family) -> String {
    let signatures: Vec<String> = tools.iter().map(dumps).collect();
    let example = family.write(&[("function_name", "{\"argument_name\": \"value\"}")]);
    format!(
        "# Tools\n\nYou may call one or more functions to assist with the user query.\n\nYou are provided with \
         function signatures within <tools></tools> XML tags:\n<tools>\n{}\n</tools>\n\nFor each function call, \
         write the function's name and its arguments as a JSON object in exactly this form:\n{example}",
        signatures.join("\n")
    )
}

/// Changes the system's message; where there is none, one with this text comes first.
fn change_system(messages: &mut Vec<Value>, text: &str, change: impl FnOnce(&mut Map<String, Value>)) {
    let role = messages.first().and_then(|message| message["role"].as_str());
    let mut system = match role {
        Some("system" | "developer") => messages.remove(0),
        _ => serde_json::json!({"role": "system", "content": text}),
    };
    if let Value::Object(system) = &mut system {
        change(system);
    }
    messages.insert(0, system);
}

fn append(message: &mut Map<String, Value>, text: &str) {
    let before = message.get("content").and_then(Value::as_str).filter(|content| !content.is_empty());
    let content = before.map_or_else(|| text.to_owned(), |content| format!("{content}\n\n{text}"));
    message.insert("content".to_owned(), content.into());
}

/// Calls become a part of the content.
fn write_calls(message: &mut Value, family: Family) {
    let Value::Object(message) = message else { return };
    let Some(Value::Array(calls)) = message.remove("tool_calls") else { return };
    let parts: Vec<(&str, String)> = calls
        .iter()
        .map(|call| {
            let arguments = &call["function"]["arguments"];
            let text = arguments.as_str().map_or_else(|| dumps(arguments), str::to_owned);
            (call["function"]["name"].as_str().unwrap_or_default(), text)
        })
        .collect();
    let parts: Vec<(&str, &str)> =
        parts.iter().map(|(name, arguments)| (*name, arguments.as_str())).collect();
    let written = family.write(&parts);
    let content = match message.get("content").and_then(Value::as_str) {
        None | Some("") => written,
        Some(content) => format!("{content}\n{written}"),
    };
    message.insert("content".to_owned(), content.into());
}

/// Several calls of one message, and their results behind it, become calls and results in turn.
fn one_call_each(messages: Vec<Value>) -> Vec<Value> {
    let mut adapted: Vec<Value> = Vec::with_capacity(messages.len());
    let mut messages = messages.into_iter().peekable();
    while let Some(mut message) = messages.next() {
        let calls = match message.get_mut("tool_calls") {
            Some(Value::Array(calls)) if calls.len() > 1 => std::mem::take(calls),
            _ => {
                adapted.push(message);
                continue;
            }
        };
        let mut results = Vec::new();
        while let Some(result) = messages.next_if(|next| next["role"] == "tool") {
            results.push(result);
        }
        for call in calls {
            let of_call = results.iter().position(|result| result["tool_call_id"] == call["id"]);
            message["tool_calls"] = Value::Array(vec![call]);
            adapted.push(message.clone());
            adapted.extend(of_call.map(|at| results.remove(at)));
            // What was said and thought came before the first.
            message["content"] = "".into();
            if let Value::Object(message) = &mut message {
                message.retain(|key, _| !matches!(key.as_str(), "reasoning_content" | "thinking"));
            }
        }
        adapted.extend(results);
    }
    adapted
}

/// Results that follow one another become one message: many templates insist on turns.
fn results_as_user(messages: Vec<Value>) -> Vec<Value> {
    let mut adapted: Vec<Value> = Vec::with_capacity(messages.len());
    let mut is_behind_result = false;
    for message in messages {
        let is_result = message["role"] == "tool";
        if !is_result {
            adapted.push(message);
        } else {
            let content = message["content"].as_str().unwrap_or_default();
            let said = format!("<tool_response>\n{content}\n</tool_response>");
            match adapted.last_mut() {
                Some(Value::Object(last)) if is_behind_result => {
                    let before = last.get("content").and_then(Value::as_str).unwrap_or_default();
                    let both = format!("{before}\n{said}");
                    last.insert("content".to_owned(), both.into());
                }
                _ => adapted.push(serde_json::json!({"role": "user", "content": said})),
            }
        }
        is_behind_result = is_result;
    }
    adapted
}
