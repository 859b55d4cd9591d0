//! The tokens that may still be chosen, and the filters that make them fewer: top-n-sigma, top-k, typical, top-p, min-p,
//! XTC. Works on adjusted logits; penalties and bans were before, the temperature and the draw come after.
//!
//! Most filters keep a best part of the tokens they find, so that it is told by the last token kept. To find it a copy
//! is partitioned, never the whole sorted. The tokens themselves stay in order of id: the draw does not depend on
//! how the standard library partitions.

use super::blocks::{self, Scale, Spread};
use super::settings::Filters;

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

/// What was drawn.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Drawn {
    pub(super) token: u32,
    /// Its probability among those that could be drawn.
    pub(super) share: f64,
}

/// How far from where typical tokens are expected these are looked for first, in nats.
const TYPICAL_DISTANCES: [f64; 6] = [0.5, 1.0, 2.0, 4.0, 8.0, f64::INFINITY];

impl Candidates {
    /// Applies `filters` to a vocabulary. With `top_choices_from`, XTC leaves out all but the last of the tokens that
    /// have at least this probability.
    pub(super) fn filter(
        &mut self,
        vocabulary: Vocabulary<'_>,
        filters: &Filters,
        top_choices_from: Option<f32>,
    ) {
        if filters.narrow() {
            self.narrow(vocabulary, filters);
            if filters.top_p < 1.0 {
                let scale = Scale::new(self.best(), 1.0);
                let enough = self.spread(scale).weight * f64::from(filters.top_p);
                self.keep_until(enough, scale, Candidate::rank);
            }
            if filters.min_p > 0.0 {
                let least = least(self.best(), filters.min_p);
                self.kept.retain(|candidate| candidate.logit >= least);
            }
        } else if filters.top_p < 1.0 {
            self.top_p_of_all(vocabulary, filters.top_p, least(vocabulary.best, filters.min_p));
        } else {
            self.collect(vocabulary, least(vocabulary.best, filters.min_p));
        }
        if let Some(threshold) = top_choices_from {
            self.leave_out_top_choices(threshold);
        }
    }

    /// Keeps the `count` best of a vocabulary.
    pub(super) fn best_of_all(&mut self, vocabulary: Vocabulary<'_>, count: usize) {
        let bound = blocks::reached_by(count, vocabulary.maxima, &mut self.numbers);
        self.collect(vocabulary, bound);
        self.top_k(count);
    }

    /// Keeps the tokens of a vocabulary with at least this logit; the best where there is none.
    pub(super) fn collect_or_best(&mut self, vocabulary: Vocabulary<'_>, bound: f32) {
        if bound > vocabulary.best {
            self.best_of_all(vocabulary, 1);
        } else {
            self.collect(vocabulary, bound.max(f32::MIN));
        }
    }

    /// The kept logits, best first. Overwritten by whatever filters next.
    pub(super) fn sorted(&mut self) -> impl Iterator<Item = f32> {
        self.partitioned.clone_from(&self.kept);
        self.partitioned.sort_unstable_by_key(Candidate::rank);
        self.partitioned.iter().map(|candidate| candidate.logit)
    }

    /// The best logit left.
    pub(super) fn best(&self) -> f32 {
        self.kept.iter().fold(f32::NEG_INFINITY, |best, candidate| best.max(candidate.logit))
    }

    /// How the weights of those left are spread.
    pub(super) fn spread(&self, scale: Scale) -> Spread {
        let mut spread = Spread { count: self.kept.len(), ..Spread::default() };
        for candidate in &self.kept {
            let (logarithm, weight) = scale.logarithm_and_weight(candidate.logit);
            spread.weight += f64::from(weight);
            spread.moment += if weight > 0.0 { f64::from(weight) * f64::from(logarithm) } else { 0.0 };
        }
        spread
    }

    /// The token at the fraction `point` of the weight of all that are left, in order of id.
    pub(super) fn at(&mut self, point: f64, scale: Scale) -> Option<Drawn> {
        self.numbers.clear();
        self.numbers.extend(self.kept.iter().map(|candidate| scale.weight(candidate.logit)));
        let all: f64 = self.numbers.iter().map(|weight| f64::from(*weight)).sum();
        let place = walk(self.numbers.iter().copied(), &mut (point * all))?;
        let share = f64::from(*self.numbers.get(place)?) / all;
        self.kept.get(place).map(|candidate| Drawn { token: candidate.token, share })
    }

    /// The filters before top-p, of which at least one is on.
    fn narrow(&mut self, vocabulary: Vocabulary<'_>, filters: &Filters) {
        let floor = if filters.top_n_sigma > 0.0 {
            let deviation = blocks::deviation(vocabulary.logits, vocabulary.best);
            (vocabulary.best - filters.top_n_sigma * deviation).max(f32::MIN)
        } else {
            f32::MIN
        };
        let count = filters.top_k as usize;
        if count > 0 && count < vocabulary.logits.len() {
            let bound = blocks::reached_by(count, vocabulary.maxima, &mut self.numbers);
            self.collect(vocabulary, bound.max(floor));
            self.top_k(count);
        } else if floor > f32::MIN || filters.typical_p >= 1.0 {
            self.collect(vocabulary, floor);
        } else {
            return self.typical_of_all(vocabulary, filters.typical_p);
        }
        if filters.typical_p < 1.0 {
            let scale = Scale::new(self.best(), 1.0);
            let spread = self.spread(scale);
            let expected = f64::from(self.best()) + spread.mean();
            self.keep_until(spread.weight * f64::from(filters.typical_p), scale, near(expected));
        }
    }

    fn collect(&mut self, vocabulary: Vocabulary<'_>, least: f32) {
        self.kept.clear();
        let kept = &mut self.kept;
        blocks::at_least(vocabulary.logits, vocabulary.maxima, least, |place, logit| {
            kept.push(Candidate { token: place as u32, logit });
        });
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

    /// Keeps the fewest, those with the smallest `rank` first, that together weigh at least `enough`; all where they do
    /// not.
    ///
    /// Halves the part in which the last token to keep must be, best side first, so that the work is in proportion to
    /// the number of candidates.
    fn keep_until(&mut self, enough: f64, scale: Scale, rank: impl Fn(&Candidate) -> u64 + Copy) {
        self.partitioned.clone_from(&self.kept);
        let weight = |candidate: &Candidate| f64::from(scale.weight(candidate.logit));
        let (mut rest, mut missing) = (self.partitioned.as_mut_slice(), enough);
        while rest.len() > SORTED {
            let middle = rest.len() / 2;
            rest.select_nth_unstable_by_key(middle, rank);
            let (better, worse) = rest.split_at_mut(middle);
            let weight_of_better: f64 = better.iter().map(weight).sum();
            if weight_of_better >= missing {
                rest = better;
            } else {
                missing -= weight_of_better;
                rest = worse;
            }
        }
        rest.sort_unstable_by_key(rank);
        let last = rest.iter().find(|candidate| {
            missing -= weight(candidate);
            missing <= 0.0
        });
        if let Some(last) = last.map(rank) {
            self.kept.retain(|candidate| rank(candidate) <= last);
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
            if self.spread(scale).weight >= enough {
                return self.keep_until(enough, scale, Candidate::rank);
            }
            if bound == least {
                return;
            }
        }
    }

    /// Typical where the whole vocabulary is in question. A token's surprise is as far from the expected one as its
    /// logit is from the mean one, so that the tokens in question lie around that logit.
    fn typical_of_all(&mut self, vocabulary: Vocabulary<'_>, typical_p: f32) {
        let scale = Scale::new(vocabulary.best, 1.0);
        let spread = blocks::spread(vocabulary.logits, scale);
        let expected = f64::from(vocabulary.best) + spread.mean();
        let enough = spread.weight * f64::from(typical_p);
        for distance in TYPICAL_DISTANCES {
            self.collect(vocabulary, ((expected - distance) as f32).max(f32::MIN));
            let highest = (expected + distance) as f32;
            self.kept.retain(|candidate| candidate.logit <= highest);
            if self.spread(scale).weight >= enough {
                return self.keep_until(enough, scale, near(expected));
            }
        }
    }

    /// XTC: of the tokens with at least this probability only the least probable stays.
    fn leave_out_top_choices(&mut self, threshold: f32) {
        let scale = Scale::new(self.best(), 1.0);
        let enough = (self.spread(scale).weight * f64::from(threshold)) as f32;
        let is_top = |candidate: &Candidate| scale.weight(candidate.logit) >= enough;
        let last = self.kept.iter().filter(|candidate| is_top(candidate)).map(Candidate::rank).max();
        self.kept.retain(|candidate| !is_top(candidate) || Some(candidate.rank()) == last);
    }
}

/// The least logit with this share of the best one's probability, without a softmax: p ≥ min_p · p(best).
fn least(best: f32, min_p: f32) -> f32 {
    (best + min_p.ln()).max(f32::MIN)
}

/// Smaller for logits nearer to `expected`, and for the smaller id of equals.
fn near(expected: f64) -> impl Fn(&Candidate) -> u64 + Copy {
    // The bits of floats that are not negative are in order.
    move |candidate| {
        let distance = (f64::from(candidate.logit) - expected).abs() as f32;
        u64::from(distance.to_bits()) << 32 | u64::from(candidate.token)
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
