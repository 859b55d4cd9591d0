//! The steps that a library goes through, from its file to a verdict; the first that refuses it ends them.

use std::path::Path;

use super::discover::Candidate;
use super::record::{FormatRecord, Record, Refusal, State};
use super::spec::Spec;
use super::trial::Verdict;
use super::trust::Fingerprint;
use super::verdicts::Verdicts;
use super::{inspect, needed, trust};
use crate::config::{Config, PluginEntry};

/// A library that was judged by its file alone; none of its code has run.
pub(super) struct Judged {
    pub(super) record: Record,
    /// How to open it, where nothing speaks against that.
    pub(super) spec: Option<Spec>,
}

/// Judges a library by its file.
pub(super) fn judge(config: &Config, candidate: &Candidate) -> Judged {
    let mut record = Record::of_file(&candidate.path);
    match by_file(config, candidate, &mut record) {
        Ok(spec) => Judged { record, spec: Some(spec) },
        Err(refusal) => {
            record.refuse(refusal);
            Judged { record, spec: None }
        }
    }
}

/// Takes one library through all steps, with a trial of its own.
pub(super) fn check(config: &Config, library: &Path, verdicts: &Verdicts) -> Record {
    let entries = config.plugin.iter();
    let same = |path: &Path| path.canonicalize().ok() == library.canonicalize().ok();
    let named = entries.into_iter().find(|(_, entry)| entry.path.as_deref().is_some_and(same));
    let candidate =
        Candidate { path: library.to_owned(), entry: named.map(|(id, _)| id.clone()), confined: false };
    let Judged { mut record, spec } = judge(config, &candidate);
    if let Some(spec) = spec {
        match verdicts.anew(&spec) {
            Verdict::Sound(identity) => record.load(identity),
            Verdict::Refused(refusal) => record.refuse(refusal),
        }
    }
    record
}

fn by_file(config: &Config, candidate: &Candidate, record: &mut Record) -> Result<Spec, Refusal> {
    let named = candidate.entry.as_ref();
    if let Some(id) = named {
        record.id.clone_from(id);
    }
    let of_entry = |id: &str| config.plugin.get(id).cloned().unwrap_or_default();
    if named.is_some_and(|id| !of_entry(id).enabled) {
        return Err(disabled(&record.id));
    }
    let confined_to = candidate.confined.then_some(config.plugins.folder.as_path());
    let file = trust::judge(&candidate.path, confined_to)?;
    if let Some(id) = named {
        file.check_pin(id, of_entry(id).sha256.as_deref())?;
    }
    record.sha256 = Some(file.sha256.clone());
    let manifest = inspect::manifest(&file.path)?;
    if let Some(id) = named.filter(|&id| *id != manifest.id) {
        return Err(Refusal::new(
            State::ManifestMismatch,
            format!("plugins.toml names it [plugin.{id}], but it is the plugin `{}`", manifest.id),
            format!("name the table [plugin.{}]", manifest.id),
        ));
    }
    fill_from_manifest(record, &manifest);
    let entry = of_entry(&manifest.id);
    if !entry.enabled {
        return Err(disabled(&manifest.id));
    }
    to_spec(&file, &manifest, &entry, config)
}

fn to_spec(
    file: &Fingerprint,
    manifest: &inspect::Manifest,
    entry: &PluginEntry,
    config: &Config,
) -> Result<Spec, Refusal> {
    file.check_pin(&manifest.id, entry.sha256.as_deref())?;
    if let Some(version) = entry.version.as_ref().filter(|&version| *version != manifest.version) {
        return Err(Refusal::new(
            State::HashMismatch,
            format!("plugins.toml says version {version}, but the file is version {}", manifest.version),
            format!("restore that version, or, if you trust this one, `impetus plugins pin {}`", manifest.id),
        ));
    }
    inspect::check_manifest(manifest)?;
    let missing = needed::missing(&file.path);
    if !missing.is_empty() {
        return Err(Refusal::new(
            State::LoadFailed,
            format!("it needs libraries that this system does not have: {}", missing.join(", ")),
            "install them, put them where its run path looks, or get a plugin that is linked statically",
        ));
    }
    Spec::new(file, manifest, entry, &config.plugins)
}

fn fill_from_manifest(record: &mut Record, manifest: &inspect::Manifest) {
    record.id.clone_from(&manifest.id);
    record.version = Some(manifest.version.clone());
    record.api_version = Some(manifest.api_version.clone());
    let format = |format: &inspect::ManifestFormat| FormatRecord {
        id: format.id.clone(),
        extensions: format.extensions.clone(),
        priority: format.priority,
        active: false,
        shadowed_by: None,
    };
    record.formats = manifest.formats.iter().map(format).collect();
}

fn disabled(id: &str) -> Refusal {
    Refusal::new(
        State::Disabled,
        format!("[plugin.{id}] in plugins.toml says enabled = false"),
        format!("`impetus plugins enable {id}`, or set enabled = true under [plugin.{id}]"),
    )
}
