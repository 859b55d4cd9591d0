//! One sequence's sampler: its settings, what it has seen, and the order of the stages. Knows
//! nothing of other sequences, so that company changes nothing.

use std::fmt;

use super::Settings;
use super::blocks;
use super::candidates::Vocabulary;
use super::draw::Draw;
use super::dry::Repeats;
use super::penalties::Penalties;

/// Chooses the tokens of one sequence. Same settings, same seed, same logits: same tokens, on every machine.
///
/// Holds buffers that grow to what the settings need: a copy of the logits (4 bytes a token of the vocabulary) where
/// penalties, bias or bans are on, up to 16 bytes a token where a very flat distribution meets filters without top-k, or
/// XTC no other filter, 8 bytes for each token of prompt and answer under DRY, and next to nothing else.
#[derive(Debug)]
pub struct Sampler {
    settings: Settings,
    penalties: Penalties,
    repeats: Option<Repeats>,
    adjusted: Vec<f32>,
    maxima: Vec<f32>,
    draw: Draw,
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
            penalties: Penalties::new(&settings),
            repeats: settings.dry.clone().map(Repeats::new),
            draw: Draw::new(&settings.selection, seed),
            settings,
            adjusted: Vec::new(),
            maxima: Vec::new(),
        }
    }

    /// These tokens come next in the prompt: the repeat penalty and DRY count them.
    pub fn observe_prompt(&mut self, tokens: &[u32]) {
        self.penalties.observe_prompt(tokens);
        if let Some(repeats) = &mut self.repeats {
            tokens.iter().for_each(|token| repeats.observe(*token));
        }
    }

    /// One of DRY's breakers ends with the last token: no repetition goes over this place.
    pub fn end_repetition(&mut self) {
        if let Some(repeats) = &mut self.repeats {
            repeats.end();
        }
    }

    /// Chooses the next token from `logits`, one for each id of the vocabulary, and counts it for the penalties.
    ///
    /// A token whose logit is NaN or -∞ is never chosen; +∞ counts as the largest finite number. One random number
    /// is drawn for each token (with XTC two), none at temperature 0 or for an error.
    ///
    /// # Errors
    /// When no token is left, because of the model or of the bans.
    pub fn sample(&mut self, logits: &[f32]) -> Result<u32, SampleError> {
        let is_repeating = self.repeats.as_mut().is_some_and(Repeats::find);
        let repeats = self.repeats.as_ref().filter(|_| is_repeating);
        let adjusted = adjust(&self.settings, (&self.penalties, repeats), logits, &mut self.adjusted);
        let best = blocks::scan(adjusted, &mut self.maxima);
        if best == f32::NEG_INFINITY {
            return Err(nothing_left(logits));
        }
        let token = if self.settings.temperature <= 0.0 {
            blocks::first(adjusted, &self.maxima, best).map(|place| place as u32)
        } else {
            let vocabulary = Vocabulary { logits: adjusted, maxima: &self.maxima, best: best.min(f32::MAX) };
            self.draw.token(vocabulary, &self.settings.selection, self.settings.temperature)
        };
        let token = token.ok_or_else(|| nothing_left(logits))?;
        self.penalties.observe_answer(token);
        if let Some(repeats) = &mut self.repeats {
            repeats.observe(token);
        }
        Ok(token)
    }
}

/// Penalties, bias and bans touch few tokens: without any of them the model's own logits are good, uncopied.
fn adjust<'a>(
    settings: &Settings,
    (penalties, repeats): (&Penalties, Option<&Repeats>),
    logits: &'a [f32],
    adjusted: &'a mut Vec<f32>,
) -> &'a [f32] {
    let untouched = penalties.is_empty() && repeats.is_none();
    if untouched && settings.logit_bias.is_empty() && settings.banned.is_empty() {
        return logits;
    }
    adjusted.clear();
    adjusted.extend_from_slice(logits);
    penalties.apply(logits, adjusted);
    if let Some(repeats) = repeats {
        repeats.apply(adjusted);
    }
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
