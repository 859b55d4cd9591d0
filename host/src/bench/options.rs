//! What a benchmark is told, with its defaults: from the command line and over HTTP alike.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::lengths::Lengths;
use super::report::Kind;
use crate::error::{Error, Result};

/// What to measure. Fields that nobody knows are refused.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[schema(as = BenchmarkOptions)]
pub enum Options {
    /// The machine.
    Machine(MachineOptions),
    /// A model.
    Model(ModelOptions),
    /// A server.
    Serve(ServeOptions),
}

/// A part of a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = BenchmarkPart)]
pub enum Part {
    /// Bandwidth of caches and memory.
    Memory,
    /// Matrix products of a plain loop and of the plugins' kernels on the processor.
    Arithmetic,
    /// Reading a model's file.
    Disk,
    /// Devices of plugins beside the processor.
    Devices,
}

impl Part {
    /// In the order in which they are measured.
    pub const ALL: [Part; 4] = [Part::Memory, Part::Arithmetic, Part::Disk, Part::Devices];
}

/// How a machine is measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct MachineOptions {
    /// What of it.
    pub parts: Vec<Part>,
    /// Samples of each figure.
    pub runs: u32,
    /// How long a sample takes at least.
    pub milliseconds: u32,
    /// Rows and columns of the matrices that are multiplied.
    pub size: u32,
    /// The model whose file is read; null: the largest that can be served.
    pub model: Option<String>,
}

impl Default for MachineOptions {
    fn default() -> Self {
        MachineOptions { parts: Part::ALL.to_vec(), runs: 5, milliseconds: 100, size: 1024, model: None }
    }
}

/// How a model is measured: each count with each depth and each number of sequences.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ModelOptions {
    /// Its id.
    pub model: String,
    /// Tokens of a prompt whose prefill is timed; 0 stands for none.
    pub prompt_tokens: Vec<u32>,
    /// Tokens generated whose decode is timed; 0 stands for none.
    pub generated_tokens: Vec<u32>,
    /// Tokens that stand before these, which are not timed.
    pub depths: Vec<u32>,
    /// Sequences that are computed together.
    pub sequences: Vec<u32>,
    /// Samples of each figure.
    pub runs: u32,
    /// Measure the machine's bandwidth and arithmetic too, and say which share of them the model reaches.
    pub limits: bool,
}

impl Default for ModelOptions {
    fn default() -> Self {
        ModelOptions {
            model: String::new(),
            prompt_tokens: vec![512],
            generated_tokens: vec![128],
            depths: vec![0],
            sequences: vec![1],
            runs: 5,
            limits: true,
        }
    }
}

/// How a server is loaded.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ServeOptions {
    /// The model to ask for.
    pub model: String,
    /// Clients at once, each of which sends its next request when its last one ended; without `rate`.
    pub clients: u32,
    /// Conversations that begin in a second, at random and whether or not earlier ones have ended (Poisson).
    pub rate: Option<f64>,
    /// Conversations in a round; null: twice the clients.
    pub requests: Option<u32>,
    /// How often each server is measured.
    pub rounds: u32,
    /// Random words of each message of a user.
    #[schema(value_type = serde_json::Value)]
    pub prompt_words: Lengths,
    /// Words of a system message that all conversations of a round share.
    pub shared_words: u32,
    /// Messages of the user in a conversation; latencies are those of the last answer.
    pub turns: u32,
    /// Tokens of each answer; end tokens are ignored where the server honours that.
    #[schema(value_type = serde_json::Value)]
    pub max_tokens: Lengths,
    /// A request is good when its first token comes within so many milliseconds.
    pub ttft_limit_ms: Option<f64>,
    /// And every other piece of it within so many after the one before.
    pub itl_limit_ms: Option<f64>,
    /// A server of which nothing is heard for so many seconds has hung, and the request failed.
    pub timeout_secs: u32,
    /// Same seed: same words, lengths and arrivals; null: others each time.
    pub seed: Option<u64>,
}

impl Default for ServeOptions {
    fn default() -> Self {
        ServeOptions {
            model: String::new(),
            clients: 8,
            rate: None,
            requests: None,
            rounds: 5,
            prompt_words: Lengths::Fixed(200),
            shared_words: 0,
            turns: 1,
            max_tokens: Lengths::Fixed(64),
            ttft_limit_ms: None,
            itl_limit_ms: None,
            timeout_secs: 600,
            seed: None,
        }
    }
}

impl Options {
    /// What kind of benchmark.
    pub fn kind(&self) -> Kind {
        match self {
            Options::Machine(_) => Kind::Machine,
            Options::Model(_) => Kind::Model,
            Options::Serve(_) => Kind::Serve,
        }
    }

    /// Whether every value is within its bounds.
    ///
    /// # Errors
    /// [`InvalidRequest`](crate::error::Kind::InvalidRequest) with the field.
    pub fn check(&self) -> Result<()> {
        match self {
            Options::Machine(machine) => {
                within("runs", machine.runs, 1, 1000)?;
                within("milliseconds", machine.milliseconds, 1, 60_000)?;
                within("size", machine.size, 64, 8192)
            }
            Options::Model(model) => {
                within("runs", model.runs, 1, 1000)?;
                let lists = [
                    ("prompt_tokens", &model.prompt_tokens, 0),
                    ("generated_tokens", &model.generated_tokens, 0),
                    ("depths", &model.depths, 0),
                    ("sequences", &model.sequences, 1),
                ];
                lists.into_iter().try_for_each(|(name, values, least)| each_within(name, values, least))
            }
            Options::Serve(serve) => {
                within("clients", serve.clients, 1, 4096)?;
                within("requests", serve.requests.unwrap_or(1), 1, 1_000_000)?;
                within("rounds", serve.rounds, 1, 1000)?;
                within("turns", serve.turns, 1, 1000)?;
                within("shared_words", serve.shared_words, 0, 1_000_000)?;
                within("timeout_secs", serve.timeout_secs, 1, 86_400)?;
                // The least is one in a quarter of an hour: below, the last arrival is further away than clocks reach.
                let numbers = [
                    ("rate", serve.rate, 1e-3),
                    ("ttft_limit_ms", serve.ttft_limit_ms, 1e-6),
                    ("itl_limit_ms", serve.itl_limit_ms, 1e-6),
                ];
                numbers.into_iter().try_for_each(|(name, value, least)| between(name, value, least))
            }
        }
    }
}

fn within(name: &str, value: u32, least: u32, most: u32) -> Result<()> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    Err(Error::invalid(name, format!("`{name}` must be between {least} and {most}; found {value}")))
}

fn each_within(name: &str, values: &[u32], least: u32) -> Result<()> {
    if values.is_empty() || values.len() > 64 {
        return Err(Error::invalid(
            name,
            format!("`{name}` must have 1 to 64 values; found {}", values.len()),
        ));
    }
    values.iter().try_for_each(|&value| within(name, value, least, 1_000_000))
}

fn between(name: &str, value: Option<f64>, least: f64) -> Result<()> {
    match value {
        Some(value) if !(least..=1e6).contains(&value) => {
            Err(Error::invalid(name, format!("`{name}` must be between {least} and 1000000; found {value}")))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<Options, String> {
        let options: Options = serde_json::from_str(json).map_err(|error| error.to_string())?;
        options.check().map_err(|error| error.message)?;
        Ok(options)
    }

    #[test]
    fn what_is_left_out_has_its_default_and_what_is_unknown_is_refused() {
        assert_eq!(read(r#"{"kind":"machine"}"#), Ok(Options::Machine(MachineOptions::default())));
        let Ok(Options::Model(model)) = read(r#"{"kind":"model","model":"m","depths":[0,512]}"#) else {
            panic!("no model")
        };
        assert_eq!((model.depths, model.runs), (vec![0, 512], 5));
        let Ok(Options::Serve(serve)) =
            read(r#"{"kind":"serve","model":"m","prompt_words":"10-20","rate":2.5}"#)
        else {
            panic!("no server")
        };
        assert_eq!((serve.prompt_words, serve.rate), (Lengths::Uniform(10, 20), Some(2.5)));
        for (json, expected) in [
            (r#"{"kind":"machine","run":5}"#, "run"),
            (r#"{"kind":"machine","runs":0}"#, "`runs` must be between 1 and 1000; found 0"),
            (r#"{"kind":"machine","parts":["gpu"]}"#, "gpu"),
            (r#"{"kind":"model","depths":[]}"#, "`depths` must have 1 to 64 values"),
            (r#"{"kind":"serve","rate":0}"#, "`rate` must be between 0.001 and 1000000"),
            (r#"{"kind":"serve","rate":1e-300}"#, "`rate` must be between 0.001"),
            (r#"{"kind":"serve","timeout_secs":0}"#, "`timeout_secs` must be between"),
            (r#"{"kind":"serve","max_tokens":"many"}"#, "`many` is no length"),
            (r#"{"kind":"oven"}"#, "oven"),
            (r"{}", "kind"),
        ] {
            let error = read(json).unwrap_err();
            assert!(error.contains(expected), "{json}: {error}");
        }
    }
}
