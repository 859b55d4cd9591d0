//! Which model files exist, which plugin runs each, and what is loaded.

pub mod capability;
mod catalog;
mod entry;
mod loaded;
mod scan;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Mutex as AsyncMutex;

use self::catalog::Catalog;
pub use self::entry::{Entry, ModelState, Summary};
pub use self::loaded::Loaded;
use crate::config::Config;
use crate::engine;
use crate::error::{Error, Kind, Result};
use crate::events::{Change, ModelChange};
use crate::metrics::Metrics;
use crate::plugins::model::Model;
use crate::plugins::{Plugins, Spec};
use crate::worker::{Bounds, Task, Worker};

/// All models of a host.
pub struct Models {
    catalog: Catalog,
    plugins: Arc<Plugins>,
    settings: engine::Settings,
    bounds: Bounds,
    /// One slot for each model that was asked for; its lock is held while it loads, so that many callers share one load.
    slots: Mutex<HashMap<String, Arc<Slot>>>,
    metrics: Arc<Metrics>,
}

#[derive(Default)]
struct Slot {
    loaded: AsyncMutex<Option<Arc<Loaded>>>,
    /// The same, for those who only look and must not wait.
    state: Mutex<SlotState>,
}

#[derive(Default, Clone)]
enum SlotState {
    #[default]
    Empty,
    Loading,
    Loaded(Arc<Loaded>),
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
            settings: engine::Settings {
                max_sequences: engine.max_sequences,
                queue: engine.queue,
                step_tokens: engine.step_tokens,
                step_ms: engine.step_ms,
                kept_sequences: engine.kept_sequences,
                speculate: engine.speculate,
            },
            slots: Mutex::default(),
            metrics: Arc::default(),
        })
    }

    /// What is counted of them.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// Those in memory.
    pub fn loaded(&self) -> Vec<Arc<Loaded>> {
        let slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        slots.values().filter_map(|slot| slot.loaded()).collect()
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

    /// The model, loaded; loads it first where it is not. Many callers share one load, and a load goes on when the
    /// caller that began it goes away.
    ///
    /// # Errors
    /// [`Kind::ModelNotFound`], [`Kind::PluginUnavailable`], or what the load failed of.
    pub async fn open(self: &Arc<Self>, id: &str) -> Result<Arc<Loaded>> {
        let id = id.to_owned();
        let entry = self.look(move |models| models.find(&id)).await??;
        let models = Arc::clone(self);
        let opening = tokio::spawn(async move { models.open_entry(entry, Arc::new(|_| ())).await });
        opening.await.unwrap_or_else(|error| Err(bug("opening a model", &error)))
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

    /// The same for an entry, with news of the load.
    ///
    /// # Errors
    /// As [`Models::open`].
    pub async fn open_entry(&self, entry: Entry, progress: OnProgress) -> Result<Arc<Loaded>> {
        let (Some(plugin), Some(format), true) = (&entry.plugin, &entry.format, entry.is_servable()) else {
            return Err(entry.refusal());
        };
        let slot = self.slot(&entry.id);
        let mut loaded = slot.loaded.lock().await;
        let is_usable = |model: &&Arc<Loaded>| !model.engine.has_ended() && self.is_current(model);
        if let Some(model) = loaded.as_ref().filter(is_usable) {
            return Ok(Arc::clone(model));
        }
        *loaded = None;
        let _loading = Loading::mark(&slot);
        let model = self.load(&entry, plugin, format, progress).await?;
        slot.set(SlotState::Loaded(Arc::clone(&model)));
        *loaded = Some(Arc::clone(&model));
        Ok(model)
    }

    /// Lets go of the models whose plugin was replaced or removed: their running requests hold them to their end, and who
    /// comes next gets the new plugin, or the reason why there is none.
    pub fn let_go_of_replaced(&self) {
        let slots: Vec<Arc<Slot>> = {
            let slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
            slots.values().cloned().collect()
        };
        for slot in slots {
            // A slot whose lock is held is loading: whoever opens it next looks again.
            let Ok(mut loaded) = slot.loaded.try_lock() else { continue };
            if let Some(model) = loaded.take_if(|model| !self.is_current(model)) {
                tracing::info!(model = %model.id, plugin = %model.plugin.id, "its plugin was changed: it ends with its requests");
                slot.set(SlotState::Empty);
                let state = ModelChange::Draining;
                self.plugins.events().tell(Change::Model { id: model.id.clone(), state, reason: None });
            }
        }
    }

    /// Whether a model runs on the plugin that its format has now.
    fn is_current(&self, model: &Loaded) -> bool {
        self.plugins.spec(&model.plugin.id).is_some_and(|spec| spec.is_same_code(&model.plugin))
    }

    /// Loads a model into this process, without an engine. Blocks until it is loaded.
    ///
    /// # Errors
    /// [`Kind::PluginUnavailable`] when its plugin is not open here, and what the load fails of.
    pub fn load_here(&self, entry: &Entry, progress: OnProgress) -> Result<Arc<Model>> {
        let (Some(plugin), Some(format), true) = (&entry.plugin, &entry.format, entry.is_servable()) else {
            return Err(entry.refusal());
        };
        let library = self.plugins.library(plugin).ok_or_else(|| {
            Error::new(Kind::PluginUnavailable, format!("plugin `{plugin}` is not open in this process"))
        })?;
        let report = move |fraction| {
            progress(fraction);
            true
        };
        library.load_model(&entry.path, format, report).map_err(|error| describe(entry, error))
    }

    /// Finishes running requests within the limit, then ends their streams.
    pub async fn shutdown(&self, limit: Duration) {
        let ends: Vec<_> = self
            .loaded()
            .into_iter()
            .map(|model| tokio::spawn(async move { model.engine.shut_down(limit).await }))
            .collect();
        for end in ends {
            let _ = end.await;
        }
    }

    async fn load(
        &self,
        entry: &Entry,
        plugin: &str,
        format: &str,
        progress: OnProgress,
    ) -> Result<Arc<Loaded>> {
        let (id, path) = (entry.id.clone(), entry.path.clone());
        let (plugin, format) = (plugin.to_owned(), format.to_owned());
        let (plugins, settings, bounds) = (Arc::clone(&self.plugins), self.settings, self.bounds);
        let work = move || {
            let started = std::time::Instant::now();
            tracing::info!(model = %id, plugin = %plugin, "loading");
            let gone = || Error::new(Kind::PluginUnavailable, format!("plugin `{plugin}` is gone"));
            let spec = plugins.spec(&plugin).ok_or_else(gone)?;
            let loaded = match plugins.library(&plugin) {
                Some(library) => {
                    let report = move |fraction| {
                        progress(fraction);
                        true
                    };
                    let model = library.load_model(&path, &format, report)?;
                    Loaded::start(id, spec, model, settings)?
                }
                None => {
                    let bounds = Bounds { memory_bytes: spec.memory_bytes, ..bounds };
                    let task = Task { model: id.clone(), spec: Spec::clone(&spec), path, format, settings };
                    let worker = Worker::start(&task, bounds, |fraction| progress(fraction))?;
                    Loaded::in_worker(id, spec, worker, settings)?
                }
            };
            tracing::info!(model = %loaded.id, seconds = started.elapsed().as_secs_f32(), "loaded");
            Ok(Arc::new(loaded))
        };
        let result =
            tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(bug("the load", &error)));
        result.map_err(|error| {
            self.metrics.model_load_failed(&entry.id, error.kind);
            describe(entry, error)
        })
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

    /// Writes into an entry what is known of it here: whether it is loaded, and what it then can do.
    fn mark(&self, entry: &mut Entry) {
        let slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(slot) = slots.get(&entry.id).filter(|_| entry.is_servable()) else { return };
        match slot.state() {
            SlotState::Empty => {}
            SlotState::Loading => entry.state = ModelState::Loading,
            SlotState::Loaded(model) => {
                entry.state = ModelState::Loaded;
                entry.capabilities.clone_from(&model.capabilities);
            }
        }
    }
}

impl Slot {
    fn state(&self) -> SlotState {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, state: SlotState) {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = state;
    }

    fn loaded(&self) -> Option<Arc<Loaded>> {
        match self.state() {
            SlotState::Loaded(model) => Some(model),
            SlotState::Empty | SlotState::Loading => None,
        }
    }
}

/// Shows a slot as loading; if the load ends without success, or its caller goes away, as empty again.
struct Loading<'a>(&'a Slot);

impl<'a> Loading<'a> {
    fn mark(slot: &'a Slot) -> Self {
        slot.set(SlotState::Loading);
        Loading(slot)
    }
}

impl Drop for Loading<'_> {
    fn drop(&mut self) {
        if matches!(self.0.state(), SlotState::Loading) {
            self.0.set(SlotState::Empty);
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
