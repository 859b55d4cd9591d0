//! A model's working state as the host sees it across the border: one thread owns it and decodes batches.

// sabi_trait expands to impls that newer compilers call non-local.
#![allow(non_local_definitions, missing_docs, clippy::undocumented_unsafe_blocks)]

use abi_stable::std_types::{RBox, ROption, RResult, RSlice, RString};
use abi_stable::{StableAbi, sabi_trait};

use crate::{PluginError, PosRange, Position, SeqId, Token};

/// Rows to compute: four slices of one length. Borrowed for the call.
///
/// Row `i` is token `tokens[i]` at `positions[i]` of `sequences[i]`; its logits are kept if `wants_logits[i]`.
/// A sequence's rows stand in order of position and go on where the sequence ends.
#[repr(C)]
#[derive(StableAbi, Debug, Clone, Copy)]
pub struct Batch<'a> {
    /// The token of each row.
    pub tokens: RSlice<'a, Token>,
    /// Its position in its sequence.
    pub positions: RSlice<'a, Position>,
    /// Its sequence.
    pub sequences: RSlice<'a, SeqId>,
    /// Whether its logits are wanted.
    pub wants_logits: RSlice<'a, bool>,
}

/// The bounds of a context, as it really is: the host asked, the plugin decided.
#[repr(C)]
#[derive(StableAbi, Debug, Clone, Copy, PartialEq, Eq)]
pub struct ContextLimits {
    /// Cells for tokens, shared by all sequences.
    pub total_tokens: u32,
    /// The longest that one sequence may be.
    pub sequence_tokens: u32,
    /// Sequence slots.
    pub max_sequences: u32,
    /// Rows that one `decode` takes at most.
    pub batch_tokens: u32,
}

/// A context across the border; authors implement [`sdk::Context`](crate::sdk::Context) instead.
#[sabi_trait]
pub trait AbiContext: Send {
    /// See [`sdk::Context::limits`](crate::sdk::Context::limits).
    fn limits(&self) -> ContextLimits;
    /// See [`sdk::Context::decode`](crate::sdk::Context::decode).
    fn decode(&mut self, batch: Batch<'_>) -> RResult<(), PluginError>;
    /// See [`sdk::Context::logits`](crate::sdk::Context::logits).
    fn logits(&self, row: u32) -> RResult<RSlice<'_, f32>, PluginError>;
    /// See [`sdk::Context::seq_rm`](crate::sdk::Context::seq_rm).
    fn seq_rm(&mut self, sequence: SeqId, range: PosRange) -> RResult<(), PluginError>;
    /// See [`sdk::Context::seq_cp`](crate::sdk::Context::seq_cp).
    fn seq_cp(&mut self, from: SeqId, to: SeqId, range: PosRange) -> RResult<(), PluginError>;
    /// See [`sdk::Context::seq_pos_max`](crate::sdk::Context::seq_pos_max).
    fn seq_pos_max(&self, sequence: SeqId) -> ROption<Position>;
    /// See [`sdk::Context::memory_stats_json`](crate::sdk::Context::memory_stats_json).
    fn memory_stats_json(&self) -> RString;
    /// See [`sdk::Context::clear`](crate::sdk::Context::clear).
    #[sabi(last_prefix_field)]
    fn clear(&mut self) -> RResult<(), PluginError>;
}

/// A context that the host owns and drops through its own table.
pub type ContextBox = AbiContext_TO<'static, RBox<()>>;
