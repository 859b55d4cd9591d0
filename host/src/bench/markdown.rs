//! A report as Markdown, for an issue or a page.

use std::fmt::Write;

use super::compare::Comparison;
use super::report::Report;
use super::words;

/// The whole report but for its samples.
pub fn report(report: &Report) -> String {
    let mut text = format!("## {}: {}\n\n", report.kind.name(), cell(&report.subject));
    let machine = &report.machine;
    let cpu = machine.cpu.as_deref().unwrap_or("unknown processor");
    let system = machine.system.as_deref().unwrap_or("unknown system");
    let versions: Vec<String> =
        report.versions.iter().map(|(name, version)| format!("{name} {version}")).collect();
    let stopped = if report.interrupted { ", stopped before its end" } else { "" };
    let _ = writeln!(
        text,
        "{}, {:.0} s{stopped}; {} ({}, {} processors, {}), {}\n",
        report.started_at,
        report.seconds,
        cell(cpu),
        machine.architecture,
        machine.logical_cpus,
        machine.instructions.join(" "),
        cell(system)
    );
    let _ = writeln!(text, "{}; options `{}`\n", versions.join(", "), report.options);
    if let Some(model) = &report.model {
        let _ = writeln!(text, "{}\n", cell(&words::model(model)));
    }
    text += "| figure | median | scatter | runs | |\n|---|---:|---:|---:|---|\n";
    for figure in &report.figures {
        let _ = writeln!(text, "| {} |", words::row(figure).map(|text| cell(&text)).join(" | "));
    }
    for note in &report.notes {
        let _ = write!(text, "\n* {}", cell(note));
    }
    if !report.notes.is_empty() {
        text.push('\n');
    }
    text
}

/// Two reports side by side.
pub fn comparison(comparison: &Comparison) -> String {
    let mut text = "| figure | a | b | b / a | | |\n|---|---:|---:|---:|---|---|\n".to_owned();
    for change in &comparison.changes {
        let value = |value: Option<f64>| {
            value.map_or_else(|| "-".to_owned(), |value| words::value(change.unit, value))
        };
        let ratio = change.ratio.map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.3}"));
        let cells = [
            change.label.clone(),
            value(change.a),
            value(change.b),
            ratio,
            words::verdict(change.verdict).to_owned(),
            change.why.clone(),
        ];
        let _ = writeln!(text, "| {} |", cells.map(|text| cell(&text)).join(" | "));
    }
    for remark in &comparison.remarks {
        let _ = write!(text, "\n* {}", cell(remark));
    }
    text
}

/// Text that does not end its cell.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace(['\n', '\r'], " ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::recorder::{Progress, Recorder, Stopper};
    use crate::bench::report::{Kind, Named, Unit};

    #[test]
    fn every_figure_has_its_line_and_what_is_missing_its_reason() {
        let tell = std::sync::Arc::new(|_: &Progress| ());
        let mut recorder =
            Recorder::new(Kind::Machine, serde_json::json!({"runs": 2}), Stopper::default(), tell);
        let read = || Named::new("memory.read", "read|all", Unit::BytesPerSecond);
        recorder.add(read().measured([1e9, 1e9].into_iter().collect()));
        recorder.add(read().not_available("no memory"));
        let text = report(&recorder.report());
        assert!(
            text.contains("| read\\|all | 1.00 GB/s | 0.0 % | 2 | too few to tell the noise |"),
            "{text}"
        );
        assert!(text.contains("| read\\|all | not available | - | - | no memory |"), "{text}");
    }
}
