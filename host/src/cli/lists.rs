//! `impetus models` and `impetus plugins`: everything that was found, with the reason where it cannot be used.

use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;

use serde_json::{Value, json};

use super::Outcome;
use super::output::{Table, bytes, count, or_dash, tell};
use crate::config::Config;
use crate::models::{Entry, ModelState, Models};
use crate::plugins::{FormatRecord, Plugins, Record};

/// Prints the models.
pub(super) fn models(config: &Config, as_json: bool) -> Outcome {
    let plugins = Plugins::load(config);
    let entries = Models::new(Arc::clone(&plugins), config).list();
    let mut out = io::stdout().lock();
    if as_json {
        let list: Vec<Value> = entries.iter().map(entry_json).collect();
        writeln!(out, "{:#}", json!({ "models": list }))?;
        return Ok(());
    }
    if entries.is_empty() {
        tell(&no_models(config, &plugins));
        return Ok(());
    }
    let headings = ["ID", "STATE", "FORMAT", "ARCHITECTURE", "QUANTISATION", "PARAMETERS", "CONTEXT", "SIZE"];
    let mut table = Table::new(&headings);
    for entry in &entries {
        table.row(model_cells(entry), entry.reason.iter().map(|reason| format!("why: {reason}")).collect());
    }
    table.write(&mut out)?;
    Ok(())
}

/// Prints the plugins.
pub(super) fn plugins(config: &Config, as_json: bool) -> Outcome {
    let records = Plugins::load(config).records();
    if records.is_empty() && !as_json {
        tell(&no_plugins(config));
        return Ok(());
    }
    plugin_records(&records, as_json)
}

/// Prints these plugins.
pub(super) fn plugin_records(records: &[Record], as_json: bool) -> Outcome {
    let mut out = io::stdout().lock();
    if as_json {
        writeln!(out, "{:#}", json!({ "plugins": records }))?;
        return Ok(());
    }
    let mut table = Table::new(&["ID", "VERSION", "STATE", "FORMATS", "PATH"]);
    for record in records {
        table.row(plugin_cells(record), plugin_notes(record));
    }
    table.write(&mut out)?;
    Ok(())
}

/// An entry as the HTTP API gives it, with the path, which is no secret here.
pub(super) fn entry_json(entry: &Entry) -> Value {
    let mut json = json!(entry);
    if let Some(object) = json.as_object_mut() {
        object.insert("path".to_owned(), json!(entry.path));
    }
    json
}

/// What to do where there is no model.
pub(super) fn no_models(config: &Config, plugins: &Plugins) -> String {
    let formats = plugins.records().into_iter().flat_map(|record| record.formats);
    let mut endings: Vec<String> =
        formats.flat_map(|format| format.extensions).map(|ending| format!(".{ending}")).collect();
    endings.sort();
    endings.dedup();
    if endings.is_empty() {
        return "no models: no plugin says which files are any, see `impetus plugins`".to_owned();
    }
    let folders = joined(&config.models.folders);
    format!(
        "no models ({}) in {folders}: put one there, or name another folder with --models",
        endings.join(", ")
    )
}

/// What to do where there is no plugin.
pub(super) fn no_plugins(config: &Config) -> String {
    let folder = config.plugins.folder.display();
    format!(
        "no plugin libraries in {folder}: put one there (`make plugins` does), or name another folder with --plugins"
    )
}

/// A model's state, for people.
pub(super) fn state_name(state: ModelState) -> &'static str {
    match state {
        ModelState::Available => "available",
        ModelState::Loading => "loading",
        ModelState::Loaded => "loaded",
        ModelState::Crashed => "crashed",
        ModelState::Unavailable => "unavailable",
    }
}

/// Which formats a plugin offers, and which of them another one runs.
pub(super) fn format_names(formats: &[FormatRecord]) -> String {
    let name = |format: &FormatRecord| match &format.shadowed_by {
        Some(other) => format!("{} (run by {other})", format.id),
        None => format.id.clone(),
    };
    formats.iter().map(name).collect::<Vec<_>>().join(", ")
}

fn model_cells(entry: &Entry) -> Vec<String> {
    let summary = &entry.summary;
    vec![
        entry.id.clone(),
        state_name(entry.state).to_owned(),
        or_dash(entry.format.as_deref()),
        or_dash(summary.architecture.as_deref()),
        or_dash(summary.quantization.as_deref()),
        or_dash(summary.parameters.map(count).as_deref()),
        or_dash(summary.context_length.map(|tokens| tokens.to_string()).as_deref()),
        or_dash(summary.size_bytes.map(bytes).as_deref()),
    ]
}

fn plugin_cells(record: &Record) -> Vec<String> {
    let formats = format_names(&record.formats);
    vec![
        record.id.clone(),
        or_dash(record.version.as_deref()),
        record.state.to_string(),
        or_dash(Some(formats.as_str()).filter(|formats| !formats.is_empty())),
        record.path.display().to_string(),
    ]
}

fn plugin_notes(record: &Record) -> Vec<String> {
    let parts = [("why", &record.reason), ("hint", &record.hint), ("detail", &record.detail)];
    parts.iter().filter_map(|(name, text)| Some(format!("{name}: {}", text.as_deref()?))).collect()
}

fn joined(paths: &[PathBuf]) -> String {
    paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
}
