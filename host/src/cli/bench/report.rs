//! Reports for people: tables; and JSON and Markdown for programs and pages.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::json;

use super::args::{Compare, History, Keep, Output};
use crate::bench::{self, Comparison, Report, Store, markdown, new_id, words};
use crate::cli::output::{Table, tell};
use crate::cli::{Outcome, usage};
use crate::config::Config;
use crate::error::{Error, Kind};

/// Keeps a report where that is wanted, and writes it. What is kept does not depend on whether somebody reads the output.
pub(super) fn give(config: &Config, report: &Report, keep: &Keep) -> Outcome {
    let kept = if keep.save { save(config, report) } else { Ok(()) };
    write(report, &keep.output)?;
    kept
}

fn save(config: &Config, report: &Report) -> Outcome {
    let id = new_id();
    store(config)?.save(&id, report)?;
    tell(&format!("saved as {id}"));
    Ok(())
}

fn write(report: &Report, output: &Output) -> Outcome {
    if output.json {
        return print(report);
    }
    let mut out = io::stdout().lock();
    if output.markdown {
        return Ok(write!(out, "{}", markdown::report(report))?);
    }
    let mut table = Table::new(&["FIGURE", "MEDIAN", "SCATTER", "RUNS", ""]);
    let mut group = None;
    for figure in &report.figures {
        if group.replace(&figure.group).is_some_and(|before| *before != figure.group) {
            table.row(vec![String::new(); 5], Vec::new());
        }
        table.row(words::row(figure).into(), Vec::new());
    }
    table.write(&mut out)?;
    for note in &report.notes {
        writeln!(out, "note: {}", crate::cli::output::harmless(note))?;
    }
    if report.interrupted {
        writeln!(out, "stopped before its end: this is what had been measured")?;
    }
    Ok(())
}

pub(super) fn print(value: &impl Serialize) -> Outcome {
    let text = serde_json::to_string_pretty(value).map_err(io::Error::other)?;
    Ok(writeln!(io::stdout().lock(), "{text}")?)
}

fn store(config: &Config) -> Outcome<Store> {
    let folder = config
        .data
        .as_ref()
        .ok_or_else(|| usage("there is no folder for data: set HOME or XDG_DATA_HOME"))?;
    Ok(Store::at(folder.join(bench::DATABASE)))
}

/// Lists what was kept, or shows one of it.
pub(super) fn history(config: &Config, arguments: &History) -> Outcome {
    let store = store(config)?;
    if let Some(id) = &arguments.id {
        let (id, report) = saved(&store, id)?;
        if arguments.forget {
            store.delete(&id)?;
            tell(&format!("forgot {id}"));
            return Ok(());
        }
        return write(&report, &arguments.output);
    }
    let saved = store.list()?;
    if arguments.output.json {
        return print(&json!({ "benchmarks": saved }));
    }
    let mut table = Table::new(&["ID", "WHEN", "WHAT", "OF", "TOOK", ""]);
    for one in saved {
        let stopped = if one.interrupted { "stopped" } else { "" };
        let took = format!("{:.0} s", one.seconds);
        let cells =
            [one.id, one.started_at, one.kind.name().to_owned(), one.subject, took, stopped.to_owned()];
        table.row(cells.into(), Vec::new());
    }
    Ok(table.write(&mut io::stdout().lock())?)
}

/// Sets two reports side by side.
pub(super) fn compare(config: &Config, arguments: &Compare) -> Outcome {
    let read = |name: &str| -> Outcome<Report> {
        if std::path::Path::new(name).is_file() {
            let text = std::fs::read_to_string(name)
                .map_err(|error| usage(format!("{name} cannot be read: {error}")))?;
            let report = serde_json::from_str(&text);
            return report.map_err(|error| usage(format!("{name} is no report: {error}")));
        }
        Ok(saved(&store(config)?, name)?.1)
    };
    let comparison = bench::compare(&read(&arguments.a)?, &read(&arguments.b)?);
    if arguments.output.json {
        return print(&comparison);
    }
    if arguments.output.markdown {
        return Ok(write!(io::stdout().lock(), "{}", markdown::comparison(&comparison))?);
    }
    table(&comparison)
}

fn saved(store: &Store, id: &str) -> Outcome<(String, Report)> {
    store.get(id)?.ok_or_else(|| {
        let message =
            format!("no report `{id}` was kept, or several begin so: `impetus bench history` lists them");
        Error::new(Kind::InvalidRequest, message).into()
    })
}

fn table(comparison: &Comparison) -> Outcome {
    let mut table = Table::new(&["FIGURE", "A", "B", "B / A", "", "WHY"]);
    for change in &comparison.changes {
        let value = |value: Option<f64>| {
            value.map_or_else(|| "-".to_owned(), |value| words::value(change.unit, value))
        };
        let ratio = change.ratio.map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.3}"));
        let verdict = words::verdict(change.verdict).to_owned();
        let cells =
            vec![change.label.clone(), value(change.a), value(change.b), ratio, verdict, change.why.clone()];
        table.row(cells, Vec::new());
    }
    let mut out = io::stdout().lock();
    table.write(&mut out)?;
    for remark in &comparison.remarks {
        writeln!(out, "note: {}", crate::cli::output::harmless(remark))?;
    }
    Ok(())
}
