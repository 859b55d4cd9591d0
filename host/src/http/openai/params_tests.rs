//! Tables: JSON in, parameters or a refusal with its field out.

use serde_json::json;

use super::*;
use crate::sampling::{Dry, DynamicTemperature, Filters, Mirostat, MirostatVersion, Selection, Xtc};

fn take(body: Value) -> Result<Parameters> {
    let mut fields = Fields::of("", body).unwrap();
    let parameters = Parameters::take(&mut fields)?;
    fields.finish()?;
    Ok(parameters)
}

fn defaults() -> Parameters {
    Parameters {
        sampling: Settings::default(),
        seed: None,
        stop: Vec::new(),
        max_tokens: None,
        ignore_eos: false,
        structure: None,
        choices: 1,
        priority: 0,
        deadline: None,
        delivery: Delivery::Whole,
        keep_alive: None,
    }
}

/// Status, param and message of a refusal.
pub(in crate::http::openai) fn told<T: std::fmt::Debug>(result: Result<T>) -> (u16, String, String) {
    use axum::response::IntoResponse;

    let failure = result.unwrap_err();
    let body = serde_json::to_value(failure.body()).unwrap();
    let text = |key: &str| body["error"][key].as_str().unwrap_or_default().to_owned();
    (failure.into_response().status().as_u16(), text("param"), text("message"))
}

/// What a body changes in the defaults.
fn changes(body: Value, change: fn(&mut Parameters)) {
    let mut expected = defaults();
    change(&mut expected);
    assert_eq!(take(body.clone()).unwrap(), expected, "{body}");
}

#[test]
fn what_is_said_is_taken() {
    let check = changes;
    check(json!({}), |_| {});
    check(
        json!({"temperature": null, "stop": null, "n": null, "stream": null, "stream_options": null}),
        |_| {},
    );
    check(json!({"temperature": 0, "top_p": 0.5, "min_p": 0.25, "top_k": 40}), |p| {
        p.sampling.temperature = 0.0;
        p.sampling.selection =
            Selection::Filters(Filters { top_p: 0.5, min_p: 0.25, top_k: 40, ..Filters::default() });
    });
    check(json!({"top_k": -1}), |_| {});
    check(json!({"repeat_penalty": 1.5}), |p| p.sampling.repeat_penalty = 1.5);
    check(json!({"repetition_penalty": 1.5, "repeat_penalty": 1.5}), |p| p.sampling.repeat_penalty = 1.5);
    check(json!({"presence_penalty": -2, "frequency_penalty": 2}), |p| {
        p.sampling.presence_penalty = -2.0;
        p.sampling.frequency_penalty = 2.0;
    });
    check(json!({"logit_bias": {"7": -100, "8": 1.5}}), |p| {
        p.sampling.logit_bias = vec![(7, -100.0), (8, 1.5)]
    });
    check(json!({"logit_bias": {}}), |_| {});
}

#[test]
fn the_rarer_samplers_are_taken() {
    let check = changes;
    let dry = |breakers: &[&str]| Dry {
        multiplier: 0.8,
        base: 1.75,
        allowed_length: 2,
        window: None,
        breakers: breakers.iter().map(|text| (*text).to_owned()).collect(),
    };
    check(json!({"typical_p": 1, "dry_multiplier": 0, "xtc_probability": 0.0, "mirostat": 0}), |_| {});
    check(
        json!({"top_n_sigma": -1, "dynatemp_range": 0, "dry_penalty_last_n": -1, "repeat_last_n": 64}),
        |_| {},
    );
    check(json!({"mirostat_tau": 3, "xtc_threshold": 0.2, "dry_base": 2, "dynatemp_exponent": 2}), |_| {});
    check(
        json!({"typical_p": 0.9, "top_n_sigma": 1.5, "xtc_probability": 0.5, "dynatemp_range": 0.4}),
        |p| {
            p.sampling.selection = Selection::Filters(Filters {
                typical_p: 0.9,
                top_n_sigma: 1.5,
                xtc: Some(Xtc { probability: 0.5, threshold: 0.1 }),
                dynamic: Some(DynamicTemperature { range: 0.4, exponent: 1.0 }),
                ..Filters::default()
            });
        },
    );
    check(json!({"mirostat": 1, "mirostat_tau": 3, "mirostat_eta": 0.5, "top_p": 1, "top_k": 0}), |p| {
        let version = MirostatVersion::One;
        p.sampling.selection = Selection::Mirostat(Mirostat { version, tau: 3.0, eta: 0.5 });
    });
    let usual = dry(&["\n", ":", "\"", "*"]);
    let mut expected = defaults();
    expected.sampling.dry = Some(usual);
    assert_eq!(take(json!({"dry_multiplier": 0.8})).unwrap(), expected);
    let body = json!({"dry_multiplier": 0.8, "dry_base": 1.5, "dry_allowed_length": 3, "dry_penalty_last_n": 100,
                      "dry_sequence_breakers": ["a", "bc"]});
    expected.sampling.dry =
        Some(Dry { base: 1.5, allowed_length: 3, window: Some(100), ..dry(&["a", "bc"]) });
    assert_eq!(take(body).unwrap(), expected);
    check(json!({"repeat_penalty": 1.1, "repeat_last_n": -1}), |p| {
        (p.sampling.repeat_penalty, p.sampling.penalty_window) = (1.1, u32::MAX);
    });
}

#[test]
fn the_rarer_samplers_are_refused_by_name() {
    let check = refused_for;
    for (field, bad) in [
        ("typical_p", json!(0)),
        ("typical_p", json!(1.1)),
        ("top_n_sigma", json!(-2)),
        ("xtc_probability", json!(1.5)),
        ("xtc_threshold", json!(-0.1)),
        ("dynatemp_range", json!(6)),
        ("dynatemp_exponent", json!(-1)),
        ("mirostat", json!(3)),
        ("mirostat_tau", json!(0)),
        ("mirostat_eta", json!(2)),
        ("dry_multiplier", json!(-0.5)),
        ("dry_base", json!(0.5)),
        ("dry_allowed_length", json!(-1)),
        ("dry_penalty_last_n", json!(-2)),
        ("dry_sequence_breakers", json!(vec!["a"; 65])),
        ("repeat_last_n", json!(-2)),
    ] {
        check(json!({field: bad}), 400, field);
    }
    check(json!({"dry_sequence_breakers": ["a", ""]}), 400, "dry_sequence_breakers[1]");
    check(json!({"dry_sequence_breakers": "a"}), 422, "dry_sequence_breakers");
    check(json!({"mirostat": 1.5}), 422, "mirostat");
    for (field, value) in [
        ("top_k", json!(40)),
        ("top_p", json!(0.9)),
        ("min_p", json!(0.1)),
        ("typical_p", json!(0.9)),
        ("top_n_sigma", json!(1)),
        ("xtc_probability", json!(0.5)),
        ("dynatemp_range", json!(0.5)),
    ] {
        check(json!({"mirostat": 2, field: value}), 400, field);
    }
}

#[test]
fn what_is_said_of_the_answer_s_end_and_way_is_taken() {
    let check = changes;
    check(json!({"seed": 7}), |p| p.seed = Some(7));
    check(json!({"seed": -1}), |p| p.seed = Some(u64::MAX));
    check(json!({"seed": u64::MAX}), |p| p.seed = Some(u64::MAX));
    check(json!({"stop": "a"}), |p| p.stop = vec!["a".to_owned()]);
    check(json!({"stop": ["a", "\n"]}), |p| p.stop = vec!["a".to_owned(), "\n".to_owned()]);
    check(json!({"stop": []}), |_| {});
    check(json!({"max_tokens": 5}), |p| p.max_tokens = Some(5));
    check(json!({"max_tokens": 5, "max_completion_tokens": 5.0}), |p| p.max_tokens = Some(5));
    check(json!({"priority": -1000}), |p| p.priority = -1000);
    let deadline = take(json!({"deadline_ms": 60_000})).unwrap();
    let limit = deadline.requests(&Prompt::Text(String::new()), None)[0].time_limit_ms.unwrap();
    assert!((1..=60_000).contains(&limit), "{limit}");
    check(json!({"ignore_eos": true, "n": 3}), |p| (p.ignore_eos, p.choices) = (true, 3));
    check(json!({"stream": true}), |p| p.delivery = Delivery::Stream { usage: StreamedUsage::Never });
    check(
        json!({"stream": true, "stream_options": {"include_usage": true, "include_obfuscation": false}}),
        |p| {
            p.delivery = Delivery::Stream { usage: StreamedUsage::AtEnd };
        },
    );
    check(
        json!({"stream": true, "stream_options": {"include_usage": true, "continuous_usage_stats": true}}),
        |p| {
            p.delivery = Delivery::Stream { usage: StreamedUsage::Throughout };
        },
    );
    check(json!({"user": "u", "metadata": {"a": "b"}, "store": false, "service_tier": "auto"}), |_| {});
    check(json!({"prompt_cache_key": "k", "safety_identifier": "s", "anything": null}), |_| {});
}

/// Which field a body is refused for.
fn refused_for(body: Value, status: u16, param: &str) {
    let (found_status, found_param, message) = told(take(body.clone()));
    assert_eq!((found_status, found_param.as_str()), (status, param), "{body}: {message}");
    assert!(message.contains(param.split('.').next().unwrap().split('[').next().unwrap()), "{message}");
}

#[test]
fn what_cannot_be_honoured_is_refused_by_name() {
    let check = refused_for;
    check(json!({"temperature": "0"}), 422, "temperature");
    check(json!({"temperature": -0.1}), 400, "temperature");
    check(json!({"temperature": 1e39}), 400, "temperature");
    check(json!({"top_p": 0}), 400, "top_p");
    check(json!({"min_p": 1}), 400, "min_p");
    check(json!({"top_k": -2}), 400, "top_k");
    check(json!({"repetition_penalty": 0}), 400, "repetition_penalty");
    check(json!({"repeat_penalty": 0}), 400, "repeat_penalty");
    check(json!({"repetition_penalty": 1.1, "repeat_penalty": 1.2}), 400, "repetition_penalty");
    check(json!({"logit_bias": [1]}), 422, "logit_bias");
    check(json!({"logit_bias": {"x": 1}}), 400, "logit_bias.x");
    check(json!({"logit_bias": {"1": "x"}}), 422, "logit_bias.1");
    check(json!({"logit_bias": {"1": 101}}), 400, "logit_bias");
    check(json!({"seed": 0.5}), 422, "seed");
    check(json!({"seed": 1e30}), 422, "seed");
}

#[test]
fn what_cannot_be_honoured_of_the_answer_s_end_and_way_is_refused_by_name() {
    let check = refused_for;
    check(json!({"stop": 1}), 422, "stop");
    check(json!({"stop": ""}), 400, "stop");
    check(json!({"stop": ["a", ""]}), 400, "stop[1]");
    check(json!({"stop": ["a", 1]}), 422, "stop[1]");
    check(json!({"stop": vec!["a"; 17]}), 400, "stop");
    check(json!({"max_tokens": 0}), 400, "max_tokens");
    check(json!({"max_tokens": -1}), 400, "max_tokens");
    check(json!({"max_tokens": true}), 422, "max_tokens");
    check(json!({"max_tokens": 1, "max_completion_tokens": 2}), 400, "max_completion_tokens");
    check(json!({"priority": 1001}), 400, "priority");
    check(json!({"priority": "high"}), 422, "priority");
    check(json!({"deadline_ms": 0}), 400, "deadline_ms");
    check(json!({"deadline_ms": 86_400_001}), 400, "deadline_ms");
    check(json!({"n": 0}), 400, "n");
    check(json!({"n": 129}), 400, "n");
    check(json!({"ignore_eos": 1}), 422, "ignore_eos");
    check(json!({"stream": "yes"}), 422, "stream");
    check(json!({"stream_options": {"include_usage": true}}), 400, "stream_options");
    check(
        json!({"stream": true, "stream_options": {"continuous_usage_stats": true}}),
        400,
        "stream_options.continuous_usage_stats",
    );
    check(json!({"stream": true, "stream_options": {"x": 1}}), 400, "stream_options.x");
    check(
        json!({"stream": true, "stream_options": {"include_obfuscation": true}}),
        400,
        "stream_options.include_obfuscation",
    );
    check(json!({"store": true}), 400, "store");
    check(json!({"service_tier": "flex"}), 400, "service_tier");
    check(json!({"metadata": "x"}), 422, "metadata");
    check(json!({"num_predict": 10}), 400, "num_predict");
}

#[test]
fn a_bias_beyond_the_vocabulary_is_refused() {
    let parameters = take(json!({"logit_bias": {"99": 1, "100": 1}})).unwrap();
    parameters.check_vocabulary(101).unwrap();
    assert_eq!(told(parameters.check_vocabulary(100)).1, "logit_bias");
}

#[test]
fn each_choice_has_its_own_seed() {
    let parameters = take(json!({"n": 3, "seed": -2})).unwrap();
    let requests = parameters.requests(&Prompt::Text(String::new()), Some(2));
    let seeds: Vec<_> = requests.iter().map(|request| request.seed).collect();
    assert_eq!(seeds, [Some(u64::MAX - 1), Some(u64::MAX), Some(0)]);
    assert!(requests.iter().all(|request| request.logprobs == Some(2)));
}
