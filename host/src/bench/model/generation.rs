//! Sequences generated together, and when each of their tokens was told.

use std::time::Instant;

use futures_util::future::join_all;

use crate::bench::prompts::Words;
use crate::engine::message::{Event, Prompt, Request, Usage};
use crate::engine::{Engine, EventStream};
use crate::error::{Error, Kind, Result};
use crate::sampling;

/// Sequences that began at one moment.
pub(super) struct Generation {
    started: Instant,
    sequences: Vec<Sequence>,
}

struct Sequence {
    /// When so many tokens had been told.
    told: Vec<(Instant, u32)>,
    ended: Instant,
    usage: Usage,
}

impl Generation {
    /// Generates so many tokens behind each prompt, greedily, end tokens banned.
    ///
    /// # Errors
    /// What the engine fails of.
    pub(super) async fn of(engine: &Engine, prompts: Vec<Vec<u32>>, max_tokens: u32) -> Result<Generation> {
        let requests = prompts.into_iter().map(|prompt| request(prompt, max_tokens)).collect();
        let started = Instant::now();
        let streams = engine.submit_all(requests)?;
        let sequences = join_all(streams.into_iter().map(read)).await.into_iter().collect::<Result<_>>()?;
        Ok(Generation { started, sequences })
    }

    /// Tokens of all prompts, as far as they were computed and not found in the cache.
    pub(super) fn computed_prompt_tokens(&self) -> u32 {
        self.sequences.iter().map(|one| one.usage.prompt_tokens - one.usage.cached_tokens).sum()
    }

    /// Tokens generated.
    pub(super) fn generated_tokens(&self) -> u32 {
        self.sequences.iter().map(|one| one.usage.completion_tokens).sum()
    }

    /// Seconds until the last sequence ended.
    pub(super) fn seconds(&self) -> f64 {
        let ended = self.sequences.iter().map(|one| one.ended).max().unwrap_or(self.started);
        (ended - self.started).as_secs_f64()
    }

    /// Tokens in a second while every sequence was generating: from when the last began to when the first ended. With how many
    /// tokens each told meanwhile, at least.
    pub(super) fn decode_rate(&self) -> Option<(f64, u32)> {
        let begun = self.sequences.iter().map(|one| one.told.first().map(|(at, _)| *at)).max()??;
        let ended = self.sequences.iter().map(|one| one.ended).min()?;
        let told: Vec<u32> =
            self.sequences.iter().map(|one| one.told_at(ended).saturating_sub(one.told_at(begun))).collect();
        let seconds = ended.checked_duration_since(begun)?.as_secs_f64();
        Some((f64::from(told.iter().sum::<u32>()) / seconds, told.into_iter().min()?))
    }
}

impl Sequence {
    /// Tokens told at a moment.
    fn told_at(&self, moment: Instant) -> u32 {
        if moment >= self.ended {
            return self.usage.completion_tokens;
        }
        self.told.iter().rev().find(|(at, _)| *at <= moment).map_or(0, |(_, told)| *told)
    }
}

async fn read(mut events: EventStream) -> Result<Sequence> {
    let mut told = Vec::new();
    while let Some(event) = events.next().await {
        match event {
            Event::Accepted { .. } | Event::Prompt { .. } | Event::Vector { .. } => {}
            Event::Text { told: count, .. } => told.push((Instant::now(), count)),
            Event::Finished { usage, .. } => return Ok(Sequence { told, ended: Instant::now(), usage }),
            Event::Failed(error) => return Err(error),
        }
    }
    Err(Error::new(Kind::Internal, "a stream of events ended without its last one: this is a bug"))
}

fn request(prompt: Vec<u32>, max_tokens: u32) -> Request {
    Request {
        prompt: Prompt::Tokens(prompt),
        max_tokens: Some(max_tokens),
        stop: Vec::new(),
        ignore_eos: true,
        sampling: sampling::Settings { temperature: 0.0, ..sampling::Settings::default() },
        seed: Some(0),
        logprobs: None,
        structure: None,
        offered: None,
        priority: 0,
        time_limit_ms: None,
        prompt_logprobs: false,
        afresh: false,
        shown: Vec::new(),
    }
}

/// Random tokens: no two prompts share a beginning. The first ids of a vocabulary are often control tokens and left out.
pub(super) fn tokens(words: &mut Words, count: u32, vocab_size: u32) -> Vec<u32> {
    let first = vocab_size / 10;
    (0..count).map(|_| first + words.below((vocab_size - first) as usize) as u32).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn decode_is_timed_while_all_sequences_run() {
        let started = Instant::now();
        let at = |ms| started + Duration::from_millis(ms);
        let sequence = |told: &[(u64, u32)], ended, completion_tokens| Sequence {
            told: told.iter().map(|&(ms, count)| (at(ms), count)).collect(),
            ended: at(ended),
            usage: Usage { prompt_tokens: 10, cached_tokens: 4, completion_tokens, ..Usage::default() },
        };
        let sequences = vec![
            sequence(&[(100, 1), (200, 2), (300, 3), (400, 4)], 500, 5),
            sequence(&[(200, 1), (300, 2), (400, 3), (500, 4)], 600, 5),
        ];
        let generation = Generation { started, sequences };
        // From 200 to 500 ms each tells three tokens.
        let (rate, least) = generation.decode_rate().unwrap();
        assert!((rate - 20.0).abs() < 1e-9 && least == 3, "{rate} {least}");
        assert_eq!((generation.computed_prompt_tokens(), generation.generated_tokens()), (12, 10));
        assert!((generation.seconds() - 0.6).abs() < 1e-9);
        // One that ended before the other began says nothing.
        let sequences = vec![sequence(&[(100, 1)], 150, 2), sequence(&[(200, 1)], 300, 2)];
        assert_eq!(Generation { started, sequences }.decode_rate(), None);
    }
}
