//! From a model's id to its running engine: one load for all who ask, room made for it, and a new engine after a crash.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::history::Next;
use super::loaded::{Loaded, Resident};
use super::memory::{Fit, Verdict};
use super::slot::{Loading, Slot};
use super::{Entry, Models, OnProgress, bug, describe};
use crate::error::{Error, Kind, Result};
use crate::events::{Change, ModelChange};
use crate::plugins::Spec;
use crate::plugins::model::Model;
use crate::worker::{Bounds, Task, Worker};

/// How often room is made for one load: what was free may be taken by another.
const TRIES: usize = 8;

/// When those that are busy may be idle.
const BUSY_RETRY_SECS: u16 = 5;

impl Models {
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

    /// The same for an entry, with news of the load.
    ///
    /// # Errors
    /// As [`Models::open`].
    pub async fn open_entry(self: &Arc<Self>, entry: Entry, progress: OnProgress) -> Result<Arc<Loaded>> {
        let (Some(plugin), Some(format), true) = (&entry.plugin, &entry.format, entry.is_servable()) else {
            return Err(entry.refusal());
        };
        let slot = self.slot(&entry.id);
        self.let_go_if_replaced(&slot);
        if let Some(loaded) = slot.lease() {
            return Ok(loaded);
        }
        let loads = slot.loads();
        let _gate = slot.gate.lock().await;
        if let Some(loaded) = slot.lease() {
            return Ok(loaded);
        }
        if let Some(error) = slot.failure_since(loads) {
            return Err(error);
        }
        if let Some(resident) = slot.resident() {
            self.note_crash(&entry, &slot, &resident);
        }
        slot.check()?;
        let _loading = Loading::mark(&slot);
        let reserved = self.make_room(&entry).await.inspect_err(|error| slot.not_begun(error))?;
        self.tell(&entry.id, ModelChange::Loading { progress: 0.0 }, None);
        let loaded = self.load(&entry, (plugin, format), &slot, progress).await;
        match loaded {
            Ok(resident) => {
                resident.expect_bytes(reserved.bytes);
                resident.keep(slot.kept_before_crash().unwrap_or(self.keep_alive));
                let loaded = slot.fill(&resident);
                self.tell(&entry.id, ModelChange::Loaded, None);
                self.watch_over(entry, slot.clone(), &resident);
                Ok(loaded)
            }
            Err(error) => {
                let change = match slot.load_failed(&error, self.max_crashes) {
                    Next::Again(pause) => ModelChange::Failed { retry_after_secs: pause.as_secs() },
                    Next::Stop => ModelChange::Stopped,
                };
                self.tell(&entry.id, change, Some(error.message.clone()));
                Err(error)
            }
        }
    }

    /// Whether the plugin of a model is open in this process.
    pub fn is_open_here(&self, entry: &Entry) -> bool {
        entry.plugin.as_deref().is_some_and(|plugin| self.plugins.library(plugin).is_some())
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
        let options = self.options_of(&entry.id);
        let loaded = library.load_model(&entry.path, (format, &options), always(progress));
        loaded.map_err(|error| describe(entry, error))
    }

    async fn load(
        &self,
        entry: &Entry,
        (plugin, format): (&str, &str),
        slot: &Slot,
        progress: OnProgress,
    ) -> Result<Arc<Resident>> {
        let (id, path) = (entry.id.clone(), entry.path.clone());
        let (plugin, format) = (plugin.to_owned(), format.to_owned());
        let (plugins, settings, bounds) = (Arc::clone(&self.plugins), self.settings, self.bounds);
        let options = self.options_of(&id);
        let suspects = Arc::clone(&slot.suspects);
        let progress = self.with_events(&id, progress);
        let work = move || {
            let started = Instant::now();
            tracing::info!(model = %id, plugin = %plugin, "loading");
            let gone = || Error::new(Kind::PluginUnavailable, format!("plugin `{plugin}` is gone"));
            let spec = plugins.spec(&plugin).ok_or_else(gone)?;
            let loaded_with = options.clone();
            let mut resident = match plugins.library(&plugin) {
                Some(library) => {
                    let model = library.load_model(&path, (&format, &options), always(progress))?;
                    Resident::start(id, spec, model, settings)?
                }
                None => {
                    let bounds = Bounds { memory_bytes: spec.memory_bytes, ..bounds };
                    let (model, spec_sent) = (id.clone(), Spec::clone(&spec));
                    let task = Task { model, spec: spec_sent, path, format, options, settings };
                    let worker = Worker::start(&task, bounds, suspects, |fraction| progress(fraction))?;
                    Resident::in_worker(id, spec, worker, settings)?
                }
            };
            resident.options = loaded_with;
            let (pid, confinement) = match &resident.worker {
                Some(worker) => (worker.pid(), worker.ready.confinement.join(", ")),
                None => (std::process::id(), "none: it runs in the server's own process".to_owned()),
            };
            let seconds = started.elapsed().as_secs_f32();
            tracing::info!(model = %resident.id, seconds, pid, confinement, "loaded");
            Ok(Arc::new(resident))
        };
        let result =
            tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(bug("the load", &error)));
        result.map_err(|error| {
            self.metrics.model_load_failed(&entry.id, error.kind);
            describe(entry, error)
        })
    }

    /// Tells whoever listens how far a load is, too.
    fn with_events(&self, id: &str, progress: OnProgress) -> OnProgress {
        let (events, id) = (self.plugins.events().clone(), id.to_owned());
        Arc::new(move |fraction| {
            let state = ModelChange::Loading { progress: fraction };
            events.tell(Change::Model { id: id.clone(), state, reason: None });
            progress(fraction);
        })
    }

    /// Why a model that is not loaded is not tried now, and for how long.
    pub fn cooling(&self, entry: &Entry) -> Option<Error> {
        let (_, slot) = self.slots().into_iter().find(|(id, _)| *id == entry.id)?;
        slot.check().err().filter(|_| slot.is_empty())
    }

    /// What loading a model would mean for memory.
    pub fn fit(&self, entry: &Entry) -> Fit {
        let taken = self.taken();
        self.memory().fit(entry, &taken)
    }

    /// Keeps room for a model; unloads what nobody uses, least recently used first, where there is none.
    async fn make_room(self: &Arc<Self>, entry: &Entry) -> Result<Reserved> {
        for _ in 0..TRIES {
            let taken = self.taken();
            let fit = {
                let mut memory = self.memory();
                let fit = memory.fit(entry, &taken);
                if fit.verdict == Verdict::Fits {
                    memory.reserve(&entry.id, fit.needed_bytes);
                    return Ok(Reserved {
                        models: Arc::clone(self),
                        id: entry.id.clone(),
                        bytes: fit.needed_bytes,
                    });
                }
                fit
            };
            match fit.verdict {
                Verdict::TooLarge | Verdict::OthersAreBusy => return Err(no_room(entry, &fit)),
                Verdict::Fits | Verdict::FitsAfterUnloading => {}
            }
            for id in &fit.would_unload {
                self.evict(id, &entry.id).await;
            }
        }
        Err(Error {
            retry_after_secs: Some(BUSY_RETRY_SECS),
            ..Error::new(Kind::InsufficientMemory, format!("no room could be made for model `{}`", entry.id))
        })
    }

    /// Starts a new engine when one crashes, unless that happened too often.
    fn watch_over(self: &Arc<Self>, entry: Entry, slot: Arc<Slot>, resident: &Arc<Resident>) {
        let (models, ended) = (Arc::clone(self), resident.engine.until_ended());
        let resident = Arc::downgrade(resident);
        tokio::spawn(async move {
            ended.await;
            // One that was unloaded is gone.
            if let Some(resident) = resident.upgrade() {
                models.note_crash(&entry, &slot, &resident);
            }
        });
    }

    /// If an engine has crashed: writes that down, tells it and starts another one, once, whoever notices it first.
    fn note_crash(self: &Arc<Self>, entry: &Entry, slot: &Arc<Slot>, resident: &Arc<Resident>) {
        let Some((next, error)) = slot.note_crash(resident, self.max_crashes) else { return };
        self.tell(&entry.id, ModelChange::Crashed, Some(error.message.clone()));
        match next {
            Next::Stop => {
                self.tell(&entry.id, ModelChange::Stopped, None);
                let detail = error.detail.as_deref().unwrap_or_default();
                tracing::error!(model = %entry.id, detail, "it crashed too often and is not started again: {error}");
            }
            Next::Again(pause) => {
                self.tell(&entry.id, ModelChange::Restarting { after_secs: pause.as_secs() }, None);
                self.metrics.engine_restarted(&entry.id, reason(&error));
                self.restart(entry.clone(), Arc::clone(slot), pause);
            }
        }
    }

    fn restart(self: &Arc<Self>, entry: Entry, slot: Arc<Slot>, pause: Duration) {
        let models = Arc::clone(self);
        tracing::warn!(model = %entry.id, pause_secs = pause.as_secs(), "its engine is started again");
        tokio::spawn(async move {
            tokio::time::sleep(pause).await;
            // Somebody unloaded or deleted it in the meantime, or has loaded it already.
            if !slot.is_down() {
                return;
            }
            if let Err(error) = models.open_entry(entry.clone(), Arc::new(|_| ())).await {
                tracing::error!(model = %entry.id, "its engine could not be started again: {error}");
            }
        });
    }
}

/// Room that is kept while a model is loaded.
struct Reserved {
    models: Arc<Models>,
    id: String,
    bytes: u64,
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.models.memory().release(&self.id);
    }
}

/// Why an engine is started again, as the metrics have it.
fn reason(error: &Error) -> &'static str {
    if error.message.contains(" hung") { "hang" } else { "crash" }
}

fn always(progress: OnProgress) -> impl Fn(f32) -> bool + Send + Sync + 'static {
    move |fraction| {
        progress(fraction);
        true
    }
}

/// The figures to someone whose model has no room.
fn no_room(entry: &Entry, fit: &Fit) -> Error {
    let gib = |bytes: u64| format!("{:.2} GiB", bytes as f64 / f64::from(1 << 30));
    let needs = format!("model `{}` needs about {} ({})", entry.id, gib(fit.needed_bytes), fit.known_from);
    let budget = fit.budget_bytes.map(gib).unwrap_or_default();
    match fit.verdict {
        Verdict::TooLarge => Error::new(
            Kind::ModelTooLarge,
            format!(
                "{needs}, and all models together may take {budget}: take a smaller one, or set memory_bytes of \
                 [models] in plugins.toml"
            ),
        ),
        Verdict::Fits | Verdict::FitsAfterUnloading | Verdict::OthersAreBusy => Error {
            retry_after_secs: Some(BUSY_RETRY_SECS),
            ..Error::new(
                Kind::InsufficientMemory,
                format!(
                    "{needs}; of the {budget} that models may take, {} are taken, and who has them is busy",
                    gib(fit.used_bytes)
                ),
            )
        },
    }
}
