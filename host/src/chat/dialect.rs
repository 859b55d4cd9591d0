//! What a template expects of messages with tool calls, found out once by rendering a small chat with marked words.
//!
//! Templates agree on OpenAI's shape of a message and on little else: most take a call's arguments as an object, some
//! as JSON text; most want no content as an empty text, some as `None`; some know no tools at all.

use serde_json::{Map, Value, json};

use super::message::Message;
use super::template::{ChatTemplate, RenderOptions, Segment};

/// A template's ways with tools.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Dialect {
    /// It puts the tools of a request into the prompt.
    pub(super) describes_tools: bool,
    /// It renders earlier calls, if they come in this form.
    pub(super) calls: Option<CallForm>,
    /// It renders several calls of one message.
    pub(super) many_calls: bool,
    /// It renders a system message.
    pub(super) system: bool,
}

/// How earlier calls are given to a template.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct CallForm {
    pub(super) arguments: Arguments,
    pub(super) no_content: NoContent,
}

/// A call's arguments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Arguments {
    /// As an object, as Hugging Face documents it.
    Object,
    /// As JSON text, as OpenAI has it.
    Text,
}

/// The content of a message that is nothing but calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoContent {
    Empty,
    Null,
}

impl CallForm {
    /// What Hugging Face documents.
    pub(super) const USUAL: CallForm =
        CallForm { arguments: Arguments::Object, no_content: NoContent::Empty };

    /// From the most usual to the least.
    const ALL: [CallForm; 4] = [
        CallForm::USUAL,
        CallForm { arguments: Arguments::Text, no_content: NoContent::Empty },
        CallForm { arguments: Arguments::Object, no_content: NoContent::Null },
        CallForm { arguments: Arguments::Text, no_content: NoContent::Null },
    ];
}

impl Dialect {
    /// Before anything is known.
    pub(super) const UNKNOWN: Dialect =
        Dialect { describes_tools: true, calls: Some(CallForm::USUAL), many_calls: true, system: true };

    /// Asks the template.
    pub(super) fn of(template: &ChatTemplate) -> Dialect {
        let chat = probe_chat();
        let question = &chat[1..2];
        let shows = |rendered: Option<String>, word: &str| rendered.is_some_and(|text| text.contains(word));
        let with_form = |form: CallForm| {
            let dialect = Dialect { calls: Some(form), ..Dialect::UNKNOWN };
            rendered(template, dialect, &chat[1..], None)
        };
        let renders_call = |form: &CallForm| {
            // Python's quotes around a key mean that an object was pasted into JSON where text was expected.
            with_form(*form).is_some_and(|text| {
                text.contains("probe_tool") && text.contains("probe_value") && !text.contains("'probe_key'")
            })
        };
        let calls = CallForm::ALL.into_iter().find(renders_call);
        let described = rendered(template, Dialect::UNKNOWN, question, Some(probe_tools()));
        let many = |form: CallForm| {
            let dialect = Dialect { calls: Some(form), ..Dialect::UNKNOWN };
            shows(rendered(template, dialect, &with_second_call(&chat), None), "probe_second")
        };
        Dialect {
            describes_tools: shows(described, "probe_tool"),
            calls,
            many_calls: calls.is_some_and(many),
            system: shows(rendered(template, Dialect::UNKNOWN, &chat[..2], None), "probe_system"),
        }
    }

    /// What Hugging Face's `apply_chat_template` hands to this template for a message.
    pub(super) fn message(&self, message: &Message) -> Value {
        let form = self.calls.unwrap_or(CallForm::USUAL);
        let mut object = Map::new();
        object.insert("role".to_owned(), message.role.clone().into());
        let has_calls = message.extra.contains_key("tool_calls");
        let content = match &message.content {
            Some(content) if !(content.is_empty() && has_calls) => content.clone().into(),
            Some(_) | None if has_calls && form.no_content == NoContent::Null => Value::Null,
            Some(_) | None => "".into(),
        };
        object.insert("content".to_owned(), content);
        object.extend(message.extra.clone());
        if let Some(Value::Array(calls)) = object.get_mut("tool_calls") {
            calls.iter_mut().for_each(|call| shape_arguments(call, form.arguments));
        }
        // The name that OpenAI's own open model reads it by.
        if let Some(reasoning) = message.extra.get("reasoning_content") {
            object.insert("thinking".to_owned(), reasoning.clone());
        }
        object.into()
    }
}

/// Arguments that are no JSON object stay what they are: somebody else's model wrote them.
fn shape_arguments(call: &mut Value, form: Arguments) {
    let Some(arguments) = call.pointer_mut("/function/arguments") else { return };
    let shaped = match (&*arguments, form) {
        (Value::String(text), Arguments::Object) => serde_json::from_str(text).ok().filter(Value::is_object),
        (Value::Object(_), Arguments::Text) => Some(super::json::dumps(arguments).into()),
        _ => None,
    };
    if let Some(shaped) = shaped {
        *arguments = shaped;
    }
}

fn probe_tools() -> Value {
    let parameters = json!({
        "type": "object", "properties": {"probe_key": {"type": "string", "description": "d"}},
        "required": ["probe_key"],
    });
    let function = json!({"name": "probe_tool", "description": "d", "parameters": parameters});
    json!([{"type": "function", "function": function}])
}

/// System, question, call and result. The length of the call's id is what Mistral's templates insist on.
fn probe_chat() -> [Message; 4] {
    let function = json!({"name": "probe_tool", "arguments": r#"{"probe_key": "probe_value"}"#});
    let calls = json!([{"id": "probe1234", "type": "function", "function": function}]);
    let call = Message {
        role: "assistant".to_owned(),
        content: None,
        extra: Map::from_iter([("tool_calls".to_owned(), calls)]),
    };
    let mut result = Message::new("tool", "probe_result");
    result.extra.insert("tool_call_id".to_owned(), "probe1234".into());
    [Message::new("system", "probe_system"), Message::new("user", "probe_question"), call, result]
}

/// The same without the system, and two calls in one message.
fn with_second_call(chat: &[Message; 4]) -> Vec<Message> {
    let mut chat = chat[1..3].to_vec();
    if let Some(Value::Array(calls)) = chat[1].extra.get_mut("tool_calls") {
        let function = json!({"name": "probe_second", "arguments": "{}"});
        calls.push(json!({"id": "probe5678", "type": "function", "function": function}));
    }
    chat
}

fn rendered(
    template: &ChatTemplate,
    dialect: Dialect,
    chat: &[Message],
    tools: Option<Value>,
) -> Option<String> {
    let options = RenderOptions { tools, ..RenderOptions::default() };
    let prompt = template.render_as(dialect, chat, &options).ok()?;
    let text = |segment: Segment| match segment {
        Segment::Template(text) | Segment::Literal(text) => text,
    };
    Some(prompt.segments.into_iter().map(text).collect())
}
