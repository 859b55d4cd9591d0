//! The filters against their definitions, by hand on small vectors and by a full sort on large ones.

use super::*;
use crate::sampling::settings::Xtc;

/// What passes the filters; XTC always strikes where it is on.
fn tokens_left(logits: &[f32], filters: &Filters) -> Vec<u32> {
    let mut maxima = Vec::new();
    let best = blocks::scan(logits, &mut maxima);
    let mut candidates = Candidates::default();
    // Twice: what the first call left in the buffers must not show.
    for _ in 0..2 {
        let vocabulary = Vocabulary { logits, maxima: &maxima, best };
        candidates.filter(vocabulary, filters, filters.xtc.map(|xtc| xtc.threshold));
    }
    candidates.kept.iter().map(|candidate| candidate.token).collect()
}

fn filters(top_k: u32, top_p: f32, min_p: f32) -> Filters {
    Filters { top_k, top_p, min_p, ..Filters::default() }
}

/// By the papers' definitions, each filter a sort of its own and in double precision.
fn by_definition(logits: &[f32], filters: &Filters) -> Vec<u32> {
    let mut left: Vec<(u32, f64)> =
        (0..).zip(logits).filter(|(_, l)| l.is_finite()).map(|(token, l)| (token, f64::from(*l))).collect();
    left.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    if filters.top_n_sigma > 0.0 {
        let mean = left.iter().map(|(_, logit)| logit).sum::<f64>() / left.len() as f64;
        let variance = left.iter().map(|(_, logit)| (logit - mean).powi(2)).sum::<f64>() / left.len() as f64;
        let least = left[0].1 - f64::from(filters.top_n_sigma) * variance.sqrt();
        left.retain(|(_, logit)| *logit >= least);
    }
    if filters.top_k > 0 {
        left.truncate(filters.top_k as usize);
    }
    if filters.typical_p < 1.0 {
        let probabilities = softmax(&left);
        let entropy: f64 = probabilities.iter().filter(|p| **p > 0.0).map(|p| -p * p.ln()).sum();
        let mut by_distance: Vec<usize> = (0..left.len()).collect();
        by_distance.sort_by(|a, b| {
            let distance = |at: usize| (-probabilities[at].ln() - entropy).abs();
            distance(*a).total_cmp(&distance(*b)).then(left[*a].0.cmp(&left[*b].0))
        });
        by_distance.truncate(enough(by_distance.iter().map(|at| probabilities[*at]), filters.typical_p));
        by_distance.sort_unstable();
        left = by_distance.into_iter().map(|at| left[at]).collect();
    }
    if filters.top_p < 1.0 {
        left.truncate(enough(softmax(&left).into_iter(), filters.top_p));
    }
    let best = left[0].1;
    left.retain(|(_, logit)| (logit - best).exp() >= f64::from(filters.min_p));
    if let Some(xtc) = filters.xtc {
        let top = softmax(&left).iter().take_while(|p| **p >= f64::from(xtc.threshold)).count();
        left.drain(..top.saturating_sub(1));
    }
    let mut tokens: Vec<u32> = left.into_iter().map(|(token, _)| token).collect();
    tokens.sort_unstable();
    tokens
}

fn softmax(sorted: &[(u32, f64)]) -> Vec<f64> {
    let weights: Vec<f64> = sorted.iter().map(|(_, logit)| (logit - sorted[0].1).exp()).collect();
    let all: f64 = weights.iter().sum();
    weights.iter().map(|weight| weight / all).collect()
}

/// How many of these probabilities are needed to reach a share.
fn enough(probabilities: impl Iterator<Item = f64>, share: f32) -> usize {
    let (mut sum, mut count) = (0.0, 0);
    for probability in probabilities {
        sum += probability;
        count += 1;
        if sum >= f64::from(share) {
            break;
        }
    }
    count
}

#[test]
fn small_vectors_by_hand() {
    // Probabilities 0.15, 0.4, 0.05, 0.3, 0.1.
    let logits = [0.15_f32, 0.4, 0.05, 0.3, 0.1].map(f32::ln);
    let table: [(u32, f32, f32, &[u32]); 15] = [
        (1, 1.0, 0.0, &[1]),
        (2, 1.0, 0.0, &[1, 3]),
        (4, 1.0, 0.0, &[0, 1, 3, 4]),
        (5, 1.0, 0.0, &[0, 1, 2, 3, 4]),
        (99, 1.0, 0.0, &[0, 1, 2, 3, 4]),
        (0, 0.001, 0.0, &[1]),
        (0, 0.39, 0.0, &[1]),
        (0, 0.41, 0.0, &[1, 3]),
        (0, 0.71, 0.0, &[0, 1, 3]),
        (0, 0.96, 0.0, &[0, 1, 2, 3, 4]),
        (0, 1.0, 0.2, &[0, 1, 3, 4]),
        (0, 1.0, 0.5, &[1, 3]),
        (0, 1.0, 0.99, &[1]),
        // Of 0.4 and 0.3 alone the first is more than a half: top-p counts what top-k left.
        (2, 0.5, 0.0, &[1]),
        // What is left of 0.4, 0.3, 0.15 loses 0.15, which is under half of the best.
        (4, 0.8, 0.5, &[1, 3]),
    ];
    for (top_k, top_p, min_p, left) in table {
        let settings = filters(top_k, top_p, min_p);
        assert_eq!(tokens_left(&logits, &settings), left, "top_k {top_k}, top_p {top_p}, min_p {min_p}");
        assert_eq!(by_definition(&logits, &settings), left, "top_k {top_k}, top_p {top_p}, min_p {min_p}");
    }
}

#[test]
fn the_other_filters_by_hand() {
    // Probabilities 0.15, 0.4, 0.05, 0.3, 0.1.
    let logits = [0.15_f32, 0.4, 0.05, 0.3, 0.1].map(f32::ln);
    let plain = Filters::default();
    let xtc = |threshold| Filters { xtc: Some(Xtc { probability: 1.0, threshold }), ..plain.clone() };
    let typical = |typical_p| Filters { typical_p, ..plain.clone() };
    let sigma = |top_n_sigma| Filters { top_n_sigma, ..plain.clone() };
    let table: [(Filters, &[u32]); 17] = [
        // Entropy 1.39: surprises are 0.51, 0.48, 1.60, 0.19, 0.91 away from it, for 1.90, 0.92, 3.00, 1.20, 2.30.
        (typical(0.29), &[3]),
        (typical(0.31), &[1, 3]),
        (typical(0.71), &[0, 1, 3]),
        (typical(0.86), &[0, 1, 3, 4]),
        (typical(0.96), &[0, 1, 2, 3, 4]),
        // Of 0.4 and 0.3 (entropy 0.68) 0.3 is further away than 0.4: 0.85 against 0.56.
        (Filters { top_k: 2, ..typical(0.3) }, &[1]),
        // The deviation of the logits is 0.74.
        (sigma(0.1), &[1]),
        (sigma(0.4), &[1, 3]),
        (sigma(1.4), &[0, 1, 3]),
        (sigma(9.0), &[0, 1, 2, 3, 4]),
        // Three reach 0.12: the third stays.
        (xtc(0.12), &[0, 2, 4]),
        (xtc(0.29), &[0, 2, 3, 4]),
        (xtc(0.35), &[0, 1, 2, 3, 4]),
        (xtc(0.45), &[0, 1, 2, 3, 4]),
        (xtc(0.0), &[2]),
        // XTC counts what the filters before it left: 0.47 and 0.35 and 0.18.
        (Filters { top_k: 3, ..xtc(0.16) }, &[0]),
        // Typical takes the best away, and min-p looks at what is then the best.
        (Filters { min_p: 0.6, ..typical(0.29) }, &[3]),
    ];
    for (filters, left) in table {
        assert_eq!(by_definition(&logits, &filters), left, "{filters:?}");
        assert_eq!(tokens_left(&logits, &filters), left, "{filters:?}");
    }
}

#[test]
fn ties_go_to_the_smaller_id() {
    let mut logits = vec![-3.0; 600];
    for token in [599, 3, 140, 300] {
        logits[token] = 1.0;
    }
    assert_eq!(tokens_left(&logits, &filters(3, 1.0, 0.0)), [3, 140, 300]);
    assert_eq!(tokens_left(&logits, &filters(6, 1.0, 0.0)), [0, 1, 3, 140, 300, 599]);
    assert_eq!(tokens_left(&[0.0; 8], &filters(0, 0.3, 0.0)), [0, 1, 2]);
    assert_eq!(tokens_left(&[0.0, -0.0, 0.0], &filters(2, 1.0, 0.0)), [0, 1]);
}

#[test]
fn what_is_not_finite_is_left_out() {
    let logits = [f32::NAN, 1.0, f32::NEG_INFINITY, 0.0, f32::NAN];
    for settings in
        [filters(4, 1.0, 0.0), filters(9, 0.999, 0.0), filters(0, 0.999, 0.0), filters(0, 1.0, 1e-9)]
    {
        assert_eq!(tokens_left(&logits, &settings), [1, 3], "{settings:?}");
    }
}

/// Peaked and flat vocabularies of many blocks, every combination of filters.
#[test]
fn large_vocabularies_agree_with_the_definitions() {
    let noise = |i: u32| (i.wrapping_mul(2_654_435_761) >> 12) as f32 / (1 << 20) as f32;
    for spread in [0.01, 1.0, 10.0, 40.0, 200.0] {
        let logits: Vec<f32> = (0..8_000).map(|i| noise(i).powi(3) * spread - 5.0).collect();
        for top_k in [0, 1, 40, 63, 64, 1_000, 9_000] {
            for top_p in [0.1, 0.5, 0.95, 0.999, 1.0] {
                for min_p in [0.0, 0.02, 0.3] {
                    let settings = filters(top_k, top_p, min_p);
                    let (left, expected) =
                        (tokens_left(&logits, &settings), by_definition(&logits, &settings));
                    // Single precision may place the border of top-p a few of many tokens off.
                    let tolerance = if top_p < 1.0 { expected.len().div_ceil(10_000) } else { 0 };
                    assert!(
                        left.len().abs_diff(expected.len()) <= tolerance,
                        "spread {spread}, {settings:?}"
                    );
                    assert!(tolerance > 0 || left == expected, "spread {spread}, {settings:?}");
                }
            }
        }
    }
}

/// The same for the filters that do not simply keep the best.
#[test]
fn large_vocabularies_agree_with_the_other_definitions() {
    let noise = |i: u32| (i.wrapping_mul(2_654_435_761) >> 12) as f32 / (1 << 20) as f32;
    for spread in [1.0, 10.0, 40.0] {
        let logits: Vec<f32> = (0..5_000).map(|i| noise(i).powi(3) * spread - 5.0).collect();
        for (top_k, typical_p, top_n_sigma) in [
            (0, 0.2, 0.0),
            (0, 0.95, 0.0),
            (60, 0.5, 0.0),
            (0, 1.0, 1.0),
            (0, 1.0, 0.2),
            (40, 0.9, 2.0),
            (0, 0.7, 1.5),
        ] {
            for (top_p, min_p, xtc) in
                [(1.0, 0.0, None), (0.9, 0.0, None), (0.8, 0.1, None), (1.0, 0.0, Some(0.02))]
            {
                let xtc = xtc.map(|threshold| Xtc { probability: 1.0, threshold });
                let filters = Filters { top_k, typical_p, top_n_sigma, top_p, min_p, xtc, dynamic: None };
                let (left, expected) = (tokens_left(&logits, &filters), by_definition(&logits, &filters));
                // Single precision may place a border a few of many tokens off, in each of two filters.
                let missing = expected.iter().filter(|token| !left.contains(token)).count();
                let tolerance = expected.len() / 300;
                assert!(
                    missing <= tolerance,
                    "spread {spread}, {filters:?}: {missing} missing of {}",
                    expected.len()
                );
                assert!(left.len().abs_diff(expected.len()) <= tolerance, "spread {spread}, {filters:?}");
            }
        }
    }
}

#[test]
fn the_draw_walks_the_weights_in_order_of_id() {
    // Weights 1/4, 1/2, 0, 1/4 of the whole.
    let logits = [0.5_f32.ln(), 0.0, f32::NEG_INFINITY, 0.5_f32.ln()];
    let vocabulary = Vocabulary { logits: &logits, maxima: &[0.0], best: 0.0 };
    let mut candidates = Candidates::default();
    candidates.filter(vocabulary, &filters(0, 1.0, 1e-6), None);
    let table = [(0.0, 0), (0.249, 0), (0.251, 1), (0.749, 1), (0.751, 3), (1.0 - 1e-16, 3), (1.0, 3)];
    for (point, token) in table {
        assert_eq!(
            candidates.at(point, Scale::new(0.0, 1.0)).map(|drawn| drawn.token),
            Some(token),
            "{point}"
        );
        assert_eq!(at(point, vocabulary, Scale::new(0.0, 1.0), &mut Vec::new()), Some(token), "{point}");
    }
    // At temperature 1/2 the weights are squared: 1/6, 2/3, 0, 1/6.
    for (point, token) in [(0.16, 0), (0.17, 1), (0.83, 1), (0.84, 3)] {
        assert_eq!(
            candidates.at(point, Scale::new(0.0, 0.5)).map(|drawn| drawn.token),
            Some(token),
            "{point}"
        );
    }
}
