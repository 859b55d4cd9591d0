//! The sampler by tables: each stage's effect on the token chosen, seeds, the distribution of draws, and what is no number.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use super::*;
use crate::sampling::{Dry, DynamicTemperature, Filters, Mirostat, MirostatVersion, Selection, Xtc};

const INFINITY: f32 = f32::INFINITY;

fn greedy() -> Settings {
    Settings { temperature: 0.0, ..Settings::default() }
}

fn draws(settings: &Settings, seed: u64, logits: &[f32], count: usize) -> Vec<u32> {
    let mut sampler = Sampler::new(settings.clone(), seed);
    (0..count).map(|_| sampler.sample(logits).unwrap()).collect()
}

fn noisy_logits(tokens: u32) -> Vec<f32> {
    (0..tokens).map(|i| (i.wrapping_mul(2_654_435_761) >> 16) as f32 / 8_192.0).collect()
}

#[test]
fn greedy_takes_the_best_and_of_equals_the_first() {
    let nan = f32::NAN;
    let table: [(&[f32], u32); 7] = [
        (&[0.0, 3.0, 1.0], 1),
        (&[2.0, 3.0, 3.0], 1),
        (&[-0.0, 0.0], 0),
        (&[nan, -5.0, nan, -4.0], 3),
        (&[-INFINITY, -1e30], 1),
        (&[1.0, INFINITY, INFINITY], 1),
        (&[f32::MIN], 0),
    ];
    for (logits, token) in table {
        assert_eq!(draws(&greedy(), 0, logits, 2), [token, token], "{logits:?}");
    }
}

#[test]
fn with_nothing_to_choose_it_says_whose_fault_it_is() {
    let nan = f32::NAN;
    let banned = |banned: &[u32]| Settings { banned: banned.to_vec(), ..Settings::default() };
    let table: [(Settings, &[f32], SampleError); 5] = [
        (banned(&[]), &[], SampleError::NoLogit { tokens: 0, not_a_number: 0 }),
        (banned(&[]), &[nan, nan], SampleError::NoLogit { tokens: 2, not_a_number: 2 }),
        (banned(&[]), &[-INFINITY, nan], SampleError::NoLogit { tokens: 2, not_a_number: 1 }),
        (banned(&[0]), &[-INFINITY, nan], SampleError::NoLogit { tokens: 2, not_a_number: 1 }),
        (banned(&[0, 2, 9]), &[1.0, nan, 1.0], SampleError::EveryTokenBanned { tokens: 3 }),
    ];
    for (settings, logits, error) in table {
        for temperature in [0.0, 1.0] {
            let settings = Settings { temperature, ..settings.clone() };
            assert_eq!(Sampler::new(settings, 1).sample(logits), Err(error.clone()), "{logits:?}");
        }
    }
}

#[test]
fn a_sampler_goes_on_after_an_error_as_if_it_had_not_been() {
    let logits = noisy_logits(500);
    let mut sampler = Sampler::new(Settings::default(), 3);
    assert!(sampler.sample(&[f32::NAN; 500]).is_err());
    let after: Vec<u32> = (0..20).map(|_| sampler.sample(&logits).unwrap()).collect();
    assert_eq!(after, draws(&Settings::default(), 3, &logits, 20));
}

fn filtered(filters: Filters) -> Settings {
    Settings { selection: Selection::Filters(filters), ..Settings::default() }
}

fn usual() -> Settings {
    let filters = Filters { top_k: 40, top_p: 0.95, min_p: 0.05, ..Filters::default() };
    Settings { temperature: 0.8, ..filtered(filters) }
}

/// Each way through the stages: the same seed repeats, another seed differs, and one draw is taken a token, or two.
#[test]
fn seeds_repeat() {
    let logits = noisy_logits(5_000);
    let (plain, all) = (Settings::default(), Filters::default());
    let mirostat = |version| Selection::Mirostat(Mirostat { version, tau: 5.0, eta: 0.1 });
    let dry = Dry { multiplier: 0.8, base: 1.75, allowed_length: 0, window: None, breakers: Vec::new() };
    let table = [
        (plain.clone(), 1),
        (usual(), 1),
        (filtered(Filters { top_p: 0.9, ..all.clone() }), 1),
        (Settings { temperature: 2.0, ..filtered(Filters { min_p: 0.1, ..all.clone() }) }, 1),
        (filtered(Filters { top_n_sigma: 1.0, ..all.clone() }), 1),
        (filtered(Filters { typical_p: 0.7, ..all.clone() }), 1),
        (filtered(Filters { xtc: Some(Xtc { probability: 0.5, threshold: 0.001 }), ..all.clone() }), 2),
        (filtered(Filters { dynamic: Some(DynamicTemperature { range: 0.5, exponent: 1.0 }), ..all }), 1),
        (Settings { selection: mirostat(MirostatVersion::One), ..plain.clone() }, 1),
        (Settings { selection: mirostat(MirostatVersion::Two), ..plain.clone() }, 1),
        (Settings { repeat_penalty: 1.1, presence_penalty: 0.5, frequency_penalty: 0.2, ..plain.clone() }, 1),
        (Settings { dry: Some(dry), ..plain }, 1),
    ];
    for (settings, numbers) in table {
        let tokens = draws(&settings, 7, &logits, 50);
        assert_eq!(tokens, draws(&settings, 7, &logits, 50), "{settings:?}");
        assert_ne!(tokens, draws(&settings, 8, &logits, 50), "{settings:?}");
        let mut sampler = Sampler::new(settings.clone(), 7);
        tokens.iter().for_each(|token| assert_eq!(sampler.sample(&logits), Ok(*token)));
        let mut random = ChaCha8Rng::seed_from_u64(7);
        (0..tokens.len() * numbers).for_each(|_| _ = random.next_u64());
        assert_eq!(sampler.draw.next_u64(), random.next_u64(), "{settings:?}");
    }
}

/// Pinned: a change of these tokens breaks every seed that users wrote down.
#[test]
fn seeds_are_for_ever() {
    let logits = noisy_logits(5_000);
    assert_eq!(draws(&Settings::default(), 42, &logits, 6), [3409, 4755, 2139, 3134, 1440, 754]);
    assert_eq!(draws(&usual(), 42, &logits, 6), [3338, 4846, 2262, 3105, 1364, 754]);
}

/// 60,000 draws against the softmax; the bound is that of one in a million for five degrees of freedom.
#[test]
fn draws_follow_the_distribution() {
    let probabilities = [0.05_f64, 0.3, 0.1, 0.35, 0.05, 0.15];
    let logits = probabilities.map(|p| p.ln() as f32 - 4.0);
    let count = 60_000;
    // Filters that let everything pass take the other way through the code.
    for (temperature, min_p) in [(1.0, 0.0), (0.5, 0.0), (2.0, 0.0), (1.0, 1e-6), (0.5, 1e-6), (2.0, 1e-6)] {
        let settings = Settings { temperature, ..filtered(Filters { min_p, ..Filters::default() }) };
        let mut seen = [0.0_f64; 6];
        for token in draws(&settings, 5, &logits, count) {
            seen[token as usize] += 1.0;
        }
        let powers = probabilities.map(|p| p.powf(1.0 / f64::from(temperature)));
        let expected = powers.map(|power| power / powers.iter().sum::<f64>() * count as f64);
        let chi_square: f64 = seen.iter().zip(expected).map(|(seen, e)| (seen - e).powi(2) / e).sum();
        assert!(chi_square < 35.9, "temperature {temperature}, min_p {min_p}: {chi_square}, {seen:?}");
    }
}

#[test]
fn bias_forces_and_forbids() {
    let logits = noisy_logits(300);
    let best = draws(&greedy(), 0, &logits, 1)[0];
    let biased = |token, bias| Settings { logit_bias: vec![(token, bias)], ..Settings::default() };
    assert_eq!(draws(&biased(17, 100.0), 1, &logits, 200), [17; 200]);
    assert!(
        !draws(&biased(best, -100.0), 1, &[vec![0.0; best as usize], vec![9.0, 0.0]].concat(), 200)
            .contains(&best)
    );
    assert_ne!(draws(&Settings { temperature: 0.0, ..biased(best, -100.0) }, 0, &logits, 1), [best]);
    // Two times half of it is as good as the whole; a token that does not exist changes nothing.
    let twice =
        Settings { logit_bias: vec![(17, 50.0), (17, 50.0), (u32::MAX, 100.0)], ..Settings::default() };
    assert_eq!(draws(&twice, 1, &logits, 200), [17; 200]);
    // Tokens 0 and 1 become equal, and the smaller id wins.
    let equal = Settings { logit_bias: vec![(0, 1.5)], ..greedy() };
    assert_eq!(draws(&equal, 0, &[1.0, 2.5], 1), [0]);
}

#[test]
fn banned_tokens_never_come_not_even_forced() {
    let settings = Settings { banned: vec![1, 3], logit_bias: vec![(1, 100.0)], ..Settings::default() };
    let logits = [0.0, 5.0, 0.0, 5.0, 0.0];
    let tokens = draws(&settings, 2, &logits, 300);
    assert!([0, 2, 4].iter().all(|token| tokens.contains(token)), "{tokens:?}");
    assert!(tokens.iter().all(|token| [0, 2, 4].contains(token)), "{tokens:?}");
}

/// By hand, greedy: the penalties of earlier tokens of the answer turn the choice.
#[test]
fn the_answer_counts_against_itself() {
    let logits = [3.0, 2.0, 1.0];
    let penalised = |presence_penalty, frequency_penalty, repeat_penalty| Settings {
        presence_penalty,
        frequency_penalty,
        repeat_penalty,
        ..greedy()
    };
    assert_eq!(draws(&penalised(1.5, 0.0, 1.0), 0, &logits, 4), [0, 1, 0, 0]);
    assert_eq!(draws(&penalised(0.0, 0.75, 1.0), 0, &logits, 5), [0, 0, 1, 0, 1]);
    assert_eq!(draws(&penalised(0.0, 0.0, 2.0), 0, &logits, 4), [0, 1, 0, 0]);
    let mut sampler = Sampler::new(penalised(0.0, 0.0, 4.0), 0);
    sampler.observe_prompt(&[0, 1]);
    assert_eq!(sampler.sample(&logits), Ok(2));
}

/// By hand, greedy: after 0 1 2 0 1 the 2 would be a repetition, unless a breaker stands before it.
#[test]
fn dry_turns_the_choice_where_a_repetition_would_go_on() {
    let dry = Dry { multiplier: 2.0, base: 1.75, allowed_length: 2, window: None, breakers: Vec::new() };
    let settings = Settings { dry: Some(dry), ..greedy() };
    let logits = [0.0, 1.0, 3.0];
    let mut sampler = Sampler::new(settings.clone(), 0);
    sampler.observe_prompt(&[0, 1, 2, 0, 1]);
    assert_eq!(sampler.sample(&logits), Ok(1));
    let mut sampler = Sampler::new(settings.clone(), 0);
    sampler.observe_prompt(&[0, 1, 2, 0]);
    sampler.end_repetition();
    sampler.observe_prompt(&[1]);
    assert_eq!(sampler.sample(&logits), Ok(2));
    // Its own tokens count too: the third 2 would be the end of a second 2 2.
    assert_eq!(draws(&settings, 0, &logits, 4), [2, 2, 2, 1]);
}
