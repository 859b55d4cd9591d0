//! `impetus inspect`: what a model file is, from its headers alone.

use std::io::{self, Write};

use super::args::Inspect;
use super::lists::{entry_json, state_name};
use super::output::{bytes, count, harmless};
use super::{Failure, Outcome, resolve};
use crate::config::Config;
use crate::models::{Entry, Models};
use crate::plugins::Plugins;

/// Prints what the file is; fails with what is wrong where it cannot be served.
pub(super) fn inspect(config: &Config, arguments: &Inspect) -> Outcome {
    let models = Models::new(Plugins::load(config), config);
    let entry = resolve::model(&models, &arguments.file)?;
    let mut out = io::stdout().lock();
    if arguments.json {
        writeln!(out, "{:#}", entry_json(&entry))?;
    } else {
        for (name, value) in lines(&entry) {
            writeln!(out, "{name:<16}{}", harmless(&value))?;
        }
    }
    if entry.is_servable() { Ok(()) } else { Err(Failure::Told) }
}

/// What is known, line by line.
fn lines(entry: &Entry) -> Vec<(&'static str, String)> {
    let summary = &entry.summary;
    let yes_or_no = |yes: bool| if yes { "yes" } else { "no" }.to_owned();
    let tokens = |count: u64| format!("{count} tokens");
    let exactly = |number: u64| format!("{} ({number})", count(number));
    let known = [
        ("file", Some(entry.path.display().to_string())),
        ("id", Some(entry.id.clone())),
        ("state", Some(state_name(entry.state).to_owned())),
        ("why", entry.reason.clone()),
        ("format", entry.format.clone()),
        ("plugin", entry.plugin.clone()),
        ("name", summary.name.clone()),
        ("architecture", summary.architecture.clone()),
        ("quantisation", summary.quantization.clone()),
        ("parameters", summary.parameters.map(exactly)),
        ("context", summary.context_length.map(tokens)),
        ("vocabulary", summary.vocab_size.map(tokens)),
        ("chat template", summary.chat_template.map(yes_or_no)),
        ("size", summary.size_bytes.map(bytes)),
        ("memory needed", summary.estimated_bytes.map(|size| format!("about {}", bytes(size)))),
        ("licence", summary.license.clone()),
    ];
    known.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
}
