//! What is otherwise in one report than in another, beyond the noise of both.

use std::collections::BTreeSet;
use std::fmt::Display;

use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::chance::{least_chance, least_of_pairs, rank_sum, signed_ranks};
use super::report::{Better, Figure, Report, Unit};
use super::subject::leaves;

/// By chance alone, samples would differ as much less often than this.
const SURE_BELOW: f64 = 0.01;

/// Smaller differences matter to nobody.
const MATTERS_FROM: f64 = 0.01;

/// Two reports side by side.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[schema(as = BenchmarkComparison)]
pub struct Comparison {
    /// Every figure that either has, in the first one's order.
    pub changes: Vec<Change>,
    /// What stands against comparing them at all.
    pub remarks: Vec<String>,
}

/// One figure in both.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[schema(as = BenchmarkChange)]
pub struct Change {
    /// The figure.
    pub name: String,
    /// For people.
    pub label: String,
    /// What it is counted in.
    pub unit: Unit,
    /// The first report's median.
    pub a: Option<f64>,
    /// The second report's.
    pub b: Option<f64>,
    /// The second by the first.
    pub ratio: Option<f64>,
    /// What the second is, seen from the first.
    pub verdict: Verdict,
    /// Why.
    pub why: String,
}

/// What became of a figure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = BenchmarkVerdict)]
pub enum Verdict {
    /// Better, beyond the noise.
    Better,
    /// Worse, beyond the noise.
    Worse,
    /// Within the noise.
    Same,
    /// Too little is known.
    Unknown,
}

/// Compares the second report with the first.
pub fn compare(a: &Report, b: &Report) -> Comparison {
    let mut changes: Vec<Change> =
        a.figures.iter().map(|figure| change((a, b), figure, Some(figure), b.figure(&figure.name))).collect();
    let only_b = b.figures.iter().filter(|figure| a.figure(&figure.name).is_none());
    changes.extend(only_b.map(|figure| change((a, b), figure, None, Some(figure))));
    Comparison { changes, remarks: remarks(a, b) }
}

fn remarks(a: &Report, b: &Report) -> Vec<String> {
    let mut remarks = Vec::new();
    let mut differ = |what: &str, a: &dyn Display, b: &dyn Display| {
        let (a, b) = (a.to_string(), b.to_string());
        if a != b {
            remarks.push(format!("{what}: {a} and {b}"));
        }
    };
    differ("other things were measured", &a.kind.name(), &b.kind.name());
    differ("other subjects", &a.subject, &b.subject);
    let machine = |report: &Report| {
        let machine = &report.machine;
        format!("{}, {} processors", machine.cpu.as_deref().unwrap_or("unknown"), machine.logical_cpus)
    };
    differ("other machines", &machine(a), &machine(b));
    let versions = |report: &Report| {
        let versions: Vec<String> =
            report.versions.iter().map(|(name, version)| format!("{name} {version}")).collect();
        versions.join(", ")
    };
    differ("other versions", &versions(a), &versions(b));
    for (what, a, b) in [
        ("other model", json(&a.model), json(&b.model)),
        ("other settings of a plugin", json(&a.plugins), json(&b.plugins)),
        ("other options", a.options.clone(), b.options.clone()),
    ] {
        differ_in(what, &a, &b, &mut differ);
    }
    for (name, report) in [("first", a), ("second", b)] {
        if report.interrupted {
            remarks.push(format!("the {name} was stopped before its end"));
        }
    }
    remarks
}

fn json(value: &impl Serialize) -> Value {
    serde_json::to_value(value).unwrap_or_default()
}

/// Each value of two JSON objects that is not the same, by its path.
fn differ_in(what: &str, a: &Value, b: &Value, differ: &mut dyn FnMut(&str, &dyn Display, &dyn Display)) {
    let (a, b) = (leaves(a), leaves(b));
    let keys: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
    for key in keys {
        let told =
            |side: &Map<String, Value>| side.get(key).map_or_else(|| "none".to_owned(), Value::to_string);
        differ(&format!("{what}, {key}"), &told(&a), &told(&b));
    }
}

/// How the samples of two figures are compared.
fn chance(a: &Figure, b: &Figure, pairs: Pairs) -> (f64, f64, String) {
    let counts = (a.samples.values().len(), b.samples.values().len());
    if pairs == Pairs::Windows && counts.0 == counts.1 {
        let differences: Vec<f64> =
            a.samples.values().iter().zip(b.samples.values()).map(|(a, b)| b - a).collect();
        let told = format!("signed ranks of {} pairs of windows", counts.0);
        return (signed_ranks(&differences), least_of_pairs(differences.len()), told);
    }
    let told = format!("rank sums of {} and {} samples", counts.0, counts.1);
    (rank_sum(&a.samples, &b.samples), least_chance(counts.0, counts.1), told)
}

/// Whether samples belong together one by one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pairs {
    /// Each sample is a measurement of its own.
    None,
    /// The same windows of the same text: they differ far more from each other than models do in one.
    Windows,
}

/// Whether costs of tokens are of the same text in both.
fn pairs(a: &Report, b: &Report) -> Pairs {
    let text = |report: &Report| report.options["perplexity"]["sha256"].as_str().map(str::to_owned);
    match (text(a), text(b)) {
        (Some(a), Some(b)) if a == b => Pairs::Windows,
        _ => Pairs::None,
    }
}

fn change(
    (a_report, b_report): (&Report, &Report),
    named: &Figure,
    a: Option<&Figure>,
    b: Option<&Figure>,
) -> Change {
    let median = |figure: Option<&Figure>| figure.and_then(|figure| figure.median);
    let (verdict, why) = match (a, b) {
        (Some(a), Some(b)) => match named.unit {
            Unit::Perplexity => of_costs((a_report, a), (b_report, b)),
            Unit::NatsPerToken => judge(a, b, pairs(a_report, b_report)),
            _ => judge(a, b, Pairs::None),
        },
        (None, _) => (Verdict::Unknown, "the first has no such figure".to_owned()),
        (_, None) => (Verdict::Unknown, "the second has no such figure".to_owned()),
    };
    let (a, b) = (median(a), median(b));
    let ratio = a.zip(b).map(|(a, b)| b / a).filter(|ratio| ratio.is_finite());
    Change {
        name: named.name.clone(),
        label: named.label.clone(),
        unit: named.unit,
        a,
        b,
        ratio,
        verdict,
        why,
    }
}

/// A perplexity is one number; what the windows cost that it is made of says whether it changed.
fn of_costs((a_report, a): (&Report, &Figure), (b_report, b): (&Report, &Figure)) -> (Verdict, String) {
    if pairs(a_report, b_report) == Pairs::None {
        return (Verdict::Unknown, "perplexities are of different texts".to_owned());
    }
    let cost = |report: &'_ Report, figure: &Figure| {
        figure.derived_from.iter().find_map(|name| report.figure(name)).cloned()
    };
    match (cost(a_report, a), cost(b_report, b)) {
        (Some(a), Some(b)) => judge(&a, &b, Pairs::Windows),
        _ => (Verdict::Unknown, "what the windows cost is not there".to_owned()),
    }
}

fn judge(a: &Figure, b: &Figure, pairs: Pairs) -> (Verdict, String) {
    for (name, figure) in [("first", a), ("second", b)] {
        if let Some(why) = &figure.not_available {
            return (Verdict::Unknown, format!("not available in the {name}: {why}"));
        }
    }
    let (Some(before), Some(after)) = (a.median, b.median) else {
        return (Verdict::Unknown, "there are no samples".to_owned());
    };
    let (chance, least, of) = chance(a, b, pairs);
    if least >= SURE_BELOW {
        return (Verdict::Unknown, format!("{of} are too few to tell a change from noise"));
    }
    let why = format!("p = {chance:.3} ({of})");
    let small = (after - before).abs() < MATTERS_FROM * before.abs();
    if chance >= SURE_BELOW || small {
        return (Verdict::Same, why);
    }
    let higher = after > before;
    (if higher == (a.better == Better::Higher) { Verdict::Better } else { Verdict::Worse }, why)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::report::Named;

    fn figure(unit: Unit, values: &[f64]) -> Figure {
        Named::new("x", "x", unit).measured(values.iter().copied().collect())
    }

    fn check(unit: Unit, a: &[f64], b: &[f64], expected: Verdict) {
        let (verdict, why) = judge(&figure(unit, a), &figure(unit, b), Pairs::None);
        assert_eq!(verdict, expected, "{a:?} {b:?}: {why}");
    }

    #[test]
    fn a_change_is_one_beyond_the_noise() {
        let rate = Unit::TokensPerSecond;
        let before = [100.0, 101.0, 99.0, 100.5, 99.5];
        check(rate, &before, &[110.0, 111.0, 109.0, 110.5, 109.5], Verdict::Better);
        check(rate, &before, &[90.0, 91.0, 89.0, 90.5, 89.5], Verdict::Worse);
        check(Unit::Seconds, &before, &[90.0, 91.0, 89.0, 90.5, 89.5], Verdict::Better);
        check(rate, &before, &[100.2, 101.2, 99.2, 100.4, 99.6], Verdict::Same);
        // All above, and too little to matter.
        check(
            rate,
            &[100.0, 100.1, 100.2, 100.3, 100.4],
            &[100.5, 100.6, 100.7, 100.8, 100.9],
            Verdict::Same,
        );
        check(rate, &[100.0, 101.0, 99.0], &[200.0, 201.0, 199.0], Verdict::Unknown);
        let many = |from: f64| (0..30).map(|i| from + f64::from(i)).collect::<Vec<f64>>();
        check(rate, &many(100.0), &many(120.0), Verdict::Better);
        check(rate, &many(100.0), &many(102.0), Verdict::Same);
    }

    fn of_text(sha256: &str, costs: &[f64]) -> Report {
        let options = serde_json::json!({ "perplexity": { "sha256": sha256, "window": 512 }, "engine": { "queue": costs.len() } });
        let tell = std::sync::Arc::new(|_: &crate::bench::recorder::Progress| ());
        let stopper = crate::bench::recorder::Stopper::default();
        let mut recorder =
            crate::bench::recorder::Recorder::new(crate::bench::report::Kind::Model, options, stopper, tell);
        let perplexity = (costs.iter().sum::<f64>() / costs.len() as f64).exp();
        recorder.add(
            Named::new("quality.cost.512", "", Unit::NatsPerToken).measured(costs.iter().copied().collect()),
        );
        let named = Named::new("quality.perplexity.512", "", Unit::Perplexity);
        recorder.add(named.derived([perplexity].into_iter().collect(), &["quality.cost.512"]));
        recorder.report()
    }

    #[test]
    fn perplexities_of_one_text_are_compared_window_by_window() {
        // Windows differ by far more than the models do in each of them.
        let costs: Vec<f64> = (0..12).map(|i| 1.0 + f64::from(i)).collect();
        let worse: Vec<f64> =
            costs.iter().enumerate().map(|(i, cost)| cost * 1.02 + 0.001 * i as f64).collect();
        let verdicts = |a: &Report, b: &Report| {
            compare(a, b).changes.into_iter().map(|change| change.verdict).collect::<Vec<_>>()
        };
        let before = of_text("one", &costs);
        assert_eq!(verdicts(&before, &of_text("one", &worse)), [Verdict::Worse; 2]);
        assert_eq!(verdicts(&before, &before), [Verdict::Same; 2]);
        assert_eq!(verdicts(&before, &of_text("two", &worse)), [Verdict::Same, Verdict::Unknown]);
        assert_eq!(
            verdicts(&of_text("one", &costs[..4]), &of_text("one", &worse[..4])),
            [Verdict::Unknown; 2]
        );
    }

    #[test]
    fn what_was_told_otherwise_is_remarked_by_its_path() {
        let (a, b) = (of_text("one", &[1.0; 5]), of_text("two", &[1.0; 6]));
        let remarks = compare(&a, &b).remarks;
        assert!(remarks.contains(&"other options, engine.queue: 5 and 6".to_owned()), "{remarks:?}");
        assert!(
            remarks.contains(&r#"other options, perplexity.sha256: "one" and "two""#.to_owned()),
            "{remarks:?}"
        );
        assert_eq!(compare(&a, &a).remarks, [""; 0]);
    }

    #[test]
    fn what_is_not_available_is_not_compared() {
        let missing = Named::new("x", "x", Unit::Seconds).not_available("no clock");
        let (verdict, why) = judge(&figure(Unit::Seconds, &[1.0; 5]), &missing, Pairs::None);
        assert_eq!((verdict, why.as_str()), (Verdict::Unknown, "not available in the second: no clock"));
    }
}
