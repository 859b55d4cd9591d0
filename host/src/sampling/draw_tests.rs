//! Mirostat, XTC's dice and the dynamic temperature against what llama.cpp computes, written out plainly in double
//! precision.

use super::*;
use crate::sampling::settings::Xtc;

const PROBABILITIES: [f64; 5] = [0.15, 0.4, 0.05, 0.3, 0.1];

fn logits() -> [f32; 5] {
    PROBABILITIES.map(|p| p.ln() as f32 + 2.0)
}

fn noisy_logits() -> Vec<f32> {
    let noise = |i: u32| (i.wrapping_mul(2_654_435_761) >> 12) as f32 / (1 << 20) as f32;
    (0..3_000).map(|i| noise(i).powi(4) * 14.0 - 3.0).collect()
}

fn draw(draw: &mut Draw, selection: &Selection, logits: &[f32], temperature: f32) -> u32 {
    let mut maxima = Vec::new();
    let best = blocks::scan(logits, &mut maxima);
    draw.token(Vocabulary { logits, maxima: &maxima, best }, selection, temperature).unwrap()
}

/// Probabilities at a temperature, most probable first, with their tokens.
fn sorted(logits: &[f32], temperature: f64) -> Vec<(u32, f64)> {
    let best = logits.iter().copied().fold(f32::MIN, f32::max);
    let weight = |logit: f32| (f64::from(logit - best) / temperature).exp();
    let all: f64 = logits.iter().map(|logit| weight(*logit)).sum();
    let mut sorted: Vec<(u32, f64)> = (0..).zip(logits.iter().map(|logit| weight(*logit) / all)).collect();
    sorted.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    sorted
}

/// `llama_sampler_mirostat_apply` up to its draw: how many of the most probable stay.
fn kept_by_one(sorted: &[(u32, f64)], mu: f64) -> usize {
    let (mut products, mut squares) = (0.0, 0.0);
    for i in 0..99.min(sorted.len() - 1) {
        let t = ((i + 2) as f64 / (i + 1) as f64).ln();
        products += t * (sorted[i].1 / sorted[i + 1].1).ln();
        squares += t * t;
    }
    let s = products / squares;
    let epsilon = s - 1.0;
    let k = ((epsilon * 2.0_f64.powf(mu)) / (1.0 - (sorted.len() as f64).powf(-epsilon))).powf(1.0 / s);
    (k as usize).clamp(1, sorted.len())
}

/// `llama_sampler_mirostat_v2_apply` up to its draw.
fn kept_by_two(sorted: &[(u32, f64)], mu: f64) -> usize {
    sorted.iter().take_while(|(_, p)| -p.log2() <= mu).count().max(1)
}

/// Two hundred tokens of each: what is drawn is one of those kept, and μ learns by how surprising it was among them.
#[test]
fn mirostat_keeps_and_learns_as_defined() {
    for (version, kept) in [
        (MirostatVersion::One, kept_by_one as fn(&[(u32, f64)], f64) -> usize),
        (MirostatVersion::Two, kept_by_two),
    ] {
        for (logits, tau, temperature) in
            [(logits().to_vec(), 1.0, 1.0_f32), (noisy_logits(), 3.0, 1.0), (noisy_logits(), 6.0, 1.5)]
        {
            let selection = Selection::Mirostat(Mirostat { version, tau, eta: 0.3 });
            let mut drawing = Draw::new(&selection, 9);
            let sorted = sorted(&logits, f64::from(temperature));
            assert_eq!(drawing.allowed_surprise, 2.0 * f64::from(tau));
            let mut cut = 0;
            for _ in 0..200 {
                let mu = drawing.allowed_surprise;
                let token = draw(&mut drawing, &selection, &logits, temperature);
                let kept = &sorted[..kept(&sorted, mu)];
                cut += usize::from(kept.len() < sorted.len());
                let all: f64 = kept.iter().map(|(_, p)| p).sum();
                let (_, p) = kept.iter().find(|(kept, _)| *kept == token).unwrap_or_else(|| {
                    panic!("{version:?}: token {token} is none of the {} kept", kept.len())
                });
                let expected = mu - f64::from(0.3_f32) * (-(p / all).log2() - f64::from(tau));
                // A border that rounding moves by a token moves the shares of all a little.
                let error = (drawing.allowed_surprise - expected).abs();
                assert!(error < 0.02, "{version:?}: {} and {expected}", drawing.allowed_surprise);
            }
            assert!(cut > 20, "{version:?} never left anything out");
        }
    }
}

#[test]
fn mirostat_comes_to_the_surprise_that_it_is_told() {
    let logits = noisy_logits();
    for version in [MirostatVersion::One, MirostatVersion::Two] {
        let selection = Selection::Mirostat(Mirostat { version, tau: 4.0, eta: 0.1 });
        let mut drawing = Draw::new(&selection, 3);
        let sorted = sorted(&logits, 1.0);
        let (mut surprise, count) = (0.0, 2_000);
        for _ in 0..count {
            let mu = drawing.allowed_surprise;
            let token = draw(&mut drawing, &selection, &logits, 1.0);
            let kept = match version {
                MirostatVersion::One => kept_by_one(&sorted, mu),
                MirostatVersion::Two => kept_by_two(&sorted, mu),
            };
            let all: f64 = sorted[..kept].iter().map(|(_, p)| p).sum();
            surprise -= (sorted.iter().find(|(other, _)| *other == token).unwrap().1 / all).log2();
        }
        let mean = surprise / f64::from(count);
        assert!((mean - 4.0).abs() < 0.2, "{version:?}: {mean} bits");
    }
}

#[test]
fn mirostat_with_one_token_takes_it() {
    let logits = [f32::NEG_INFINITY, 1.0, f32::NAN];
    for version in [MirostatVersion::One, MirostatVersion::Two] {
        let selection = Selection::Mirostat(Mirostat { version, tau: 1.0, eta: 1.0 });
        let mut drawing = Draw::new(&selection, 1);
        for _ in 0..50 {
            assert_eq!(draw(&mut drawing, &selection, &logits, 0.8), 1);
        }
    }
}

/// By hand, for 0.4, 0.3, 0.15, 0.1, 0.05: entropy 1.392 of at most ln 5.
#[test]
fn a_dynamic_temperature_follows_the_entropy() {
    let entropy: f64 = PROBABILITIES.iter().map(|p| -p * p.ln()).sum();
    let uncertainty = entropy / 5.0_f64.ln();
    let spread = blocks::spread(&logits(), Scale::new(2.0 + 0.4_f32.ln(), 1.0));
    for (temperature, range, exponent, expected) in [
        (1.0, 0.5, 1.0, 0.5 + uncertainty),
        (1.0, 0.5, 2.0, 0.5 + uncertainty * uncertainty),
        (0.3, 0.5, 1.0, 0.8 * uncertainty),
        (0.8, 0.0, 1.0, 0.8),
        (0.8, 0.5, 0.0, 1.3),
    ] {
        let found = DynamicTemperature { range, exponent }.temperature(temperature, spread);
        assert!((f64::from(found) - expected).abs() < 1e-5, "{found} and {expected}");
    }
    let alone = Spread { count: 1, ..spread };
    assert_eq!(DynamicTemperature { range: 0.5, exponent: 1.0 }.temperature(0.8, alone), 0.8);
}

fn frequencies(filters: Filters, temperature: f32, logits: &[f32; 5]) -> [f64; 5] {
    let selection = Selection::Filters(filters);
    let mut drawing = Draw::new(&selection, 11);
    let mut seen = [0.0; 5];
    for _ in 0..40_000 {
        seen[draw(&mut drawing, &selection, logits, temperature) as usize] += 1.0 / 40_000.0;
    }
    seen
}

fn near(found: [f64; 5], expected: [f64; 5]) {
    // Five standard deviations of the most uncertain share.
    let good = found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 0.0125);
    assert!(good, "{found:?} and {expected:?}");
}

#[test]
fn xtc_strikes_as_often_as_it_is_told() {
    let xtc = |probability| Filters { xtc: Some(Xtc { probability, threshold: 0.12 }), ..Filters::default() };
    // 0.4 and 0.3 go, and 0.15, 0.1, 0.05 are left: a half, a third, a sixth.
    let struck = [0.5, 0.0, 1.0 / 6.0, 0.0, 1.0 / 3.0];
    near(frequencies(xtc(0.0), 1.0, &logits()), PROBABILITIES);
    near(frequencies(xtc(1.0), 1.0, &logits()), struck);
    let mixed: Vec<f64> = PROBABILITIES.iter().zip(struck).map(|(p, s)| 0.75 * p + 0.25 * s).collect();
    near(frequencies(xtc(0.25), 1.0, &logits()), mixed.try_into().unwrap());
}

#[test]
fn a_dynamic_temperature_is_the_one_drawn_with() {
    let dynamic = Some(DynamicTemperature { range: 0.5, exponent: 1.0 });
    let entropy: f64 = PROBABILITIES.iter().map(|p| -p * p.ln()).sum();
    let temperature = 0.5 + entropy / 5.0_f64.ln();
    let powers = PROBABILITIES.map(|p| p.powf(1.0 / temperature));
    let all: f64 = powers.iter().sum();
    near(frequencies(Filters { dynamic, ..Filters::default() }, 1.0, &logits()), powers.map(|p| p / all));
    // Of the two best alone the entropy is 0.683 of at most ln 2.
    let [a, b] = [4.0 / 7.0, 3.0 / 7.0_f64];
    let temperature = 0.5 + (-a * a.ln() - b * b.ln()) / 2.0_f64.ln();
    let share = a.powf(1.0 / temperature) / (a.powf(1.0 / temperature) + b.powf(1.0 / temperature));
    let filters = Filters { dynamic, top_k: 2, ..Filters::default() };
    near(frequencies(filters, 1.0, &logits()), [0.0, share, 0.0, 1.0 - share, 0.0]);
}

/// The best token is gone and those left are far below it: a low temperature must not weigh them all at nothing.
#[test]
fn what_is_left_far_below_the_best_is_weighed_by_its_own_best() {
    let logits = [30.0, 0.0, -1.0, -90.0, -2.0];
    let xtc = Some(Xtc { probability: 1.0, threshold: 0.0 });
    let seen = frequencies(Filters { xtc, ..Filters::default() }, 0.05, &logits);
    assert_eq!(seen.map(|share| share > 0.5), [false, false, false, true, false]);
    let typical = Filters { typical_p: 0.5, top_n_sigma: 3.0, ..Filters::default() };
    near(frequencies(typical, 0.05, &logits), [1.0, 0.0, 0.0, 0.0, 0.0]);
}
