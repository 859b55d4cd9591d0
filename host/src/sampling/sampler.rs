//! One sequence's sampler: its settings, its random numbers, what it has seen, and the order of the stages. Knows
//! nothing of other sequences, so that company changes nothing.

use std::fmt;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use super::Settings;
use super::blocks::{self, Scale};
use super::candidates::{self, Candidates, Vocabulary};
use super::penalties::Penalties;

/// Chooses the tokens of one sequence. Same settings, same seed, same logits: same tokens, on every machine.
///
/// Holds buffers that grow to what the settings need: a copy of the logits (4 bytes a token of the vocabulary) where
/// penalties, bias or bans are on, up to 16 bytes a token where a very flat distribution meets top-p or min-p without
/// top-k, and next to nothing else.
#[derive(Debug)]
pub struct Sampler {
    settings: Settings,
    random: ChaCha8Rng,
    penalties: Penalties,
    adjusted: Vec<f32>,
    maxima: Vec<f32>,
    sums: Vec<f32>,
    candidates: Candidates,
}

/// No token could be chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SampleError {
    /// The model gave nothing to choose from: the fault is the model's or its plugin's.
    NoLogit {
        /// How many logits it gave.
        tokens: usize,
        /// How many of them are not a number; the others are -∞.
        not_a_number: usize,
    },
    /// Every token with a finite logit is banned: the fault is the request's.
    EveryTokenBanned {
        /// How many logits the model gave.
        tokens: usize,
    },
}

impl Sampler {
    /// A sampler that has seen nothing yet.
    ///
    /// `settings` are taken to have passed [`Settings::validate`]; others choose tokens without a meaning, but do
    /// not panic.
    pub fn new(settings: Settings, seed: u64) -> Self {
        Sampler {
            random: ChaCha8Rng::seed_from_u64(seed),
            penalties: Penalties::new(&settings),
            settings,
            adjusted: Vec::new(),
            maxima: Vec::new(),
            sums: Vec::new(),
            candidates: Candidates::default(),
        }
    }

    /// These tokens come next in the prompt: the repeat penalty counts them.
    pub fn observe_prompt(&mut self, tokens: &[u32]) {
        self.penalties.observe_prompt(tokens);
    }

    /// Chooses the next token from `logits`, one for each id of the vocabulary, and counts it for the penalties.
    ///
    /// A token whose logit is NaN or -∞ is never chosen; +∞ counts as the largest finite number. One random number
    /// is drawn for each token, none at temperature 0 or for an error.
    ///
    /// # Errors
    /// When no token is left, because of the model or of the bans.
    pub fn sample(&mut self, logits: &[f32]) -> Result<u32, SampleError> {
        let adjusted = adjust(&self.settings, &self.penalties, logits, &mut self.adjusted);
        let best = blocks::scan(adjusted, &mut self.maxima);
        if best == f32::NEG_INFINITY {
            return Err(nothing_left(logits));
        }
        let token = if self.settings.temperature <= 0.0 {
            blocks::first(adjusted, &self.maxima, best).map(|place| place as u32)
        } else {
            let best = best.min(f32::MAX);
            let vocabulary = Vocabulary { logits: adjusted, maxima: &self.maxima, best };
            let scale = Scale::new(best, self.settings.temperature);
            let point = fraction(self.random.next_u64());
            if filters(&self.settings) {
                self.candidates.filter(vocabulary, &self.settings);
                self.candidates.at(point, scale)
            } else {
                candidates::at(point, vocabulary, scale, &mut self.sums)
            }
        };
        let token = token.ok_or_else(|| nothing_left(logits))?;
        self.penalties.observe_answer(token);
        Ok(token)
    }
}

/// Penalties, bias and bans touch few tokens: without any of them the model's own logits are good, uncopied.
fn adjust<'a>(
    settings: &Settings,
    penalties: &Penalties,
    logits: &'a [f32],
    adjusted: &'a mut Vec<f32>,
) -> &'a [f32] {
    if penalties.is_empty() && settings.logit_bias.is_empty() && settings.banned.is_empty() {
        return logits;
    }
    adjusted.clear();
    adjusted.extend_from_slice(logits);
    penalties.apply(logits, adjusted);
    for (token, bias) in &settings.logit_bias {
        if let Some(logit) = adjusted.get_mut(*token as usize) {
            *logit += bias;
        }
    }
    for token in &settings.banned {
        if let Some(logit) = adjusted.get_mut(*token as usize) {
            *logit = f32::NEG_INFINITY;
        }
    }
    adjusted
}

fn filters(settings: &Settings) -> bool {
    settings.top_k > 0 || settings.top_p < 1.0 || settings.min_p > 0.0
}

/// The upper 53 bits as a number from 0 to under 1.
fn fraction(bits: u64) -> f64 {
    (bits >> 11) as f64 / (1_u64 << 53) as f64
}

fn nothing_left(logits: &[f32]) -> SampleError {
    let tokens = logits.len();
    if logits.iter().any(|logit| *logit > f32::NEG_INFINITY) {
        return SampleError::EveryTokenBanned { tokens };
    }
    SampleError::NoLogit { tokens, not_a_number: logits.iter().filter(|logit| logit.is_nan()).count() }
}

impl fmt::Display for SampleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SampleError::NoLogit { tokens, not_a_number } => write!(
                f,
                "no token could be chosen: the model gave {tokens} logits, of which {not_a_number} are not a number \
                 and the others minus infinity; check the model file, or run it with another type for the KV cache"
            ),
            SampleError::EveryTokenBanned { tokens } => write!(
                f,
                "no token could be chosen: the request forbids all that the model allows of its {tokens} tokens; \
                 forbid fewer"
            ),
        }
    }
}

impl std::error::Error for SampleError {}

#[cfg(test)]
#[path = "sampler_tests.rs"]
mod tests;
