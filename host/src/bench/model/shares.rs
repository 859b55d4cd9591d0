//! Which share of the machine's limits a model reaches: memory bandwidth where it decodes, arithmetic where it fills.

use super::super::recorder::Recorder;
use super::super::report::{Figure, Named, Unit};
use super::super::subject::Subject;

/// Adds a share for each rate that was measured.
pub(super) fn add(model: &Subject, bandwidth: &str, recorder: &mut Recorder) {
    let fastest = fastest_product(recorder);
    let rates: Vec<Figure> = recorder
        .figures()
        .iter()
        .filter(|figure| ["prefill", "decode"].contains(&&*figure.group))
        .cloned()
        .collect();
    for rate in rates {
        let figure = if rate.group == "decode" {
            of_bandwidth(&rate, model, recorder.figure(bandwidth))
        } else {
            of_arithmetic(&rate, model, fastest.as_ref())
        };
        recorder.add(figure);
    }
}

/// Why its tokens cannot be reckoned up into bytes and operations of this processor.
fn obstacle(model: &Subject) -> Option<String> {
    if let Some(layers) = model.gpu_layers {
        return Some(format!(
            "{layers} layers of the model may be on a graphics card, and the limits are those of the processor"
        ));
    }
    let why =
        "a token goes through some of the model's experts alone, and how much that is is not known here";
    model.experts.map(|_| why.to_owned())
}

fn of_bandwidth(rate: &Figure, model: &Subject, limit: Option<&Figure>) -> Figure {
    let named = |how: String| {
        let label = format!("share of the memory bandwidth, {}", rate.label);
        Named::new(format!("limits.bandwidth.{}", rate.name), label, Unit::Share).how(how)
    };
    let Some(bytes) = model.weight_bytes else {
        return named(String::new())
            .not_available("the plugin does not say how many bytes the model's weights are");
    };
    if let Some(why) = obstacle(model) {
        return named(String::new()).not_available(why);
    }
    let together = rate.name.rsplit_once(".x").and_then(|(_, count)| count.parse().ok()).unwrap_or(1.0);
    let how = format!(
        "{bytes} bytes of weights, read once for {together} tokens, times tokens in a second, by the bandwidth of reading \
         main memory with all threads; keys and values are not counted"
    );
    share(named(how), rate, bytes as f64 / together, limit)
}

fn of_arithmetic(rate: &Figure, model: &Subject, limit: Option<&Figure>) -> Figure {
    let named = |how: String| {
        let label = format!("share of the arithmetic, {}", rate.label);
        Named::new(format!("limits.arithmetic.{}", rate.name), label, Unit::Share).how(how)
    };
    let Some(parameters) = model.parameters else {
        return named(String::new())
            .not_available("the plugin does not say how many parameters the model has");
    };
    if let Some(why) = obstacle(model) {
        return named(String::new()).not_available(why);
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
        let facts = Subject { weight_bytes: Some(50), parameters: Some(5), ..Subject::default() };
        let alone = of_bandwidth(&rate("decode.16.at0.x1"), &facts, Some(&limit));
        assert_eq!(alone.samples.values(), [0.5, 1.0]);
        assert_eq!(alone.derived_from, ["decode.16.at0.x1", "memory.read.main.all_threads"]);
        let together = of_bandwidth(&rate("decode.16.at0.x4"), &facts, Some(&limit));
        assert_eq!(together.samples.values(), [0.125, 0.25]);
        let fill = of_arithmetic(&rate("prefill.16.at0.x4"), &facts, Some(&limit));
        assert_eq!(fill.samples.values(), [0.1, 0.2]);
        let unknown = [
            of_bandwidth(&rate("decode.1.at0.x1"), &facts, None),
            of_bandwidth(
                &rate("decode.1.at0.x1"),
                &Subject { weight_bytes: None, ..facts.clone() },
                Some(&limit),
            ),
            of_arithmetic(
                &rate("prefill.1.at0.x1"),
                &Subject { experts: Some(8), ..facts.clone() },
                Some(&limit),
            ),
            of_bandwidth(
                &rate("decode.1.at0.x1"),
                &Subject { gpu_layers: Some(9), ..facts.clone() },
                Some(&limit),
            ),
        ];
        for figure in unknown {
            assert!(figure.not_available.is_some() && figure.median.is_none());
        }
    }
}
