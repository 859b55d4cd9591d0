//! What may be typed behind `impetus run`.

use clap::Args;

use crate::sampling::{Filters, Recommended, Selection, Settings};

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

/// How tokens are chosen. What is not said is as the model's authors recommend it, and else as in llama.cpp's own command
/// line: small models chat badly without any filter. The HTTP API's defaults are OpenAI's, which filter nothing.
#[derive(Debug, Args)]
#[command(next_help_heading = "Sampling")]
struct Sampling {
    /// 0 takes the most probable token; the higher, the more surprising [default: the model's own, or 0.8]
    #[arg(long, value_name = "NUMBER")]
    temperature: Option<f32>,
    /// Only this many of the most probable tokens; 0: all [default: the model's own, or 40]
    #[arg(long, value_name = "COUNT")]
    top_k: Option<u32>,
    /// Only the most probable tokens that together reach this share; 1: all [default: the model's own, or 0.95]
    #[arg(long, value_name = "SHARE")]
    top_p: Option<f32>,
    /// Only tokens at least this share as probable as the first; 0: all [default: the model's own, or 0.05]
    #[arg(long, value_name = "SHARE")]
    min_p: Option<f32>,
    /// Above 1, what was said lately becomes less probable [default: the model's own, or 1]
    #[arg(long, value_name = "NUMBER")]
    repeat_penalty: Option<f32>,
}

impl Run {
    /// The sampling settings for a model of which this is recommended, not yet validated.
    pub(in crate::cli) fn settings(&self, recommended: &Recommended) -> Settings {
        let Sampling { temperature, top_k, top_p, min_p, repeat_penalty } = &self.sampling;
        let filters = Filters {
            top_k: top_k.unwrap_or(40),
            top_p: top_p.unwrap_or(0.95),
            min_p: min_p.unwrap_or(0.05),
            ..Filters::default()
        };
        let mut settings = Settings {
            temperature: temperature.unwrap_or(0.8),
            selection: Selection::Filters(filters),
            repeat_penalty: repeat_penalty.unwrap_or(1.0),
            ..Settings::default()
        };
        recommended.fill(&mut settings, |name| match name {
            "temperature" => temperature.is_some(),
            "top_k" => top_k.is_some(),
            "top_p" => top_p.is_some(),
            "min_p" => min_p.is_some(),
            "repeat_penalty" => repeat_penalty.is_some(),
            _ => false,
        });
        settings
    }
}
