//! The only place that knows abi_stable and libloading: finds plugin libraries, loads those that are sound, and says
//! of every other one why not.
//!
//! discover → trust → inspect → open → register. A refused plugin never stops the host.

mod discover;
pub mod embedder;
mod inspect;
mod library;
pub mod model;
mod open;
pub mod prober;
mod record;
mod spec;
mod trust;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use serde::Serialize;

use self::discover::Candidate;
pub use self::library::{Identity, Library};
use self::model::Probe;
use self::prober::Prober;
pub use self::record::{FormatRecord, Record, Refusal, State};
pub use self::spec::Spec;
use crate::config::{Config, Isolation};
use crate::error::Result;

/// Every plugin that was found, loaded or not.
pub struct Plugins {
    records: Vec<Record>,
    /// The running ones, by id.
    running: BTreeMap<String, Running>,
}

/// A plugin whose formats are served.
enum Running {
    /// Its code runs in this process.
    Here(Box<Spec>, Library),
    /// Its code runs in children alone.
    Apart(Box<Prober>),
}

impl Running {
    fn start(spec: Spec) -> Result<(Self, Identity), Refusal> {
        match spec.isolation {
            Isolation::Process => {
                Prober::start(spec).map(|(prober, identity)| (Running::Apart(Box::new(prober)), identity))
            }
            Isolation::None => Library::open(&spec)
                .map(|(library, identity)| (Running::Here(Box::new(spec), library), identity)),
        }
    }

    fn spec(&self) -> &Spec {
        match self {
            Running::Here(spec, _) => spec,
            Running::Apart(prober) => prober.spec(),
        }
    }
}

/// A format that can be served now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ActiveFormat {
    /// The format's name.
    pub id: String,
    /// The plugin that runs it.
    pub plugin: String,
    /// That plugin's version.
    pub plugin_version: String,
    /// File name endings, without the dot.
    pub extensions: Vec<String>,
}

impl Plugins {
    /// Takes every library through the pipeline, one after another.
    pub fn load(config: &Config) -> Arc<Plugins> {
        let mut plugins = Plugins { records: Vec::new(), running: BTreeMap::new() };
        for candidate in discover::candidates(config) {
            plugins.add(config, &candidate);
        }
        for (id, entry) in &config.plugin {
            if entry.enabled && !plugins.records.iter().any(|record| record.id == *id) {
                tracing::warn!("plugins.toml speaks of plugin `{id}`, but no library of that id was found");
            }
        }
        plugins.resolve_formats(&config.formats);
        for record in &plugins.records {
            match &record.reason {
                None => tracing::info!(plugin = %record.id, "loaded"),
                Some(reason) => tracing::warn!(plugin = %record.id, state = %record.state, "{reason}"),
            }
        }
        Arc::new(plugins)
    }

    /// One record for each library that was found.
    pub fn records(&self) -> &[Record] {
        &self.records
    }

    /// The formats that can be served now, by name.
    pub fn formats(&self) -> Vec<ActiveFormat> {
        let of_record = |record: &Record| -> Vec<ActiveFormat> {
            let active = record.formats.iter().filter(|format| format.active);
            active
                .map(|format| ActiveFormat {
                    id: format.id.clone(),
                    plugin: record.id.clone(),
                    plugin_version: record.version.clone().unwrap_or_default(),
                    extensions: format.extensions.clone(),
                })
                .collect()
        };
        let mut formats: Vec<ActiveFormat> = self.records.iter().flat_map(of_record).collect();
        formats.sort_by(|a, b| a.id.cmp(&b.id));
        formats
    }

    /// Asks one plugin about a file or folder. `None` when no plugin of this id runs.
    pub fn probe(&self, plugin: &str, path: &Path, is_dir: bool) -> Option<Result<Probe>> {
        Some(match self.running.get(plugin)? {
            Running::Here(_, library) => library.probe(path, is_dir),
            Running::Apart(prober) => prober.probe(path, is_dir),
        })
    }

    /// A plugin that is open in this process. `None` when none of this id is.
    pub fn library(&self, plugin: &str) -> Option<Library> {
        match self.running.get(plugin)? {
            Running::Here(_, library) => Some(*library),
            Running::Apart(_) => None,
        }
    }

    /// How to open one plugin. `None` when no plugin of this id runs.
    pub fn spec(&self, plugin: &str) -> Option<&Spec> {
        self.running.get(plugin).map(Running::spec)
    }

    fn add(&mut self, config: &Config, candidate: &Candidate) {
        let mut record = Record::of_file(&candidate.path);
        match self.pipeline(config, candidate, &mut record) {
            Ok(running) => {
                record.state = State::Loaded;
                self.running.insert(record.id.clone(), running);
            }
            Err(refusal) => record.refuse(refusal),
        }
        self.records.push(record);
    }

    fn pipeline(
        &self,
        config: &Config,
        candidate: &Candidate,
        record: &mut Record,
    ) -> Result<Running, Refusal> {
        let named = candidate.entry.as_ref();
        if let Some(id) = named {
            record.id.clone_from(id);
        }
        let of_entry = |id: &str| config.plugin.get(id).cloned().unwrap_or_default();
        if named.is_some_and(|id| !of_entry(id).enabled) {
            return Err(disabled(&record.id));
        }
        trust::check(&candidate.path, named.and_then(|id| of_entry(id).sha256).as_deref())?;
        let manifest = inspect::manifest(&candidate.path)?;
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
        // A library in the plugin folder is pinned by its id, which is known only now.
        trust::check(&candidate.path, entry.sha256.as_deref())?;
        self.check_duplicate(&manifest.id)?;
        inspect::check_manifest(&manifest)?;
        let spec = Spec::new(&candidate.path, &manifest, &entry, &config.plugins)?;
        let (running, identity) = Running::start(spec)?;
        record.name = Some(identity.name);
        record.license = Some(identity.license);
        record.build = Some(identity.build).filter(|build| !build.is_empty());
        Ok(running)
    }

    fn check_duplicate(&self, id: &str) -> Result<(), Refusal> {
        match self.records.iter().find(|other| other.id == id && other.state == State::Loaded) {
            None => Ok(()),
            Some(other) => Err(Refusal::new(
                State::DuplicatePlugin,
                format!("the plugin `{id}` is already loaded from {}", other.path.display()),
                "remove one of the two libraries",
            )),
        }
    }

    /// Gives each contested format to one plugin: the pin of plugins.toml, else the priority, else the first id.
    fn resolve_formats(&mut self, pins: &BTreeMap<String, String>) {
        let mut claims: BTreeMap<String, Vec<(bool, u32, String)>> = BTreeMap::new();
        for record in self.records.iter().filter(|record| record.state == State::Loaded) {
            for format in &record.formats {
                let pinned = pins.get(&format.id) == Some(&record.id);
                claims.entry(format.id.clone()).or_default().push((
                    pinned,
                    format.priority,
                    record.id.clone(),
                ));
            }
        }
        let better = |a: &&(bool, u32, String), b: &&(bool, u32, String)| {
            (a.0, a.1).cmp(&(b.0, b.1)).then_with(|| b.2.cmp(&a.2))
        };
        let winners: BTreeMap<String, String> = claims
            .iter()
            .filter_map(|(format, claims)| Some((format.clone(), claims.iter().max_by(better)?.2.clone())))
            .collect();
        for record in self.records.iter_mut().filter(|record| record.state == State::Loaded) {
            apply_winners(record, &winners);
        }
        let still_loaded: Vec<&String> = self
            .records
            .iter()
            .filter(|record| record.state == State::Loaded)
            .map(|record| &record.id)
            .collect();
        self.running.retain(|id, _| still_loaded.contains(&id));
    }
}

fn apply_winners(record: &mut Record, winners: &BTreeMap<String, String>) {
    for format in &mut record.formats {
        let winner = winners.get(&format.id);
        format.active = winner == Some(&record.id);
        format.shadowed_by = winner.filter(|&winner| *winner != record.id).cloned();
    }
    if record.formats.iter().any(|format| format.active) {
        return;
    }
    let by: Vec<&str> = record.formats.iter().filter_map(|format| format.shadowed_by.as_deref()).collect();
    record.refuse(Refusal::new(
        State::DuplicateFormat,
        format!("all its formats are run by: {}", by.join(", ")),
        "pin a format to this plugin under [formats] in plugins.toml, or remove the other plugin",
    ));
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
        format!("set enabled = true under [plugin.{id}]"),
    )
}
