//! Which model files exist, which plugin runs each, and what is loaded.

pub mod capability;
mod catalog;
mod disk;
mod entry;
mod history;
mod leaving;
mod life;
mod loaded;
mod memory;
mod opening;
mod scan;
mod slot;
pub mod uploads;

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use self::catalog::Catalog;
pub use self::entry::{Entry, ModelState, Summary};
use self::leaving::Leaving;
pub use self::life::{Left, Process};
use self::loaded::NO_OPTIONS;
pub use self::loaded::{KeepAlive, Loaded, Resident};
use self::memory::Memory;
pub use self::memory::{Fit, Verdict};
pub use self::slot::Down;
use self::slot::{Slot, SlotState};
use crate::config::{Config, ModelEntry};
use crate::engine;
use crate::error::{Error, Kind, Result};
use crate::events::{Change, ModelChange};
use crate::metrics::Metrics;
use crate::plugins::Plugins;
use crate::worker::Bounds;

/// All models of a host.
pub struct Models {
    catalog: Catalog,
    plugins: Arc<Plugins>,
    settings: engine::Settings,
    bounds: Bounds,
    keep_alive: KeepAlive,
    max_crashes: u32,
    memory: Mutex<Memory>,
    /// What plugins.toml says about single models, by id.
    told: Mutex<BTreeMap<String, ModelEntry>>,
    /// One slot for each model that was asked for.
    slots: Mutex<HashMap<String, Arc<Slot>>>,
    /// Models that were told to end and have not.
    leaving: Mutex<Vec<Leaving>>,
    metrics: Arc<Metrics>,
}

/// Hears how far a load is, from 0 to 1.
pub type OnProgress = Arc<dyn Fn(f32) + Send + Sync>;

impl Models {
    /// The models under the configured folders, run by these plugins.
    pub fn new(plugins: Arc<Plugins>, config: &Config) -> Arc<Models> {
        let engine = config.engine;
        Arc::new(Models {
            catalog: Catalog::new(Arc::clone(&plugins), config.models.folders.clone()),
            plugins,
            bounds: Bounds { silence: Duration::from_secs(config.plugins.hang_secs), memory_bytes: 0 },
            keep_alive: match config.models.keep_alive_secs {
                0 => KeepAlive::Forever,
                seconds => KeepAlive::For(Duration::from_secs(seconds)),
            },
            max_crashes: config.plugins.max_crashes,
            memory: Mutex::new(Memory::new(config.models.memory_bytes)),
            told: Mutex::new(config.model.clone()),
            settings: engine::Settings {
                max_sequences: engine.max_sequences,
                queue: engine.queue,
                step_tokens: engine.step_tokens,
                step_ms: engine.step_ms,
                kept_sequences: engine.kept_sequences,
                speculate: engine.speculate,
            },
            slots: Mutex::default(),
            leaving: Mutex::default(),
            metrics: Arc::default(),
        })
    }

    /// From now on what this configuration says about single models holds for their loads.
    pub fn configure(&self, config: &Config) {
        *self.told.lock().unwrap_or_else(PoisonError::into_inner) = config.model.clone();
    }

    /// What a plugin is told of this model alone, a JSON object.
    fn options_of(&self, id: &str) -> String {
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let options = told.get(id).and_then(|entry| serde_json::to_string(&entry.options).ok());
        options.unwrap_or_else(|| NO_OPTIONS.to_owned())
    }

    /// What is counted of them.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// Those in memory.
    pub fn loaded(&self) -> Vec<Arc<Resident>> {
        self.slots().into_iter().filter_map(|(_, slot)| slot.resident()).collect()
    }

    /// Models whose engine crashed and does not run again yet, by id. Those whose files or plugins are gone are none of
    /// them.
    pub fn down(&self) -> Vec<(String, Down)> {
        let down = self.slots().into_iter().filter_map(|(id, slot)| Some((id, slot.inner().down.clone()?)));
        let down: Vec<(String, Down)> = down.collect();
        if down.is_empty() {
            return down;
        }
        let there = self.list();
        let runs = |id: &str| there.iter().any(|entry| entry.id == id && entry.plugin.is_some());
        down.into_iter().filter(|(id, _)| runs(id)).collect()
    }

    /// Everything that was found, by id; what cannot be served says why.
    pub fn list(&self) -> Vec<Entry> {
        let mut entries = self.catalog.entries();
        entries.iter_mut().for_each(|entry| self.mark(entry));
        entries
    }

    /// What can be served now.
    pub fn servable(&self) -> Vec<Entry> {
        self.list().into_iter().filter(Entry::is_servable).collect()
    }

    /// One model by its id; the file's ending may stand behind it.
    ///
    /// # Errors
    /// [`Kind::ModelNotFound`] with what there is.
    pub fn find(&self, id: &str) -> Result<Entry> {
        let entries = self.list();
        let by_id = entries.iter().find(|entry| entry.id == id);
        let by_file = || entries.iter().find(|entry| entry.is_named(id));
        by_id.or_else(by_file).cloned().ok_or_else(|| self.not_found(id, &entries))
    }

    /// What the plugins say about any file or folder.
    ///
    /// # Errors
    /// [`Kind::ModelNotFound`] when there is no such file.
    pub fn inspect(&self, path: &Path) -> Result<Entry> {
        let absolute = std::path::absolute(path).ok().filter(|path| path.exists()).ok_or_else(|| {
            Error::new(Kind::ModelNotFound, format!("there is no file or folder {}", path.display()))
        })?;
        let mut entry = self.catalog.entry_of(&absolute);
        self.mark(&mut entry);
        Ok(entry)
    }

    /// Looks through the models, which may lie on a slow disk, where it holds up nobody's events.
    ///
    /// # Errors
    /// [`Kind::Internal`] when `look` panicked.
    pub async fn look<T: Send + 'static>(
        self: &Arc<Self>,
        look: impl FnOnce(&Models) -> T + Send + 'static,
    ) -> Result<T> {
        let models = Arc::clone(self);
        let looked = tokio::task::spawn_blocking(move || look(&models)).await;
        looked.map_err(|error| bug("looking through the models", &error))
    }

    fn not_found(&self, id: &str, entries: &[Entry]) -> Error {
        let servable: Vec<&str> =
            entries.iter().filter(|entry| entry.is_servable()).map(|entry| entry.id.as_str()).collect();
        let there_is = if !servable.is_empty() {
            format!("there is: {}", servable.join(", "))
        } else if self.plugins.formats().is_empty() {
            "no plugin is loaded, so that nothing can be served: see `impetus plugins`".to_owned()
        } else {
            "no model can be served now: put a model file into a model folder, see `impetus models`"
                .to_owned()
        };
        let message = format!("no model `{id}`; {there_is}");
        Error { param: Some("model".to_owned()), ..Error::new(Kind::ModelNotFound, message) }
    }

    fn slot(&self, id: &str) -> Arc<Slot> {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(slots.entry(id.to_owned()).or_default())
    }

    /// Tells whoever listens what became of a model.
    fn tell(&self, id: &str, state: ModelChange, reason: Option<String>) {
        self.plugins.events().tell(Change::Model { id: id.to_owned(), state, reason });
    }

    fn slots(&self) -> Vec<(String, Arc<Slot>)> {
        let slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        slots.iter().map(|(id, slot)| (id.clone(), Arc::clone(slot))).collect()
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes into an entry what is known of it here: whether it is loaded, and what it then can do.
    fn mark(&self, entry: &mut Entry) {
        let slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(slot) = slots.get(&entry.id).filter(|_| entry.is_servable()) else { return };
        let inner = slot.inner();
        match &inner.state {
            SlotState::Empty => {
                if let Some(stopped) = inner.history.stopped() {
                    entry.state = ModelState::Crashed;
                    entry.reason = Some(stopped.message.clone());
                    entry.detail.clone_from(&stopped.detail);
                }
            }
            SlotState::Loading => entry.state = ModelState::Loading,
            SlotState::Loaded(model) => {
                entry.state = ModelState::Loaded;
                entry.capabilities.clone_from(&model.capabilities);
            }
        }
    }
}

fn bug(what: &str, error: &tokio::task::JoinError) -> Error {
    Error::new(Kind::Internal, format!("{what} panicked, which is a bug: {error}"))
}

/// Puts before a load's error which model it was, of which format, and which plugin said so.
fn describe(entry: &Entry, error: Error) -> Error {
    let plugin = entry.plugin.as_deref().unwrap_or("?");
    let architecture = entry.summary.architecture.as_deref().unwrap_or("unknown architecture");
    let quantization = entry.summary.quantization.as_deref().unwrap_or("unknown quantisation");
    let message = format!(
        "model `{}` ({architecture}, {quantization}, plugin {plugin}) failed to load: {}",
        entry.id, error.message
    );
    tracing::error!(model = %entry.id, detail = error.detail.as_deref().unwrap_or(""), "{message}");
    Error { message, ..error }
}

/// The path of a file as far as answers to clients may show it.
fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Where something was found, and where it lies below that.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Found {
    id: String,
    path: PathBuf,
}
