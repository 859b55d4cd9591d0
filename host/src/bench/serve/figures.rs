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

/// A figure, and its sample of each round; `None` for a round that had nothing to make it of.
pub(super) struct ByRound {
    pub(super) figure: Figure,
    samples: Vec<Option<f64>>,
}

impl ByRound {
    fn of(rounds: &[Round], named: Named, value: &dyn Fn(&Round) -> Option<f64>) -> ByRound {
        let samples: Vec<Option<f64>> = rounds.iter().map(value).collect();
        let all: Samples = samples.iter().flatten().copied().collect();
        let figure = if rounds.is_empty() || !all.values().is_empty() {
            named.measured(all)
        } else {
            named.not_available("no answer had what it is made of")
        };
        ByRound { figure, samples }
    }
}

/// The figures of one server; `suffix` is a part of their names.
pub(super) fn of(rounds: &[Round], limits: Limits, suffix: &str) -> Vec<ByRound> {
    let figure =
        |(name, label, unit): (&str, &str, Unit), how: &str, value: &dyn Fn(&Round) -> Option<f64>| {
            ByRound::of(rounds, Named::new(format!("{name}{suffix}"), label, unit).how(how), value)
        };
    let answered = |round: &Round| round.exchanges.iter().filter(|one| one.error.is_none()).count();
    let tokens = |round: &Round| round.exchanges.iter().map(|one| one.tokens).sum::<u64>();
    let mut figures = vec![
        figure(
            ("throughput.output_tokens", "output tokens/s", Unit::TokensPerSecond),
            "tokens of all answers by the length of the round",
            &|round| Some(tokens(round) as f64 / round.seconds),
        ),
        figure(
            ("throughput.requests", "requests/s", Unit::RequestsPerSecond),
            "answers by the length of the round",
            &|round| Some(answered(round) as f64 / round.seconds),
        ),
        goodput(rounds, limits, suffix),
        figure(("errors.requests", "requests that failed", Unit::Count), "of each round", &|round| {
            Some((round.exchanges.len() - answered(round)) as f64)
        }),
    ];
    for latency in LATENCIES {
        for percentile in PERCENTILES {
            let name = format!("latency.{}.p{percentile}", latency.name);
            let label = format!("{} p{percentile}", latency.label);
            let how = format!("{}; percentile {percentile} of each round", latency.how);
            let share = f64::from(percentile) / 100.0;
            figures.push(figure((&name, &label, Unit::Seconds), &how, &|round| {
                (latency.of)(&round.exchanges).quantile(share)
            }));
        }
    }
    figures
}

fn goodput(rounds: &[Round], limits: Limits, suffix: &str) -> ByRound {
    let named = Named::new(format!("goodput.requests{suffix}"), "good requests/s", Unit::RequestsPerSecond);
    let told =
        |what: &str, limit: Option<f64>| limit.map(|limit| format!("{what} within {} ms", limit * 1e3));
    let limited = [
        told("first piece came", limits.ttft),
        told("other pieces each came", limits.itl).map(|words| format!("{words} of the one before")),
    ];
    let stated: Vec<String> = limited.into_iter().flatten().collect();
    if stated.is_empty() {
        let figure = named.not_available("no limits were stated (ttft_limit_ms, itl_limit_ms)");
        return ByRound { figure, samples: vec![None; rounds.len()] };
    }
    let good =
        |round: &Round| round.exchanges.iter().filter(|one| one.is_good(limits.ttft, limits.itl)).count();
    let how = format!("answers whose {}, by the length of the round", stated.join(" and whose "));
    ByRound::of(rounds, named.how(how), &|round| Some(good(round) as f64 / round.seconds))
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

/// The first server's figures by the second's, round by round; rounds in which one of them has none are in no ratio.
pub(super) fn ratios(first: &[ByRound], second: &[ByRound]) -> Vec<Figure> {
    let compared = |name: &str| {
        ["throughput.", "goodput."].iter().any(|group| name.starts_with(group))
            || name.ends_with(".p50")
            || name.ends_with(".p99")
    };
    let pairs = first.iter().filter(|one| compared(&one.figure.name)).filter_map(|one| {
        let other = format!("{}{AGAINST}", one.figure.name);
        Some((one, second.iter().find(|two| two.figure.name == other)?))
    });
    let ratio = |(first, second): (&ByRound, &ByRound)| {
        let pairs = first.samples.iter().zip(&second.samples);
        let samples = pairs.filter_map(|(a, b)| Some((*a)? / (*b)?)).collect();
        let label = format!("ratio, {}", first.figure.label);
        let mut named = Named::new(format!("ratio.{}", first.figure.name), label, Unit::Ratio)
            .how("the first server's figure by the second's, round by round");
        named.better = first.figure.better;
        named.derived(samples, &[&first.figure.name, &second.figure.name])
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

    fn check<'a>(figures: impl IntoIterator<Item = &'a Figure>, name: &str, expected: &[f64]) {
        let figure = figures.into_iter().find(|figure| figure.name == name).unwrap();
        let found = figure.samples.values();
        assert_eq!(found.len(), expected.len(), "{name}: {figure:?}");
        for (found, expected) in found.iter().zip(expected) {
            assert!((found - expected).abs() < 1e-9, "{name}: {found} for {expected}");
        }
    }

    fn plain(figures: &[ByRound]) -> impl Iterator<Item = &Figure> + Clone {
        figures.iter().map(|one| &one.figure)
    }

    #[test]
    fn a_rounds_figures_are_those_of_its_requests() {
        let failed = Exchange { error: Some("lost".to_owned()), tokens: 0, ..exchange(9.0, &[], 0) };
        let first = Exchange { is_last: false, ..exchange(5.0, &[1.0], 2) };
        let exchanges = vec![exchange(0.1, &[0.01, 0.03], 3), exchange(0.3, &[0.02], 2), failed, first];
        let limits = Limits { ttft: Some(0.2), itl: Some(0.05) };
        let figures = of(&[Round { exchanges, seconds: 2.0 }], limits, "");
        let figures = plain(&figures);
        check(figures.clone(), "throughput.output_tokens", &[3.5]);
        check(figures.clone(), "throughput.requests", &[1.5]);
        check(figures.clone(), "errors.requests", &[1.0]);
        check(figures.clone(), "goodput.requests", &[0.5]);
        check(figures.clone(), "latency.ttft.p50", &[0.2]);
        check(figures.clone(), "latency.itl.p50", &[0.02]);
        check(figures.clone(), "latency.tpot.p50", &[0.02]);
        check(figures, "latency.e2e.p50", &[0.23]);
    }

    #[test]
    fn one_long_gap_is_not_good_however_short_the_others_are() {
        let limits = |itl| Limits { ttft: None, itl: Some(itl) };
        let mut gaps = vec![0.001; 200];
        gaps[100] = 2.0;
        let stalled = || vec![Round { exchanges: vec![exchange(0.1, &gaps, 201)], seconds: 1.0 }];
        // On average the others came within 11 ms.
        check(plain(&of(&stalled(), limits(0.05), "")), "goodput.requests", &[0.0]);
        check(plain(&of(&stalled(), limits(2.5), "")), "goodput.requests", &[1.0]);
    }

    #[test]
    fn what_no_answer_had_is_not_available() {
        let failed = Exchange { error: Some("lost".to_owned()), ..exchange(1.0, &[], 0) };
        let figures = of(&[Round { exchanges: vec![failed], seconds: 1.0 }], Limits::default(), "");
        let figures = plain(&figures);
        let reason =
            |name: &str| figures.clone().find(|figure| figure.name == name).unwrap().not_available.clone();
        assert!(reason("latency.ttft.p99").is_some() && reason("goodput.requests").is_some());
        check(figures.clone(), "throughput.requests", &[0.0]);
    }

    #[test]
    fn two_servers_are_compared_round_by_round() {
        let round = |ttft: f64| Round { exchanges: vec![exchange(ttft, &[0.1], 2)], seconds: 1.0 };
        let first = of(&[round(0.2), round(0.4)], Limits::default(), "");
        let second = of(&[round(0.1), round(0.1)], Limits::default(), AGAINST);
        let found = ratios(&first, &second);
        check(&found, "ratio.latency.ttft.p50", &[2.0, 4.0]);
        assert_eq!(
            found.iter().find(|one| one.name == "ratio.latency.ttft.p50").unwrap().better,
            Better::Lower
        );
        // A round without an answer is left out of both, and the others keep their partners.
        let failed = Exchange { error: Some("lost".to_owned()), ..exchange(1.0, &[], 0) };
        let empty = Round { exchanges: vec![failed], seconds: 1.0 };
        let first = of(&[empty, round(0.4), round(0.6)], Limits::default(), "");
        let second = of(&[round(0.1), round(0.2), round(0.2)], Limits::default(), AGAINST);
        check(&ratios(&first, &second), "ratio.latency.ttft.p50", &[2.0, 3.0]);
    }
}
