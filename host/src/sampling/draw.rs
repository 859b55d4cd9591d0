//! Which token is drawn, above temperature 0: what the filters or mirostat leave, the temperature, one random number.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use super::blocks::{self, Scale, Spread};
use super::candidates::{self, Candidates, Vocabulary};
use super::settings::{DynamicTemperature, Filters, Mirostat, MirostatVersion, Selection};

/// One sequence's random numbers, and what mirostat has learnt of it.
#[derive(Debug)]
pub(super) struct Draw {
    random: ChaCha8Rng,
    /// Mirostat's μ: the surprise that a token may have, in bits.
    allowed_surprise: f64,
    sums: Vec<f32>,
    candidates: Candidates,
}

/// Mirostat estimates how steeply probabilities fall from so many tokens (the paper's m).
const ESTIMATED_FROM: usize = 100;

impl Draw {
    pub(super) fn new(selection: &Selection, seed: u64) -> Self {
        let allowed_surprise = match selection {
            // As the paper begins.
            Selection::Mirostat(mirostat) => 2.0 * f64::from(mirostat.tau),
            Selection::Filters(_) => 0.0,
        };
        Draw {
            random: ChaCha8Rng::seed_from_u64(seed),
            allowed_surprise,
            sums: Vec::new(),
            candidates: Candidates::default(),
        }
    }

    /// One token, by one random number; with XTC by two.
    pub(super) fn token(
        &mut self,
        vocabulary: Vocabulary<'_>,
        selection: &Selection,
        temperature: f32,
    ) -> Option<u32> {
        match selection {
            Selection::Filters(filters) => self.filtered(vocabulary, filters, temperature),
            Selection::Mirostat(mirostat) => self.mirostat(vocabulary, *mirostat, temperature),
        }
    }

    fn filtered(&mut self, vocabulary: Vocabulary<'_>, filters: &Filters, temperature: f32) -> Option<u32> {
        let dice = filters.xtc.map(|xtc| (xtc, self.fraction()));
        let strikes = dice.filter(|(xtc, chance)| *chance < f64::from(xtc.probability));
        let top_choices_from = strikes.map(|(xtc, _)| xtc.threshold);
        let point = self.fraction();
        if !filters.leave_out() && top_choices_from.is_none() {
            let flat = Scale::new(vocabulary.best, 1.0);
            let spread = || blocks::spread(vocabulary.logits, flat);
            let temperature = filters.dynamic.map_or(temperature, |by| by.temperature(temperature, spread()));
            let scale = Scale::new(vocabulary.best, temperature);
            return candidates::at(point, vocabulary, scale, &mut self.sums);
        }
        self.candidates.filter(vocabulary, filters, top_choices_from);
        let best = self.candidates.best();
        let spread = || self.candidates.spread(Scale::new(best, 1.0));
        let temperature = filters.dynamic.map_or(temperature, |by| by.temperature(temperature, spread()));
        Some(self.candidates.at(point, Scale::new(best, temperature))?.token)
    }

    fn mirostat(&mut self, vocabulary: Vocabulary<'_>, settings: Mirostat, temperature: f32) -> Option<u32> {
        let scale = Scale::new(vocabulary.best, temperature);
        match settings.version {
            MirostatVersion::One => self.keep_estimated(vocabulary, temperature),
            MirostatVersion::Two => {
                // -log2 p ≤ μ, as a bound for logits.
                let all = blocks::weigh(vocabulary.logits, scale, &mut self.sums);
                let least = all.ln() - self.allowed_surprise * std::f64::consts::LN_2;
                let bound = f64::from(vocabulary.best) + f64::from(temperature) * least;
                self.candidates.collect_or_best(vocabulary, bound as f32);
            }
        }
        let point = self.fraction();
        let drawn = self.candidates.at(point, scale)?;
        let error = -drawn.share.log2() - f64::from(settings.tau);
        self.allowed_surprise -= f64::from(settings.eta) * error;
        Some(drawn.token)
    }

    /// Mirostat 1: the best k, where k follows from μ and from how Zipf's law fits the best tokens.
    fn keep_estimated(&mut self, vocabulary: Vocabulary<'_>, temperature: f32) {
        self.candidates.best_of_all(vocabulary, ESTIMATED_FROM);
        let steepness = steepness(self.candidates.sorted().map(|logit| f64::from(logit / temperature)));
        let tokens = vocabulary.logits.len();
        self.candidates.best_of_all(vocabulary, most_tokens(steepness, self.allowed_surprise, tokens));
    }

    /// From 0 to under 1, by the upper 53 bits.
    fn fraction(&mut self) -> f64 {
        (self.random.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
    }

    #[cfg(test)]
    pub(super) fn next_u64(&mut self) -> u64 {
        self.random.next_u64()
    }
}

/// The exponent s of Zipf's law that fits these logits best, in the least-squares sense of the paper's equation 5:
/// s = Σ t·b / Σ t², with t = ln((i+1)/i) and b = ln(p(i)/p(i+1)).
fn steepness(sorted: impl Iterator<Item = f64>) -> f64 {
    let (mut products, mut squares, mut before) = (0.0, 0.0, None);
    for (i, logit) in (0..).zip(sorted) {
        if let Some(before) = before.replace(logit) {
            let t = (f64::from(i + 1) / f64::from(i)).ln();
            products += t * (before - logit);
            squares += t * t;
        }
    }
    products / squares
}

/// The paper's equation 4: k = (ε · 2^μ / (1 - N^-ε)) ^ (1/s), with ε = s - 1. At least one, at most all.
fn most_tokens(steepness: f64, allowed_surprise: f64, tokens: usize) -> usize {
    let epsilon = steepness - 1.0;
    let all = tokens as f64;
    // Towards ε = 0 the fraction becomes 1 / ln N.
    let fraction = if epsilon.abs() < 1e-9 { 1.0 / all.ln() } else { epsilon / (1.0 - all.powf(-epsilon)) };
    let count = (fraction * allowed_surprise.exp2()).powf(1.0 / steepness);
    // No number, where there is one token alone, becomes 0 here.
    (count as usize).clamp(1, tokens)
}

impl DynamicTemperature {
    /// The temperature for tokens that are spread so: from the least to the most as their entropy goes from nothing to
    /// the largest that so many tokens can have.
    fn temperature(self, temperature: f32, spread: Spread) -> f32 {
        if spread.count < 2 {
            return temperature;
        }
        let (least, most) = ((temperature - self.range).max(0.0), temperature + self.range);
        let uncertainty = (spread.entropy() / (spread.count as f64).ln()).clamp(0.0, 1.0);
        least + (most - least) * uncertainty.powf(f64::from(self.exponent)) as f32
    }
}

#[cfg(test)]
#[path = "draw_tests.rs"]
mod tests;
