//! What may be typed behind `impetus run`.

use clap::Args;

use crate::sampling::{Filters, Selection, Settings};

#[derive(Debug, Args)]
pub(in crate::cli) struct Run {
    /// A model's id (see `impetus models`) or the path of a model file or folder
    pub(in crate::cli) model: String,
    /// The prompt; `-`, or none behind a pipe: what stdin says; none in a terminal: a chat
    pub(in crate::cli) prompt: Option<String>,
    /// The system message
    #[arg(long, value_name = "TEXT", conflicts_with = "raw")]
    pub(in crate::cli) system: Option<String>,
    /// Send the prompt as it is, without the model's chat template
    #[arg(long)]
    pub(in crate::cli) raw: bool,
    /// Most tokens of an answer; without it, what the context has room for
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..))]
    pub(in crate::cli) max_tokens: Option<u32>,
    /// End the answer before this text; may be given several times
    #[arg(long, value_name = "TEXT", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub(in crate::cli) stop: Vec<String>,
    /// Same seed, same prompt: same answer
    #[arg(long)]
    pub(in crate::cli) seed: Option<u64>,
    /// Say how fast it was, on stderr; on a terminal one answer does so anyway
    #[arg(long)]
    pub(in crate::cli) stats: bool,
    #[command(flatten)]
    sampling: Sampling,
}

/// How tokens are chosen. The defaults are those of llama.cpp's own command line: small models chat badly without any
/// filter. The HTTP API's defaults are OpenAI's, which filter nothing.
#[derive(Debug, Args)]
#[command(next_help_heading = "Sampling")]
struct Sampling {
    /// 0 takes the most probable token; the higher, the more surprising
    #[arg(long, value_name = "NUMBER", default_value_t = 0.8)]
    temperature: f32,
    /// Only this many of the most probable tokens; 0: all
    #[arg(long, value_name = "COUNT", default_value_t = 40)]
    top_k: u32,
    /// Only the most probable tokens that together reach this share; 1: all
    #[arg(long, value_name = "SHARE", default_value_t = 0.95)]
    top_p: f32,
    /// Only tokens at least this share as probable as the first; 0: all
    #[arg(long, value_name = "SHARE", default_value_t = 0.05)]
    min_p: f32,
    /// Above 1, what was said lately becomes less probable
    #[arg(long, value_name = "NUMBER", default_value_t = 1.0)]
    repeat_penalty: f32,
}

impl Run {
    /// The sampling settings, not yet validated.
    pub(in crate::cli) fn settings(&self) -> Settings {
        let &Sampling { temperature, top_k, top_p, min_p, repeat_penalty } = &self.sampling;
        let filters = Filters { top_k, top_p, min_p, ..Filters::default() };
        Settings {
            temperature,
            selection: Selection::Filters(filters),
            repeat_penalty,
            ..Settings::default()
        }
    }
}
