//! How probable the model itself found a token, and which it found more probable. From the raw logits: before
//! penalties, bias, bans, filters and temperature, as the OpenAI API gives it.

use std::cmp::Ordering;

use super::blocks::{self, Scale};

/// Log probabilities at one place of the answer, natural logarithm.
#[derive(Debug, Clone, PartialEq)]
pub struct LogProbs {
    /// Of the token that was chosen.
    pub logprob: f32,
    /// The most probable tokens with theirs, best first, ties to the smaller id; the chosen one may be among them.
    pub top: Vec<(u32, f32)>,
}

/// The log-softmax of `logits` at `token`, and of the `top` best tokens (fewer where fewer are finite).
///
/// -∞ for a token whose logit is NaN or -∞, or that is not in the vocabulary. JSON has no -∞: the API's edge writes
/// a number of its own.
pub fn log_probabilities(logits: &[f32], token: u32, top: usize) -> LogProbs {
    let mut maxima = Vec::new();
    let best = blocks::scan(logits, &mut maxima).min(f32::MAX);
    let mut numbers = Vec::new();
    let sum = blocks::weigh(logits, Scale::new(best, 1.0), &mut numbers).ln();
    let logprob = |logit: f32| (f64::from(logit.min(f32::MAX)) - f64::from(best) - sum) as f32;

    let mut found = Vec::new();
    if top > 0 {
        let least = blocks::reached_by(top, &maxima, &mut numbers);
        blocks::at_least(logits, &maxima, least, |place, logit| found.push((place as u32, logit)));
    }
    let order =
        |a: &(u32, f32), b: &(u32, f32)| b.1.partial_cmp(&a.1).unwrap_or(Ordering::Equal).then(a.0.cmp(&b.0));
    if found.len() > top {
        found.select_nth_unstable_by(top, order);
        found.truncate(top);
    }
    found.sort_unstable_by(order);
    for (_, number) in &mut found {
        *number = logprob(*number);
    }
    let chosen = logits.get(token as usize).copied().filter(|logit| *logit > f32::NEG_INFINITY);
    LogProbs { logprob: chosen.map_or(f32::NEG_INFINITY, logprob), top: found }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Logits whose softmax is 1/8, 1/2, 1/4, 1/8, shifted by 3 as a model might.
    fn logits() -> [f32; 4] {
        [0.125_f32, 0.5, 0.25, 0.125].map(|p| p.ln() + 3.0)
    }

    fn close(got: &[(u32, f32)], expected: &[(u32, f32)]) {
        let tokens = |list: &[(u32, f32)]| list.iter().map(|(token, _)| *token).collect::<Vec<_>>();
        assert_eq!(tokens(got), tokens(expected));
        for ((token, a), (_, b)) in got.iter().zip(expected) {
            assert!((a - b).abs() < 1e-6, "token {token}: {a} and {b}");
        }
    }

    #[test]
    fn log_softmax_by_hand() {
        let half = -std::f32::consts::LN_2;
        let all = [(1, half), (2, 2.0 * half), (0, 3.0 * half), (3, 3.0 * half)];
        for top in 0..=6 {
            let got = log_probabilities(&logits(), 3, top);
            close(&[(3, got.logprob)], &[all[3]]);
            close(&got.top, &all[..top.min(4)]);
        }
    }

    #[test]
    fn what_is_not_finite_has_no_probability() {
        let infinity = f32::INFINITY;
        let logits = [f32::NAN, 0.0, -infinity, 0.0];
        let half = -std::f32::consts::LN_2;
        for (token, logprob) in [(0, -infinity), (1, half), (2, -infinity), (3, half), (4, -infinity)] {
            let got = log_probabilities(&logits, token, 4);
            assert!(got.logprob == logprob || (got.logprob - logprob).abs() < 1e-6, "token {token}: {got:?}");
            close(&got.top, &[(1, half), (3, half)]);
        }
        let none = LogProbs { logprob: -infinity, top: Vec::new() };
        assert_eq!(log_probabilities(&[f32::NAN, -infinity], 0, 2), none);
        assert_eq!(log_probabilities(&[], 0, 2), none);
        let certain = log_probabilities(&[1.0, infinity], 1, 1);
        assert_eq!(certain, LogProbs { logprob: 0.0, top: vec![(1, 0.0)] });
    }

    /// A vocabulary of many blocks against a full sort in double precision.
    #[test]
    fn a_large_vocabulary_agrees_with_the_definition() {
        let logits: Vec<f32> =
            (0..20_000_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 12) as f32 / 60_000.0).collect();
        let sum: f64 = logits.iter().map(|logit| f64::from(*logit).exp()).sum::<f64>().ln();
        let mut sorted: Vec<(u32, f32)> = (0..).zip(logits.iter().copied()).collect();
        sorted.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        for top in [0, 1, 20, 157, 400] {
            let got = log_probabilities(&logits, 77, top);
            assert_eq!(got.top.len(), top);
            for (got, (token, logit)) in got.top.iter().zip(&sorted) {
                assert_eq!(got.0, *token);
                assert!((f64::from(got.1) - (f64::from(*logit) - sum)).abs() < 1e-5, "{got:?} and {logit}");
            }
        }
    }
}
