//! The only place that knows abi_stable and libloading: finds plugin libraries, loads those that are sound, and says
//! of every other one why not.
//!
//! discover → trust → inspect → trial (in a child) → formats → table. A refused plugin never stops the host. Tables are
//! replaced whole when the plugin folder or plugins.toml change (`watch`).

pub mod bencher;
mod copies;
mod discover;
pub mod embedder;
mod here;
mod inspect;
pub mod inspection;
mod library;
pub mod model;
mod needed;
mod open;
mod path;
mod pipeline;
pub mod prober;
mod record;
mod spec;
mod table;
pub mod trial;
mod trust;
mod verdicts;
pub mod watch;

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, Weak};
use std::time::{Duration, Instant};

use self::copies::Copies;
use self::discover::Candidate;
use self::inspection::Inspection;
pub use self::library::{Identity, Library};
use self::model::Probe;
use self::pipeline::Judged;
use self::prober::Prober;
pub use self::record::{FormatRecord, Record, Refusal, State};
pub use self::spec::Spec;
pub use self::table::ActiveFormat;
use self::table::Table;
use self::verdicts::Verdicts;
use crate::config::{Config, Isolation};
use crate::error::Result;
use crate::events::{Bus, Change};

/// The version of the contract that this host speaks.
pub const CONTRACT_VERSION: &str = impetus_plugin_api::API_VERSION;

/// Every plugin that was found, loaded or not.
pub struct Plugins {
    table: RwLock<Arc<Table>>,
    /// What another version has replaced while an engine runs it.
    superseded: Mutex<Vec<(Record, Weak<Spec>)>>,
    /// Ids of those that plugins.toml marks `required`.
    required: Mutex<Vec<String>>,
    verdicts: Arc<Verdicts>,
    /// Those whose verdict was not there yet when the table was made.
    late: Mutex<Vec<Spec>>,
    copies: Copies,
    /// The model folders: who asks plugins about models reads there.
    model_folders: Mutex<Vec<PathBuf>>,
    /// Libraries that are open in this process, by their path: they stay open, and no other file of that path can be
    /// opened.
    open_here: Mutex<HashMap<PathBuf, (Spec, Library)>>,
    /// Those that ask plugins in processes of their own, by id.
    probers: Mutex<HashMap<String, Arc<Prober>>>,
    bus: Bus,
    /// How often something was otherwise than before.
    generation: AtomicU64,
    /// Held while a table is made.
    turn: Mutex<()>,
}

/// What was done for nothing else but being known by its guard: a panic elsewhere does not make these values wrong.
fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Plugins {
    /// Takes every library through the pipeline, to the end of every trial.
    pub fn load(config: &Config) -> Arc<Plugins> {
        Plugins::load_within(config, 4 * trial::DEADLINE)
    }

    /// Takes every library through the pipeline. Those whose trial takes longer than this are not there yet: a later
    /// [`Plugins::refresh`] finds them.
    pub fn load_within(config: &Config, patience: Duration) -> Arc<Plugins> {
        let plugins = Plugins {
            table: RwLock::default(),
            superseded: Mutex::default(),
            required: Mutex::default(),
            verdicts: Arc::new(Verdicts::new(config.cache.clone())),
            late: Mutex::default(),
            copies: Copies::new(config.cache.as_deref()),
            model_folders: Mutex::default(),
            open_here: Mutex::default(),
            probers: Mutex::default(),
            bus: Bus::default(),
            generation: AtomicU64::new(0),
            turn: Mutex::default(),
        };
        plugins.refresh(config, &BTreeSet::new(), patience);
        for id in plugins.named_in_vain(config) {
            tracing::warn!("plugins.toml speaks of plugin `{id}`, but no library of that id was found");
        }
        Arc::new(plugins)
    }

    /// Takes every library through the pipeline again, those that did not change by what is remembered of them, and tells
    /// what is otherwise than before. What runs goes on running. Files that are still being written to are left out, or
    /// as they were; so are those whose trial takes longer than `patience`, for which this blocks.
    pub fn refresh(&self, config: &Config, unsettled: &BTreeSet<PathBuf>, patience: Duration) {
        let _turn = held(&self.turn);
        let older = self.table();
        let judge = |candidate: &Candidate| {
            if unsettled.contains(&candidate.path) {
                older.judged(&candidate.path)
            } else {
                Some(pipeline::judge(config, candidate))
            }
        };
        let mut judged: Vec<Judged> = discover::candidates(config).iter().filter_map(judge).collect();
        for judged in &mut judged {
            self.keep_what_is_open_here(judged, &older);
            if let Some(spec) = &mut judged.spec {
                spec.copy = self.copies.of(spec);
            }
        }
        self.model_folders_are(&config.models.folders);
        let judged = self.tried(judged, &older, Instant::now() + patience);
        let mut newer = Table::of(judged, &config.formats, |spec| self.try_out(spec));
        for (id, spec) in &mut newer.running {
            // Who holds the older one holds the same.
            if let Some(same) = older.running.get(id).filter(|older| ***older == **spec) {
                *spec = Arc::clone(same);
            }
        }
        held(&self.probers).retain(|id, _| newer.running.contains_key(id));
        self.remember_superseded(&older, &newer);
        *held(&self.required) = required(config);
        let changes = newer.changes_since(&older);
        *self.table.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(newer);
        if !changes.is_empty() {
            self.generation.fetch_add(1, Ordering::Release);
        }
        changes.into_iter().for_each(|change| self.tell(change));
        let records = self.records();
        self.copies.prune(|sha256| records.iter().any(|record| record.sha256.as_deref() == Some(sha256)));
    }

    /// Has everything tried, all at once, so that one that hangs holds up no other. What has no verdict by then stays as it
    /// was, and so does all that has its id.
    fn tried(&self, judged: Vec<Judged>, older: &Table, deadline: Instant) -> Vec<Judged> {
        let specs: Vec<Spec> = judged.iter().filter_map(|judged| judged.spec.clone()).collect();
        specs.iter().for_each(|spec| self.verdicts.begin(spec));
        let is_late = |spec: &Spec| !self.verdicts.is_known_by(spec, deadline);
        let late: Vec<Spec> = specs.into_iter().filter(is_late).collect();
        let stays = |judged: &Judged| late.iter().any(|late| late.id == judged.record.id);
        let now = judged.into_iter().filter_map(|judged| {
            if stays(&judged) { older.judged(&judged.record.path) } else { Some(judged) }
        });
        let now = now.collect();
        *held(&self.late) = late;
        now
    }

    /// Ids of those that are still being tried, so that nothing is said of them yet.
    pub fn late(&self) -> Vec<String> {
        held(&self.late).iter().map(|spec| spec.id.clone()).collect()
    }

    /// Whether one of these has come.
    pub fn has_late_verdict(&self) -> bool {
        held(&self.late).iter().any(|spec| self.verdicts.is_known_by(spec, Instant::now()))
    }

    /// One record for each library that was found, and for each replaced one that still runs.
    pub fn records(&self) -> Vec<Record> {
        let superseded = held(&self.superseded);
        let alive = superseded.iter().filter(|(_, spec)| spec.strong_count() > 0);
        let mut records = self.table().records.clone();
        records.extend(alive.map(|(record, _)| record.clone()));
        records
    }

    /// The formats that can be served now, by name.
    pub fn formats(&self) -> Vec<ActiveFormat> {
        self.table().formats()
    }

    /// Where changes of plugins are told.
    pub fn events(&self) -> &Bus {
        &self.bus
    }

    /// Where every plugin stands now, as if it had just come to be so.
    pub fn now(&self) -> Vec<Change> {
        self.table().changes_since(&Table::default())
    }

    /// Another number after each change: what was remembered of plugins' answers then no longer holds.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Plugins that plugins.toml marks `required` and that are not loaded: id and why.
    pub fn missing_required(&self) -> Vec<(String, String)> {
        let table = self.table();
        let why = |id: &String| {
            let record = table.records.iter().find(|record| record.id == *id);
            record.map_or("no such library was found".to_owned(), |record| record.state.to_string())
        };
        let required = held(&self.required);
        let missing = required.iter().filter(|id| !table.running.contains_key(*id));
        missing.map(|id| (id.clone(), why(id))).collect()
    }

    /// Whether plugins.toml marks any plugin `required`.
    pub fn requires_any(&self) -> bool {
        !held(&self.required).is_empty()
    }

    /// Whether plugins.toml marks this one `required`.
    pub fn is_required(&self, plugin: &str) -> bool {
        held(&self.required).iter().any(|id| id == plugin)
    }

    /// Ids that plugins.toml speaks of and no library has.
    pub fn named_in_vain(&self, config: &Config) -> Vec<String> {
        let (table, late) = (self.table(), self.late());
        let found = |id: &String| late.contains(id) || table.records.iter().any(|record| record.id == *id);
        let named = config.plugin.iter().filter(|(id, entry)| entry.enabled && !found(id));
        named.map(|(id, _)| id.clone()).collect()
    }

    /// Takes one library through the whole pipeline, with a trial of its own whatever is remembered. Loads nothing.
    pub fn check(config: &Config, library: &Path) -> Record {
        pipeline::check(config, library, &Verdicts::new(config.cache.clone()))
    }

    /// Judges every library by its file alone: none of their code runs, and none is loaded.
    pub fn look(config: &Config) -> Vec<Record> {
        let candidates = discover::candidates(config);
        candidates.iter().map(|candidate| pipeline::judge(config, candidate).record).collect()
    }

    /// SHA-256 of a file's content, as records and plugins.toml have it.
    ///
    /// # Errors
    /// What the system says.
    pub fn sha256(file: &Path) -> std::io::Result<String> {
        trust::sha256_of(&mut std::fs::File::open(file)?)
    }

    /// How to open one plugin. `None` when no plugin of this id runs. Whoever runs it keeps this, so that it is known
    /// that it still runs when another version has taken its place.
    pub fn spec(&self, plugin: &str) -> Option<Arc<Spec>> {
        self.table().running.get(plugin).cloned()
    }

    /// How to open each plugin that runs, by id.
    pub fn running(&self) -> Vec<Arc<Spec>> {
        self.table().running.values().cloned().collect()
    }

    /// Asks one plugin about a file or folder. `None` when no plugin of this id runs.
    pub fn probe(&self, plugin: &str, path: &Path, is_dir: bool) -> Option<Result<Probe>> {
        let spec = self.spec(plugin)?;
        Some(match self.library(plugin) {
            Some(library) => library.probe(path, is_dir),
            None => self.prober(&spec).probe(path, is_dir),
        })
    }

    /// Asks one plugin for all that a model's headers say. `None` when no plugin of this id runs, or it does not offer to
    /// tell.
    ///
    /// # Errors
    /// What the plugin refuses.
    pub fn inspect(&self, plugin: &str, path: &Path, is_dir: bool) -> Result<Option<Inspection>> {
        let Some(spec) = self.spec(plugin) else { return Ok(None) };
        match self.library(plugin) {
            Some(library) => library.inspect(path, is_dir),
            None => self.prober(&spec).inspect(path, is_dir),
        }
    }

    /// A plugin that is open in this process. `None` when none of this id is.
    pub fn library(&self, plugin: &str) -> Option<Library> {
        let spec = self.spec(plugin).filter(|spec| spec.isolation == Isolation::None)?;
        held(&self.open_here).get(&spec.path).map(|(_, library)| *library)
    }

    /// Who asks a plugin's code in a process of its own.
    fn prober(&self, spec: &Arc<Spec>) -> Arc<Prober> {
        let mut probers = held(&self.probers);
        if let Some(prober) = probers.get(&spec.id).filter(|prober| prober.spec() == &**spec) {
            return Arc::clone(prober);
        }
        let prober = Arc::new(Prober::new(Spec::clone(spec), held(&self.model_folders).clone()));
        probers.insert(spec.id.clone(), Arc::clone(&prober));
        prober
    }

    fn model_folders_are(&self, folders: &[PathBuf]) {
        let mut known = held(&self.model_folders);
        if *known != folders {
            folders.clone_into(&mut known);
            held(&self.probers).clear();
        }
    }

    fn table(&self) -> Arc<Table> {
        Arc::clone(&self.table.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn remember_superseded(&self, older: &Table, newer: &Table) {
        let mut superseded = held(&self.superseded);
        for (id, spec) in &older.running {
            let stays = newer.running.get(id).is_some_and(|newer| newer.is_same_code(spec));
            let record =
                older.records.iter().find(|record| record.id == *id && record.state == State::Loaded);
            if let Some(record) = record.filter(|_| !stays) {
                let mut record = Record { superseded: true, ..record.clone() };
                record.formats.iter_mut().for_each(|format| format.active = false);
                superseded.push((record, Arc::downgrade(spec)));
            }
        }
    }

    /// Forgets replaced plugins that nothing runs any more, and tells it.
    pub fn forget_ended(&self) {
        let mut ended = Vec::new();
        held(&self.superseded).retain(|(record, spec)| {
            let runs = spec.strong_count() > 0;
            if !runs {
                ended.push(table::removed(record));
            }
            runs
        });
        ended.into_iter().for_each(|change| self.bus.tell(change));
    }

    fn tell(&self, change: Change) {
        if let Change::Plugin { id, state, reason, .. } = &change {
            match reason {
                None => tracing::info!(plugin = %id, "{state}"),
                Some(reason) => tracing::warn!(plugin = %id, %state, "{reason}"),
            }
        }
        if let Change::ConfigurationRefused { reason } = &change {
            tracing::error!("plugins.toml is not as it should be, and what it said before holds: {reason}");
        }
        self.bus.tell(change);
    }
}

fn required(config: &Config) -> Vec<String> {
    config.plugin.iter().filter(|(_, entry)| entry.required).map(|(id, _)| id.clone()).collect()
}
