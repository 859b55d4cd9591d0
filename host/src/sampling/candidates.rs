//! The tokens that may still be chosen, and the draw among them.

use super::{NoCandidate, Settings};

/// Tokens with their logits, or, once they are weighed, their weights.
#[derive(Debug, Default)]
pub(super) struct Candidates {
    tokens: Vec<Candidate>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Candidate {
    token: u32,
    logit: f32,
}

impl Candidate {
    /// More probable first; of equals the smaller id. No logit in here is not a number.
    fn order(&self, other: &Self) -> std::cmp::Ordering {
        other.logit.total_cmp(&self.logit).then(self.token.cmp(&other.token))
    }
}

impl Candidates {
    /// Keeps what top-k, top-p and min-p let pass, in this order.
    ///
    /// # Errors
    /// [`NoCandidate`] when no logit is a number above minus infinity.
    pub(super) fn fill(&mut self, settings: &Settings, logits: &[f32]) -> Result<(), NoCandidate> {
        self.tokens.clear();
        let largest = logits.iter().copied().filter(|logit| !logit.is_nan()).fold(f32::NEG_INFINITY, f32::max);
        if largest == f32::NEG_INFINITY {
            return Err(NoCandidate);
        }
        let floor = self.floor(settings, largest);
        let passing = logits.iter().enumerate().filter(|&(_, &logit)| logit >= floor && logit > f32::NEG_INFINITY);
        self.tokens.extend(passing.map(|(token, &logit)| Candidate { token: token as u32, logit }));
        self.keep_top_k(settings.top_k as usize);
        if settings.top_p < 1.0 {
            self.keep_top_p(settings.top_p, largest);
        }
        if settings.min_p > 0.0 {
            let least = min_p_floor(settings, largest);
            self.tokens.retain(|candidate| candidate.logit >= least);
        }
        Ok(())
    }

    /// A logit below which nothing can pass the filters that come later, so that it need not be looked at. Min-p alone
    /// gives one exactly: with top-p before it, a smaller set would change top-p's sum.
    fn floor(&self, settings: &Settings, largest: f32) -> f32 {
        if settings.top_p >= 1.0 && settings.min_p > 0.0 {
            min_p_floor(settings, largest)
        } else {
            f32::NEG_INFINITY
        }
    }

    fn keep_top_k(&mut self, k: usize) {
        if k == 0 || k >= self.tokens.len() {
            return;
        }
        self.tokens.select_nth_unstable_by(k - 1, Candidate::order);
        self.tokens.truncate(k);
    }

    /// Keeps the fewest most probable tokens that together reach `top_p`. The front is partitioned off and sorted in
    /// growing pieces: the vocabulary is never sorted whole unless the distribution is flat.
    fn keep_top_p(&mut self, top_p: f32, largest: f32) {
        let weight = |candidate: &Candidate| f64::from((candidate.logit - largest).exp());
        let total: f64 = self.tokens.iter().map(weight).sum();
        let target = f64::from(top_p) * total;
        let (mut sum, mut sorted, mut piece) = (0.0, 0, 64);
        while sorted < self.tokens.len() {
            let rest = &mut self.tokens[sorted..];
            if piece < rest.len() {
                rest.select_nth_unstable_by(piece - 1, Candidate::order);
            }
            let end = piece.min(rest.len());
            rest[..end].sort_unstable_by(Candidate::order);
            for (at, candidate) in rest[..end].iter().enumerate() {
                sum += weight(candidate);
                if sum >= target {
                    let kept = sorted + at + 1;
                    self.tokens.truncate(kept);
                    return;
                }
            }
            sorted += end;
            piece *= 4;
        }
    }

    /// Draws one token with probability proportional to exp(logit / temperature). `draw` is in [0, 1). The order of
    /// the candidates must not depend on how they were filtered, so they are put in order of their ids first.
    pub(super) fn draw(&mut self, temperature: f32, draw: f64) -> u32 {
        let largest = self.tokens.iter().map(|candidate| candidate.logit).fold(f32::NEG_INFINITY, f32::max);
        self.tokens.sort_unstable_by_key(|candidate| candidate.token);
        let mut total = 0.0;
        for candidate in &mut self.tokens {
            // From here on the field holds the weight; equal infinities weigh the same.
            let distance = if candidate.logit == largest { 0.0 } else { candidate.logit - largest };
            candidate.logit = (distance / temperature).exp();
            total += f64::from(candidate.logit);
        }
        let mut left = draw * total;
        for candidate in &self.tokens {
            left -= f64::from(candidate.logit);
            if left < 0.0 {
                return candidate.token;
            }
        }
        // Rounding can leave a crumb: the last one with any weight has it.
        self.tokens.iter().rev().find(|candidate| candidate.logit > 0.0).map_or(0, |candidate| candidate.token)
    }

    #[cfg(test)]
    pub(super) fn ids(&self) -> Vec<u32> {
        let mut ids: Vec<u32> = self.tokens.iter().map(|candidate| candidate.token).collect();
        ids.sort_unstable();
        ids
    }
}

/// `p >= min_p * p_max` for softmax probabilities is this for logits.
fn min_p_floor(settings: &Settings, largest: f32) -> f32 {
    largest + settings.min_p.ln()
}
