//! Every number of a benchmark's report, computed once more from what the report says that it is made of.

use serde_json::Value;

/// No number without samples, no figure without a number or a reason, and nothing that cannot be computed again.
pub(crate) fn check(report: &Value) {
    let figures = report["figures"].as_array().unwrap();
    let mut names: Vec<&str> = figures.iter().map(|figure| figure["name"].as_str().unwrap()).collect();
    for figure in figures {
        of_samples(figure);
        for name in figure["derived_from"].as_array().unwrap() {
            assert!(names.contains(&name.as_str().unwrap()), "{name} of {figure}");
        }
        derived(report, figure);
    }
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), figures.len(), "names are unique");
    assert!(report["machine"]["logical_cpus"].as_u64().unwrap() > 0 && report["options"].is_object());
    assert_eq!(report["versions"]["plugin-api"], "1.0.0");
    if report["kind"] == "serve" {
        served(report);
    }
}

/// Median, interquartile range and noise follow from the samples.
fn of_samples(figure: &Value) {
    let samples = samples(figure);
    if samples.is_empty() {
        assert!(figure["not_available"].is_string(), "{figure}");
        assert!(
            figure["median"].is_null() && figure["iqr"].is_null() && figure["noisy"].is_null(),
            "{figure}"
        );
        return;
    }
    assert!(figure["not_available"].is_null(), "{figure}");
    let (median, iqr) = (quantile(&samples, 0.5), quantile(&samples, 0.75) - quantile(&samples, 0.25));
    near(figure["median"].as_f64().unwrap(), median, figure);
    // A difference of two large numbers is as exact as these.
    let difference = figure["iqr"].as_f64().unwrap() - iqr;
    assert!(difference.abs() <= 1e-9 * median.abs(), "{iqr}: {figure}");
    let noisy = (samples.len() >= 5).then_some(iqr > 0.05 * median.abs());
    assert_eq!(figure["noisy"].as_bool(), noisy, "{figure}");
}

/// What was computed from other figures follows from these, sample by sample.
fn derived(report: &Value, figure: &Value) {
    let name = figure["name"].as_str().unwrap();
    let from = figure["derived_from"].as_array().unwrap();
    if from.is_empty() || samples(figure).is_empty() {
        return;
    }
    let of = |i: usize| crate::benchmarks::figure(report, from[i].as_str().unwrap());
    let model = |key: &str| report["model"][key].as_f64().unwrap_or_else(|| panic!("no {key}: {report:#}"));
    let limit = || quantile(&samples(of(1)), 0.5);
    let expected: Vec<f64> = if name.starts_with("limits.bandwidth.") {
        let together: f64 = name.rsplit(".x").next().unwrap().parse().unwrap();
        samples(of(0)).iter().map(|rate| rate * model("weight_bytes") / together / limit()).collect()
    } else if name.starts_with("limits.arithmetic.") {
        samples(of(0)).iter().map(|rate| rate * 2.0 * model("parameters") / limit()).collect()
    } else if name.starts_with("quality.perplexity.") {
        let costs = samples(of(0));
        vec![(costs.iter().sum::<f64>() / costs.len() as f64).exp()]
    } else {
        assert!(name.starts_with("ratio."), "how does {name} follow?");
        ratios(report, name)
    };
    same(&samples(figure), &expected, name);
}

/// Each figure of a server's follows from its requests and rounds.
fn served(report: &Value) {
    for figure in report["figures"].as_array().unwrap() {
        let name = figure["name"].as_str().unwrap();
        if samples(figure).is_empty() || name.starts_with("ratio.") {
            continue;
        }
        let (name, target) = match name.strip_suffix(".against") {
            Some(name) => (name, 1),
            None => (name, 0),
        };
        let expected: Vec<f64> = by_round(report, name, target).into_iter().flatten().collect();
        same(&samples(figure), &expected, name);
    }
}

fn ratios(report: &Value, name: &str) -> Vec<f64> {
    let name = name.strip_prefix("ratio.").unwrap();
    let (a, b) = (by_round(report, name, 0), by_round(report, name, 1));
    a.into_iter().zip(b).filter_map(|(a, b)| Some(a? / b?)).filter(|ratio| ratio.is_finite()).collect()
}

/// A figure's sample of each of one server's rounds.
fn by_round(report: &Value, name: &str, target: u64) -> Vec<Option<f64>> {
    let mut rounds: Vec<&Value> =
        report["rounds"].as_array().unwrap().iter().filter(|round| round["target"] == target).collect();
    rounds.sort_by_key(|round| round["round"].as_u64());
    let requests = report["requests"].as_array().unwrap();
    let sample = |round: &&Value| {
        let of_round: Vec<&Value> =
            requests.iter().filter(|one| one["target"] == target && one["round"] == round["round"]).collect();
        one_round(report, name, &of_round, round["seconds"].as_f64().unwrap())
    };
    rounds.iter().map(sample).collect()
}

fn one_round(report: &Value, name: &str, requests: &[&Value], seconds: f64) -> Option<f64> {
    let answered = || requests.iter().filter(|one| one["error"].is_null());
    let last = || answered().filter(|one| one["is_last"] == true);
    let number = |value: &Value| value.as_f64();
    let gaps =
        |one: &Value| -> Vec<f64> { one["gaps"].as_array().unwrap().iter().filter_map(number).collect() };
    let values: Vec<f64> = match name.split('.').nth(1).unwrap() {
        "output_tokens" => {
            return Some(requests.iter().filter_map(|one| number(&one["tokens"])).sum::<f64>() / seconds);
        }
        "requests" if name.starts_with("errors") => {
            return Some((requests.len() - answered().count()) as f64);
        }
        "requests" if name.starts_with("goodput") => {
            let limit = |key: &str| number(&report["options"][key]).map_or(f64::INFINITY, |ms| ms / 1e3);
            let (ttft, itl) = (limit("ttft_limit_ms"), limit("itl_limit_ms"));
            let good = |one: &&&Value| {
                number(&one["ttft"]).is_none_or(|first| first <= ttft)
                    && gaps(one).iter().all(|gap| *gap <= itl)
            };
            return Some(answered().filter(good).count() as f64 / seconds);
        }
        "requests" => return Some(answered().count() as f64 / seconds),
        "ttft" => last().filter_map(|one| number(&one["ttft"])).collect(),
        "itl" => last().flat_map(|one| gaps(one)).collect(),
        "e2e" => last().filter_map(|one| number(&one["seconds"])).collect(),
        "tpot" => last()
            .filter(|one| one["tokens"].as_u64() > Some(1))
            .filter_map(|one| {
                Some((number(&one["seconds"])? - number(&one["ttft"])?) / (number(&one["tokens"])? - 1.0))
            })
            .collect(),
        other => panic!("how does {other} follow?"),
    };
    let percentile: f64 = name.rsplit(".p").next().unwrap().parse().unwrap();
    (!values.is_empty()).then(|| quantile(&values, percentile / 100.0))
}

fn samples(figure: &Value) -> Vec<f64> {
    figure["samples"].as_array().unwrap().iter().map(|sample| sample.as_f64().unwrap()).collect()
}

/// Interpolated between neighbours, as NumPy does by default.
fn quantile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let place = share * (sorted.len() - 1) as f64;
    let (below, above) = (sorted[place.floor() as usize], sorted[place.ceil() as usize]);
    below + (above - below) * place.fract()
}

fn same(found: &[f64], expected: &[f64], name: &str) {
    assert_eq!(found.len(), expected.len(), "{name}: {found:?} for {expected:?}");
    found.iter().zip(expected).for_each(|(found, expected)| near(*found, *expected, name));
}

fn near(found: f64, expected: f64, what: impl std::fmt::Display) {
    assert!((found - expected).abs() <= 1e-9 * expected.abs().max(1e-9), "{found} for {expected}: {what}");
}
