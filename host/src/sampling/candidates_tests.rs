//! The filters against their definitions, by hand on small vectors and by a full sort on large ones.

use super::*;

fn tokens_left(logits: &[f32], settings: &Settings) -> Vec<u32> {
    let mut maxima = Vec::new();
    let best = blocks::scan(logits, &mut maxima);
    let mut candidates = Candidates::default();
    // Twice: what the first call left in the buffers must not show.
    for _ in 0..2 {
        candidates.filter(Vocabulary { logits, maxima: &maxima, best }, settings);
    }
    candidates.kept.iter().map(|candidate| candidate.token).collect()
}

fn filters(top_k: u32, top_p: f32, min_p: f32) -> Settings {
    Settings { top_k, top_p, min_p, ..Settings::default() }
}

/// By the papers' definitions, with a full sort and in double precision.
fn by_definition(logits: &[f32], settings: &Settings) -> Vec<u32> {
    let mut sorted: Vec<(u32, f64)> =
        (0..).zip(logits).filter(|(_, l)| l.is_finite()).map(|(token, l)| (token, f64::from(*l))).collect();
    sorted.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    if settings.top_k > 0 {
        sorted.truncate(settings.top_k as usize);
    }
    let best = sorted[0].1;
    let all: f64 = sorted.iter().map(|(_, logit)| (logit - best).exp()).sum();
    if settings.top_p < 1.0 {
        let mut sum = 0.0;
        let last = sorted.iter().position(|(_, logit)| {
            sum += (logit - best).exp() / all;
            sum >= f64::from(settings.top_p)
        });
        sorted.truncate(last.map_or(sorted.len(), |last| last + 1));
    }
    sorted.retain(|(_, logit)| (logit - best).exp() >= f64::from(settings.min_p));
    let mut tokens: Vec<u32> = sorted.into_iter().map(|(token, _)| token).collect();
    tokens.sort_unstable();
    tokens
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

#[test]
fn the_draw_walks_the_weights_in_order_of_id() {
    // Weights 1/4, 1/2, 0, 1/4 of the whole.
    let logits = [0.5_f32.ln(), 0.0, f32::NEG_INFINITY, 0.5_f32.ln()];
    let vocabulary = Vocabulary { logits: &logits, maxima: &[0.0], best: 0.0 };
    let mut candidates = Candidates::default();
    candidates.filter(vocabulary, &filters(0, 1.0, 1e-6));
    let table = [(0.0, 0), (0.249, 0), (0.251, 1), (0.749, 1), (0.751, 3), (1.0 - 1e-16, 3), (1.0, 3)];
    for (point, token) in table {
        assert_eq!(candidates.at(point, Scale::new(0.0, 1.0)), Some(token), "{point}");
        assert_eq!(at(point, vocabulary, Scale::new(0.0, 1.0), &mut Vec::new()), Some(token), "{point}");
    }
    // At temperature 1/2 the weights are squared: 1/6, 2/3, 0, 1/6.
    for (point, token) in [(0.16, 0), (0.17, 1), (0.83, 1), (0.84, 3)] {
        assert_eq!(candidates.at(point, Scale::new(0.0, 0.5)), Some(token), "{point}");
    }
}
