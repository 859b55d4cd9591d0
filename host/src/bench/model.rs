//! The speed of one loaded model through the engine, without HTTP: prefill and decode as `llama-bench` tells them apart.
//!
//! What the engine adds (scheduling, sampling the best token, making text of it) is measured with it. Guesses of next tokens
//! must be off in the engine's settings, or it measures how well a text can be guessed.

use std::time::Instant;

use serde::Serialize;

use super::prompts::Words;
use super::samples::Samples;
use crate::engine::Engine;
use crate::engine::message::{Event, Prompt, Request};
use crate::error::{Error, Kind, Result};
use crate::sampling;

/// What to measure.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Speeds {
    /// Tokens of the prompt whose prefill is timed.
    pub prompt_tokens: u32,
    /// Tokens generated after the first, whose decode is timed.
    pub generated_tokens: u32,
    /// Tokens that stand before the generated ones; the prefill of these is not timed.
    pub depth: u32,
    /// How often.
    pub runs: u32,
}

/// What was measured, a sample for each run.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Figures {
    /// Prompt tokens computed in a second (llama-bench's `pp`), up to the first token chosen.
    pub prefill_tokens_per_second: Samples,
    /// Tokens generated in a second (llama-bench's `tg`), from the first to the last.
    pub decode_tokens_per_second: Samples,
}

/// Measures, one run after another; `each` hears of every finished run. A first run is not counted.
///
/// # Errors
/// [`Kind::InvalidRequest`] when the context has no room for what is to be measured, else what the engine fails of.
pub async fn speeds(
    engine: &Engine,
    vocab_size: u32,
    wanted: Speeds,
    mut each: impl FnMut(u32),
) -> Result<Figures> {
    let longest = engine.longest_sequence();
    let needed = wanted.prompt_tokens.max(wanted.depth + wanted.generated_tokens) + 2;
    if needed > longest {
        let message = format!("the model's context is {longest} tokens here, and this needs {needed}");
        return Err(Error::new(Kind::InvalidRequest, message));
    }
    let mut figures = Figures::default();
    let mut words = Words::new(u64::from(std::process::id()));
    for run in 0..=wanted.runs {
        let prefill = timed(engine, tokens(&mut words, wanted.prompt_tokens, vocab_size), 1).await?;
        let decode =
            timed(engine, tokens(&mut words, wanted.depth.max(1), vocab_size), wanted.generated_tokens + 1)
                .await?;
        if run > 0 {
            figures
                .prefill_tokens_per_second
                .push(f64::from(wanted.prompt_tokens) / prefill.seconds_to_first);
            figures
                .decode_tokens_per_second
                .push(f64::from(decode.tokens_after_first) / decode.seconds_after_first);
            each(run);
        }
    }
    Ok(figures)
}

struct Timed {
    seconds_to_first: f64,
    seconds_after_first: f64,
    tokens_after_first: u32,
}

/// Generates greedily, end tokens banned, and times it. Where the first token adds no whole character, the clock of the
/// decode starts with the next: an error of one token among all.
async fn timed(engine: &Engine, prompt: Vec<u32>, max_tokens: u32) -> Result<Timed> {
    let request = Request {
        prompt: Prompt::Tokens(prompt),
        max_tokens: Some(max_tokens),
        stop: Vec::new(),
        ignore_eos: true,
        sampling: sampling::Settings { temperature: 0.0, ..sampling::Settings::default() },
        seed: Some(0),
        logprobs: None,
        structure: None,
        priority: 0,
        time_limit_ms: None,
        prompt_logprobs: false,
        shown: Vec::new(),
    };
    let started = Instant::now();
    let mut first = None;
    let mut events = engine.submit(request)?;
    while let Some(event) = events.next().await {
        match event {
            Event::Accepted { .. } | Event::Prompt { .. } | Event::Vector { .. } => {}
            Event::Text { .. } => {
                first.get_or_insert_with(Instant::now);
            }
            Event::Finished { usage, .. } => {
                let ended = Instant::now();
                let first = first.unwrap_or(ended);
                return Ok(Timed {
                    seconds_to_first: (first - started).as_secs_f64(),
                    seconds_after_first: (ended - first).as_secs_f64(),
                    tokens_after_first: usage.completion_tokens.saturating_sub(1),
                });
            }
            Event::Failed(error) => return Err(error),
        }
    }
    Err(Error::new(Kind::Internal, "a stream of events ended without its last one: this is a bug"))
}

/// Random tokens: no two runs share a prefix. The first ids of a vocabulary are often control tokens and left out.
fn tokens(words: &mut Words, count: u32, vocab_size: u32) -> Vec<u32> {
    let first = vocab_size / 10;
    (0..count).map(|_| first + words.below((vocab_size - first) as usize) as u32).collect()
}
