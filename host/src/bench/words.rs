//! Figures in words for people: values with their units, how much they scatter, why they are missing.

use super::compare::Verdict;
use super::report::{Figure, Unit};
use super::subject::Subject;

/// A value as a person reads it, such as `23.4 GB/s`.
pub fn value(unit: Unit, value: f64) -> String {
    match unit {
        Unit::BytesPerSecond => scaled(value, 1000.0, &["B/s", "kB/s", "MB/s", "GB/s", "TB/s"]),
        Unit::OperationsPerSecond => {
            scaled(value, 1000.0, &["op/s", "kop/s", "Mop/s", "Gop/s", "Top/s", "Pop/s"])
        }
        Unit::Bytes => scaled(value, 1024.0, &["B", "KiB", "MiB", "GiB", "TiB"]),
        Unit::Seconds if value < 1.0 => format!("{} ms", digits(value * 1e3)),
        Unit::Seconds => format!("{} s", digits(value)),
        Unit::TokensPerSecond => format!("{} tok/s", digits(value)),
        Unit::RequestsPerSecond => format!("{} req/s", digits(value)),
        Unit::JoulesPerToken => format!("{} J/tok", digits(value)),
        Unit::Share => format!("{:.1} %", value * 100.0),
        Unit::Ratio => format!("{value:.3}"),
        Unit::Perplexity | Unit::NatsPerToken => format!("{value:.4}"),
        Unit::Count => format!("{}", (value * 100.0).round() / 100.0),
    }
}

/// Four digits that say something.
fn digits(value: f64) -> String {
    let decimals = match value.abs() {
        value if value >= 1000.0 => 0,
        value if value >= 100.0 => 1,
        value if value >= 1.0 => 2,
        _ => 4,
    };
    format!("{value:.decimals$}")
}

fn scaled(mut value: f64, base: f64, units: &[&str]) -> String {
    let mut unit = 0;
    while value >= base && unit + 1 < units.len() {
        value /= base;
        unit += 1;
    }
    format!("{} {}", digits(value), units[unit])
}

/// A figure's median; `not available` where it has none.
pub fn median(figure: &Figure) -> String {
    figure.median.map_or_else(|| "not available".to_owned(), |median| value(figure.unit, median))
}

/// The interquartile range as a part of the median; a dash where one sample has none.
pub fn scatter(figure: &Figure) -> String {
    match (figure.iqr, figure.median) {
        (Some(iqr), Some(median)) if figure.samples.values().len() > 1 && median != 0.0 => {
            format!("{:.1} %", iqr / median.abs() * 100.0)
        }
        _ => "-".to_owned(),
    }
}

/// How many samples it is of; a dash where there are none.
pub fn runs(figure: &Figure) -> String {
    match figure.samples.values().len() {
        0 => "-".to_owned(),
        runs => runs.to_string(),
    }
}

/// What must be said beside a figure.
pub fn remark(figure: &Figure) -> String {
    match (&figure.not_available, figure.noisy) {
        (Some(why), _) => why.clone(),
        (None, Some(true)) => "noisy".to_owned(),
        (None, Some(false)) => String::new(),
        (None, None) => "too few to tell the noise".to_owned(),
    }
}

/// A line of a table: label, median, scatter, runs, remark.
pub fn row(figure: &Figure) -> [String; 5] {
    [figure.label.clone(), median(figure), scatter(figure), runs(figure), remark(figure)]
}

/// A model in a line: what it is, how large, how quantised.
pub fn model(model: &Subject) -> String {
    let bytes = |bytes: u64| value(Unit::Bytes, bytes as f64);
    let known = [
        model.format.clone(),
        model.architecture.clone(),
        model.quantization.clone(),
        model.parameters.map(|count| format!("{count} parameters")),
        model.size_bytes.map(|size| format!("{} on disk", bytes(size))),
    ];
    let known: Vec<String> = known.into_iter().flatten().collect();
    format!("{}: {}", model.id, known.join(", "))
}

/// As in JSON.
pub fn verdict(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Better => "better",
        Verdict::Worse => "worse",
        Verdict::Same => "same",
        Verdict::Unknown => "unknown",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::report::Named;

    #[test]
    fn values_are_for_people() {
        for (unit, number, expected) in [
            (Unit::BytesPerSecond, 23.42e9, "23.42 GB/s"),
            (Unit::OperationsPerSecond, 1.5e12, "1.50 Top/s"),
            (Unit::Bytes, 98_361_344.0, "93.80 MiB"),
            (Unit::Seconds, 0.012_34, "12.34 ms"),
            (Unit::Seconds, 12.34, "12.34 s"),
            (Unit::TokensPerSecond, 1234.4, "1234 tok/s"),
            (Unit::Share, 0.456, "45.6 %"),
            (Unit::Count, 3.0, "3"),
        ] {
            assert_eq!(value(unit, number), expected);
        }
    }

    #[test]
    fn what_is_missing_is_no_number() {
        let figure = Named::new("a", "a", Unit::Seconds).not_available("no clock");
        assert_eq!((median(&figure).as_str(), scatter(&figure).as_str()), ("not available", "-"));
        assert_eq!((remark(&figure).as_str(), runs(&figure).as_str()), ("no clock", "-"));
    }

    #[test]
    fn how_often_it_was_measured_stands_beside_it() {
        let of = |values: &[f64]| {
            let [.., runs, remark] =
                row(&Named::new("a", "a", Unit::Seconds).measured(values.iter().copied().collect()));
            (runs, remark)
        };
        let expected = |runs: &str, remark: &str| (runs.to_owned(), remark.to_owned());
        assert_eq!(of(&[1.0; 4]), expected("4", "too few to tell the noise"));
        assert_eq!(of(&[1.0; 5]), expected("5", ""));
        assert_eq!(of(&[1.0, 2.0, 3.0, 4.0, 5.0]), expected("5", "noisy"));
    }
}
