//! How long it takes to choose one token of a vocabulary of 150,000, by settings, in microseconds.
//!
//! `cargo run --release -p impetus --example sampling_speed`. The logits are a bell curve with a few tokens far above
//! it, which is what language models give. Each figure is the median of 301 tokens.

#![expect(clippy::print_stdout, reason = "it is a program for people to read from")]

use std::time::Instant;

use impetus::sampling::{
    Dry, DynamicTemperature, Filters, Mirostat, MirostatVersion, Sampler, Selection, Settings, Xtc,
};

const VOCABULARY: u32 = 150_000;
const TOKENS: usize = 301;

fn main() {
    let logits = logits();
    for (name, settings) in settings() {
        let mut sampler = Sampler::new(settings, 1);
        let prompt: Vec<u32> = (0..1000).map(|at| at * 37 % 400).collect();
        sampler.observe_prompt(&prompt);
        let mut micros: Vec<f64> = (0..TOKENS)
            .map(|at| {
                let started = Instant::now();
                let token = sampler.sample(&logits[at % logits.len()]);
                let took = started.elapsed().as_secs_f64() * 1e6;
                assert!(token.is_ok_and(|token| token < VOCABULARY));
                took
            })
            .collect();
        micros.sort_by(f64::total_cmp);
        println!("{name:<40} {:>7.1} µs", micros[TOKENS / 2]);
    }
}

/// A few vectors of logits, so that no branch is learnt by heart.
fn logits() -> Vec<Vec<f32>> {
    let mut state = 1_u64;
    let mut uniform = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1 << 24) as f32
    };
    let mut one = || -> Vec<f32> {
        let bell = |uniform: &mut dyn FnMut() -> f32| (0..12).map(|_| uniform()).sum::<f32>() - 6.0;
        let mut logits: Vec<f32> = (0..VOCABULARY).map(|_| bell(&mut uniform) * 2.5).collect();
        for rank in 0..40 {
            let place = (uniform() * VOCABULARY as f32) as usize;
            logits[place % VOCABULARY as usize] = 19.0 - 1.2 * (rank as f32).sqrt();
        }
        logits
    };
    (0..8).map(|_| one()).collect()
}

fn settings() -> Vec<(&'static str, Settings)> {
    let filtered =
        |filters: Filters| Settings { selection: Selection::Filters(filters), ..Settings::default() };
    let off = Filters::default();
    let usual = Filters { top_k: 40, top_p: 0.95, min_p: 0.05, ..off.clone() };
    let mirostat = |version| Settings {
        selection: Selection::Mirostat(Mirostat { version, tau: 5.0, eta: 0.1 }),
        ..Settings::default()
    };
    let breakers = Vec::new();
    let dry = Dry { multiplier: 0.8, base: 1.75, allowed_length: 2, window: None, breakers };
    vec![
        ("greedy", Settings { temperature: 0.0, ..Settings::default() }),
        ("temperature 1", Settings::default()),
        ("top-k 40, top-p 0.95, min-p 0.05, 0.8", Settings { temperature: 0.8, ..filtered(usual.clone()) }),
        (
            "the same with a repeat penalty of 1.1",
            Settings { repeat_penalty: 1.1, ..filtered(usual.clone()) },
        ),
        ("the same with DRY, 1000 tokens of prompt", Settings { dry: Some(dry), ..filtered(usual) }),
        ("top-k 40", filtered(Filters { top_k: 40, ..off.clone() })),
        ("top-p 0.95", filtered(Filters { top_p: 0.95, ..off.clone() })),
        ("min-p 0.05", filtered(Filters { min_p: 0.05, ..off.clone() })),
        ("typical 0.95", filtered(Filters { typical_p: 0.95, ..off.clone() })),
        ("top-n-sigma 1", filtered(Filters { top_n_sigma: 1.0, ..off.clone() })),
        (
            "min-p 0.02, XTC 0.5 from 0.1",
            filtered(Filters {
                min_p: 0.02,
                xtc: Some(Xtc { probability: 0.5, threshold: 0.1 }),
                ..off.clone()
            }),
        ),
        (
            "min-p 0.05, dynamic temperature 1 ± 0.5",
            filtered(Filters {
                min_p: 0.05,
                dynamic: Some(DynamicTemperature { range: 0.5, exponent: 1.0 }),
                ..off.clone()
            }),
        ),
        ("mirostat 1", mirostat(MirostatVersion::One)),
        ("mirostat 2", mirostat(MirostatVersion::Two)),
    ]
}
