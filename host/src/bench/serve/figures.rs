//! From requests to figures: one sample for each round.

use super::Limits;
use super::exchange::Exchange;
use crate::bench::report::{Figure, Named, Unit};
use crate::bench::samples::Samples;

/// A round of one server's that came to its end.
pub(super) struct Round {
    pub(super) exchanges: Vec<Exchange>,
    pub(super) seconds: f64,
}

/// Percentiles of each latency.
const PERCENTILES: [u32; 4] = [50, 90, 95, 99];

/// The figures of one server; `suffix` is a part of their names.
pub(super) fn of(rounds: &[Round], limits: Limits, suffix: &str) -> Vec<Figure> {
    let each =
        |value: &dyn Fn(&Round) -> Option<f64>| -> Samples { rounds.iter().filter_map(value).collect() };
    let named = |name: &str, label: &str, unit, how: &str| {
        Named::new(format!("{name}{suffix}"), label, unit).how(how)
    };
    let answered = |round: &Round| round.exchanges.iter().filter(|one| one.error.is_none()).count();
    let tokens = |round: &Round| round.exchanges.iter().map(|one| one.tokens).sum::<u64>();
    let failed = |round: &Round| round.exchanges.len() - answered(round);
    let mut figures = vec![
        named(
            "throughput.output_tokens",
            "output tokens/s",
            Unit::TokensPerSecond,
            "tokens of all answers by the length of the round",
        )
        .measured(each(&|round| Some(tokens(round) as f64 / round.seconds))),
        named(
            "throughput.requests",
            "requests/s",
            Unit::RequestsPerSecond,
            "answers by the length of the round",
        )
        .measured(each(&|round| Some(answered(round) as f64 / round.seconds))),
        goodput(rounds, limits, suffix),
        named("errors.requests", "requests that failed", Unit::Count, "of each round")
            .measured(each(&|round| Some(failed(round) as f64))),
    ];
    for latency in LATENCIES {
        for percentile in PERCENTILES {
            let share = f64::from(percentile) / 100.0;
            let samples = each(&|round: &Round| (latency.of)(&round.exchanges).quantile(share));
            let name = format!("latency.{}.p{percentile}", latency.name);
            let how = format!("{}; percentile {percentile} of each round", latency.how);
            let named = named(&name, &format!("{} p{percentile}", latency.label), Unit::Seconds, &how);
            figures.push(if rounds.is_empty() || !samples.values().is_empty() {
                named.measured(samples)
            } else {
                named.not_available("no answer had what it is made of")
            });
        }
    }
    figures
}

fn goodput(rounds: &[Round], limits: Limits, suffix: &str) -> Figure {
    let named = Named::new(format!("goodput.requests{suffix}"), "good requests/s", Unit::RequestsPerSecond);
    let told =
        |what: &str, limit: Option<f64>| limit.map(|limit| format!("{what} within {} ms", limit * 1e3));
    let stated: Vec<String> =
        [told("first token", limits.ttft), told("the others", limits.itl)].into_iter().flatten().collect();
    if stated.is_empty() {
        return named.not_available("no limits were stated (ttft_limit_ms, itl_limit_ms)");
    }
    let good =
        |round: &Round| round.exchanges.iter().filter(|one| one.is_good(limits.ttft, limits.itl)).count();
    let how = format!("answers whose {}, on average, by the length of the round", stated.join(" and "));
    named.how(how).measured(rounds.iter().map(|round| good(round) as f64 / round.seconds).collect())
}

struct Latency {
    name: &'static str,
    label: &'static str,
    how: &'static str,
    of: fn(&[Exchange]) -> Samples,
}

const LATENCIES: [Latency; 4] = [
    Latency {
        name: "ttft",
        label: "time to first token",
        how: "from sending the request to the first piece of text",
        of: |all| last(all).filter_map(|one| one.ttft).collect(),
    },
    Latency {
        name: "itl",
        label: "inter-token latency",
        how: "between one piece of text and the next, of all answers",
        of: |all| last(all).flat_map(|one| one.gaps.iter().copied()).collect(),
    },
    Latency {
        name: "tpot",
        label: "time per output token",
        how: "from the first piece of text to the end of the answer, by the tokens after the first",
        of: |all| last(all).filter_map(Exchange::tpot).collect(),
    },
    Latency {
        name: "e2e",
        label: "end-to-end latency",
        how: "from sending the request to the end of the answer",
        of: |all| last(all).map(|one| one.seconds).collect(),
    },
];

fn last(all: &[Exchange]) -> impl Iterator<Item = &Exchange> {
    all.iter().filter(|one| one.is_last && one.error.is_none())
}

/// The first server's figures by the second's, round by round.
pub(super) fn ratios(figures: &[Figure]) -> Vec<Figure> {
    let compared = |name: &str| {
        ["throughput.", "goodput."].iter().any(|group| name.starts_with(group))
            || name.ends_with(".p50")
            || name.ends_with(".p99")
    };
    let pairs = figures.iter().filter(|figure| compared(&figure.name)).filter_map(|first| {
        let other = format!("{}{AGAINST}", first.name);
        Some((first, figures.iter().find(|figure| figure.name == other)?))
    });
    let ratio = |(first, second): (&Figure, &Figure)| {
        let pairs = first.samples.values().iter().zip(second.samples.values());
        let samples = pairs.map(|(a, b)| a / b).collect();
        let label = format!("ratio, {}", first.label);
        let mut named = Named::new(format!("ratio.{}", first.name), label, Unit::Ratio)
            .how("the first server's figure by the second's, round by round");
        named.better = first.better;
        named.derived(samples, &[&first.name, &second.name])
    };
    pairs.map(ratio).collect()
}

/// Ends the names of the second server's figures.
pub(super) const AGAINST: &str = ".against";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::report::Better;

    fn exchange(ttft: f64, gaps: &[f64], tokens: u64) -> Exchange {
        Exchange {
            target: 0,
            round: 0,
            turn: 0,
            is_last: true,
            sent_at: 0.0,
            ttft: Some(ttft),
            gaps: gaps.to_vec(),
            seconds: ttft + gaps.iter().sum::<f64>(),
            prompt_tokens: Some(7),
            tokens,
            error: None,
        }
    }

    fn check(figures: &[Figure], name: &str, expected: &[f64]) {
        let figure = figures.iter().find(|figure| figure.name == name).unwrap();
        let found = figure.samples.values();
        assert_eq!(found.len(), expected.len(), "{name}: {figure:?}");
        for (found, expected) in found.iter().zip(expected) {
            assert!((found - expected).abs() < 1e-9, "{name}: {found} for {expected}");
        }
    }

    #[test]
    fn a_rounds_figures_are_those_of_its_requests() {
        let failed = Exchange { error: Some("lost".to_owned()), tokens: 0, ..exchange(9.0, &[], 0) };
        let first = Exchange { is_last: false, ..exchange(5.0, &[1.0], 2) };
        let exchanges = vec![exchange(0.1, &[0.01, 0.03], 3), exchange(0.3, &[0.02], 2), failed, first];
        let limits = Limits { ttft: Some(0.2), itl: Some(0.05) };
        let figures = of(&[Round { exchanges, seconds: 2.0 }], limits, "");
        check(&figures, "throughput.output_tokens", &[3.5]);
        check(&figures, "throughput.requests", &[1.5]);
        check(&figures, "errors.requests", &[1.0]);
        check(&figures, "goodput.requests", &[0.5]);
        check(&figures, "latency.ttft.p50", &[0.2]);
        check(&figures, "latency.itl.p50", &[0.02]);
        check(&figures, "latency.tpot.p50", &[0.02]);
        check(&figures, "latency.e2e.p50", &[0.23]);
    }

    #[test]
    fn what_no_answer_had_is_not_available() {
        let failed = Exchange { error: Some("lost".to_owned()), ..exchange(1.0, &[], 0) };
        let figures = of(&[Round { exchanges: vec![failed], seconds: 1.0 }], Limits::default(), "");
        let reason =
            |name: &str| figures.iter().find(|figure| figure.name == name).unwrap().not_available.clone();
        assert!(reason("latency.ttft.p99").is_some() && reason("goodput.requests").is_some());
        check(&figures, "throughput.requests", &[0.0]);
    }

    #[test]
    fn two_servers_are_compared_round_by_round() {
        let round = |ttft: f64| Round { exchanges: vec![exchange(ttft, &[0.1], 2)], seconds: 1.0 };
        let mut figures = of(&[round(0.2), round(0.4)], Limits::default(), "");
        figures.extend(of(&[round(0.1), round(0.1)], Limits::default(), AGAINST));
        let ratios = ratios(&figures);
        check(&ratios, "ratio.latency.ttft.p50", &[2.0, 4.0]);
        assert_eq!(
            ratios.iter().find(|one| one.name == "ratio.latency.ttft.p50").unwrap().better,
            Better::Lower
        );
    }
}
