//! Workers: a model's engine in a process of its own. The host opens neither the plugin nor the model then.
//!
//! `link` is the host's side, `serve` the worker's. Text, tokens and figures cross between them, never logits: about a
//! hundred bytes a token. What is under way is bounded on both sides by the engine's admission: a request is a permit, and a
//! client that does not read gets no more (`engine::router`).

mod link;
mod serve;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use self::link::{Bounds, Worker, memory_of};
pub use self::serve::serve;
use crate::engine::{Room, Settings};
use crate::error::Error;
use crate::plugins::Spec;

/// What a worker is to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Task {
    /// The model's name, for its threads and its log.
    pub model: String,
    /// The plugin that runs it.
    pub spec: Spec,
    /// The model's file or folder.
    pub path: PathBuf,
    /// Its format.
    pub format: String,
    /// Options of this model alone, a JSON object.
    pub options: String,
    /// How much the engine takes at once.
    pub settings: Settings,
}

/// What a worker says until its engine runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum Loading {
    /// So much is done, from 0 to 1.
    Progress(f32),
    /// It will not run.
    Refused(Error),
    /// It runs.
    Ready(Box<Ready>),
}

/// What the host must know of a model that runs elsewhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ready {
    /// What the plugin tells about the model, a JSON object.
    pub metadata: String,
    /// What the model can do, as the contract's bits.
    pub capabilities: u64,
    /// Whether it makes vectors of texts.
    pub embeds: bool,
    /// Number of token ids.
    pub vocab_size: u32,
    /// What the engine has room for.
    pub room: Room,
    /// Which limits the process is under, by name.
    pub confinement: Vec<String>,
}
