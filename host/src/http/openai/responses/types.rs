//! The JSON that clients of `/v1/responses` read. What they write is taken apart in `request` and `items`.

use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::super::types::ChatToken;
use crate::engine::message::Usage;
use crate::sampling::Settings;

/// A response, whole or while it grows.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Response<'a> {
    pub(super) id: &'a str,
    pub(super) object: &'static str,
    /// Seconds since 1970.
    pub(super) created_at: u64,
    pub(super) completed_at: Option<u64>,
    pub(super) status: Status,
    pub(super) error: Option<ResponseError>,
    pub(super) incomplete_details: Option<IncompleteDetails>,
    pub(super) model: &'a str,
    pub(super) output: &'a [Item],
    pub(super) usage: Option<UsageBody>,
    #[serde(flatten)]
    pub(super) asked: &'a Asked,
}

/// What the request asked for, as it is told back.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[schema(as = ResponseAsked)]
pub(super) struct Asked {
    pub(super) background: bool,
    pub(super) instructions: Option<String>,
    pub(super) max_output_tokens: Option<u32>,
    #[schema(value_type = Object)]
    pub(super) metadata: Map<String, Value>,
    pub(super) parallel_tool_calls: bool,
    pub(super) previous_response_id: Option<String>,
    pub(super) reasoning: Reasoning,
    pub(super) service_tier: &'static str,
    pub(super) store: bool,
    pub(super) temperature: f32,
    pub(super) text: Text,
    /// As the client wrote it.
    pub(super) tool_choice: Value,
    /// As the client wrote them, `strict` added where it was missing.
    pub(super) tools: Vec<Value>,
    pub(super) top_logprobs: u32,
    pub(super) top_p: f32,
    pub(super) truncation: &'static str,
}

impl Asked {
    /// Tells how tokens are chosen.
    pub(super) fn tell(&mut self, sampling: &Settings) {
        self.temperature = sampling.temperature;
        self.top_p = sampling.filters().map_or(1.0, |filters| filters.top_p);
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[schema(as = ResponseReasoning)]
pub(super) struct Reasoning {
    pub(super) effort: Option<String>,
    /// Always `null`: reasoning comes whole.
    pub(super) summary: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[schema(as = ResponseText)]
pub(super) struct Text {
    /// As the client wrote it.
    pub(super) format: Value,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = ResponseStatus)]
pub(super) enum Status {
    InProgress,
    Completed,
    Incomplete,
    Failed,
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ResponseError {
    pub(super) code: &'static str,
    pub(super) message: String,
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct IncompleteDetails {
    pub(super) reason: &'static str,
}

/// A part of the output.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
#[schema(as = ResponseItem)]
pub(super) enum Item {
    /// What was thought before the answer.
    Reasoning {
        id: String,
        /// Always empty: reasoning comes whole, as content.
        summary: Vec<Part>,
        content: Vec<Part>,
        status: Status,
    },
    /// What is said.
    Message { id: String, role: &'static str, content: Vec<Part>, status: Status },
    /// A function that is to be called.
    FunctionCall {
        id: String,
        call_id: String,
        name: String,
        /// JSON text.
        arguments: String,
        status: Status,
    },
}

/// A part of an item.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
#[schema(as = ResponsePart)]
pub(super) enum Part {
    OutputText {
        text: String,
        /// Always empty.
        annotations: Vec<Value>,
        /// Empty where they were not asked for.
        logprobs: Vec<ChatToken>,
    },
    ReasoningText {
        text: String,
    },
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ResponseUsage)]
pub(super) struct UsageBody {
    input_tokens: u32,
    input_tokens_details: InputDetails,
    output_tokens: u32,
    output_tokens_details: OutputDetails,
    total_tokens: u32,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ResponseInputDetails)]
struct InputDetails {
    cached_tokens: u32,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ResponseOutputDetails)]
struct OutputDetails {
    reasoning_tokens: u32,
}

impl UsageBody {
    /// The figures; so many of the generated tokens were reasoning.
    pub(super) fn told(usage: Usage, reasoning_tokens: u32) -> Self {
        UsageBody {
            input_tokens: usage.prompt_tokens,
            input_tokens_details: InputDetails { cached_tokens: usage.cached_tokens },
            output_tokens: usage.completion_tokens,
            output_tokens_details: OutputDetails { reasoning_tokens },
            total_tokens: usage.prompt_tokens.saturating_add(usage.completion_tokens),
        }
    }
}

/// `DELETE /v1/responses/{id}`
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Deleted {
    pub(super) id: String,
    pub(super) object: &'static str,
    pub(super) deleted: bool,
}

/// An event of a stream; its name is its type.
#[derive(Debug, Serialize)]
pub(super) struct Event<B> {
    #[serde(rename = "type")]
    pub(super) kind: &'static str,
    /// From 0, one more with each event.
    pub(super) sequence_number: u64,
    #[serde(flatten)]
    pub(super) body: B,
}

/// `response.created`, `response.in_progress`, and each way to end.
#[derive(Debug, Serialize)]
pub(super) struct OfResponse<'a> {
    pub(super) response: Response<'a>,
}

/// `response.output_item.added` and `.done`.
#[derive(Debug, Serialize)]
pub(super) struct OfItem<'a> {
    pub(super) output_index: usize,
    pub(super) item: &'a Item,
}

/// What an event tells of an item; only what it has is there.
#[derive(Debug, Serialize)]
pub(super) struct OfPart<'a, B> {
    pub(super) item_id: &'a str,
    pub(super) output_index: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) content_index: Option<usize>,
    #[serde(flatten)]
    pub(super) body: B,
}

/// `response.content_part.added` and `.done`.
#[derive(Debug, Serialize)]
pub(super) struct WholePart<'a> {
    pub(super) part: &'a Part,
}

/// `response.output_text.delta`, `response.reasoning_text.delta`, `response.function_call_arguments.delta`.
#[derive(Debug, Serialize)]
pub(super) struct TextDelta<'a> {
    pub(super) delta: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) logprobs: Option<&'a [ChatToken]>,
}

/// `response.output_text.done`, `response.reasoning_text.done`.
#[derive(Debug, Serialize)]
pub(super) struct TextDone<'a> {
    pub(super) text: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) logprobs: Option<&'a [ChatToken]>,
}

/// `response.function_call_arguments.done`.
#[derive(Debug, Serialize)]
pub(super) struct ArgumentsDone<'a> {
    pub(super) name: &'a str,
    pub(super) arguments: &'a str,
}

/// `error`: there is no response that could have failed.
#[derive(Debug, Serialize)]
pub(super) struct Refusal {
    pub(super) code: Option<&'static str>,
    pub(super) message: String,
    pub(super) param: Option<String>,
}
