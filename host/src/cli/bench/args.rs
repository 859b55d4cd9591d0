//! What may be typed behind `impetus bench`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use crate::bench::{Lengths, MachineOptions, ModelOptions, Part, ServeOptions};

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum Bench {
    /// Memory bandwidth, matrix products, disk, and the devices of plugins
    Machine(BenchMachine),
    /// Prefill and decode of a model, as llama-bench defines them, beside the machine's limits
    Model(BenchModel),
    /// How well a model foretells a text, as llama-perplexity defines it
    Perplexity(BenchPerplexity),
    /// Clients that chat with an OpenAI-compatible server; with --against, with two in turn
    Serve(Box<BenchServe>),
    /// List what was kept with --save, or show one of it
    History(History),
    /// What is otherwise in B than in A, beyond the noise of both
    Compare(Compare),
}

/// Where a report goes. Without a flag a table is written.
#[derive(Debug, Clone, Args)]
pub(in crate::cli) struct Output {
    /// JSON with every sample instead of a table
    #[arg(long, conflicts_with = "markdown")]
    pub(super) json: bool,
    /// Markdown instead of a table
    #[arg(long)]
    pub(super) markdown: bool,
}

/// The same, and whether it is kept.
#[derive(Debug, Clone, Args)]
pub(in crate::cli) struct Keep {
    #[command(flatten)]
    pub(super) output: Output,
    /// Keep the report for `impetus bench history` and `compare`
    #[arg(long)]
    pub(super) save: bool,
}

/// Parts of a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum PartName {
    Memory,
    Arithmetic,
    Disk,
    Devices,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct BenchMachine {
    /// Measure only these parts
    #[arg(long, value_name = "PART", value_delimiter = ',', value_enum)]
    parts: Vec<PartName>,
    /// Samples of each figure
    #[arg(long, value_name = "COUNT", default_value_t = 5)]
    runs: u32,
    /// How long a sample takes at least
    #[arg(long, value_name = "TIME", default_value_t = 100)]
    milliseconds: u32,
    /// Rows and columns of the matrices that are multiplied
    #[arg(long, value_name = "COUNT", default_value_t = 1024)]
    size: u32,
    /// The model whose file is read from disk [default: the largest that can be served]
    #[arg(long, value_name = "ID")]
    model: Option<String>,
    #[command(flatten)]
    pub(super) keep: Keep,
}

impl BenchMachine {
    pub(super) fn options(&self) -> MachineOptions {
        let part = |name: &PartName| match name {
            PartName::Memory => Part::Memory,
            PartName::Arithmetic => Part::Arithmetic,
            PartName::Disk => Part::Disk,
            PartName::Devices => Part::Devices,
        };
        let parts =
            if self.parts.is_empty() { Part::ALL.to_vec() } else { self.parts.iter().map(part).collect() };
        let &BenchMachine { runs, milliseconds, size, .. } = self;
        MachineOptions { parts, runs, milliseconds, size, model: self.model.clone() }
    }
}

#[derive(Debug, Args)]
pub(in crate::cli) struct BenchModel {
    /// A model's id (see `impetus models`) or the path of a model file or folder
    pub(super) model: String,
    /// Tokens of the prompt whose prefill is timed; several with commas, 0: none
    #[arg(long, value_name = "TOKENS", value_delimiter = ',', default_value = "512")]
    prompt: Vec<u32>,
    /// Tokens generated whose decode is timed; several with commas, 0: none
    #[arg(long, value_name = "TOKENS", value_delimiter = ',', default_value = "128")]
    generate: Vec<u32>,
    /// Tokens that stand before these; several with commas
    #[arg(long, value_name = "TOKENS", value_delimiter = ',', default_value = "0")]
    depth: Vec<u32>,
    /// Sequences computed together; several with commas
    #[arg(long, value_name = "COUNT", value_delimiter = ',', default_value = "1")]
    sequences: Vec<u32>,
    /// Samples of each figure
    #[arg(long, value_name = "COUNT", default_value_t = 5)]
    runs: u32,
    /// Leave out the machine's limits, and which share of them the model reaches
    #[arg(long)]
    no_limits: bool,
    /// Measure the perplexity on this text too
    #[arg(long, value_name = "FILE")]
    pub(super) perplexity: Option<PathBuf>,
    /// Tokens of a window of that text, of whose second half each counts
    #[arg(long, value_name = "TOKENS", default_value_t = 512, requires = "perplexity", value_parser = clap::value_parser!(u32).range(4..1_000_000))]
    pub(super) window: u32,
    #[command(flatten)]
    pub(super) keep: Keep,
}

impl BenchModel {
    pub(super) fn options(&self) -> ModelOptions {
        ModelOptions {
            model: self.model.clone(),
            prompt_tokens: self.prompt.clone(),
            generated_tokens: self.generate.clone(),
            depths: self.depth.clone(),
            sequences: self.sequences.clone(),
            runs: self.runs,
            limits: !self.no_limits,
        }
    }
}

#[derive(Debug, Args)]
pub(in crate::cli) struct BenchPerplexity {
    /// A model's id (see `impetus models`) or the path of a model file or folder
    pub(super) model: String,
    /// A text file
    pub(super) text: PathBuf,
    /// Tokens of a window, of whose second half each counts
    #[arg(long, value_name = "TOKENS", default_value_t = 512, value_parser = clap::value_parser!(u32).range(4..1_000_000))]
    pub(super) window: u32,
    /// JSON with the cost of every window instead of a table
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct BenchServe {
    /// Address of a server, such as http://127.0.0.1:8484, or a model that is served for the time of the benchmark
    #[arg(value_name = "URL|MODEL")]
    pub(super) target: String,
    /// The model to ask for, where the target is an address
    #[arg(long, value_name = "ID")]
    pub(super) model: Option<String>,
    /// A second server, measured in turn with the first; the ratio is the first by the second
    #[arg(long, value_name = "URL")]
    pub(super) against: Option<String>,
    /// The model to ask the second server for [default: the first's]
    #[arg(long, value_name = "ID")]
    pub(super) against_model: Option<String>,
    /// Fields added to each request, as a JSON object
    #[arg(long, value_name = "JSON")]
    pub(super) body: Option<String>,
    /// The same for the second server; without --against the first server is measured with it in turn
    #[arg(long, value_name = "JSON")]
    pub(super) against_body: Option<String>,
    /// An API key of the first server
    #[arg(long, value_name = "KEY")]
    pub(super) key: Option<String>,
    /// An API key of the second server [default: the first's]
    #[arg(long, value_name = "KEY")]
    pub(super) against_key: Option<String>,
    /// Clients at once, each of which sends its next request when its last one ended
    #[arg(long, value_name = "COUNT", default_value_t = 8)]
    clients: u32,
    /// Conversations that begin in a second, at random (Poisson), however many run; instead of clients
    #[arg(long, value_name = "RATE", conflicts_with = "clients")]
    rate: Option<f64>,
    /// Conversations in a round [default: twice the clients]
    #[arg(long, value_name = "COUNT")]
    requests: Option<u32>,
    /// Random words of each message: a number, LEAST-MOST, normal:MEAN,DEVIATION or lognormal:MEDIAN,SIGMA
    #[arg(long, value_name = "LENGTH", default_value = "200")]
    prompt_words: Lengths,
    /// Words of a system message that all conversations of a round share
    #[arg(long, value_name = "COUNT", default_value_t = 0)]
    shared_words: u32,
    /// Messages of the user in a conversation; latencies are those of the last answer
    #[arg(long, value_name = "COUNT", default_value_t = 1)]
    turns: u32,
    /// Tokens of each answer, as --prompt-words
    #[arg(long, value_name = "LENGTH", default_value = "64")]
    max_tokens: Lengths,
    /// A good answer's first token comes within this time
    #[arg(long, value_name = "MILLISECONDS")]
    ttft_limit: Option<f64>,
    /// Every other piece of a good answer comes within this time of the one before
    #[arg(long, value_name = "MILLISECONDS")]
    itl_limit: Option<f64>,
    /// A server of which nothing is heard for so many seconds has hung, and the request failed
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    timeout: u32,
    /// Measure each server this often
    #[arg(long, value_name = "COUNT", default_value_t = 5)]
    rounds: u32,
    /// Same seed: same words, lengths and arrivals [default: new ones each time]
    #[arg(long)]
    seed: Option<u64>,
    /// Allow an address that is not this machine
    #[arg(long)]
    pub(super) remote: bool,
    #[command(flatten)]
    pub(super) keep: Keep,
}

impl BenchServe {
    pub(super) fn options(&self, model: &str) -> ServeOptions {
        let &BenchServe {
            clients,
            rate,
            requests,
            rounds,
            prompt_words,
            shared_words,
            turns,
            max_tokens,
            seed,
            ..
        } = self;
        ServeOptions {
            model: model.to_owned(),
            clients,
            rate,
            requests,
            rounds,
            prompt_words,
            shared_words,
            turns,
            max_tokens,
            ttft_limit_ms: self.ttft_limit,
            itl_limit_ms: self.itl_limit,
            timeout_secs: self.timeout,
            seed,
        }
    }
}

#[derive(Debug, Args)]
pub(in crate::cli) struct History {
    /// Show the report of this id; its beginning is enough
    pub(super) id: Option<String>,
    /// Forget that report
    #[arg(long, requires = "id")]
    pub(super) forget: bool,
    #[command(flatten)]
    pub(super) output: Output,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct Compare {
    /// A report's id (see `impetus bench history`), or a file that --json wrote
    pub(super) a: String,
    /// Another's
    pub(super) b: String,
    #[command(flatten)]
    pub(super) output: Output,
}
