//! A loaded model as the host sees it across the border: immutable, shared by threads.

// sabi_trait expands to impls that newer compilers call non-local.
#![allow(non_local_definitions, missing_docs, clippy::undocumented_unsafe_blocks)]

use std::path::Path;

use abi_stable::std_types::{RBox, ROption, RResult, RStr, RString, RVec};
use abi_stable::{StableAbi, sabi_trait};

use crate::{ContextBox, Extension, PluginError, Token};

/// What a model and its contexts can do. Bits without a name are ignored by the reader.
#[repr(transparent)]
#[derive(StableAbi, Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Capabilities(pub u64);

impl Capabilities {
    /// `decode` gives logits: the model can generate text.
    pub const GENERATE: Capabilities = Capabilities(1);
    /// `seq_rm` can cut a sequence in the middle, not only whole.
    pub const PARTIAL_SEQ_RM: Capabilities = Capabilities(1 << 1);
    /// `seq_cp` works.
    pub const SEQ_CP: Capabilities = Capabilities(1 << 2);
    /// The state is recurrent (or partly so): it holds the last position only.
    pub const RECURRENT: Capabilities = Capabilities(1 << 3);

    /// Every named bit with its name.
    pub const NAMED: [(Capabilities, &'static str); 4] = [
        (Self::GENERATE, "generate"),
        (Self::PARTIAL_SEQ_RM, "partial_seq_rm"),
        (Self::SEQ_CP, "seq_cp"),
        (Self::RECURRENT, "recurrent"),
    ];

    /// Both sets together.
    #[must_use]
    pub const fn with(self, other: Capabilities) -> Self {
        Capabilities(self.0 | other.0)
    }

    /// Whether every bit of `other` is here.
    pub const fn has(self, other: Capabilities) -> bool {
        self.0 & other.0 == other.0
    }
}

/// How text becomes tokens.
#[repr(C)]
#[derive(StableAbi, Debug, Clone, Copy, PartialEq, Eq)]
pub struct TokenizeOptions {
    /// Add what the model wants around a text of its own (a leading BOS, say).
    pub add_special: bool,
    /// Turn the text of control tokens into these tokens. Never set for text that a user wrote into a chat.
    pub parse_special: bool,
}

/// What to load. Borrowed for the call.
#[repr(C)]
#[derive(StableAbi, Debug, Clone, Copy)]
pub struct LoadRequest<'a> {
    /// The path that `probe` was asked about.
    pub path: RStr<'a>,
    /// The format that `probe` answered.
    pub format: RStr<'a>,
    /// Options of this model alone, a JSON object; they go before the plugin's own from `init`.
    pub options_json: RStr<'a>,
}

impl<'a> LoadRequest<'a> {
    /// The path as the standard library has it.
    pub fn path(&self) -> &'a Path {
        Path::new(self.path.as_str())
    }
}

/// Whether a long call shall go on.
#[repr(u8)]
#[derive(StableAbi, Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// Go on.
    Continue,
    /// Stop as soon as possible and answer [`CANCELLED`](crate::ErrorCode::CANCELLED).
    Cancel,
}

/// The host's ear for the progress of a load.
#[sabi_trait]
pub trait ProgressSink: Send + Sync {
    /// `fraction` of the work done, 0 to 1. May be called from any thread, never after the load has returned.
    fn report(&self, fraction: f32) -> Flow;
}

/// A boxed [`ProgressSink`], owned by the plugin for the call.
pub type ProgressBox = ProgressSink_TO<'static, RBox<()>>;

/// A model across the border; authors implement [`sdk::Model`](crate::sdk::Model) instead.
#[sabi_trait]
pub trait AbiModel: Send + Sync {
    /// See [`sdk::Model::metadata_json`](crate::sdk::Model::metadata_json).
    fn metadata_json(&self) -> RResult<RString, PluginError>;
    /// See [`sdk::Model::capabilities`](crate::sdk::Model::capabilities).
    fn capabilities(&self) -> Capabilities;
    /// See [`sdk::Model::vocab_size`](crate::sdk::Model::vocab_size).
    fn vocab_size(&self) -> u32;
    /// See [`sdk::Model::tokenize`](crate::sdk::Model::tokenize).
    fn tokenize(&self, text: RStr<'_>, options: TokenizeOptions) -> RResult<RVec<Token>, PluginError>;
    /// See [`sdk::Model::token_bytes`](crate::sdk::Model::token_bytes).
    fn token_bytes(&self, token: Token) -> RResult<RVec<u8>, PluginError>;
    /// See [`sdk::Model::is_end_of_generation`](crate::sdk::Model::is_end_of_generation).
    fn is_end_of_generation(&self, token: Token) -> bool;
    /// See [`sdk::Model::new_context`](crate::sdk::Model::new_context).
    fn new_context(&self, params_json: RStr<'_>) -> RResult<ContextBox, PluginError>;
    /// See [`sdk::Model::extension`](crate::sdk::Model::extension).
    #[sabi(last_prefix_field)]
    fn extension(&self, name: RStr<'_>) -> ROption<Extension>;
}

/// A model that the host owns and drops through its own table.
pub type ModelBox = AbiModel_TO<'static, RBox<()>>;
