//! Impetus: a local server for language models in which every model format is a plugin.
//!
//! The folders tell a request's journey: `http` takes it in, `chat` turns messages into a prompt, `models` finds the
//! model and its plugin, `engine` schedules, decodes and samples, `text` makes whole text of token bytes. ARCHITECTURE.md
//! has the map and the invariants.

mod allocator;
pub mod child;
pub mod cli;
pub mod config;
pub mod error;
pub mod events;
pub mod journal;
pub mod machine;
pub mod metrics;
pub mod pinning;
pub mod plugins;

pub mod http;

pub mod chat;
pub mod models;

pub mod bench;
pub mod engine;
pub mod sampling;
pub mod text;
pub mod worker;

#[cfg(test)]
mod test_random;
