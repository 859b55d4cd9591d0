//! DRY against its definition: by hand, and against a comparison of every pair of places.

use std::collections::BTreeMap;

use super::*;

fn dry(allowed_length: u32, window: Option<u32>) -> Dry {
    Dry { multiplier: 0.5, base: 2.0, allowed_length, window, breakers: Vec::new() }
}

/// What is taken from each token's logit. `breaks` are the places after whose tokens a breaker ends.
fn taken(settings: Dry, tokens: &[u32], breaks: &[usize]) -> BTreeMap<u32, f32> {
    let mut repeats = Repeats::new(settings);
    for (at, token) in tokens.iter().enumerate() {
        repeats.observe(*token);
        if breaks.contains(&at) {
            repeats.end();
        }
    }
    let mut adjusted = vec![0.0; 50];
    // Twice: the buffers of the first time must not show.
    repeats.find();
    assert_eq!(repeats.find(), !repeats.found.is_empty());
    repeats.apply(&mut adjusted);
    (0..).zip(adjusted).filter(|(_, logit)| *logit != 0.0).map(|(token, logit)| (token, -logit)).collect()
}

/// llama.cpp's rule, place by place: for every earlier place, how many tokens up to it are the last ones too.
fn by_definition(settings: &Dry, tokens: &[u32], breaks: &[usize]) -> BTreeMap<u32, f32> {
    let window = settings.window.map_or(tokens.len(), |window| tokens.len().min(window as usize));
    let seen = &tokens[tokens.len() - window..];
    let unbroken = breaks.last().map_or(window, |last| (tokens.len() - 1 - last).min(window));
    let mut longest = BTreeMap::<u32, u32>::new();
    if window as u32 <= settings.allowed_length || (unbroken as u32) < settings.allowed_length {
        return BTreeMap::new();
    }
    for end in 0..window.saturating_sub(1) {
        let same = |length: &usize| seen[end + 1 - length..=end] == seen[window - length..];
        let length = (1..=end + 1).rev().find(same).unwrap_or(0).min(unbroken) as u32;
        if length >= settings.allowed_length {
            let best = longest.entry(seen[end + 1]).or_insert(0);
            *best = length.max(*best);
        }
    }
    let penalty =
        |length: u32| settings.multiplier * settings.base.powi((length - settings.allowed_length) as i32);
    longest.into_iter().map(|(token, length)| (token, penalty(length))).collect()
}

#[test]
fn small_sequences_by_hand() {
    let check = |settings: Dry, tokens: &[u32], breaks: &[usize], expected: &[(u32, f32)]| {
        let expected: BTreeMap<u32, f32> = expected.iter().copied().collect();
        assert_eq!(taken(settings.clone(), tokens, breaks), expected, "{tokens:?}, {settings:?}");
        assert_eq!(by_definition(&settings, tokens, breaks), expected, "{tokens:?}, {settings:?}");
    };
    // After 1 2 3 … 1 2 the 3 would make it three: 0.5 · 2 ^ (2 - 2).
    check(dry(2, None), &[1, 2, 3, 9, 1, 2], &[], &[(3, 0.5)]);
    check(dry(2, None), &[1, 2, 3, 9, 2], &[], &[]);
    check(dry(1, None), &[1, 2, 3, 9, 1, 2], &[], &[(3, 1.0)]);
    // Two repetitions, of two and of three tokens.
    check(dry(2, None), &[5, 1, 2, 3, 1, 2, 4, 5, 1, 2], &[], &[(3, 1.0), (4, 0.5)]);
    // The window leaves the first of them out.
    check(dry(2, Some(6)), &[5, 1, 2, 3, 1, 2, 4, 5, 1, 2], &[], &[(4, 0.5)]);
    check(dry(2, Some(0)), &[1, 2, 3, 1, 2], &[], &[]);
    // One token over and over: all but the first repeat.
    check(dry(2, None), &[7, 7, 7, 7, 7], &[], &[(7, 2.0)]);
    // A breaker after the last 1 leaves one token to repeat, one before all none to speak of.
    check(dry(2, None), &[1, 2, 3, 9, 1, 2], &[4], &[]);
    check(dry(1, None), &[1, 2, 3, 9, 1, 2], &[4], &[(3, 0.5)]);
    check(dry(2, None), &[1, 2, 3, 9, 1, 2], &[3], &[(3, 0.5)]);
    check(dry(2, None), &[], &[], &[]);
}

#[test]
fn long_sequences_agree_with_the_definition() {
    for seed in 0..400_u32 {
        let noise = |at: u32| (seed * 7919 + at).wrapping_mul(2_654_435_761) >> 15;
        let tokens: Vec<u32> = (0..noise(1000) % 60).map(|at| noise(at) % (2 + seed % 3)).collect();
        let settings = dry(noise(1001) % 4, [None, Some(noise(1002) % 50)][seed as usize % 2]);
        let breaks: Vec<usize> = (0..tokens.len()).filter(|at| noise(*at as u32 + 2000) % 40 == 0).collect();
        let (found, expected) =
            (taken(settings.clone(), &tokens, &breaks), by_definition(&settings, &tokens, &breaks));
        assert_eq!(
            found.keys().collect::<Vec<_>>(),
            expected.keys().collect::<Vec<_>>(),
            "{tokens:?} {settings:?}"
        );
        for (token, penalty) in &expected {
            assert!((found[token] / penalty - 1.0).abs() < 1e-5, "{tokens:?} {settings:?}");
        }
    }
}

#[test]
fn a_penalty_stays_finite_however_long_the_repetition() {
    let tokens = vec![3; 2000];
    let settings = Dry { multiplier: 1.0, ..dry(1, None) };
    assert_eq!(taken(settings, &tokens, &[])[&3], 2.0_f32.powi(127));
    let settings = Dry { multiplier: 1.0, base: 1.0, ..dry(1, None) };
    assert_eq!(taken(settings, &tokens, &[])[&3], 1.0);
}

#[test]
fn breakers_are_found_however_the_text_is_split() {
    let check = |texts: &[&str], tokens: &[&str], expected: &[usize]| {
        let texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
        let mut breakers = Breakers::new(&texts);
        let found: Vec<usize> = (0..)
            .zip(tokens)
            .filter(|(_, token)| breakers.push(token.as_bytes()))
            .map(|(at, _)| at)
            .collect();
        assert_eq!(found, expected, "{texts:?} in {tokens:?}");
    };
    check(&["\n", ":"], &["a", ":\n", "b", " c:d", ""], &[1, 3]);
    check(&["###"], &["##", "#", "#", "a##", "##"], &[1, 2, 4]);
    check(&["abc"], &["ab", "", "c", "c", "xabcx"], &[2, 4]);
    check(&["", "é"], &["\u{e9}", "e"], &[0]);
    check(&[], &["a"], &[]);
}
