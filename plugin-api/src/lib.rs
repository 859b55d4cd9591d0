//! The contract between the Impetus host and its format plugins.
//!
//! A plugin is a dynamic library that can run one or more model *formats*. It describes itself, recognises files
//! ([`FormatPlugin::probe`](sdk::FormatPlugin::probe)), loads a model, and a model's context decodes batches of
//! (token, position, sequence, wants-logits) rows and edits its cache by sequence. It does no sampling, no scheduling,
//! no HTTP and no chat templates: every plugin has these from the host.
//!
//! Authors implement the three traits of [`sdk`] in safe Rust and name their plugin once in [`export_plugin!`]. The
//! other half of this crate, the ABI types, is what the macro and the host talk through.
//!
//! # A whole plugin
//!
//! The format `parrot` is a text file; its model says the file again from wherever the prompt's end is found in it.
//! Save this as `src/lib.rs` of a crate with `crate-type = ["cdylib"]`, build it, and drop the library into the plugin
//! folder.
//!
//! ```
//! use std::sync::Arc;
//! use impetus_plugin_api::{export_plugin, sdk::*, *};
//!
//! struct Parrot;
//!
//! impl FormatPlugin for Parrot {
//!     type Model = Text;
//!
//!     fn init(_host: HostApi, _options_json: &str) -> Result<Self, PluginError> {
//!         Ok(Parrot)
//!     }
//!
//!     fn probe(&self, input: &ProbeInput<'_>) -> Result<ProbeResult, PluginError> {
//!         if input.is_dir || !input.path.ends_with(".parrot") {
//!             return Ok(ProbeResult::not_mine());
//!         }
//!         Ok(ProbeResult::exact("parrot", r#"{"architecture": "parrot", "vocab_size": 257}"#))
//!     }
//!
//!     fn load_model(&self, request: &LoadRequest<'_>, progress: Progress) -> Result<Text, PluginError> {
//!         let text = std::fs::read(request.path())
//!             .map_err(|error| PluginError::new(ErrorCode::NOT_FOUND, error.to_string()))?;
//!         match progress.report(1.0) {
//!             Flow::Continue => Ok(Text(text)),
//!             Flow::Cancel => Err(PluginError::new(ErrorCode::CANCELLED, "the load was cancelled")),
//!         }
//!     }
//! }
//!
//! /// Token ids are bytes; 256 ends an answer.
//! struct Text(Vec<u8>);
//! const END: usize = 256;
//!
//! impl Model for Text {
//!     type Context = Reader;
//!
//!     fn metadata_json(&self) -> String {
//!         r#"{"architecture": "parrot", "context_length": 4096}"#.to_owned()
//!     }
//!     fn capabilities(&self) -> Capabilities {
//!         Capabilities::GENERATE.with(Capabilities::PARTIAL_SEQ_RM).with(Capabilities::SEQ_CP)
//!     }
//!     fn vocab_size(&self) -> u32 {
//!         257
//!     }
//!     fn tokenize(&self, text: &str, _: TokenizeOptions) -> Result<Vec<Token>, PluginError> {
//!         Ok(text.bytes().map(|byte| Token(byte.into())).collect())
//!     }
//!     fn token_bytes(&self, token: Token) -> Result<Vec<u8>, PluginError> {
//!         Ok(u8::try_from(token.0).into_iter().collect())
//!     }
//!     fn is_end_of_generation(&self, token: Token) -> bool {
//!         token.0 as usize == END
//!     }
//!     fn new_context(self: Arc<Self>, _params_json: &str) -> Result<Reader, PluginError> {
//!         Ok(Reader { text: self, sequences: vec![Vec::new(); 8], logits: Vec::new() })
//!     }
//! }
//!
//! struct Reader {
//!     text: Arc<Text>,
//!     sequences: Vec<Vec<u8>>,
//!     logits: Vec<Vec<f32>>,
//! }
//!
//! impl Reader {
//!     /// The byte that follows the longest end of `said` that the text contains.
//!     fn next(&self, said: &[u8]) -> usize {
//!         let text = &self.text.0;
//!         (0..said.len())
//!             .map(|start| &said[start..])
//!             .find_map(|end| text.windows(end.len()).position(|place| place == end).map(|at| at + end.len()))
//!             .map_or(END, |at| text.get(at).map_or(END, |&byte| byte.into()))
//!     }
//! }
//!
//! impl Context for Reader {
//!     fn limits(&self) -> ContextLimits {
//!         ContextLimits { total_tokens: 32768, sequence_tokens: 4096, max_sequences: 8, batch_tokens: 512 }
//!     }
//!     fn decode(&mut self, batch: Batch<'_>) -> Result<(), PluginError> {
//!         self.logits.clear();
//!         for row in 0..batch.tokens.len() {
//!             let sequence = batch.sequences[row].0 as usize;
//!             self.sequences[sequence].truncate(batch.positions[row].0 as usize);
//!             self.sequences[sequence].push(batch.tokens[row].0 as u8);
//!             let mut logits = vec![-30.0; 257];
//!             logits[self.next(&self.sequences[sequence])] = 30.0;
//!             self.logits.push(logits);
//!         }
//!         Ok(())
//!     }
//!     fn logits(&self, row: usize) -> Result<&[f32], PluginError> {
//!         Ok(&self.logits[row])
//!     }
//!     fn seq_rm(&mut self, sequence: SeqId, range: PosRange) -> Result<(), PluginError> {
//!         let tokens = &mut self.sequences[sequence.0 as usize];
//!         let end = tokens.len().min(range.end.0 as usize);
//!         tokens.drain(end.min(range.start.0 as usize)..end);
//!         Ok(())
//!     }
//!     fn seq_cp(&mut self, from: SeqId, to: SeqId, range: PosRange) -> Result<(), PluginError> {
//!         let source = &self.sequences[from.0 as usize];
//!         let copy = source[..source.len().min(range.end.0 as usize)].to_vec();
//!         self.sequences[to.0 as usize] = copy;
//!         Ok(())
//!     }
//!     fn seq_pos_max(&self, sequence: SeqId) -> Option<Position> {
//!         self.sequences[sequence.0 as usize].len().checked_sub(1).map(|last| Position(last as u32))
//!     }
//!     fn clear(&mut self) -> Result<(), PluginError> {
//!         self.sequences.iter_mut().for_each(Vec::clear);
//!         Ok(())
//!     }
//! }
//!
//! export_plugin! {
//!     plugin: Parrot,
//!     id: "parrot",
//!     name: "Parrot: says its file again",
//!     formats: [{ id: "parrot", extensions: ["parrot"], priority: 100 }],
//! }
//! # mod door { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/door/mod.rs")); }
//! # fn main() { door::say_it_again(); }
//! ```
//!
//! # Extensions
//!
//! A model may offer more than the traits name, each under a name with a number, which is the extension's own major:
//! [`EMBEDDINGS`] turns texts into vectors ([`sdk::Embedding`]). A plugin may, too: [`INSPECTION`] shows all that a model's
//! headers say ([`sdk::Inspection`]), [`BENCHMARKS`] lets the host measure its kernels and devices ([`sdk::Benchmarks`]). A
//! host that does not know a name asks for none.
//!
//! # Ownership
//!
//! * Inputs are borrowed for the call. What is returned belongs to the host and is dropped through its own table.
//! * A context keeps its model alive; contexts are dropped before models.
//! * A borrowed slice (logits) ends at the next `&mut` call.
//! * A callback may be called from any plugin thread, but never after the call that received it has returned.
//! * Statics are per library: a plugin has its own allocator, `tracing`, thread pools. It builds its pool from
//!   [`HostApi::thread_budget`].
//!
//! # What the adapter does for a plugin, and what it does not
//!
//! Panics become [`ErrorCode::PANICKED`]; the model or context that panicked is poisoned and answers
//! [`ErrorCode::POISONED`] from then on, while the plugin itself goes on (a file that makes `probe` panic costs that
//! file). Batches whose lengths, tokens or sequences are out of range never reach the plugin. An abort, a segmentation
//! fault or an endless loop cannot be caught here.
//!
//! # Versions
//!
//! This crate's version is the contract's. Within a major, nothing in the root module and the traits changes: growth
//! goes through [`Extension`]s. The host compares the manifest's `api_version` before it opens a library and the layout
//! of every type while opening it.

mod benchmarks;
mod context;
mod embeddings;
mod error;
mod extension;
mod host;
mod ids;
mod info;
mod inspection;
pub mod manifest;
mod model;
mod module;
mod probe;
pub mod sdk;

pub use abi_stable;

pub use benchmarks::{
    AbiBenchmarks, AbiBenchmarks_TO, AbiWork, AbiWork_TO, BENCHMARKS, BenchDevice, BenchTask,
    BenchmarksTable, WorkBox, operation,
};
pub use context::{AbiContext, AbiContext_TO, Batch, ContextBox, ContextLimits};
pub use embeddings::{
    AbiEmbedder, AbiEmbedder_TO, EMBEDDINGS, EmbedderBox, EmbeddingBatch, EmbeddingLimits, EmbeddingsTable,
};
pub use error::{ErrorCode, PluginError};
pub use extension::Extension;
pub use host::{HostApi, LogLevel};
pub use ids::{PosRange, Position, SeqId, Token};
pub use info::{FormatInfo, PluginInfo};
pub use inspection::{INSPECTION, InspectionTable};
pub use model::{
    AbiModel, AbiModel_TO, Capabilities, Flow, LoadRequest, ModelBox, ProgressBox, ProgressSink,
    ProgressSink_TO, TokenizeOptions,
};
pub use module::{PluginModule, PluginRef};
pub use probe::{ProbeInput, ProbeResult};

/// The version of the contract: this crate's own.
pub const API_VERSION: &str = env!("CARGO_PKG_VERSION");

/// What [`export_plugin!`] expands to; no part of the contract.
#[doc(hidden)]
pub mod __private {
    pub use abi_stable::library::{
        __call_root_module_loader as call_root_module_loader, CheckTypeLayout, LibHeader, RootModuleResult,
    };
    pub use abi_stable::std_types::{ROption, RResult, RSlice, RStr};

    pub use crate::manifest;
    pub use crate::sdk::{Description, Holder};

    /// Makes the root module live for ever.
    pub fn leak(module: crate::PluginModule) -> crate::PluginRef {
        use abi_stable::prefix_type::PrefixTypeTrait;
        module.leak_into_prefix()
    }
}
