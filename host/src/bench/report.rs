//! What a benchmark found: figures with their samples, and under which circumstances.
//!
//! Every number of a report is in the samples of a figure or follows from them; what could not be measured says why.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::environment::Machine;
use super::samples::Samples;
use super::serve::{Exchange, RoundTime};
use super::subject::{PluginUsed, Subject};

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = BenchmarkKind)]
pub enum Kind {
    /// Memory, arithmetic, disk and devices.
    Machine,
    /// One model through its engine.
    Model,
    /// One or two servers under load.
    Serve,
}

impl Kind {
    /// As in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Machine => "machine",
            Kind::Model => "model",
            Kind::Serve => "serve",
        }
    }
}

/// What a benchmark found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = BenchmarkReport)]
pub struct Report {
    /// What was measured.
    pub kind: Kind,
    /// Of what: a model, a server's address, this machine.
    pub subject: String,
    /// When it began, UTC, as RFC 3339 writes it.
    pub started_at: String,
    /// How long it took.
    pub seconds: f64,
    /// Whether it was stopped, or failed, before its end: then some figures are missing or have fewer samples.
    pub interrupted: bool,
    /// By name: `impetus`, `plugin-api`, and each plugin that was used.
    pub versions: BTreeMap<String, String>,
    /// How each plugin was told to work that was used, by id.
    #[serde(default)]
    pub plugins: BTreeMap<String, PluginUsed>,
    /// The model, where one of this machine was measured.
    #[serde(default)]
    pub model: Option<Subject>,
    /// Where.
    pub machine: Machine,
    /// What it was told, defaults included.
    #[schema(value_type = Object)]
    pub options: Value,
    /// In reading order.
    pub figures: Vec<Figure>,
    /// What a reader should know: what was left out, what was not in force.
    pub notes: Vec<String>,
    /// Of a server under load: every request, from which the figures are computed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub requests: Vec<Exchange>,
    /// The rounds that came to their end, in the order in which they were measured: the figures are of the requests in these.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rounds: Vec<RoundTime>,
}

impl Report {
    /// The figure of this name.
    pub fn figure(&self, name: &str) -> Option<&Figure> {
        self.figures.iter().find(|figure| figure.name == name)
    }
}

/// What a figure is counted in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = BenchmarkUnit)]
pub enum Unit {
    /// Bytes in a second.
    BytesPerSecond,
    /// Additions and multiplications in a second, of any type.
    OperationsPerSecond,
    /// Tokens in a second.
    TokensPerSecond,
    /// Requests in a second.
    RequestsPerSecond,
    /// Seconds.
    Seconds,
    /// Bytes.
    Bytes,
    /// Joules for each token.
    JoulesPerToken,
    /// A part of 1.
    Share,
    /// One by another.
    Ratio,
    /// e to the mean negative log probability of a token.
    Perplexity,
    /// Negative log probability of a token, natural logarithm.
    NatsPerToken,
    /// So many.
    Count,
}

/// Which way is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = BenchmarkDirection)]
pub enum Better {
    /// More.
    Higher,
    /// Less.
    Lower,
}

/// One figure.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = BenchmarkFigure)]
pub struct Figure {
    /// Names the same figure in every report, such as `memory.read.main.all_threads`. Unique in its report.
    pub name: String,
    /// The part of the report that it stands in, such as `memory`.
    pub group: String,
    /// For people.
    pub label: String,
    /// What it is counted in.
    pub unit: Unit,
    /// Which way is better.
    pub better: Better,
    /// Every value that was measured, in order; none where it is not available.
    pub samples: Samples,
    /// Of the samples.
    pub median: Option<f64>,
    /// From the first to the third quartile of the samples.
    pub iqr: Option<f64>,
    /// Whether `iqr` is more than 5 % of the median; null with fewer than five samples.
    pub noisy: Option<bool>,
    /// Why there are no samples, where there are none.
    pub not_available: Option<String>,
    /// What exactly was measured, or how it follows from others.
    pub how: String,
    /// Figures of this report that its samples were computed from; none where it was measured itself.
    pub derived_from: Vec<String>,
}

/// What a figure is, before it is measured.
#[derive(Debug, Clone)]
pub(super) struct Named {
    /// See [`Figure::name`].
    pub(super) name: String,
    /// See [`Figure::label`].
    pub(super) label: String,
    /// See [`Figure::unit`].
    pub(super) unit: Unit,
    /// See [`Figure::better`].
    pub(super) better: Better,
    /// See [`Figure::how`].
    pub(super) how: String,
}

impl Named {
    /// The group is the name's first part.
    pub(super) fn new(name: impl Into<String>, label: impl Into<String>, unit: Unit) -> Self {
        let better = match unit {
            Unit::Seconds
            | Unit::Bytes
            | Unit::JoulesPerToken
            | Unit::Perplexity
            | Unit::NatsPerToken
            | Unit::Count => Better::Lower,
            Unit::BytesPerSecond
            | Unit::OperationsPerSecond
            | Unit::TokensPerSecond
            | Unit::RequestsPerSecond
            | Unit::Share
            | Unit::Ratio => Better::Higher,
        };
        Named { name: name.into(), label: label.into(), unit, better, how: String::new() }
    }

    /// Says how it is measured.
    pub(super) fn how(self, how: impl Into<String>) -> Self {
        Named { how: how.into(), ..self }
    }

    /// Measured; without a single sample it is not available.
    pub(super) fn measured(self, samples: Samples) -> Figure {
        if samples.values().is_empty() {
            return self.not_available("nothing was measured before the benchmark was stopped");
        }
        self.figure(samples, None, Vec::new())
    }

    /// Computed from others, sample by sample.
    pub(super) fn derived(self, samples: Samples, from: &[&str]) -> Figure {
        let from = from.iter().map(|&name| name.to_owned()).collect();
        if samples.values().is_empty() {
            return self.figure(samples, Some("what it follows from is not available".to_owned()), from);
        }
        self.figure(samples, None, from)
    }

    /// Not measured, and why.
    pub(super) fn not_available(self, why: impl Into<String>) -> Figure {
        self.figure(Samples::default(), Some(why.into()), Vec::new())
    }

    fn figure(self, samples: Samples, not_available: Option<String>, derived_from: Vec<String>) -> Figure {
        Figure {
            group: self.name.split('.').next().unwrap_or_default().to_owned(),
            name: self.name,
            label: self.label,
            unit: self.unit,
            better: self.better,
            median: samples.median(),
            iqr: samples.interquartile_range(),
            noisy: samples.is_noisy(),
            samples,
            not_available,
            how: self.how,
            derived_from,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_without_samples_says_why_and_has_no_number() {
        let named = || Named::new("memory.read.main.1_thread", "read", Unit::BytesPerSecond);
        let figure = named().not_available("no memory");
        assert_eq!((figure.median, figure.iqr, figure.noisy), (None, None, None));
        assert_eq!((figure.not_available.as_deref(), figure.group.as_str()), (Some("no memory"), "memory"));
        assert!(named().measured(Samples::default()).not_available.is_some());
        let derived = named().derived(Samples::default(), &["a"]);
        assert!(derived.not_available.is_some() && derived.derived_from == ["a"]);
    }

    #[test]
    fn a_figure_is_its_samples() {
        let samples: Samples = [2.0, 1.0, 3.0].into_iter().collect();
        let figure = Named::new("a", "a", Unit::Seconds).measured(samples);
        assert_eq!((figure.median, figure.iqr, figure.noisy), (Some(2.0), Some(1.0), None));
        assert_eq!((figure.not_available, figure.better), (None, Better::Lower));
    }
}
