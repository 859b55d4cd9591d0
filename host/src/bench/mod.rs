//! Measures what runs: the machine, a model through the engine, or any OpenAI-compatible server through its API.
//!
//! Every figure comes from samples taken while the benchmark runs and carries them; what cannot be measured says why.
//! `options` say what to do, a `recorder` collects what is found, a `report` is the outcome; `store` keeps reports,
//! `compare` sets two side by side, `jobs` runs benchmarks for a server's clients.

mod chance;
mod compare;
mod energy;
mod environment;
mod jobs;
mod lengths;
mod machine;
pub mod markdown;
mod model;
mod options;
mod perplexity;
mod prompts;
mod recorder;
mod report;
mod samples;
mod serve;
mod store;
mod subject;
pub mod words;

pub use compare::{Change, Comparison, Verdict, compare};
pub use environment::{Cache, Machine};
pub use jobs::{Job, JobState, Jobs, Order, Worked};
pub use lengths::Lengths;
pub use machine::machine;
pub use model::{Text, model};
pub use options::{MachineOptions, ModelOptions, Options, Part, ServeOptions};
pub use perplexity::{Perplexity, perplexity, record as record_perplexity};
pub use recorder::{OnProgress, Progress, Recorder, Stopper};
pub use report::{Better, Figure, Kind, Report, Unit};
pub use samples::Samples;
pub use serve::{Exchange, RoundTime, Target, serve};
pub use store::{DATABASE, Saved, Store, new_id};
pub use subject::{PluginUsed, Subject, told, told_text};
