//! Pure numbers: a slice of logits in, a token out. The same for every plugin.
//!
//! The order is llama.cpp's default chain: penalties, logit bias and bans; then, at temperature 0, the largest logit
//! (ties to the smaller id); else top-k, top-p, min-p, temperature, and one draw. Nothing sorts the vocabulary, and
//! nothing allocates once the buffers have grown.
//!
//! * repeat penalty: Keskar et al. 2019, *CTRL*, section 4.1: over the last `penalty_window` tokens of prompt and answer.
//! * presence and frequency penalties: as OpenAI's API defines them, over the answer.
//! * top-k: Fan et al. 2018, *Hierarchical Neural Story Generation*.
//! * top-p: Holtzman et al. 2019, *The Curious Case of Neural Text Degeneration*.
//! * min-p: Nguyen et al. 2024, *Turning Up the Heat: Min-p Sampling*.

mod candidates;
mod logprobs;
mod penalties;
mod settings;
#[cfg(test)]
mod tests;

use std::fmt;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use self::candidates::Candidates;
pub use self::logprobs::{LogProbs, log_probabilities};
use self::penalties::Penalties;
pub use self::settings::{InvalidSetting, Settings};

/// Chooses the tokens of one answer.
#[derive(Debug)]
pub struct Sampler {
    settings: Settings,
    penalties: Penalties,
    candidates: Candidates,
    /// The logits after penalties and bias.
    adjusted: Vec<f32>,
    random: ChaCha8Rng,
}

/// No token can be chosen: every logit is banned, minus infinity or not a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoCandidate;

impl fmt::Display for NoCandidate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("every token is forbidden or has no finite logit")
    }
}

impl std::error::Error for NoCandidate {}

impl Sampler {
    /// Same settings, seed and logits: same tokens, whatever else runs. `settings` were validated.
    pub fn new(settings: Settings, seed: u64) -> Self {
        Sampler {
            penalties: Penalties::new(&settings),
            settings,
            candidates: Candidates::default(),
            adjusted: Vec::new(),
            random: ChaCha8Rng::seed_from_u64(seed),
        }
    }

    /// Tells the prompt's tokens, for the repeat penalty.
    pub fn observe_prompt(&mut self, tokens: &[u32]) {
        self.penalties.observe_prompt(tokens);
    }

    /// Chooses a token from the logits of a row, `[vocab_size]`, and remembers it for the penalties.
    ///
    /// # Errors
    /// [`NoCandidate`].
    pub fn sample(&mut self, logits: &[f32]) -> Result<u32, NoCandidate> {
        let token = if self.penalties.is_off() && self.settings.logit_bias.is_empty() && self.settings.banned.is_empty()
        {
            choose(&self.settings, &mut self.candidates, &mut self.random, logits)
        } else {
            self.adjusted.clear();
            self.adjusted.extend_from_slice(logits);
            self.penalties.apply(&mut self.adjusted);
            adjust(&self.settings, &mut self.adjusted);
            choose(&self.settings, &mut self.candidates, &mut self.random, &self.adjusted)
        }?;
        self.penalties.observe(token);
        Ok(token)
    }
}

/// Bias is added; banned tokens cannot be chosen. Ids beyond the vocabulary are passed over.
fn adjust(settings: &Settings, logits: &mut [f32]) {
    for &(token, bias) in &settings.logit_bias {
        if let Some(logit) = logits.get_mut(token as usize) {
            *logit += bias;
        }
    }
    for &token in &settings.banned {
        if let Some(logit) = logits.get_mut(token as usize) {
            *logit = f32::NEG_INFINITY;
        }
    }
}

fn choose(
    settings: &Settings,
    candidates: &mut Candidates,
    random: &mut ChaCha8Rng,
    logits: &[f32],
) -> Result<u32, NoCandidate> {
    if settings.temperature == 0.0 {
        return argmax(logits).ok_or(NoCandidate);
    }
    // One draw for each token, whatever the filters do, so that an answer can be replayed.
    let draw = (random.next_u64() >> 11) as f64 / (1_u64 << 53) as f64;
    candidates.fill(settings, logits)?;
    Ok(candidates.draw(settings.temperature, draw))
}

/// The largest logit's token; of equals the smallest id. Not-a-numbers and minus infinities are never chosen.
fn argmax(logits: &[f32]) -> Option<u32> {
    const LANES: usize = 16;

    // Maximum first, place after: the first loop is one vector instruction per lane, the second stops early.
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let chunks = logits.chunks_exact(LANES);
    let rest = chunks.remainder().iter().copied().fold(f32::NEG_INFINITY, f32::max);
    for chunk in chunks {
        for (lane, &logit) in lanes.iter_mut().zip(chunk) {
            *lane = if logit > *lane { logit } else { *lane };
        }
    }
    let largest = lanes.into_iter().fold(rest, f32::max);
    if largest == f32::NEG_INFINITY {
        return None;
    }
    logits.iter().position(|&logit| logit == largest).map(|at| at as u32)
}
