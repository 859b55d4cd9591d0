//! Closed-loop load on one or two servers: so many clients, each of which sends its next chat when its last one ended.
//!
//! Two servers take turns, round by round, so that a machine whose speed drifts treats both alike; the ratio of their
//! medians is what can be compared, the figures themselves belong to one machine and hour.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::client::{self, Seen};
use super::prompts::Words;
use super::samples::Samples;

/// A server, and what each request to it says beyond the prompt.
#[derive(Debug, Clone, Serialize)]
pub struct Target {
    /// Without `/v1`.
    pub url: String,
    /// The `model` field.
    pub model: String,
    /// Fields added to every request, such as `response_format`.
    pub body: Map<String, Value>,
}

/// What the clients do in each round.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Load {
    /// Clients at once.
    pub clients: u32,
    /// Conversations in a round, all clients together.
    pub requests: u32,
    /// Words of a message that no other message has.
    pub prompt_words: u32,
    /// Words that stand before them and are the same in every conversation of the round.
    pub shared_words: u32,
    /// Messages of the user in a conversation; the figures are those of the last answer.
    pub turns: u32,
    /// Tokens of each answer; end tokens are ignored (`ignore_eos`), where the server honours that.
    pub max_tokens: u32,
    /// How often each server is measured.
    pub rounds: u32,
    /// Decides the words. Every round and target has words of its own.
    pub seed: u64,
}

/// A figure of a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// Tokens of all answers by the length of the round.
    OutputTokensPerSecond,
    /// Answers by the length of the round.
    RequestsPerSecond,
    /// Time to first token, seconds, median.
    TtftP50,
    /// The same, 95th percentile.
    TtftP95,
    /// Inter-token latency, seconds, median of all gaps of the round.
    ItlP50,
    /// The same, 99th percentile.
    ItlP99,
    /// From request to the end of the answer, seconds, median.
    LatencyP50,
    /// The same, 95th percentile.
    LatencyP95,
}

/// What was measured of each target: a sample for each round, in the order of the targets.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Comparison {
    /// By target.
    pub figures: Vec<BTreeMap<Metric, Samples>>,
    /// Requests that failed, by target: the first words of each kind of failure, and how often.
    pub errors: Vec<BTreeMap<String, u32>>,
}

impl Comparison {
    /// The first target's median by the second's.
    pub fn ratio(&self, metric: Metric) -> Option<f64> {
        let median = |target: usize| self.figures.get(target)?.get(&metric)?.median();
        Some(median(0)? / median(1)?)
    }
}

/// Measures the targets, round by round in turn. `each` hears the number of every finished round. Every target answers one
/// request before the first round, which is not counted: it may have a model to load.
///
/// # Errors
/// When a target cannot answer that first request.
pub async fn measure(
    targets: &[Target],
    load: Load,
    mut each: impl FnMut(u32),
) -> Result<Comparison, String> {
    let client = reqwest::Client::builder().no_proxy().build().map_err(|error| error.to_string())?;
    for target in targets {
        let warm = Load { clients: 1, requests: 1, turns: 1, max_tokens: 2, prompt_words: 4, ..load };
        converse(&client, target, warm, 0, &mut Words::new(load.seed)).await?;
    }
    let mut comparison = Comparison {
        figures: vec![BTreeMap::new(); targets.len()],
        errors: vec![BTreeMap::new(); targets.len()],
    };
    for round in 0..load.rounds {
        for (at, target) in targets.iter().enumerate() {
            let seed = load.seed.wrapping_add(1 + u64::from(round) * 16 + at as u64);
            let done = one_round(&client, target, load, seed).await;
            for (metric, value) in done.metrics() {
                comparison.figures[at].entry(metric).or_default().push(value);
            }
            for error in done.errors {
                *comparison.errors[at].entry(error).or_default() += 1;
            }
        }
        each(round + 1);
    }
    Ok(comparison)
}

#[derive(Default)]
struct Round {
    seen: Vec<Seen>,
    errors: Vec<String>,
    took: Duration,
}

async fn one_round(client: &reqwest::Client, target: &Target, load: Load, seed: u64) -> Round {
    let next = AtomicU32::new(0);
    let started = Instant::now();
    let work = async |_: u32| {
        let mut mine = Round::default();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= load.requests {
                return mine;
            }
            let mut words = Words::new(seed.wrapping_mul(1 << 20).wrapping_add(1 + u64::from(number)));
            match converse(client, target, load, seed, &mut words).await {
                Ok(seen) => mine.seen.push(seen),
                Err(error) => mine.errors.push(error),
            }
        }
    };
    let mut round = Round::default();
    for mine in join_all((0..load.clients).map(work)).await {
        round.seen.extend(mine.seen);
        round.errors.extend(mine.errors);
    }
    round.took = started.elapsed();
    round
}

/// A conversation; what was seen of its last answer.
async fn converse(
    client: &reqwest::Client,
    target: &Target,
    load: Load,
    shared_seed: u64,
    words: &mut Words,
) -> Result<Seen, String> {
    let mut messages = Vec::new();
    if load.shared_words > 0 {
        let shared = Words::new(shared_seed).text(load.shared_words as usize);
        messages.push(json!({ "role": "system", "content": shared }));
    }
    let mut seen = Seen::default();
    for turn in 0..load.turns {
        if turn > 0 {
            messages.push(json!({ "role": "assistant", "content": seen.text }));
        }
        messages.push(json!({ "role": "user", "content": words.text(load.prompt_words as usize) }));
        let mut body = json!({
            "model": target.model, "messages": messages, "max_tokens": load.max_tokens, "temperature": 0,
            "ignore_eos": true, "stream": true, "stream_options": { "include_usage": true },
        });
        for (key, value) in &target.body {
            body[key.as_str()] = value.clone();
        }
        seen = client::chat(client, &target.url, &body).await?;
    }
    Ok(seen)
}

impl Round {
    fn metrics(&self) -> Vec<(Metric, f64)> {
        let seconds = self.took.as_secs_f64();
        let tokens: u64 = self.seen.iter().map(|seen| seen.tokens).sum();
        let collect = |of: fn(&Seen) -> Duration| -> Samples {
            self.seen.iter().map(|seen| of(seen).as_secs_f64()).collect()
        };
        let (first, whole) = (collect(|seen| seen.to_first), collect(|seen| seen.whole));
        let gaps: Samples =
            self.seen.iter().flat_map(|seen| &seen.between).map(Duration::as_secs_f64).collect();
        let found = [
            (Metric::OutputTokensPerSecond, Some(tokens as f64 / seconds)),
            (Metric::RequestsPerSecond, Some(self.seen.len() as f64 / seconds)),
            (Metric::TtftP50, first.median()),
            (Metric::TtftP95, first.quantile(0.95)),
            (Metric::ItlP50, gaps.median()),
            (Metric::ItlP99, gaps.quantile(0.99)),
            (Metric::LatencyP50, whole.median()),
            (Metric::LatencyP95, whole.quantile(0.95)),
        ];
        found.into_iter().filter_map(|(metric, value)| Some((metric, value?))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(first: u64, between: &[u64], tokens: u64) -> Seen {
        let millis = Duration::from_millis;
        let between: Vec<Duration> = between.iter().map(|&gap| millis(gap)).collect();
        let whole = millis(first) + between.iter().sum::<Duration>();
        Seen { to_first: millis(first), between, whole, tokens, text: String::new() }
    }

    #[test]
    fn a_rounds_figures_are_those_of_its_answers() {
        let round = Round {
            seen: vec![seen(100, &[10, 30], 3), seen(300, &[20], 2)],
            errors: Vec::new(),
            took: Duration::from_secs(2),
        };
        let figures: BTreeMap<Metric, f64> = round.metrics().into_iter().collect();
        let expected = [
            (Metric::OutputTokensPerSecond, 2.5),
            (Metric::RequestsPerSecond, 1.0),
            (Metric::TtftP50, 0.2),
            (Metric::ItlP50, 0.02),
            (Metric::LatencyP50, 0.23),
        ];
        for (metric, value) in expected {
            assert!((figures[&metric] - value).abs() < 1e-9, "{metric:?}: {}", figures[&metric]);
        }
    }

    #[test]
    fn a_round_in_which_all_failed_has_no_latencies() {
        let round = Round { seen: Vec::new(), errors: vec!["lost".to_owned()], took: Duration::from_secs(1) };
        let figures: BTreeMap<Metric, f64> = round.metrics().into_iter().collect();
        assert_eq!(figures.get(&Metric::TtftP50), None);
        assert!(figures[&Metric::OutputTokensPerSecond].abs() < 1e-9);
    }

    #[test]
    fn the_ratio_is_of_the_medians() {
        let side = |values: &[f64]| BTreeMap::from([(Metric::TtftP50, values.iter().copied().collect())]);
        let both = Comparison { figures: vec![side(&[1.0, 9.0, 2.0]), side(&[4.0])], errors: Vec::new() };
        assert_eq!(both.ratio(Metric::TtftP50), Some(0.5));
        assert_eq!(both.ratio(Metric::ItlP50), None);
    }
}
