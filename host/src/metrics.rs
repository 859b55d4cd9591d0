//! What the server counts, for Prometheus. Whoever sees something happen raises it here; `http/metrics.rs` writes it out.
//!
//! Names follow the field's habit (vLLM's, which dashboards and the Kubernetes Gateway API inference extension read)
//! under our prefix. Knows neither HTTP nor engines.

use std::fmt;
use std::sync::Mutex;
use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, prometheus_text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Metric, Registry};

use crate::error::Kind;
use crate::journal::Journal;

/// Upper bounds in seconds, as vLLM has them.
const FIRST_TOKEN: [f64; 22] = [
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0,
    80.0, 160.0, 640.0, 2560.0,
];
const BETWEEN_TOKENS: [f64; 19] = [
    0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0,
];
const WHOLE_REQUEST: [f64; 21] = [
    0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0, 120.0, 240.0, 480.0,
    960.0, 1920.0, 7680.0,
];

/// Everything that is counted.
pub struct Metrics {
    registry: Registry,
    requests: Family<Ending, Counter>,
    failures: Family<Failure, Counter>,
    prompt_tokens: Family<OfModel, Counter>,
    generation_tokens: Family<OfModel, Counter>,
    prefix_queries: Family<OfModel, Counter>,
    prefix_hits: Family<OfModel, Counter>,
    draft_tokens: Family<OfModel, Counter>,
    accepted_tokens: Family<OfModel, Counter>,
    first_token: Family<OfModel, Histogram, fn() -> Histogram>,
    between_tokens: Family<OfModel, Histogram, fn() -> Histogram>,
    whole_request: Family<OfModel, Histogram, fn() -> Histogram>,
    http: Family<Exchange, Counter>,
    load_failures: Family<LoadFailure, Counter>,
    plugin_failures: Family<PluginFailure, Counter>,
    restarts: Family<Restart, Counter>,
    gauges: Gauges,
    journal: Journal,
    /// Held while the gauges are set anew and written out: two readers at once would find each other's halves.
    reading: Mutex<()>,
}

/// What is not counted but looked up whenever somebody reads.
#[derive(Default)]
struct Gauges {
    running: Family<OfModel, Gauge>,
    waiting: Family<OfModel, Gauge>,
    cache_usage: Family<OfModel, Gauge<f64, std::sync::atomic::AtomicU64>>,
    plugins: Family<PluginState, Gauge>,
}

/// A loaded model at the moment.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelNow {
    /// Its id.
    pub model: String,
    /// Sequences being computed.
    pub running: usize,
    /// Sequences waiting for their turn.
    pub waiting: usize,
    /// The part of the KV cache that holds something, 0 to 1.
    pub cache_usage: f64,
}

/// What was counted of one model since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Totals {
    /// Tokens of prompts.
    pub prompt_tokens: u64,
    /// Tokens of answers.
    pub generated_tokens: u64,
    /// Tokens of prompts that were looked up in the prefix cache.
    pub prefix_queries: u64,
    /// Of these, those that were found.
    pub prefix_hits: u64,
}

/// A plugin at the moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PluginNow {
    /// Its id.
    pub id: String,
    /// Its state's name.
    pub state: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfModel {
    model: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Ending {
    model: String,
    finish_reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Failure {
    model: String,
    code: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Exchange {
    method: String,
    route: String,
    status: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LoadFailure {
    model: String,
    code: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PluginFailure {
    code: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PluginState {
    id: String,
    state: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Restart {
    model: String,
    reason: String,
}

impl Default for Metrics {
    fn default() -> Self {
        let first_token: fn() -> Histogram = || Histogram::new(FIRST_TOKEN);
        let between_tokens: fn() -> Histogram = || Histogram::new(BETWEEN_TOKENS);
        let whole_request: fn() -> Histogram = || Histogram::new(WHOLE_REQUEST);
        let mut metrics = Metrics {
            registry: Registry::with_prefix("impetus"),
            requests: Family::default(),
            failures: Family::default(),
            prompt_tokens: Family::default(),
            generation_tokens: Family::default(),
            prefix_queries: Family::default(),
            prefix_hits: Family::default(),
            draft_tokens: Family::default(),
            accepted_tokens: Family::default(),
            first_token: Family::new_with_constructor(first_token),
            between_tokens: Family::new_with_constructor(between_tokens),
            whole_request: Family::new_with_constructor(whole_request),
            http: Family::default(),
            load_failures: Family::default(),
            plugin_failures: Family::default(),
            restarts: Family::default(),
            gauges: Gauges::default(),
            journal: Journal::default(),
            reading: Mutex::default(),
        };
        metrics.register_requests();
        metrics.register_the_rest();
        metrics
    }
}

impl Metrics {
    fn register(&mut self, name: &str, help: &str, metric: impl Metric) {
        self.registry.register(name, help, metric);
    }

    fn register_requests(&mut self) {
        let (requests, failures) = (self.requests.clone(), self.failures.clone());
        self.register("request_success", "Answers that ended, by how; abort: the client went away", requests);
        self.register("request_failure", "Answers that failed after they were accepted", failures);
        let (prompt, generation) = (self.prompt_tokens.clone(), self.generation_tokens.clone());
        self.register("prompt_tokens", "Tokens of prompts that were answered", prompt);
        self.register("generation_tokens", "Tokens that were generated", generation);
        let (queries, hits) = (self.prefix_queries.clone(), self.prefix_hits.clone());
        self.register("prefix_cache_queries", "Tokens of prompts looked up in the prefix cache", queries);
        self.register("prefix_cache_hits", "Of these, tokens that were found and not computed", hits);
        let (drafts, accepted) = (self.draft_tokens.clone(), self.accepted_tokens.clone());
        self.register("spec_decode_num_draft_tokens", "Tokens that were guessed and verified", drafts);
        self.register("spec_decode_num_accepted_tokens", "Of these, tokens that came", accepted);
        let (first, between) = (self.first_token.clone(), self.between_tokens.clone());
        self.register("time_to_first_token_seconds", "From a request's arrival to its first token", first);
        self.register("inter_token_latency_seconds", "From one token of an answer to the next", between);
        let whole = self.whole_request.clone();
        self.register("e2e_request_latency_seconds", "From a request's arrival to its last token", whole);
    }

    fn register_the_rest(&mut self) {
        let (http, restarts) = (self.http.clone(), self.restarts.clone());
        self.register("http_requests", "HTTP requests that were answered", http);
        self.register("engine_restarts", "Engines that were started anew, and why", restarts);
        let (models, plugins) = (self.load_failures.clone(), self.plugin_failures.clone());
        self.register("model_load_failures", "Models that could not be loaded", models);
        self.register("plugin_load_failures", "Plugins that could not be loaded, by their state", plugins);
        let (running, waiting) = (self.gauges.running.clone(), self.gauges.waiting.clone());
        self.register("num_requests_running", "Sequences being computed", running);
        self.register("num_requests_waiting", "Sequences waiting for their turn", waiting);
        let (usage, states) = (self.gauges.cache_usage.clone(), self.gauges.plugins.clone());
        self.register("kv_cache_usage_perc", "The part of the KV cache in use, 0 to 1", usage);
        self.register("plugin_state", "1 for the state that a plugin is in", states);
    }

    /// An answer ended: `stop`, `length` or `abort`.
    pub fn request_ended(&self, model: &str, finish_reason: &'static str) {
        self.requests.get_or_create(&Ending { model: model.to_owned(), finish_reason }).inc();
    }

    /// An answer that was accepted failed, with the code that clients see.
    pub fn request_failed(&self, model: &str, code: &str) {
        self.failures.get_or_create(&Failure { model: model.to_owned(), code: code.to_owned() }).inc();
    }

    /// A prompt of these tokens is being answered.
    pub fn prompt(&self, model: &str, tokens: u32) {
        self.prompt_tokens.get_or_create(&of(model)).inc_by(tokens.into());
    }

    /// These tokens were generated.
    pub fn generated(&self, model: &str, tokens: u32) {
        self.generation_tokens.get_or_create(&of(model)).inc_by(tokens.into());
    }

    /// A prompt was looked up in the prefix cache.
    pub fn prefix(&self, model: &str, prompt_tokens: u32, cached_tokens: u32) {
        self.prefix_queries.get_or_create(&of(model)).inc_by(prompt_tokens.into());
        self.prefix_hits.get_or_create(&of(model)).inc_by(cached_tokens.into());
    }

    /// An answer ended for which so many tokens were guessed, and so many of them came.
    pub fn drafts(&self, model: &str, drafted: u32, accepted: u32) {
        self.draft_tokens.get_or_create(&of(model)).inc_by(drafted.into());
        self.accepted_tokens.get_or_create(&of(model)).inc_by(accepted.into());
    }

    /// So long after its request an answer's first token came.
    pub fn first_token(&self, model: &str, after: Duration) {
        self.first_token.get_or_create(&of(model)).observe(after.as_secs_f64());
    }

    /// So many tokens came together, so long after the one before.
    pub fn next_tokens(&self, model: &str, tokens: u32, after: Duration) {
        let family = self.between_tokens.get_or_create(&of(model));
        let each = after.as_secs_f64() / f64::from(tokens.max(1));
        (0..tokens).for_each(|_| family.observe(each));
    }

    /// So long after its request an answer was complete.
    pub fn whole_request(&self, model: &str, after: Duration) {
        self.whole_request.get_or_create(&of(model)).observe(after.as_secs_f64());
    }

    /// An HTTP request was answered.
    pub fn answered(&self, method: &str, route: &str, status: u16) {
        let exchange = Exchange { method: method.to_owned(), route: route.to_owned(), status };
        self.http.get_or_create(&exchange).inc();
    }

    /// A model could not be loaded.
    pub fn model_load_failed(&self, model: &str, kind: Kind) {
        // The kind's name as it is serialised everywhere.
        let code = serde_json::to_value(kind).ok();
        let code = code.as_ref().and_then(|name| name.as_str()).unwrap_or("other").to_owned();
        let failure = LoadFailure { model: model.to_owned(), code };
        self.load_failures.get_or_create(&failure).inc();
    }

    /// A plugin could not be loaded: the name of the state in which it ended.
    pub fn plugin_load_failed(&self, code: &str) {
        self.plugin_failures.get_or_create(&PluginFailure { code: code.to_owned() }).inc();
    }

    /// A model's engine was started anew.
    pub fn engine_restarted(&self, model: &str, reason: &str) {
        let restart = Restart { model: model.to_owned(), reason: reason.to_owned() };
        self.restarts.get_or_create(&restart).inc();
    }

    /// What was counted of a model so far.
    pub fn totals(&self, model: &str) -> Totals {
        let of_model = of(model);
        let total = |family: &Family<OfModel, Counter>| family.get_or_create(&of_model).get();
        Totals {
            prompt_tokens: total(&self.prompt_tokens),
            generated_tokens: total(&self.generation_tokens),
            prefix_queries: total(&self.prefix_queries),
            prefix_hits: total(&self.prefix_hits),
        }
    }

    /// The last answers and failures.
    pub fn journal(&self) -> &Journal {
        &self.journal
    }

    /// Everything in Prometheus' text format (version 0.0.4), with what is the case now.
    pub fn text(&self, models: &[ModelNow], plugins: &[PluginNow]) -> Result<String, fmt::Error> {
        // Nobody panics while holding it, and half-set gauges would be set again.
        let _reading = self.reading.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        self.gauges.set(models, plugins);
        let mut text = String::new();
        prometheus_text::encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

impl Gauges {
    fn set(&self, models: &[ModelNow], plugins: &[PluginNow]) {
        self.running.clear();
        self.waiting.clear();
        self.cache_usage.clear();
        self.plugins.clear();
        for now in models {
            self.running.get_or_create(&of(&now.model)).set(count(now.running));
            self.waiting.get_or_create(&of(&now.model)).set(count(now.waiting));
            self.cache_usage.get_or_create(&of(&now.model)).set(now.cache_usage);
        }
        for PluginNow { id, state } in plugins {
            self.plugins.get_or_create(&PluginState { id: id.clone(), state: state.clone() }).set(1);
        }
    }
}

fn of(model: &str) -> OfModel {
    OfModel { model: model.to_owned() }
}

fn count(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_raised_can_be_read() {
        let metrics = Metrics::default();
        metrics.request_ended("a", "stop");
        metrics.prefix("a", 10, 4);
        metrics.drafts("a", 9, 7);
        metrics.next_tokens("a", 2, Duration::from_millis(40));
        metrics.engine_restarted("a", "signal 11");
        let now = ModelNow { model: "a".to_owned(), running: 2, waiting: 1, cache_usage: 0.5 };
        let plugin = PluginNow { id: "gguf".to_owned(), state: "loaded".to_owned() };
        let text = metrics.text(&[now], &[plugin]).unwrap();
        for line in [
            "# TYPE impetus_request_success_total counter",
            "impetus_request_success_total{model=\"a\",finish_reason=\"stop\"} 1",
            "impetus_prefix_cache_queries_total{model=\"a\"} 10",
            "impetus_prefix_cache_hits_total{model=\"a\"} 4",
            "impetus_spec_decode_num_draft_tokens_total{model=\"a\"} 9",
            "impetus_spec_decode_num_accepted_tokens_total{model=\"a\"} 7",
            "impetus_inter_token_latency_seconds_bucket{model=\"a\",le=\"0.025\"} 2",
            "impetus_engine_restarts_total{model=\"a\",reason=\"signal 11\"} 1",
            "impetus_num_requests_running{model=\"a\"} 2",
            "impetus_num_requests_waiting{model=\"a\"} 1",
            "impetus_kv_cache_usage_perc{model=\"a\"} 0.5",
            "impetus_plugin_state{id=\"gguf\",state=\"loaded\"} 1",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
        let later = metrics.text(&[], &[]).unwrap();
        assert!(!later.contains("num_requests_running{") && later.contains("hits_total{model=\"a\"} 4"));
    }
}
