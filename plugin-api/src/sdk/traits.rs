//! The three traits of a format plugin: the plugin, a model, a model's context.

use std::sync::Arc;

use crate::{
    Batch, Capabilities, ContextLimits, Extension, Flow, HostApi, LoadRequest, PluginError, PosRange,
    Position, ProbeInput, ProbeResult, ProgressBox, SeqId, Token, TokenizeOptions,
};

/// A format plugin: recognises files and loads them. One value lives as long as the process.
pub trait FormatPlugin: Send + Sync + Sized + 'static {
    /// The models that this plugin loads.
    type Model: Model;

    /// Starts the plugin, once. `options_json` is the plugin's `options` table of plugins.toml, a JSON object.
    ///
    /// # Errors
    /// [`INVALID_ARGUMENT`](crate::ErrorCode::INVALID_ARGUMENT) for an option that is unknown or out of range, by
    /// name: an option that is silently ignored is a bug. The plugin is then not loaded.
    fn init(host: HostApi, options_json: &str) -> Result<Self, PluginError>;

    /// Recognises a file from its headers; never reads weights. Called often and from several threads.
    ///
    /// # Errors
    /// [`CORRUPT_MODEL`](crate::ErrorCode::CORRUPT_MODEL) when the file claims to be of this plugin's format and is
    /// broken: say what and where. A file of another format is [`ProbeResult::not_mine`], no error.
    fn probe(&self, input: &ProbeInput<'_>) -> Result<ProbeResult, PluginError>;

    /// Loads a model. May take long: report progress, and stop when told to.
    ///
    /// # Errors
    /// [`CANCELLED`](crate::ErrorCode::CANCELLED) after [`Flow::Cancel`]; otherwise what fits, with the tensor or
    /// field at fault.
    fn load_model(&self, request: &LoadRequest<'_>, progress: Progress) -> Result<Self::Model, PluginError>;

    /// A named table beyond this trait. None unless overridden.
    fn extension(&self, name: &str) -> Option<Extension> {
        let _ = name;
        None
    }

    /// What the library was built with and for, in one line, for people. Empty unless overridden.
    fn build() -> String {
        String::new()
    }
}

/// A loaded model: immutable, shared by threads. Weights live here.
pub trait Model: Send + Sync + Sized + 'static {
    /// The working state of this model.
    type Context: Context;

    /// A JSON object that describes the model. Every key is optional; the host uses
    /// `architecture`, `name`, `quantization`, `parameters`, `context_length` (tokens, as trained), `size_bytes`,
    /// `weight_bytes` (of all weights as they lie in memory), `experts` (of a layer, where a token goes through some alone),
    /// `gpu_layers` (computed on a graphics card, where there are any), `license`, `chat_template` (Jinja text), `special_tokens` (object: `bos`, `eos`, `unk`, `pad` … to their text),
    /// `control_tokens` (list of `{"id": 2, "text": "<|im_end|>"}`: every token that text becomes only under
    /// `parse_special`; the host hides them from answers), `notes` (list of strings for people).
    fn metadata_json(&self) -> String;

    /// What this model and its contexts can do: the truth, since the host refuses requests by it.
    fn capabilities(&self) -> Capabilities;

    /// Number of token ids, and of logits in a row. Constant.
    fn vocab_size(&self) -> u32;

    /// Text to tokens, exactly as the model's reference tokeniser does it.
    ///
    /// # Errors
    /// Whatever fails; no text is invalid as such.
    fn tokenize(&self, text: &str, options: TokenizeOptions) -> Result<Vec<Token>, PluginError>;

    /// The bytes that a token adds to a text, not necessarily whole UTF-8. A control token gives its own text.
    /// `token` is below `vocab_size`.
    ///
    /// # Errors
    /// Whatever fails.
    fn token_bytes(&self, token: Token) -> Result<Vec<u8>, PluginError>;

    /// Whether the model ends its answer with this token. `token` is below `vocab_size`.
    fn is_end_of_generation(&self, token: Token) -> bool;

    /// Makes a context. `params_json` is a JSON object; every key is optional and a wish: `max_sequences`,
    /// `context_tokens` (cells for all sequences together), `batch_tokens`. What comes true is in
    /// [`Context::limits`].
    ///
    /// # Errors
    /// [`OUT_OF_MEMORY`](crate::ErrorCode::OUT_OF_MEMORY) with the figures, or
    /// [`INVALID_ARGUMENT`](crate::ErrorCode::INVALID_ARGUMENT).
    fn new_context(self: Arc<Self>, params_json: &str) -> Result<Self::Context, PluginError>;

    /// A named table beyond this trait. None unless overridden.
    fn extension(&self, name: &str) -> Option<Extension> {
        let _ = name;
        None
    }
}

/// A model's working state (its KV cache): moved between threads, used by one at a time.
pub trait Context: Send + 'static {
    /// The bounds, constant for a context's life.
    fn limits(&self) -> ContextLimits;

    /// Computes a batch. The adapter has checked that its slices have one length between 1 and
    /// `limits().batch_tokens`, and that tokens and sequences are in range.
    ///
    /// # Errors
    /// [`CACHE_FULL`](crate::ErrorCode::CACHE_FULL) leaves the state as it was. After any other error the host asks
    /// `seq_pos_max` what is left.
    fn decode(&mut self, batch: Batch<'_>) -> Result<(), PluginError>;

    /// The logits of a row of the last successful batch: `[vocab_size]`, unnormalised. The adapter has checked that
    /// the row asked for them. They end with the next `&mut` call.
    ///
    /// # Errors
    /// Whatever fails.
    fn logits(&self, row: usize) -> Result<&[f32], PluginError>;

    /// Forgets the tokens of `range`. A sequence without tokens is no error.
    ///
    /// # Errors
    /// [`UNSUPPORTED`](crate::ErrorCode::UNSUPPORTED) for a cut in the middle without
    /// [`PARTIAL_SEQ_RM`](Capabilities::PARTIAL_SEQ_RM).
    fn seq_rm(&mut self, sequence: SeqId, range: PosRange) -> Result<(), PluginError>;

    /// Makes the tokens of `range` part of `to` as well. In a unified cache this copies no data.
    ///
    /// # Errors
    /// [`UNSUPPORTED`](crate::ErrorCode::UNSUPPORTED) without [`SEQ_CP`](Capabilities::SEQ_CP).
    fn seq_cp(&mut self, from: SeqId, to: SeqId, range: PosRange) -> Result<(), PluginError>;

    /// The last position that a sequence holds; `None` when it is empty.
    fn seq_pos_max(&self, sequence: SeqId) -> Option<Position>;

    /// A JSON object for people and dashboards; keys in use: `kv_cache_bytes`, `compute_bytes`. `{}` unless overridden.
    fn memory_stats_json(&self) -> String {
        "{}".to_owned()
    }

    /// Forgets every sequence.
    ///
    /// # Errors
    /// Whatever fails.
    fn clear(&mut self) -> Result<(), PluginError>;
}

/// Tells the host how far a load is. Must not be kept beyond the load.
pub struct Progress(pub(crate) ProgressBox);

impl Progress {
    /// `fraction` of the work done, 0 to 1. Any thread may call it, until the load returns.
    #[must_use = "the host may ask to stop"]
    pub fn report(&self, fraction: f32) -> Flow {
        self.0.report(fraction)
    }
}
