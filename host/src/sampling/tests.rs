//! Each stage against its definition on small vectors.

use super::*;

fn settings() -> Settings {
    Settings::default()
}

/// The tokens that pass the filters.
fn passing(settings: &Settings, logits: &[f32]) -> Vec<u32> {
    let mut candidates = Candidates::default();
    candidates.fill(settings, logits).unwrap();
    candidates.ids()
}

/// Logits of these probabilities.
fn logits_of(probabilities: &[f32]) -> Vec<f32> {
    probabilities.iter().map(|p| p.ln()).collect()
}

fn sample_many(settings: &Settings, seed: u64, logits: &[f32], times: usize) -> Vec<u32> {
    let mut sampler = Sampler::new(settings.clone(), seed);
    (0..times).map(|_| sampler.sample(logits).unwrap()).collect()
}

#[test]
fn greedy_takes_the_largest_and_of_equals_the_first() {
    let greedy = Settings { temperature: 0.0, ..settings() };
    for (logits, expected) in [
        (vec![0.0, 3.0, 1.0], 1),
        (vec![2.0, 2.0, 2.0], 0),
        (vec![f32::NAN, -1.0, -1.0], 1),
        (vec![-5.0; 40], 0),
        (vec![1.0, f32::INFINITY, 2.0], 1),
        ((0..100).map(|i| if i == 77 { 9.0 } else { i as f32 * 0.01 }).collect(), 77),
    ] {
        assert_eq!(Sampler::new(greedy.clone(), 0).sample(&logits), Ok(expected), "{logits:?}");
    }
}

#[test]
fn without_any_candidate_there_is_an_error() {
    for temperature in [0.0, 1.0] {
        let some = Settings { temperature, ..settings() };
        for logits in [vec![f32::NEG_INFINITY; 3], vec![f32::NAN; 3], vec![]] {
            assert_eq!(Sampler::new(some.clone(), 1).sample(&logits), Err(NoCandidate));
        }
        let banned = Settings { banned: vec![0, 1], ..some };
        assert_eq!(Sampler::new(banned, 1).sample(&[1.0, 2.0]), Err(NoCandidate));
    }
}

#[test]
fn top_k_keeps_the_k_largest() {
    let logits = [1.0, 5.0, 3.0, 4.0, 2.0];
    for (top_k, expected) in [(0, vec![0, 1, 2, 3, 4]), (1, vec![1]), (3, vec![1, 2, 3]), (9, vec![0, 1, 2, 3, 4])] {
        assert_eq!(passing(&Settings { top_k, ..settings() }, &logits), expected);
    }
    assert_eq!(passing(&Settings { top_k: 2, ..settings() }, &[7.0; 4]), [0, 1], "of equals the first");
}

#[test]
fn top_p_keeps_the_fewest_that_reach_it() {
    let logits = logits_of(&[0.1, 0.5, 0.15, 0.25]);
    for (top_p, expected) in
        [(0.49, vec![1]), (0.51, vec![1, 3]), (0.76, vec![1, 2, 3]), (0.95, vec![0, 1, 2, 3]), (1e-6, vec![1])]
    {
        assert_eq!(passing(&Settings { top_p, ..settings() }, &logits), expected, "top_p {top_p}");
    }
}

#[test]
fn top_p_over_a_flat_vocabulary_counts_exactly() {
    let flat = vec![0.0; 1000];
    assert_eq!(passing(&Settings { top_p: 0.5, ..settings() }, &flat), (0..500).collect::<Vec<u32>>());
}

#[test]
fn min_p_is_a_share_of_the_best() {
    let logits = logits_of(&[0.6, 0.2, 0.13, 0.07]);
    for (min_p, expected) in [(0.0, vec![0, 1, 2, 3]), (0.2, vec![0, 1, 2]), (0.3, vec![0, 1]), (0.9, vec![0])] {
        assert_eq!(passing(&Settings { min_p, ..settings() }, &logits), expected, "min_p {min_p}");
    }
}

#[test]
fn top_p_is_a_share_of_what_top_k_left() {
    // Of 0.5 and 0.25 alone, the first has two thirds.
    let both = Settings { top_k: 2, top_p: 0.6, ..settings() };
    assert_eq!(passing(&both, &logits_of(&[0.1, 0.5, 0.15, 0.25])), [1]);
}

#[test]
fn penalties_are_as_defined() {
    let logits = [2.0, -2.0, 1.0, 0.5];
    let mut penalties =
        Penalties::new(&Settings { repeat_penalty: 2.0, presence_penalty: 0.5, frequency_penalty: 0.25, ..settings() });
    penalties.observe_prompt(&[0, 1]);
    penalties.observe(2);
    penalties.observe(2);
    let mut adjusted = logits;
    penalties.apply(&mut adjusted);
    // 0 and 1 were in the prompt: repeat alone. 2 came twice in the answer: repeat, then 0.5 + 2 * 0.25.
    assert_eq!(adjusted, [1.0, -4.0, 0.5 - 1.0, 0.5]);
}

#[test]
fn the_repeat_penalty_forgets_beyond_its_window() {
    let mut penalties = Penalties::new(&Settings { repeat_penalty: 2.0, penalty_window: 2, ..settings() });
    penalties.observe_prompt(&[0, 1, 1]);
    penalties.observe(2);
    let mut adjusted = [8.0; 4];
    penalties.apply(&mut adjusted);
    assert_eq!(adjusted, [8.0, 4.0, 4.0, 8.0]);
}

#[test]
fn bias_forces_and_forbids() {
    let logits = [1.0, 2.0, 3.0];
    let forced = Settings { logit_bias: vec![(0, 100.0)], ..settings() };
    assert!(sample_many(&forced, 3, &logits, 50).iter().all(|&token| token == 0));
    let forbidden = Settings { logit_bias: vec![(2, -100.0), (77, 5.0)], ..settings() };
    assert!(!sample_many(&forbidden, 3, &logits, 50).contains(&2));
    let banned = Settings { banned: vec![2, 99], temperature: 0.0, ..settings() };
    assert_eq!(sample_many(&banned, 3, &logits, 2), [1, 1]);
}

#[test]
fn a_seed_repeats_itself_and_another_does_not() {
    let logits: Vec<f32> = (0..50).map(|i| (i % 7) as f32 * 0.3).collect();
    let some = Settings { top_k: 30, top_p: 0.9, min_p: 0.05, ..settings() };
    assert_eq!(sample_many(&some, 42, &logits, 40), sample_many(&some, 42, &logits, 40));
    assert_ne!(sample_many(&some, 42, &logits, 40), sample_many(&some, 43, &logits, 40));
}

#[test]
fn draws_follow_the_distribution() {
    let probabilities = [0.4, 0.3, 0.2, 0.1];
    let times = 20_000;
    for (temperature, expected) in [(1.0, probabilities), (0.5, [0.5333, 0.3, 0.1333, 0.0333])] {
        let some = Settings { temperature, ..settings() };
        let drawn = sample_many(&some, 7, &logits_of(&probabilities), times);
        for (token, share) in expected.into_iter().enumerate() {
            let found = drawn.iter().filter(|&&other| other as usize == token).count() as f32 / times as f32;
            assert!((found - share).abs() < 0.015, "token {token} at {temperature}: {found} for {share}");
        }
    }
}

#[test]
fn log_probabilities_are_the_log_softmax() {
    let logits: Vec<f32> = logits_of(&[0.1, 0.5, 0.15, 0.25]).iter().map(|logit| logit + 3.0).collect();
    let found = log_probabilities(&logits, 3, 2);
    assert!((found.logprob - 0.25_f32.ln()).abs() < 1e-6);
    assert_eq!(found.top.iter().map(|&(token, _)| token).collect::<Vec<_>>(), [1, 3]);
    assert!((found.top[0].1 - 0.5_f32.ln()).abs() < 1e-6);
    let ties = log_probabilities(&[f32::NAN, 1.0, 1.0, 1.0], 0, 2);
    assert_eq!(ties.logprob, f32::NEG_INFINITY);
    assert_eq!(ties.top.iter().map(|&(token, _)| token).collect::<Vec<_>>(), [1, 2]);
    assert!(log_probabilities(&[1.0], 5, 0).top.is_empty());
}

#[test]
fn what_is_out_of_range_is_named() {
    assert_eq!(settings().validate(), Ok(()));
    for (wrong, field) in [
        (Settings { temperature: -0.1, ..settings() }, "temperature"),
        (Settings { temperature: f32::NAN, ..settings() }, "temperature"),
        (Settings { top_p: 0.0, ..settings() }, "top_p"),
        (Settings { top_p: 1.1, ..settings() }, "top_p"),
        (Settings { min_p: 1.0, ..settings() }, "min_p"),
        (Settings { repeat_penalty: 0.0, ..settings() }, "repeat_penalty"),
        (Settings { repeat_penalty: f32::INFINITY, ..settings() }, "repeat_penalty"),
        (Settings { presence_penalty: 2.5, ..settings() }, "presence_penalty"),
        (Settings { frequency_penalty: -3.0, ..settings() }, "frequency_penalty"),
        (Settings { logit_bias: vec![(4, 101.0)], ..settings() }, "logit_bias"),
    ] {
        let error = wrong.validate().unwrap_err();
        assert_eq!(error.field, field);
        assert!(error.message.contains("found"), "{error}");
    }
}
