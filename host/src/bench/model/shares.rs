//! Which share of the machine's limits a model reaches: memory bandwidth where it decodes, arithmetic where it fills.

use super::super::recorder::Recorder;
use super::super::report::{Figure, Named, Unit};
use crate::models::Loaded;

/// Adds a share for each rate that was measured.
pub(super) fn add(loaded: &Loaded, bandwidth: &str, recorder: &mut Recorder) {
    let raw = &loaded.metadata().raw;
    let number = |key: &str| raw.get(key).and_then(serde_json::Value::as_u64).filter(|&value| value > 0);
    let experts = number("experts").filter(|&experts| experts > 1);
    let facts = Facts { weight_bytes: number("weight_bytes"), parameters: number("parameters"), experts };
    let fastest = fastest_product(recorder);
    let rates: Vec<Figure> = recorder
        .figures()
        .iter()
        .filter(|figure| ["prefill", "decode"].contains(&&*figure.group))
        .cloned()
        .collect();
    for rate in rates {
        let figure = if rate.group == "decode" {
            of_bandwidth(&rate, &facts, recorder.figure(bandwidth))
        } else {
            of_arithmetic(&rate, &facts, fastest.as_ref())
        };
        recorder.add(figure);
    }
}

/// What the plugin says of its model.
struct Facts {
    weight_bytes: Option<u64>,
    parameters: Option<u64>,
    experts: Option<u64>,
}

const EXPERTS: &str =
    "a token goes through some of the model's experts alone, and how much that is is not known here";

fn of_bandwidth(rate: &Figure, facts: &Facts, limit: Option<&Figure>) -> Figure {
    let named = |how: String| {
        let label = format!("share of the memory bandwidth, {}", rate.label);
        Named::new(format!("limits.bandwidth.{}", rate.name), label, Unit::Share).how(how)
    };
    let Some(bytes) = facts.weight_bytes else {
        return named(String::new())
            .not_available("the plugin does not say how many bytes the model's weights are");
    };
    if facts.experts.is_some() {
        return named(String::new()).not_available(EXPERTS);
    }
    let together = rate.name.rsplit_once(".x").and_then(|(_, count)| count.parse().ok()).unwrap_or(1.0);
    let how = format!(
        "{bytes} bytes of weights, read once for {together} tokens, times tokens in a second, by the bandwidth of reading \
         main memory with all threads; keys and values are not counted"
    );
    share(named(how), rate, bytes as f64 / together, limit)
}

fn of_arithmetic(rate: &Figure, facts: &Facts, limit: Option<&Figure>) -> Figure {
    let named = |how: String| {
        let label = format!("share of the arithmetic, {}", rate.label);
        Named::new(format!("limits.arithmetic.{}", rate.name), label, Unit::Share).how(how)
    };
    let Some(parameters) = facts.parameters else {
        return named(String::new())
            .not_available("the plugin does not say how many parameters the model has");
    };
    if facts.experts.is_some() {
        return named(String::new()).not_available(EXPERTS);
    }
    let how = format!(
        "2 operations for each of {parameters} parameters, times tokens in a second, by the fastest of the plugin's own \
         products; attention is not counted, and a table that is only looked up is"
    );
    share(named(how), rate, 2.0 * parameters as f64, limit)
}

fn share(named: Named, rate: &Figure, each: f64, limit: Option<&Figure>) -> Figure {
    let Some((limit, most)) = limit.and_then(|limit| Some((limit, limit.median?))) else {
        return named.not_available("the machine's limit is not available");
    };
    named.derived(rate.samples.map(|rate| rate * each / most), &[&rate.name, &limit.name])
}

fn fastest_product(recorder: &Recorder) -> Option<Figure> {
    let products = recorder.figures().iter().filter(|figure| figure.group == "arithmetic");
    products
        .filter(|figure| figure.median.is_some())
        .max_by(|a, b| a.median.partial_cmp(&b.median).unwrap_or(std::cmp::Ordering::Equal))
        .cloned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_follow_from_rates_and_limits_or_say_why_not() {
        let rate = |name: &str| {
            Named::new(name, name, Unit::TokensPerSecond).measured([10.0, 20.0].into_iter().collect())
        };
        let limit = Named::new("memory.read.main.all_threads", "", Unit::BytesPerSecond)
            .measured([1000.0].into_iter().collect());
        let facts = Facts { weight_bytes: Some(50), parameters: Some(5), experts: None };
        let alone = of_bandwidth(&rate("decode.16.at0.x1"), &facts, Some(&limit));
        assert_eq!(alone.samples.values(), [0.5, 1.0]);
        assert_eq!(alone.derived_from, ["decode.16.at0.x1", "memory.read.main.all_threads"]);
        let together = of_bandwidth(&rate("decode.16.at0.x4"), &facts, Some(&limit));
        assert_eq!(together.samples.values(), [0.125, 0.25]);
        let fill = of_arithmetic(&rate("prefill.16.at0.x4"), &facts, Some(&limit));
        assert_eq!(fill.samples.values(), [0.1, 0.2]);
        let unknown = [
            of_bandwidth(&rate("decode.1.at0.x1"), &facts, None),
            of_bandwidth(&rate("decode.1.at0.x1"), &Facts { weight_bytes: None, ..facts }, Some(&limit)),
            of_arithmetic(&rate("prefill.1.at0.x1"), &Facts { experts: Some(8), ..facts }, Some(&limit)),
        ];
        for figure in unknown {
            assert!(figure.not_available.is_some() && figure.median.is_none());
        }
    }
}
