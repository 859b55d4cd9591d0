//! The tokens that may still be chosen, and the filters that make them fewer: top-k, top-p, min-p. Works on adjusted
//! logits; penalties and bans were before, the temperature and the draw come after.
//!
//! Each filter keeps a best part of the tokens it finds, so that it is told by the last token kept. To find it a copy
//! is partitioned, never the whole sorted. The tokens themselves stay in order of id: the draw does not depend on
//! how the standard library partitions.

use super::Settings;
use super::blocks::{self, Scale};

/// Where this many tokens or fewer are in question, sorting them is quicker than halving on.
const SORTED: usize = 32;

/// A token that may be chosen.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Candidate {
    token: u32,
    logit: f32,
}

impl Candidate {
    /// Smaller for better tokens, and for the smaller id of equals: one number, because comparing two fields costs
    /// three times as much where many are compared. No logit here is NaN.
    fn rank(&self) -> u64 {
        // The bits of positive floats are in order, those of negative ones in reverse. Adding zero makes one of both.
        let bits = (self.logit + 0.0).to_bits();
        let ascending = if bits >> 31 == 1 { !bits } else { bits | 1 << 31 };
        u64::from(!ascending) << 32 | u64::from(self.token)
    }
}

/// The vocabulary's logits with what one pass over them told.
#[derive(Debug, Clone, Copy)]
pub(super) struct Vocabulary<'a> {
    pub(super) logits: &'a [f32],
    /// By [`blocks::scan`].
    pub(super) maxima: &'a [f32],
    /// The largest logit, finite.
    pub(super) best: f32,
}

/// The tokens left by the filters, in order of id.
#[derive(Debug, Default)]
pub(super) struct Candidates {
    kept: Vec<Candidate>,
    /// A copy of `kept` to be partitioned.
    partitioned: Vec<Candidate>,
    /// Numbers that a filter needs on its way.
    numbers: Vec<f32>,
}

impl Candidates {
    /// Applies the filters of `settings`, of which at least one is on, to a vocabulary.
    pub(super) fn filter(&mut self, vocabulary: Vocabulary<'_>, settings: &Settings) {
        // As logits, so that no softmax is needed: p ≥ min_p · p(best).
        let least = (vocabulary.best + settings.min_p.ln()).max(f32::MIN);
        let count = settings.top_k as usize;
        if count > 0 && count < vocabulary.logits.len() {
            let bound = blocks::reached_by(count, vocabulary.maxima, &mut self.numbers);
            self.collect(vocabulary, bound);
            self.top_k(count);
            if settings.top_p < 1.0 {
                let scale = Scale::new(vocabulary.best, 1.0);
                let all = self.weight(scale);
                self.top_p(all * f64::from(settings.top_p), scale);
            }
            self.kept.retain(|candidate| candidate.logit >= least);
        } else if settings.top_p < 1.0 {
            self.top_p_of_all(vocabulary, settings.top_p, least);
        } else {
            self.collect(vocabulary, least);
        }
    }

    /// The token at the fraction `point` of the weight of all that are left, in order of id.
    pub(super) fn at(&mut self, point: f64, scale: Scale) -> Option<u32> {
        self.numbers.clear();
        self.numbers.extend(self.kept.iter().map(|candidate| scale.weight(candidate.logit)));
        let all: f64 = self.numbers.iter().map(|weight| f64::from(*weight)).sum();
        let place = walk(self.numbers.iter().copied(), &mut (point * all))?;
        self.kept.get(place).map(|candidate| candidate.token)
    }

    fn collect(&mut self, vocabulary: Vocabulary<'_>, least: f32) {
        self.kept.clear();
        let kept = &mut self.kept;
        blocks::at_least(vocabulary.logits, vocabulary.maxima, least, |place, logit| {
            kept.push(Candidate { token: place as u32, logit });
        });
    }

    fn weight(&self, scale: Scale) -> f64 {
        self.kept.iter().map(|candidate| f64::from(scale.weight(candidate.logit))).sum()
    }

    /// Keeps the `count` best.
    fn top_k(&mut self, count: usize) {
        if count >= self.kept.len() {
            return;
        }
        self.partitioned.clone_from(&self.kept);
        let (_, last, _) = self.partitioned.select_nth_unstable_by_key(count - 1, Candidate::rank);
        let last = last.rank();
        self.kept.retain(|candidate| candidate.rank() <= last);
    }

    /// Keeps the fewest best that together weigh at least `enough`; all where they do not.
    ///
    /// Halves the part in which the last token to keep must be, best side first, so that the work is in proportion to
    /// the number of candidates.
    fn top_p(&mut self, enough: f64, scale: Scale) {
        self.partitioned.clone_from(&self.kept);
        let weight = |candidate: &Candidate| f64::from(scale.weight(candidate.logit));
        let (mut rest, mut missing) = (self.partitioned.as_mut_slice(), enough);
        while rest.len() > SORTED {
            let middle = rest.len() / 2;
            rest.select_nth_unstable_by_key(middle, Candidate::rank);
            let (better, worse) = rest.split_at_mut(middle);
            let weight_of_better: f64 = better.iter().map(weight).sum();
            if weight_of_better >= missing {
                rest = better;
            } else {
                missing -= weight_of_better;
                rest = worse;
            }
        }
        rest.sort_unstable_by_key(Candidate::rank);
        let last = rest.iter().find(|candidate| {
            missing -= weight(candidate);
            missing <= 0.0
        });
        if let Some(last) = last.map(Candidate::rank) {
            self.kept.retain(|candidate| candidate.rank() <= last);
        }
    }

    /// top-p where the whole vocabulary is in question, with min-p's bound as `least`: the tokens near the best are
    /// tried first, for in most places few of them have all the probability that is asked for.
    fn top_p_of_all(&mut self, vocabulary: Vocabulary<'_>, top_p: f32, least: f32) {
        let scale = Scale::new(vocabulary.best, 1.0);
        let enough = blocks::weigh(vocabulary.logits, scale, &mut self.numbers) * f64::from(top_p);
        for distance in [4.0, 8.0, 16.0, f32::INFINITY] {
            let bound = (vocabulary.best - distance).max(least);
            self.collect(vocabulary, bound);
            if self.weight(scale) >= enough {
                return self.top_p(enough, scale);
            }
            if bound == least {
                return;
            }
        }
    }
}

/// The token at the fraction `point` of the weight of a whole vocabulary, in order of id. `sums` is overwritten.
pub(super) fn at(point: f64, vocabulary: Vocabulary<'_>, scale: Scale, sums: &mut Vec<f32>) -> Option<u32> {
    let mut missing = point * blocks::weigh(vocabulary.logits, scale, sums);
    let block = walk(sums.iter().copied(), &mut missing)?;
    let start = block * blocks::BLOCK;
    let end = vocabulary.logits.len().min(start + blocks::BLOCK);
    let weights = vocabulary.logits[start..end].iter().map(|logit| scale.weight(*logit));
    Some((start + walk(weights, &mut missing)?) as u32)
}

/// The place at which the running sum of `weights` passes `missing`, which keeps what was missing there. Where rounding
/// leaves something missing at the end, the last place with a weight.
fn walk(weights: impl Iterator<Item = f32>, missing: &mut f64) -> Option<usize> {
    let mut here: Option<(usize, f64)> = None;
    for (place, weight) in weights.enumerate().filter(|(_, weight)| *weight > 0.0) {
        if let Some((_, passed)) = here {
            *missing -= passed;
        }
        let weight = f64::from(weight);
        here = Some((place, weight));
        if *missing < weight {
            break;
        }
    }
    here.map(|(place, _)| place)
}

#[cfg(test)]
#[path = "candidates_tests.rs"]
mod tests;
