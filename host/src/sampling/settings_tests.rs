//! Ranges: which values each setting takes, and how it refuses others.

use super::*;

fn refused(change: impl FnOnce(&mut Settings)) -> Option<(&'static str, String)> {
    let mut settings = Settings::default();
    change(&mut settings);
    settings.validate().err().map(|error| (error.field, error.to_string()))
}

fn filters(settings: &mut Settings) -> &mut Filters {
    match &mut settings.selection {
        Selection::Filters(filters) => filters,
        Selection::Mirostat(_) => panic!("these settings have no filters"),
    }
}

fn xtc(settings: &mut Settings) -> &mut Xtc {
    filters(settings).xtc.insert(Xtc { probability: 0.5, threshold: 0.1 })
}

fn dynamic(settings: &mut Settings) -> &mut DynamicTemperature {
    filters(settings).dynamic.insert(DynamicTemperature { range: 0.5, exponent: 1.0 })
}

fn mirostat(settings: &mut Settings) -> &mut Mirostat {
    settings.selection = Selection::Mirostat(Mirostat { version: MirostatVersion::Two, tau: 5.0, eta: 0.1 });
    match &mut settings.selection {
        Selection::Mirostat(mirostat) => mirostat,
        Selection::Filters(_) => unreachable!("it was just set"),
    }
}

fn dry(settings: &mut Settings) -> &mut Dry {
    settings.dry.insert(Dry {
        multiplier: 0.8,
        base: 1.75,
        allowed_length: 2,
        window: None,
        breakers: Vec::new(),
    })
}

/// Each field, the values that it takes and those that it refuses.
#[test]
fn ranges() {
    type Set = fn(&mut Settings, f32);
    let (nan, infinity) = (f32::NAN, f32::INFINITY);
    let table: [(&str, Set, &[f32], &[f32]); 17] = [
        ("temperature", |s, v| s.temperature = v, &[0.0, 0.7, 2.0, 5.0], &[-0.1, 5.1, nan, infinity]),
        ("top_n_sigma", |s, v| filters(s).top_n_sigma = v, &[0.0, 1.0, 1000.0], &[-1.0, 1001.0, nan]),
        ("typical_p", |s, v| filters(s).typical_p = v, &[1e-9, 0.9, 1.0], &[0.0, 1.01, nan]),
        ("top_p", |s, v| filters(s).top_p = v, &[1e-9, 0.9, 1.0], &[0.0, -0.5, 1.01, nan, infinity]),
        ("min_p", |s, v| filters(s).min_p = v, &[0.0, 0.05, 0.999], &[1.0, -0.1, nan, infinity]),
        ("xtc_probability", |s, v| xtc(s).probability = v, &[0.0, 0.5, 1.0], &[-0.1, 1.1, nan]),
        ("xtc_threshold", |s, v| xtc(s).threshold = v, &[0.0, 0.1, 1.0], &[-0.1, 1.1, nan]),
        ("dynatemp_range", |s, v| dynamic(s).range = v, &[0.0, 5.0], &[-0.1, 5.1, nan]),
        ("dynatemp_exponent", |s, v| dynamic(s).exponent = v, &[0.0, 1.0, 100.0], &[-0.1, 101.0, nan]),
        ("mirostat_tau", |s, v| mirostat(s).tau = v, &[0.1, 5.0, 100.0], &[0.0, -1.0, 101.0, nan]),
        ("mirostat_eta", |s, v| mirostat(s).eta = v, &[0.0, 0.1, 1.0], &[-0.1, 1.1, nan]),
        ("repeat_penalty", |s, v| s.repeat_penalty = v, &[0.5, 1.0, 1.1], &[0.0, -1.0, 101.0, nan, infinity]),
        ("presence_penalty", |s, v| s.presence_penalty = v, &[-2.0, 0.0, 2.0], &[-2.1, 2.1, nan, -infinity]),
        ("frequency_penalty", |s, v| s.frequency_penalty = v, &[-2.0, 2.0], &[-2.1, 2.1, nan, infinity]),
        ("dry_multiplier", |s, v| dry(s).multiplier = v, &[0.1, 0.8, 100.0], &[0.0, -1.0, 101.0, nan]),
        ("dry_base", |s, v| dry(s).base = v, &[1.0, 1.75, 100.0], &[0.9, 101.0, nan, infinity]),
        ("logit_bias", |s, v| s.logit_bias = vec![(7, v)], &[-100.0, 100.0], &[-101.0, 101.0, nan]),
    ];
    for (field, set, good, bad) in table {
        for value in good {
            assert_eq!(refused(|s| set(s, *value)), None, "{field} = {value}");
        }
        for value in bad {
            let (named, message) = refused(|s| set(s, *value)).unwrap();
            assert_eq!(named, field, "{field} = {value}");
            assert!(message.ends_with(&format!("got {value}")), "{message}");
        }
    }
}

#[test]
fn messages_say_what_was_expected() {
    let (_, message) = refused(|s| s.temperature = 9.0).unwrap();
    assert_eq!(message, "temperature must be a number from 0 to 5, got 9");
    let (_, message) = refused(|s| s.logit_bias = vec![(1, 0.0), (50, 300.0)]).unwrap();
    assert_eq!(message, "logit_bias must be a number from -100 to 100 for token 50, got 300");
}

#[test]
fn tokens_outside_the_vocabulary_are_named() {
    let mut settings = Settings { logit_bias: vec![(9, 1.0)], banned: vec![3], ..Settings::default() };
    assert_eq!(settings.validate_tokens(10), Ok(()));
    let error = settings.validate_tokens(9).unwrap_err();
    assert_eq!(error.to_string(), "logit_bias names token 9, but this model has only 9 tokens, from 0 on");
    settings.logit_bias.clear();
    assert_eq!(settings.validate_tokens(3).unwrap_err().field, "banned");
}
