//! The JSON that clients read. What they write is taken apart in `params`, `messages` and `prompts`.

use std::time::SystemTime;

use serde::{Serialize, Serializer};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::engine::message::Usage;
use crate::models::{Entry, ModelState};

/// What all parts of one answer have in common.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stamp {
    pub(super) id: String,
    pub(super) created: u64,
    pub(super) model: String,
}

impl Stamp {
    /// A new answer of this model, its id beginning with `prefix`.
    pub(super) fn new(prefix: &str, model: &str) -> Self {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        Stamp {
            id: format!("{prefix}-{}", Uuid::new_v4().simple()),
            created: now.map_or(0, |now| now.as_secs()),
            model: model.to_owned(),
        }
    }

    /// An answer, or a piece of one.
    pub(super) fn envelope<'a, C>(&'a self, object: &'static str, choices: Vec<C>) -> Envelope<'a, C> {
        Envelope {
            id: &self.id,
            object,
            created: self.created,
            model: &self.model,
            system_fingerprint: SYSTEM_FINGERPRINT,
            choices,
            usage: UsageField::Absent,
        }
    }
}

/// Changes when answers to the same seed may.
const SYSTEM_FINGERPRINT: &str = concat!("build-", env!("CARGO_PKG_VERSION"));

/// An answer, or a piece of one.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Envelope<'a, C> {
    id: &'a str,
    object: &'static str,
    created: u64,
    model: &'a str,
    system_fingerprint: &'static str,
    choices: Vec<C>,
    #[serde(skip_serializing_if = "UsageField::is_absent")]
    #[schema(value_type = Option<UsageBody>)]
    pub(super) usage: UsageField,
}

/// `usage` is missing from the pieces of a stream, or `null` in them, or there.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(super) enum UsageField {
    Absent,
    Null,
    Told(UsageBody),
}

impl UsageField {
    fn is_absent(&self) -> bool {
        matches!(self, UsageField::Absent)
    }
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct UsageBody {
    prompt_tokens: u32,
    completion_tokens: u32,
    total_tokens: u32,
    prompt_tokens_details: PromptDetails,
    completion_tokens_details: CompletionDetails,
}

#[derive(Debug, Serialize, ToSchema)]
struct PromptDetails {
    cached_tokens: u32,
}

#[derive(Debug, Serialize, ToSchema)]
struct CompletionDetails {
    reasoning_tokens: u32,
}

impl UsageField {
    /// The figures; so many of the generated tokens were reasoning.
    pub(super) fn told(usage: Usage, reasoning_tokens: u32) -> Self {
        UsageField::Told(UsageBody {
            prompt_tokens: usage.prompt_tokens,
            completion_tokens: usage.completion_tokens,
            total_tokens: usage.prompt_tokens.saturating_add(usage.completion_tokens),
            prompt_tokens_details: PromptDetails { cached_tokens: usage.cached_tokens },
            completion_tokens_details: CompletionDetails { reasoning_tokens },
        })
    }
}

/// One answer of a chat.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ChatChoice {
    pub(super) index: usize,
    pub(super) message: ChatMessage,
    pub(super) logprobs: Option<ChatLogprobs>,
    pub(super) finish_reason: ChatFinish,
}

/// Why an answer of a chat ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum ChatFinish {
    Stop,
    Length,
    /// The model waits for what its tools answer.
    ToolCalls,
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ChatMessage {
    pub(super) role: &'static str,
    /// `null` where nothing is said and tools are called.
    pub(super) content: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) reasoning_content: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) tool_calls: Vec<ToolCall>,
    /// Always `null`: a model's refusal is text like any other.
    pub(super) refusal: Option<String>,
}

/// A call of a tool, or a piece of one: id, type and name stand in the first.
#[derive(Debug, Default, Serialize, ToSchema)]
pub(super) struct ToolCall {
    /// Which of the answer's calls; in streams only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) index: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) id: Option<String>,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub(super) kind: Option<&'static str>,
    pub(super) function: FunctionCall,
}

#[derive(Debug, Default, Serialize, ToSchema)]
pub(super) struct FunctionCall {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) name: Option<String>,
    /// JSON text.
    pub(super) arguments: String,
}

/// A piece of one answer of a chat.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ChatDelta {
    pub(super) index: usize,
    pub(super) delta: Delta,
    pub(super) logprobs: Option<ChatLogprobs>,
    pub(super) finish_reason: Option<ChatFinish>,
}

#[derive(Debug, Default, Serialize, ToSchema)]
pub(super) struct Delta {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) role: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) content: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) reasoning_content: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) tool_calls: Vec<ToolCall>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ChatLogprobs {
    pub(super) content: Vec<ChatToken>,
    pub(super) refusal: Option<Vec<ChatToken>>,
}

#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub(super) struct ChatToken {
    #[serde(flatten)]
    pub(super) chosen: ChatAlternative,
    pub(super) top_logprobs: Vec<ChatAlternative>,
}

#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub(super) struct ChatAlternative {
    pub(super) token: String,
    pub(super) logprob: f32,
    pub(super) bytes: Vec<u8>,
}

/// One answer of a completion, or a piece of it.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct TextChoice {
    pub(super) text: String,
    pub(super) index: usize,
    pub(super) logprobs: Option<TextLogprobs>,
    pub(super) finish_reason: Option<&'static str>,
}

/// The old shape: four lists of one length.
#[derive(Debug, Default, PartialEq, Serialize, ToSchema)]
pub(super) struct TextLogprobs {
    pub(super) tokens: Vec<String>,
    /// `null` for the first token of a prompt.
    pub(super) token_logprobs: Vec<Option<f32>>,
    #[schema(value_type = Vec<Option<BTreeMap<String, f32>>>)]
    pub(super) top_logprobs: Vec<Option<ByName>>,
    pub(super) text_offset: Vec<usize>,
}

impl TextLogprobs {
    /// These, and those behind them.
    pub(super) fn and(mut self, behind: TextLogprobs) -> Self {
        self.tokens.extend(behind.tokens);
        self.token_logprobs.extend(behind.token_logprobs);
        self.top_logprobs.extend(behind.top_logprobs);
        self.text_offset.extend(behind.text_offset);
        self
    }
}

/// An object of numbers. `serde_json::Value` would write each `f32` with the digits of an `f64`.
#[derive(Debug, PartialEq)]
pub(super) struct ByName(pub(super) Vec<(String, f32)>);

impl Serialize for ByName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, number)| (name, number)))
    }
}

/// `GET /v1/models`
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ModelList {
    pub(super) object: &'static str,
    pub(super) data: Vec<ModelObject>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ModelObject {
    id: String,
    object: &'static str,
    created: u64,
    owned_by: &'static str,
    meta: ModelMeta,
}

#[derive(Debug, Serialize, ToSchema)]
struct ModelMeta {
    format: Option<String>,
    plugin: Option<String>,
    architecture: Option<String>,
    parameters: Option<u64>,
    quantization: Option<String>,
    context_length: Option<u64>,
    size_bytes: Option<u64>,
    loaded: bool,
    /// Whole once it is loaded; before, as far as its headers say.
    capabilities: Vec<String>,
}

impl From<Entry> for ModelObject {
    fn from(entry: Entry) -> Self {
        let summary = entry.summary;
        ModelObject {
            id: entry.id,
            object: "model",
            created: entry.created,
            owned_by: "impetus",
            meta: ModelMeta {
                format: entry.format,
                plugin: entry.plugin,
                architecture: summary.architecture,
                parameters: summary.parameters,
                quantization: summary.quantization,
                context_length: summary.context_length,
                size_bytes: summary.size_bytes,
                loaded: entry.state == ModelState::Loaded,
                capabilities: entry.capabilities,
            },
        }
    }
}
