//! A plugin's models and contexts as the rest of the host sees them: plain Rust, plain errors, checked answers.

use std::path::Path;
use std::sync::Arc;

use impetus_plugin_api as api;
use impetus_plugin_api::abi_stable::sabi_trait::TD_Opaque;
use impetus_plugin_api::abi_stable::std_types::ROption;
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use impetus_plugin_api::{
    Capabilities, ContextLimits, ErrorCode, PosRange, Position, SeqId, Token, TokenizeOptions,
};

use crate::error::{Error, Kind, Result};
use crate::sampling::Recommended;

/// What a plugin tells about a loaded model. Every key may be missing; what has the wrong type counts as missing.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ModelMetadata {
    /// The Jinja text of the model's chat template.
    pub chat_template: Option<String>,
    /// The same of one that is for chats with tools alone.
    pub tool_template: Option<String>,
    /// How its authors would have tokens chosen.
    pub recommended: Recommended,
    /// Name (`bos`, `eos` …) and text of special tokens.
    pub special_tokens: Vec<(String, String)>,
    /// Tokens that text becomes only where control tokens are parsed.
    pub control_tokens: Vec<ControlToken>,
    /// The longest sequence that the model was trained for, in tokens.
    pub context_length: Option<u32>,
    /// All of it, for people.
    pub raw: serde_json::Map<String, Value>,
}

/// A token that steers the model and is no part of its answers.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct ControlToken {
    /// Its id.
    pub id: u32,
    /// Its text.
    pub text: String,
}

impl ModelMetadata {
    /// Reads a plugin's JSON.
    ///
    /// # Errors
    /// [`Kind::LoadFailed`] when it is no JSON object.
    pub fn parse(json: &str) -> Result<Self> {
        let raw: serde_json::Map<String, Value> = serde_json::from_str(json).map_err(|error| {
            Error::new(
                Kind::LoadFailed,
                format!("the plugin's description of the model is no JSON object: {error}"),
            )
        })?;
        let empty = serde_json::Map::new();
        let defaults = raw.get("generation_defaults").and_then(Value::as_object).unwrap_or(&empty);
        let (recommended, wrong) = Recommended::read(defaults);
        wrong.iter().for_each(|line| tracing::warn!("{line}"));
        let named = |name: &str| raw.get("chat_templates")?.get(name)?.as_str().map(str::to_owned);
        let texts = |object: &serde_json::Map<String, Value>| {
            object.iter().filter_map(|(name, text)| Some((name.clone(), text.as_str()?.to_owned()))).collect()
        };
        Ok(ModelMetadata {
            chat_template: raw.get("chat_template").and_then(Value::as_str).map(str::to_owned),
            tool_template: named("tool_use"),
            recommended,
            special_tokens: raw
                .get("special_tokens")
                .and_then(Value::as_object)
                .map(texts)
                .unwrap_or_default(),
            control_tokens: raw
                .get("control_tokens")
                .and_then(|tokens| serde_json::from_value(tokens.clone()).ok())
                .unwrap_or_default(),
            context_length: raw
                .get("context_length")
                .and_then(Value::as_u64)
                .and_then(|length| u32::try_from(length).ok()),
            raw,
        })
    }
}

impl ModelMetadata {
    /// As the plugin told it, to be parsed again elsewhere.
    pub fn json(&self) -> String {
        Value::Object(self.raw.clone()).to_string()
    }
}

/// A loaded model, shared by threads.
pub struct Model {
    pub(super) inner: api::ModelBox,
    metadata: ModelMetadata,
    vocab_size: u32,
}

impl Model {
    /// Loads through a plugin, with options of this model alone, a JSON object. `progress` hears fractions from 0 to 1 and
    /// answers whether to go on.
    pub(super) fn load(
        plugin: api::PluginRef,
        path: &str,
        (format, options): (&str, &str),
        progress: impl Fn(f32) -> bool + Send + Sync + 'static,
    ) -> Result<Arc<Model>> {
        let request =
            api::LoadRequest { path: path.into(), format: format.into(), options_json: options.into() };
        let sink = api::ProgressSink_TO::from_value(Sink(progress), TD_Opaque);
        let inner = plugin.load_model()(&request, sink).into_result().map_err(load_error)?;
        let metadata =
            ModelMetadata::parse(inner.metadata_json().into_result().map_err(load_error)?.as_str())?;
        let vocab_size = inner.vocab_size();
        Ok(Arc::new(Model { inner, metadata, vocab_size }))
    }

    /// What the plugin tells about the model.
    pub fn metadata(&self) -> &ModelMetadata {
        &self.metadata
    }

    /// What it can do.
    pub fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    /// Number of token ids.
    pub fn vocab_size(&self) -> u32 {
        self.vocab_size
    }

    /// Text to tokens.
    ///
    /// # Errors
    /// What the plugin refuses, and [`Kind::Internal`] when it answers tokens that its vocabulary has not.
    pub fn tokenize(&self, text: &str, options: TokenizeOptions) -> Result<Vec<Token>> {
        let tokens = self.inner.tokenize(text.into(), options).into_result().map_err(call_error)?;
        match tokens.iter().find(|token| token.0 >= self.vocab_size) {
            Some(token) => Err(Error::new(
                Kind::Internal,
                format!(
                    "the plugin tokenised to {} where the vocabulary has {} tokens",
                    token.0, self.vocab_size
                ),
            )),
            None => Ok(tokens.into_vec()),
        }
    }

    /// The bytes that a token adds to a text.
    ///
    /// # Errors
    /// What the plugin refuses.
    pub fn token_bytes(&self, token: Token) -> Result<Vec<u8>> {
        self.inner.token_bytes(token).into_result().map(Into::into).map_err(call_error)
    }

    /// Whether the model ends its answer with this token.
    pub fn is_end_of_generation(&self, token: Token) -> bool {
        self.inner.is_end_of_generation(token)
    }

    /// A context for up to `max_sequences` sequences; the plugin decides what it really becomes.
    ///
    /// # Errors
    /// What the plugin refuses.
    pub fn new_context(self: &Arc<Self>, max_sequences: u32) -> Result<Context> {
        let params = serde_json::json!({ "max_sequences": max_sequences }).to_string();
        let inner = self.inner.new_context(params.as_str().into()).into_result().map_err(load_error)?;
        let limits = inner.limits();
        Ok(Context { inner, limits, vocab_size: self.vocab_size, _model: Arc::clone(self) })
    }
}

/// A model's working state. One thread uses it.
pub struct Context {
    inner: api::ContextBox,
    limits: ContextLimits,
    vocab_size: u32,
    /// Dropped after `inner`: contexts go before their model.
    _model: Arc<Model>,
}

/// Rows for one `decode`, column by column; the four vectors have one length.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rows {
    /// The token of each row.
    pub tokens: Vec<Token>,
    /// Its position in its sequence.
    pub positions: Vec<Position>,
    /// Its sequence slot.
    pub sequences: Vec<SeqId>,
    /// Whether its logits are wanted.
    pub wants_logits: Vec<bool>,
}

impl Rows {
    /// Number of rows.
    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }

    /// Forgets all rows, keeps the memory.
    pub fn clear(&mut self) {
        self.tokens.clear();
        self.positions.clear();
        self.sequences.clear();
        self.wants_logits.clear();
    }
}

impl Context {
    /// The bounds as they really are.
    pub fn limits(&self) -> ContextLimits {
        self.limits
    }

    /// Computes rows. After [`ErrorCode::CACHE_FULL`] the state is what it was.
    ///
    /// # Errors
    /// What the plugin reports, with its code.
    pub fn decode(&mut self, rows: &Rows) -> Result<(), api::PluginError> {
        let batch = api::Batch {
            tokens: rows.tokens.as_slice().into(),
            positions: rows.positions.as_slice().into(),
            sequences: rows.sequences.as_slice().into(),
            wants_logits: rows.wants_logits.as_slice().into(),
        };
        self.inner.decode(batch).into_result()
    }

    /// The logits of a row of the last batch that wanted them: `[vocab_size]`.
    ///
    /// # Errors
    /// What the plugin reports, and [`ErrorCode::INTERNAL`] when the row has another length.
    pub fn logits(&self, row: usize) -> Result<&[f32], api::PluginError> {
        let logits = self.inner.logits(row as u32).into_result()?.as_slice();
        if logits.len() == self.vocab_size as usize {
            return Ok(logits);
        }
        Err(api::PluginError::internal(format!(
            "the plugin gave {} logits where the vocabulary has {} tokens",
            logits.len(),
            self.vocab_size
        )))
    }

    /// Forgets all but the first `tokens` tokens of a sequence.
    ///
    /// # Errors
    /// What the plugin reports.
    pub fn cut(&mut self, sequence: SeqId, tokens: u32) -> Result<(), api::PluginError> {
        self.inner.seq_rm(sequence, PosRange::from(Position(tokens))).into_result()
    }

    /// Makes the first `tokens` tokens of a sequence those of another, empty one as well.
    ///
    /// # Errors
    /// What the plugin reports.
    pub fn copy(&mut self, from: SeqId, to: SeqId, tokens: u32) -> Result<(), api::PluginError> {
        self.inner.seq_cp(from, to, PosRange::new(Position(0), Position(tokens))).into_result()
    }

    /// How many tokens of a sequence the context holds, by its last position.
    pub fn held(&self, sequence: SeqId) -> u32 {
        self.inner.seq_pos_max(sequence).into_option().map_or(0, |position| position.0.saturating_add(1))
    }
}

struct Sink<F>(F);

impl<F: Fn(f32) -> bool + Send + Sync + 'static> api::ProgressSink for Sink<F> {
    fn report(&self, fraction: f32) -> api::Flow {
        // A panic must not cross the border towards the plugin either.
        let answer = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| (self.0)(fraction)));
        if answer.unwrap_or(false) { api::Flow::Continue } else { api::Flow::Cancel }
    }
}

/// What a plugin says about a file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Probe {
    /// 0 to 100.
    pub score: u32,
    /// The format.
    pub format: String,
    /// The plugin's summary.
    pub summary: serde_json::Map<String, Value>,
    /// Why it cannot be run.
    pub obstacle: Option<String>,
}

/// Asks a plugin about a file whose head was read.
pub(super) fn probe(plugin: api::PluginRef, path: &Path, is_dir: bool, head: &[u8]) -> Result<Probe> {
    let path = utf8(path)?;
    let input = api::ProbeInput { path: path.into(), is_dir, head: head.into() };
    let result = plugin.probe()(&input).into_result().map_err(load_error)?;
    Ok(Probe {
        score: result.score.min(100),
        format: result.format.into(),
        summary: serde_json::from_str(&result.summary_json).unwrap_or_default(),
        obstacle: result.obstacle.into_option().map(Into::into),
    })
}

/// The path as the contract carries it.
pub(super) fn utf8(path: &Path) -> Result<&str> {
    path.to_str().ok_or_else(|| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        Error::new(
            Kind::LoadFailed,
            format!("the path of `{name}` is not UTF-8: rename the file or its folder"),
        )
    })
}

pub(super) fn load_error(error: api::PluginError) -> Error {
    let kind = match error.code {
        ErrorCode::OUT_OF_MEMORY => Kind::InsufficientMemory,
        _ => Kind::LoadFailed,
    };
    with_detail(Error::new(kind, error.message), error.detail)
}

/// What a plugin reported, as an error of ours.
pub(crate) fn call_error(error: api::PluginError) -> Error {
    let kind = match error.code {
        ErrorCode::PANICKED | ErrorCode::POISONED => Kind::EngineCrashed,
        _ => Kind::Internal,
    };
    with_detail(Error::new(kind, error.message), error.detail)
}

fn with_detail(error: Error, detail: ROption<api::abi_stable::std_types::RString>) -> Error {
    match detail {
        ROption::RSome(detail) => error.with_detail(detail),
        ROption::RNone => error,
    }
}
