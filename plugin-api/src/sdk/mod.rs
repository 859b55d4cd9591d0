//! The half of the contract that plugin authors write against: plain, safe traits.
//!
//! [`export_plugin!`](crate::export_plugin) puts an adapter between these and the ABI types. The adapter catches
//! panics, refuses batches and rows that break the contract before they reach the plugin, keeps a model alive while a
//! context of it lives, and carries the plugin's `tracing` events and panics into the host's log.

mod adapter;
mod benchmarks;
mod embeddings;
mod export;
mod guard;
mod inspection;
mod log;
mod traits;

pub use benchmarks::{Benchmarks, Work, benchmarks};
pub use embeddings::{Embedder, Embedding, embeddings};
pub use inspection::{Inspection, inspection};
pub use traits::{Context, FormatPlugin, Model, Progress};

#[doc(hidden)]
pub use export::{Description, Holder};
