//! The extension [`EMBEDDINGS`]: texts become vectors. What crosses the border for it.
//!
//! [`Model::extension`](crate::sdk::Model::extension) gives a table with one function, which makes an embedder of the
//! model: a working state as a context is, owned by one thread, that keeps its model alive.

// sabi_trait expands to impls that newer compilers call non-local.
#![allow(non_local_definitions, missing_docs, clippy::undocumented_unsafe_blocks)]

use abi_stable::std_types::{RBox, RResult, RSlice, RStr, RString, RVec};
use abi_stable::{StableAbi, sabi_trait};

use crate::{ModelBox, PluginError, Token};

/// The extension's name; the number is its own major.
pub const EMBEDDINGS: &str = "embeddings/1";

/// Sequences to embed, one behind the other. Borrowed for the call.
#[repr(C)]
#[derive(StableAbi, Debug, Clone, Copy)]
pub struct EmbeddingBatch<'a> {
    /// The tokens of all sequences.
    pub tokens: RSlice<'a, Token>,
    /// How many of them each sequence has, at least one; together all.
    pub lengths: RSlice<'a, u32>,
}

/// The bounds of an embedder, as it really is. None is zero.
#[repr(C)]
#[derive(StableAbi, Debug, Clone, Copy, PartialEq, Eq)]
pub struct EmbeddingLimits {
    /// Numbers of a vector.
    pub dimensions: u32,
    /// The longest that one sequence may be, in tokens.
    pub sequence_tokens: u32,
    /// Tokens of one batch at most, at least `sequence_tokens`.
    pub batch_tokens: u32,
    /// Sequences of one batch at most.
    pub batch_sequences: u32,
}

/// An embedder across the border; authors implement [`sdk::Embedder`](crate::sdk::Embedder) instead.
#[sabi_trait]
pub trait AbiEmbedder: Send {
    /// See [`sdk::Embedder::limits`](crate::sdk::Embedder::limits).
    fn limits(&self) -> EmbeddingLimits;
    /// See [`sdk::Embedder::metadata_json`](crate::sdk::Embedder::metadata_json).
    fn metadata_json(&self) -> RResult<RString, PluginError>;
    /// `[sequences][dimensions]`, flat. See [`sdk::Embedder::embed`](crate::sdk::Embedder::embed).
    #[sabi(last_prefix_field)]
    fn embed(&mut self, batch: EmbeddingBatch<'_>) -> RResult<RVec<f32>, PluginError>;
}

/// An embedder that the host owns and drops through its own table.
pub type EmbedderBox = AbiEmbedder_TO<'static, RBox<()>>;

/// What [`EMBEDDINGS`] names.
#[repr(C)]
#[derive(StableAbi, Debug, Clone, Copy)]
pub struct EmbeddingsTable {
    /// Makes an embedder of a model of this very plugin: the one that gave the table. The text is a JSON object; see
    /// [`sdk::Embedding::new_embedder`](crate::sdk::Embedding::new_embedder).
    pub new_embedder: extern "C" fn(&ModelBox, RStr<'_>) -> RResult<EmbedderBox, PluginError>,
}
