//! What is known of a model file, whether it can be served or not.

use std::path::PathBuf;

use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::capability::GENERATE;
use crate::error::{Error, Kind};

/// Where a model stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ModelState {
    /// Can be served; loads on first use.
    Available,
    /// Is being loaded.
    Loading,
    /// Is in memory.
    Loaded,
    /// Its engine crashed too often and is not started again by itself; the entry says why.
    Crashed,
    /// Cannot be served; the entry says why.
    Unavailable,
}

/// One model file (or folder, or set of shards).
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[schema(as = ModelEntry)]
pub struct Entry {
    /// Its name in requests: the path below its folder, without the ending.
    pub id: String,
    /// The file itself. Never part of a public answer.
    #[serde(skip)]
    pub path: PathBuf,
    /// When the file was last changed, in seconds since 1970.
    pub created: u64,
    /// Its format, where a plugin knows it.
    pub format: Option<String>,
    /// The plugin that knows it.
    pub plugin: Option<String>,
    /// Where it stands.
    pub state: ModelState,
    /// Why it cannot be served.
    pub reason: Option<String>,
    /// The last lines of its engine's log, where that crashed too often.
    pub detail: Option<String>,
    /// What the plugin read from its headers.
    pub summary: Summary,
    /// What it can do; before it is loaded, as far as its headers say.
    pub capabilities: Vec<String>,
}

/// What a plugin reads from a model's headers. What it does not say is missing.
#[derive(Debug, Clone, Default, PartialEq, Serialize, ToSchema)]
#[schema(as = ModelSummary)]
pub struct Summary {
    /// Such as `llama`.
    pub architecture: Option<String>,
    /// The model's own name.
    pub name: Option<String>,
    /// Such as `Q4_1`.
    pub quantization: Option<String>,
    /// Number of weights.
    pub parameters: Option<u64>,
    /// Tokens, as trained.
    pub context_length: Option<u64>,
    /// Number of token ids.
    pub vocab_size: Option<u64>,
    /// Bytes on disk, of all its files; the host counts them itself.
    pub size_bytes: Option<u64>,
    /// Bytes of memory to load and run it with the plugin's options.
    pub estimated_bytes: Option<u64>,
    /// Whether it brings a chat template.
    pub chat_template: Option<bool>,
    /// Its licence.
    pub license: Option<String>,
    /// What it can do, where it does anything but generate text.
    #[serde(skip)]
    pub capabilities: Vec<String>,
}

impl Summary {
    /// Reads a plugin's summary; what has the wrong type counts as missing.
    pub(super) fn from_json(json: &Map<String, Value>) -> Self {
        let text = |key: &str| json.get(key).and_then(Value::as_str).map(str::to_owned);
        let number = |key: &str| json.get(key).and_then(Value::as_u64);
        let texts = |list: &Vec<Value>| list.iter().filter_map(Value::as_str).map(str::to_owned).collect();
        Summary {
            architecture: text("architecture"),
            name: text("name"),
            quantization: text("quantization"),
            parameters: number("parameters"),
            context_length: number("context_length"),
            vocab_size: number("vocab_size"),
            size_bytes: None,
            estimated_bytes: number("estimated_bytes"),
            chat_template: json.get("chat_template").and_then(Value::as_bool),
            license: text("license"),
            capabilities: json.get("capabilities").and_then(Value::as_array).map(texts).unwrap_or_default(),
        }
    }
}

impl Entry {
    /// Whether it generates text, as far as its headers say.
    pub fn may_generate(&self) -> bool {
        self.summary.capabilities.is_empty() || self.summary.capabilities.iter().any(|name| name == GENERATE)
    }

    /// Whether it can be served now.
    pub fn is_servable(&self) -> bool {
        self.state != ModelState::Unavailable
    }

    /// The error for whoever asks for a model that cannot be served.
    pub fn refusal(&self) -> Error {
        let reason = self.reason.as_deref().unwrap_or("no loaded plugin can run it");
        // A plugin that knows the file has judged it; where none does, the plugin is what is missing.
        let kind = if self.plugin.is_some() { Kind::LoadFailed } else { Kind::PluginUnavailable };
        Error::new(kind, format!("model `{}` cannot be served: {reason}", self.id))
    }

    /// Whether `name` is the id with the file's ending behind it.
    pub(super) fn is_named(&self, name: &str) -> bool {
        let ending = self.path.extension().and_then(|ending| ending.to_str());
        ending.is_some_and(|ending| {
            name.strip_suffix(ending).and_then(|stem| stem.strip_suffix('.')) == Some(self.id.as_str())
        })
    }
}
