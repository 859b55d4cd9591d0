//! What is otherwise in one report than in another, beyond the noise of both.

use serde::Serialize;
use utoipa::ToSchema;

use super::report::{Better, Figure, Report, Unit};
use super::samples::Samples;

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
        a.figures.iter().map(|figure| change(figure, Some(figure), b.figure(&figure.name))).collect();
    let only_b = b.figures.iter().filter(|figure| a.figure(&figure.name).is_none());
    changes.extend(only_b.map(|figure| change(figure, None, Some(figure))));
    Comparison { changes, remarks: remarks(a, b) }
}

fn remarks(a: &Report, b: &Report) -> Vec<String> {
    let mut remarks = Vec::new();
    let mut differ = |what: &str, a: &dyn std::fmt::Display, b: &dyn std::fmt::Display| {
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
    differ("other options", &a.options, &b.options);
    for (name, report) in [("first", a), ("second", b)] {
        if report.interrupted {
            remarks.push(format!("the {name} was stopped before its end"));
        }
    }
    remarks
}

fn change(named: &Figure, a: Option<&Figure>, b: Option<&Figure>) -> Change {
    let median = |figure: Option<&Figure>| figure.and_then(|figure| figure.median);
    let (verdict, why) = match (a, b) {
        (Some(a), Some(b)) => judge(a, b),
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

fn judge(a: &Figure, b: &Figure) -> (Verdict, String) {
    for (name, figure) in [("first", a), ("second", b)] {
        if let Some(why) = &figure.not_available {
            return (Verdict::Unknown, format!("not available in the {name}: {why}"));
        }
    }
    let (Some(before), Some(after)) = (a.median, b.median) else {
        return (Verdict::Unknown, "there are no samples".to_owned());
    };
    let chance = rank_sum(&a.samples, &b.samples);
    let counts = format!("{} and {} samples", a.samples.values().len(), b.samples.values().len());
    let least = least_chance(a.samples.values().len(), b.samples.values().len());
    if least >= SURE_BELOW {
        return (Verdict::Unknown, format!("{counts} are too few to tell a change from noise"));
    }
    let why = format!("p = {chance:.3} (rank sums of {counts})");
    let small = (after - before).abs() < MATTERS_FROM * before.abs();
    if chance >= SURE_BELOW || small {
        return (Verdict::Same, why);
    }
    let higher = after > before;
    (if higher == (a.better == Better::Higher) { Verdict::Better } else { Verdict::Worse }, why)
}

/// The smallest probability that so many samples can give: when all of one are above all of the other.
fn least_chance(a: usize, b: usize) -> f64 {
    let ways: f64 = (1..=b).map(|i| (a + i) as f64 / i as f64).product();
    (2.0 / ways).min(1.0)
}

/// How probable it is by chance alone that samples of one source differ as much in their ranks, or more: the two-sided test
/// of Mann & Whitney (1947), exact for few samples, by the normal distribution for many.
fn rank_sum(a: &Samples, b: &Samples) -> f64 {
    let (a, b) = (a.values(), b.values());
    let wins = |a: f64, b: f64| {
        if a > b {
            1.0
        } else if a < b {
            0.0
        } else {
            0.5
        }
    };
    let u: f64 = a.iter().flat_map(|&a| b.iter().map(move |&b| wins(a, b))).sum();
    let pairs = (a.len() * b.len()) as f64;
    let smaller = u.min(pairs - u);
    if a.len() + b.len() > 40 {
        let deviation = (pairs * (a.len() + b.len() + 1) as f64 / 12.0).sqrt();
        return two_sided((smaller - pairs / 2.0 + 0.5).min(0.0) / deviation);
    }
    let ways = ways(a.len(), b.len());
    let all: f64 = ways.iter().sum();
    // Half a win is a tie: it counts for neither.
    let as_far: f64 = ways.iter().take(smaller.ceil() as usize + 1).sum();
    (2.0 * as_far / all).min(1.0)
}

/// In how many orders of `a` and `b` samples each sum of wins comes about.
fn ways(a: usize, b: usize) -> Vec<f64> {
    // By the last in the order: where it is one of `a`, it wins over all of `b`.
    let mut table = vec![vec![Vec::new(); b + 1]; a + 1];
    for i in 0..=a {
        for j in 0..=b {
            let mut sums = vec![0.0; i * j + 1];
            if i == 0 || j == 0 {
                sums[0] = 1.0;
            } else {
                let with_a: &Vec<f64> = &table[i - 1][j];
                with_a.iter().enumerate().for_each(|(wins, ways)| sums[wins + j] += ways);
                let with_b: &Vec<f64> = &table[i][j - 1];
                with_b.iter().enumerate().for_each(|(wins, ways)| sums[wins] += ways);
            }
            table[i][j] = sums;
        }
    }
    std::mem::take(&mut table[a][b])
}

/// The part of a normal distribution beyond `z` on both sides (Abramowitz & Stegun 1964, 26.2.17).
fn two_sided(z: f64) -> f64 {
    let z = z.abs();
    let t = 1.0 / (1.0 + 0.231_641_9 * z);
    let series = t
        * (0.319_381_53
            + t * (-0.356_563_782 + t * (1.781_477_937 + t * (-1.821_255_978 + t * 1.330_274_429))));
    (2.0 * (-z * z / 2.0).exp() / std::f64::consts::TAU.sqrt() * series).min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::report::Named;

    fn figure(unit: Unit, values: &[f64]) -> Figure {
        Named::new("x", "x", unit).measured(values.iter().copied().collect())
    }

    fn check(unit: Unit, a: &[f64], b: &[f64], expected: Verdict) {
        let (verdict, why) = judge(&figure(unit, a), &figure(unit, b));
        assert_eq!(verdict, expected, "{a:?} {b:?}: {why}");
    }

    #[test]
    fn chances_are_those_of_the_tables() {
        // Two-sided, as R's wilcox.test has them.
        for (a, b, expected) in [
            (&[1.0, 2.0, 3.0, 4.0, 5.0][..], &[6.0, 7.0, 8.0, 9.0, 10.0][..], 2.0 / 252.0),
            (&[1.0, 2.0, 3.0][..], &[4.0, 5.0, 6.0][..], 0.1),
            (&[1.0, 3.0, 5.0, 7.0][..], &[2.0, 4.0, 6.0, 8.0][..], 0.685_714),
            (&[1.0, 2.0, 4.0, 7.0, 8.0][..], &[3.0, 5.0, 6.0, 9.0, 10.0, 11.0][..], 0.177_489),
        ] {
            let (a, b): (Samples, Samples) = (a.iter().copied().collect(), b.iter().copied().collect());
            for found in [rank_sum(&a, &b), rank_sum(&b, &a)] {
                assert!((found - expected).abs() < 1e-5, "{found} for {expected}");
            }
        }
        assert!((two_sided(1.959_964) - 0.05).abs() < 1e-6 && (two_sided(0.0) - 1.0).abs() < 1e-6);
        assert!((least_chance(5, 5) - 2.0 / 252.0).abs() < 1e-12);
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

    #[test]
    fn what_is_not_available_is_not_compared() {
        let missing = Named::new("x", "x", Unit::Seconds).not_available("no clock");
        let (verdict, why) = judge(&figure(Unit::Seconds, &[1.0; 5]), &missing);
        assert_eq!((verdict, why.as_str()), (Verdict::Unknown, "not available in the second: no clock"));
    }
}
