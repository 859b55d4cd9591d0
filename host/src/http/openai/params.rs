//! The parameters that chats and completions share, and those that neither can honour.

use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::{sampling, structure};
use crate::engine::message::{Prompt, Request, Structure};
use crate::error::Error;
use crate::http::error::{Failure, Result};
use crate::http::fields::{Fields, elements, found};
use crate::http::life;
use crate::models::{KeepAlive, Loaded};
use crate::sampling::{Recommended, Settings};

/// The most answers to one prompt.
pub(super) const MAX_CHOICES: u32 = 128;
const MAX_STOPS: usize = 16;
const PRIORITIES: RangeInclusive<i32> = -1000..=1000;

/// A day.
const MAX_DEADLINE_MS: u32 = 24 * 60 * 60 * 1000;

/// The most alternatives that are told for each token.
pub(super) const MAX_LOGPROBS: u32 = 20;

/// How an answer is wanted, prompt aside.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Parameters {
    pub(super) sampling: Settings,
    pub(super) seed: Option<u64>,
    pub(super) stop: Vec<String>,
    pub(super) max_tokens: Option<u32>,
    pub(super) ignore_eos: bool,
    /// What the answer must be.
    pub(super) structure: Option<Structure>,
    /// Answers to each prompt.
    pub(super) choices: u32,
    /// Smaller goes first.
    pub(super) priority: i32,
    /// When the answer must have ended.
    pub(super) deadline: Option<Instant>,
    pub(super) delivery: Delivery,
    /// How long the model stays when nobody uses it any more.
    pub(super) keep_alive: Option<KeepAlive>,
}

/// Which pieces of a stream say what it took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StreamedUsage {
    /// None.
    Never,
    /// One more piece, at the end.
    AtEnd,
    /// That one, and every piece what the answer took so far, as vLLM has it.
    Throughout,
}

/// How an answer travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Delivery {
    /// In one piece.
    Whole,
    /// As it grows.
    Stream { usage: StreamedUsage },
}

impl Delivery {
    /// Whether a stream's last piece says what it took.
    pub(super) fn includes_usage(self) -> bool {
        matches!(self, Delivery::Stream { usage: StreamedUsage::AtEnd | StreamedUsage::Throughout })
    }

    /// Whether every piece does.
    pub(super) fn includes_usage_throughout(self) -> bool {
        self == Delivery::Stream { usage: StreamedUsage::Throughout }
    }
}

impl Parameters {
    /// Takes the fields that both requests have, and refuses what neither can honour.
    pub(super) fn take(fields: &mut Fields) -> Result<Self> {
        let parameters = Parameters {
            sampling: sampling::take(fields)?,
            seed: fields.integer("seed")?.map(|seed| seed_bits(fields, seed)).transpose()?,
            stop: stop(fields)?,
            max_tokens: max_tokens(fields)?,
            ignore_eos: fields.flag("ignore_eos")?.unwrap_or(false),
            structure: structure::take(fields)?,
            choices: fields.count("n", 1..=MAX_CHOICES)?.unwrap_or(1),
            priority: priority(fields)?,
            deadline: deadline(fields)?,
            delivery: delivery(fields)?,
            keep_alive: fields.value("keep_alive").map(|value| life::keep_alive(&value)).transpose()?,
        };
        refuse_what_cannot_be(fields)?;
        pass_over_bookkeeping(fields)?;
        Ok(parameters)
    }

    /// Refuses tokens that the model does not have.
    pub(super) fn check_vocabulary(&self, vocab_size: u32) -> Result<()> {
        self.sampling
            .validate_tokens(vocab_size)
            .map_err(|invalid| sampling::refused(&invalid, invalid.field))
    }

    /// What the request left open is as the model's authors recommend it; `asked` are the fields that say something.
    pub(super) fn fill(&mut self, asked: &[String], recommended: &Recommended) {
        recommended.fill(&mut self.sampling, |name| asked.iter().any(|asked| asked == name));
    }

    /// Does to the model what the request wishes beside its answer.
    pub(super) fn settle(&self, model: &Loaded) {
        if let Some(keep_alive) = self.keep_alive {
            model.keep(keep_alive);
        }
    }

    /// One request for each answer to a prompt. Each has a seed of its own, or all would be the same.
    pub(super) fn requests(&self, prompt: &Prompt, logprobs: Option<u32>) -> Vec<Request> {
        let request = |choice: u32| Request {
            prompt: prompt.clone(),
            max_tokens: self.max_tokens,
            stop: self.stop.clone(),
            ignore_eos: self.ignore_eos,
            sampling: self.sampling.clone(),
            seed: self.seed.map(|seed| seed.wrapping_add(u64::from(choice))),
            logprobs,
            structure: self.structure.clone(),
            offered: None,
            priority: self.priority,
            time_limit_ms: self.deadline.map(milliseconds_to),
            prompt_logprobs: false,
            afresh: false,
            shown: Vec::new(),
        };
        (0..self.choices).map(request).collect()
    }
}

/// Seeds are a signed 64-bit number in one client's schema and an unsigned one in another's: the bits count.
fn seed_bits(fields: &Fields, seed: i128) -> Result<u64> {
    let bits = i64::try_from(seed).map(i64::cast_unsigned).or_else(|_| u64::try_from(seed));
    bits.map_err(|_| {
        let path = fields.path("seed");
        let message = format!("`{path}` must be a whole number of 64 bits; found {seed}");
        Error::invalid(path, message).into()
    })
}

fn stop(fields: &mut Fields) -> Result<Vec<String>> {
    let values = match fields.value("stop") {
        None => return Ok(Vec::new()),
        Some(Value::Array(values)) => elements("stop", values),
        Some(text @ Value::String(_)) => vec![("stop".to_owned(), text)],
        Some(other) => {
            return Err(Failure::wrong_shape("stop", "a string or a list of strings", found(&other)));
        }
    };
    if values.len() > MAX_STOPS {
        let message = format!("`stop` may have up to {MAX_STOPS} strings; found {}", values.len());
        return Err(Error::invalid("stop", message).into());
    }
    let text = |(path, value): (String, Value)| match value {
        Value::String(text) if text.is_empty() => {
            Err(Error::invalid(path.as_str(), format!("`{path}` is empty: every text contains it")).into())
        }
        Value::String(text) => Ok(text),
        other => Err(Failure::wrong_shape(&path, "a string", found(&other))),
    };
    values.into_iter().map(text).collect()
}

fn max_tokens(fields: &mut Fields) -> Result<Option<u32>> {
    let old = fields.count("max_tokens", 1..=u32::MAX)?;
    let new = fields.count("max_completion_tokens", 1..=u32::MAX)?;
    if let (Some(old), Some(new)) = (old, new)
        && old != new
    {
        let message = "`max_completion_tokens` is the new name of `max_tokens`, and the two differ: send one";
        return Err(Error::invalid("max_completion_tokens", message).into());
    }
    Ok(new.or(old))
}

/// vLLM's field and its order: smaller goes first.
fn priority(fields: &mut Fields) -> Result<i32> {
    let Some(priority) = fields.integer("priority")? else { return Ok(0) };
    i32::try_from(priority).ok().filter(|priority| PRIORITIES.contains(priority)).ok_or_else(|| {
        let (first, last) = (PRIORITIES.start(), PRIORITIES.end());
        let message =
            format!("`priority` must be between {first} (first) and {last} (last); found {priority}");
        Error::invalid("priority", message).into()
    })
}

fn deadline(fields: &mut Fields) -> Result<Option<Instant>> {
    let limit = fields.count("deadline_ms", 1..=MAX_DEADLINE_MS)?;
    Ok(limit.map(|limit| Instant::now() + Duration::from_millis(limit.into())))
}

fn milliseconds_to(deadline: Instant) -> u64 {
    deadline.saturating_duration_since(Instant::now()).as_millis() as u64
}

fn delivery(fields: &mut Fields) -> Result<Delivery> {
    let stream = fields.flag("stream")?.unwrap_or(false);
    let Some(mut options) = fields.object("stream_options")? else {
        return Ok(if stream { Delivery::Stream { usage: StreamedUsage::Never } } else { Delivery::Whole });
    };
    if !stream {
        let message = "`stream_options` says how to stream, but `stream` is not true";
        return Err(Error::invalid("stream_options", message).into());
    }
    let at_end = options.flag("include_usage")?.unwrap_or(false);
    let throughout = options.flag("continuous_usage_stats")?.unwrap_or(false);
    if throughout && !at_end {
        let message = "`stream_options.continuous_usage_stats` goes with `include_usage`, which is not true";
        return Err(Error::invalid("stream_options.continuous_usage_stats", message).into());
    }
    if options.flag("include_obfuscation")?.unwrap_or(false) {
        let message =
            "`stream_options.include_obfuscation` is not supported: no padding is added to a stream";
        return Err(Error::unsupported("stream_options.include_obfuscation", message).into());
    }
    options.finish()?;
    Ok(Delivery::Stream {
        usage: match (at_end, throughout) {
            (_, true) => StreamedUsage::Throughout,
            (true, false) => StreamedUsage::AtEnd,
            (false, false) => StreamedUsage::Never,
        },
    })
}

/// Fields that are known, but of which only the value that asks for nothing can be honoured.
fn refuse_what_cannot_be(fields: &mut Fields) -> Result<()> {
    if fields.flag("store")?.unwrap_or(false) {
        let message = "`store` cannot be true: this server keeps no answers";
        return Err(Error::unsupported("store", message).into());
    }
    match fields.text("service_tier")?.as_deref() {
        None | Some("auto" | "default") => Ok(()),
        Some(other) => {
            let message =
                format!("`service_tier` can be `auto` or `default`: there is one tier; found `{other}`");
            Err(Error::unsupported("service_tier", message).into())
        }
    }
}

/// Fields that ask nothing of an answer.
fn pass_over_bookkeeping(fields: &mut Fields) -> Result<()> {
    for name in ["user", "safety_identifier", "prompt_cache_key"] {
        fields.text(name)?;
    }
    fields.object("metadata")?;
    Ok(())
}

#[cfg(test)]
#[path = "params_tests.rs"]
pub(super) mod tests;
