//! Passes over a whole vocabulary, written so that the compiler makes vector code of them: the best logit of each block
//! of 128, and each block's share of the softmax. Decides nothing; blocks only tell the filters what not to read again.
//!
//! NaN counts as -∞ (never chosen) and +∞ as the largest finite number, so that no sum becomes NaN.

/// Logits in a block: enough to make the horizontal maximum cheap, few enough to skip most of a vocabulary.
pub(super) const BLOCK: usize = 128;

/// Sums and maxima are kept in this many lanes, in the same order on every machine: same logits, same figures.
const LANES: usize = 16;

/// Writes the largest logit of each block to `maxima` and returns the largest of all; -∞ where there is none.
pub(super) fn scan(logits: &[f32], maxima: &mut Vec<f32>) -> f32 {
    maxima.clear();
    maxima.extend(logits.chunks(BLOCK).map(maximum));
    maximum(maxima)
}

/// The place of the first logit equal to `best`, by the `maxima` that [`scan`] wrote.
pub(super) fn first(logits: &[f32], maxima: &[f32], best: f32) -> Option<usize> {
    let block = maxima.iter().position(|maximum| *maximum == best)?;
    let start = block * BLOCK;
    let within = logits[start..].iter().position(|logit| *logit == best)?;
    Some(start + within)
}

/// Calls `found` with place and value of each logit of at least `least`, in order. `least` is finite: -∞ and NaN are
/// never found.
pub(super) fn at_least(logits: &[f32], maxima: &[f32], least: f32, mut found: impl FnMut(usize, f32)) {
    for (block, (values, maximum)) in logits.chunks(BLOCK).zip(maxima).enumerate() {
        if *maximum >= least {
            for (within, logit) in values.iter().enumerate().filter(|(_, logit)| **logit >= least) {
                found(block * BLOCK + within, logit.min(f32::MAX));
            }
        }
    }
}

/// A logit that at least `count` logits reach, as high as blocks can tell: the `count`-th largest block maximum. The
/// smallest finite number where there are fewer blocks. `scratch` is overwritten.
pub(super) fn reached_by(count: usize, maxima: &[f32], scratch: &mut Vec<f32>) -> f32 {
    if count == 0 || count > maxima.len() {
        return f32::MIN;
    }
    scratch.clear();
    scratch.extend_from_slice(maxima);
    let (_, least, _) = scratch.select_nth_unstable_by(count - 1, |a, b| b.total_cmp(a));
    least.max(f32::MIN)
}

/// Writes the sum of each block's weights to `sums` and returns the sum of all.
pub(super) fn weigh(logits: &[f32], scale: Scale, sums: &mut Vec<f32>) -> f64 {
    sums.clear();
    sums.extend(logits.chunks(BLOCK).map(|block| sum_of_weights(block, scale)));
    sums.iter().map(|sum| f64::from(*sum)).sum()
}

/// How a set of weights is spread.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Spread {
    /// The sum of the weights.
    pub(super) weight: f64,
    /// The sum of each weight times its logarithm.
    pub(super) moment: f64,
    /// How many tokens can be chosen at all.
    pub(super) count: usize,
}

impl Spread {
    /// The mean logarithm of a weight, by weight: how far a token may be expected to be from the best.
    pub(super) fn mean(self) -> f64 {
        self.moment / self.weight
    }

    /// The entropy of the distribution, in nats.
    pub(super) fn entropy(self) -> f64 {
        self.weight.ln() - self.mean()
    }
}

/// The spread of a vocabulary's weights.
pub(super) fn spread(logits: &[f32], scale: Scale) -> Spread {
    let mut all = Spread::default();
    for block in logits.chunks(BLOCK) {
        let (mut weights, mut moments, mut counts) = ([0.0_f32; LANES], [0.0_f32; LANES], [0.0_f32; LANES]);
        let (chunks, rest) = block.as_chunks::<LANES>();
        let mut add = |lane: usize, logit: f32| {
            let (logarithm, weight) = scale.logarithm_and_weight(logit);
            weights[lane] += weight;
            moments[lane] += if weight > 0.0 { weight * logarithm } else { 0.0 };
            counts[lane] += if logit > f32::NEG_INFINITY { 1.0 } else { 0.0 };
        };
        for chunk in chunks {
            for (lane, logit) in chunk.iter().enumerate() {
                add(lane, *logit);
            }
        }
        rest.iter().for_each(|logit| add(0, *logit));
        all.weight += f64::from(weights.iter().sum::<f32>());
        all.moment += f64::from(moments.iter().sum::<f32>());
        all.count += counts.iter().sum::<f32>() as usize;
    }
    all
}

/// The standard deviation of all logits that are finite, the largest of which is `best`; +∞ counts as the largest
/// finite number.
pub(super) fn deviation(logits: &[f32], best: f32) -> f32 {
    let (mut count, mut sum, mut squares) = (0.0_f64, 0.0_f64, 0.0_f64);
    for block in logits.chunks(BLOCK) {
        let mut lanes = [[0.0_f32; LANES]; 3];
        let (chunks, rest) = block.as_chunks::<LANES>();
        let mut add = |lane: usize, logit: f32| {
            let is_there = logit > f32::NEG_INFINITY;
            // From the best, which keeps the squares small.
            let distance = if is_there { logit.min(f32::MAX) - best } else { 0.0 };
            lanes[0][lane] += if is_there { 1.0 } else { 0.0 };
            lanes[1][lane] += distance;
            lanes[2][lane] += distance * distance;
        };
        for chunk in chunks {
            for (lane, logit) in chunk.iter().enumerate() {
                add(lane, *logit);
            }
        }
        rest.iter().for_each(|logit| add(0, *logit));
        let [counts, sums, squared] = lanes.map(|lane| f64::from(lane.iter().sum::<f32>()));
        count += counts;
        sum += sums;
        squares += squared;
    }
    let mean = sum / count;
    (squares / count - mean * mean).max(0.0).sqrt() as f32
}

/// Makes weights of logits: exp((logit - best) / temperature), so that the best logit weighs 1.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scale {
    best: f32,
    /// 1 / temperature. Finite, for 0 × ∞ would turn the best logit's weight into NaN.
    sharpness: f32,
}

impl Scale {
    pub(super) fn new(best: f32, temperature: f32) -> Self {
        Scale { best: best.min(f32::MAX), sharpness: temperature.recip().min(f32::MAX) }
    }

    /// 0 to 1; exactly 0 for NaN, -∞ and whatever is less than e⁻⁸⁷ beside the best.
    #[inline(always)]
    pub(super) fn weight(self, logit: f32) -> f32 {
        self.logarithm_and_weight(logit).1
    }

    /// The same with what it is the exponential of.
    #[inline(always)]
    pub(super) fn logarithm_and_weight(self, logit: f32) -> (f32, f32) {
        // Not `min`, which would make the largest number of a NaN.
        let logit = if logit > f32::MAX { f32::MAX } else { logit };
        let logarithm = (logit - self.best) * self.sharpness;
        (logarithm, exp(logarithm))
    }
}

fn maximum(values: &[f32]) -> f32 {
    // Written out because `f32::max` spends instructions on NaN that a comparison has for free.
    let larger = |a: f32, b: f32| if b > a { b } else { a };
    let (chunks, rest) = values.as_chunks::<LANES>();
    let mut lanes = [f32::NEG_INFINITY; LANES];
    for chunk in chunks {
        for (lane, value) in lanes.iter_mut().zip(chunk) {
            *lane = larger(*lane, *value);
        }
    }
    lanes.iter().chain(rest).copied().fold(f32::NEG_INFINITY, larger)
}

fn sum_of_weights(block: &[f32], scale: Scale) -> f32 {
    let (chunks, rest) = block.as_chunks::<LANES>();
    let mut lanes = [0.0; LANES];
    for chunk in chunks {
        for (lane, logit) in lanes.iter_mut().zip(chunk) {
            *lane += scale.weight(*logit);
        }
    }
    lanes.into_iter().chain(rest.iter().map(|logit| scale.weight(*logit))).sum()
}

/// eˣ for x ≤ 0, relative error under 2·10⁻⁷, 0 below -87 and for NaN. Vectorises and gives the same bits everywhere,
/// which the C library's does not. Cody-Waite reduction and polynomial of Cephes' `expf` (S. L. Moshier,
/// <https://www.netlib.org/cephes/>).
#[inline(always)]
#[expect(clippy::excessive_precision, reason = "constants as Cephes prints them")]
fn exp(x: f32) -> f32 {
    // Adding 1.5·2²³ rounds to a whole number and leaves it in the lowest bits.
    const ROUND: f32 = 12_582_912.0;
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let powers = shifted - ROUND;
    let r = x - powers * 0.693_359_375 + powers * 2.121_944_40e-4;
    let mut polynomial = 1.987_569_150_0e-4;
    for coefficient in
        [1.398_199_950_7e-3, 8.333_451_907_3e-3, 4.166_579_589_4e-2, 1.666_666_545_9e-1, 5.000_000_120_1e-1]
    {
        polynomial = polynomial * r + coefficient;
    }
    let fraction = polynomial * r * r + r + 1.0;
    let power = f32::from_bits((shifted.to_bits() << 23).wrapping_add(1.0_f32.to_bits()));
    if x >= -87.0 { fraction * power } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INFINITY: f32 = f32::INFINITY;

    #[test]
    fn exp_is_exp() {
        assert_eq!(exp(0.0), 1.0);
        for x in [-87.1, -1e30, f32::MIN, -INFINITY, f32::NAN] {
            assert_eq!(exp(x), 0.0, "x = {x}");
        }
        for step in 0..87_000 {
            let x = -(step as f32) * 1e-3;
            let exact = f64::from(x).exp();
            let error = ((f64::from(exp(x)) - exact) / exact).abs();
            assert!(error < 2e-7, "x = {x}: {error:e}");
        }
    }

    /// Logits of many blocks, some of them no number.
    fn noisy() -> Vec<f32> {
        let noise = |i: u32| (i.wrapping_mul(2_654_435_761) >> 12) as f32 / (1 << 20) as f32;
        let mut logits: Vec<f32> = (0..3_001).map(|i| noise(i) * 30.0 - 25.0).collect();
        (logits[7], logits[700], logits[3_000]) = (f32::NAN, -INFINITY, f32::NAN);
        logits
    }

    #[test]
    fn the_spread_of_weights_is_that_of_the_definition() {
        let logits = noisy();
        let finite: Vec<f64> = logits.iter().filter(|l| l.is_finite()).map(|l| f64::from(*l)).collect();
        let best = finite.iter().copied().fold(f64::MIN, f64::max);
        for temperature in [0.5, 1.0, 3.0] {
            let weights: Vec<f64> = finite.iter().map(|l| ((l - best) / temperature).exp()).collect();
            let all: f64 = weights.iter().sum();
            let entropy: f64 = weights.iter().map(|w| -(w / all) * (w / all).ln()).sum();
            let found = spread(&logits, Scale::new(best as f32, temperature as f32));
            assert_eq!(found.count, finite.len());
            assert!((found.weight / all - 1.0).abs() < 1e-5, "{} and {all}", found.weight);
            assert!((found.entropy() - entropy).abs() < 1e-4, "{} and {entropy}", found.entropy());
        }
    }

    #[test]
    fn the_deviation_is_that_of_the_finite_logits() {
        let logits = noisy();
        let finite: Vec<f64> = logits.iter().filter(|l| l.is_finite()).map(|l| f64::from(*l)).collect();
        let mean = finite.iter().sum::<f64>() / finite.len() as f64;
        let expected = (finite.iter().map(|l| (l - mean).powi(2)).sum::<f64>() / finite.len() as f64).sqrt();
        let best = finite.iter().copied().fold(f64::MIN, f64::max) as f32;
        assert!((f64::from(deviation(&logits, best)) - expected).abs() < 1e-4 * expected);
        assert_eq!(deviation(&[2.5; 300], 2.5), 0.0);
    }

    #[test]
    fn weights_have_no_nan() {
        let table = [
            (0.0, 1.0, 0.0, 1.0),
            (0.0, 1.0, f32::NAN, 0.0),
            (0.0, 1.0, -INFINITY, 0.0),
            (INFINITY, 1.0, INFINITY, 1.0),
            (INFINITY, 1.0, 5.0, 0.0),
            (f32::MAX, 1.0, f32::MIN, 0.0),
            (3.0, 1e-45, 3.0, 1.0),
            (3.0, 1e-45, 2.999, 0.0),
        ];
        for (best, temperature, logit, weight) in table {
            let got = Scale::new(best, temperature).weight(logit);
            assert_eq!(got, weight, "weight of {logit} beside {best} at {temperature}");
        }
    }

    /// Sizes around those of lanes and blocks, the best token at every place.
    #[test]
    fn the_best_is_found_wherever_it_is() {
        let mut maxima = Vec::new();
        for size in [1, 15, 16, 17, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK + 17] {
            for place in 0..size {
                let mut logits = vec![-1.5; size];
                logits[place] = 2.0;
                assert_eq!(scan(&logits, &mut maxima), 2.0);
                assert_eq!(first(&logits, &maxima, 2.0), Some(place), "of {size}");
                let mut found = Vec::new();
                at_least(&logits, &maxima, 0.0, |place, logit| found.push((place, logit)));
                assert_eq!(found, [(place, 2.0)], "of {size}");
            }
        }
        assert_eq!(scan(&[], &mut maxima), -INFINITY);
        assert_eq!(scan(&[f32::NAN, -INFINITY], &mut maxima), -INFINITY);
    }

    #[test]
    fn what_is_not_a_finite_number_is_not_found() {
        let (mut maxima, mut found) = (Vec::new(), Vec::new());
        let logits = [f32::NAN, -INFINITY, f32::MIN, 1.0, INFINITY];
        scan(&logits, &mut maxima);
        at_least(&logits, &maxima, f32::MIN, |place, logit| found.push((place, logit)));
        assert_eq!(found, [(2, f32::MIN), (3, 1.0), (4, f32::MAX)]);
    }

    #[test]
    fn enough_logits_reach_the_bound() {
        let maxima = [3.0, -INFINITY, 7.0, 5.0];
        let table = [(0, f32::MIN), (1, 7.0), (2, 5.0), (3, 3.0), (4, f32::MIN), (5, f32::MIN)];
        for (count, least) in table {
            assert_eq!(reached_by(count, &maxima, &mut Vec::new()), least, "{count}");
        }
    }

    #[test]
    fn sums_are_those_of_the_definition() {
        let logits: Vec<f32> = (0..1_000).map(|i| ((i * 37) % 101) as f32 / 7.0).collect();
        let mut sums = Vec::new();
        let total = weigh(&logits, Scale::new(100.0 / 7.0, 0.5), &mut sums);
        let exact: f64 = logits.iter().map(|l| ((f64::from(*l) - 100.0 / 7.0) / 0.5).exp()).sum();
        assert_eq!(sums.len(), logits.len().div_ceil(BLOCK));
        assert!((total / exact - 1.0).abs() < 1e-5, "{total} and {exact}");
    }
}
