//! One model's place: empty, being loaded, or with the model in it; and what happened there before.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::Mutex as AsyncMutex;

use super::history::{History, Next};
use super::loaded::{KeepAlive, Loaded, Resident};
use crate::engine::Suspects;
use crate::error::{Error, Result};

#[derive(Default)]
pub(super) struct Slot {
    /// Held while the model is loaded, so that many callers share one load.
    pub(super) gate: AsyncMutex<()>,
    inner: Mutex<Inner>,
    pub(super) suspects: Arc<Suspects>,
}

#[derive(Default)]
pub(super) struct Inner {
    pub(super) state: SlotState,
    pub(super) history: History,
    /// Loads that came to an end, and what the last one failed of.
    loads: u64,
    failure: Option<Error>,
    /// Its engine crashed and does not run again yet.
    pub(super) down: Option<Down>,
}

/// An engine that should run and does not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Down {
    /// The plugin that it ran on.
    pub plugin: String,
    /// How it ended.
    pub reason: String,
    /// How long somebody wanted it to stay.
    pub(super) keep_alive: KeepAlive,
}

#[derive(Default, Clone)]
pub(super) enum SlotState {
    #[default]
    Empty,
    Loading,
    Loaded(Arc<Resident>),
}

impl Slot {
    pub(super) fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The model that is here, engine running or not.
    pub(super) fn resident(&self) -> Option<Arc<Resident>> {
        match &self.inner().state {
            SlotState::Loaded(resident) => Some(Arc::clone(resident)),
            SlotState::Empty | SlotState::Loading => None,
        }
    }

    /// The model for one more user, if it is here and its engine runs.
    pub(super) fn lease(&self) -> Option<Arc<Loaded>> {
        match &self.inner().state {
            SlotState::Loaded(resident) if !resident.engine.has_ended() => Some(Loaded::of(resident)),
            SlotState::Loaded(_) | SlotState::Empty | SlotState::Loading => None,
        }
    }

    /// Whether the model is neither here nor on its way.
    pub(super) fn is_empty(&self) -> bool {
        matches!(self.inner().state, SlotState::Empty)
    }

    /// How many loads have ended.
    pub(super) fn loads(&self) -> u64 {
        self.inner().loads
    }

    /// What a load failed of that ended after so many.
    pub(super) fn failure_since(&self, loads: u64) -> Option<Error> {
        let inner = self.inner();
        inner.failure.clone().filter(|_| inner.loads > loads)
    }

    /// The model is here now.
    pub(super) fn fill(&self, resident: &Arc<Resident>) -> Arc<Loaded> {
        let mut inner = self.inner();
        inner.state = SlotState::Loaded(Arc::clone(resident));
        inner.loads += 1;
        inner.failure = None;
        inner.down = None;
        inner.history.loaded();
        Loaded::of(resident)
    }

    /// There was no room to begin a load. It may be tried at once.
    pub(super) fn not_begun(&self, error: &Error) {
        let mut inner = self.inner();
        inner.loads += 1;
        inner.failure = Some(error.clone());
    }

    /// A load failed; what is to be done then, after at most so many crashes.
    pub(super) fn load_failed(&self, error: &Error, most: u32) -> Next {
        self.not_begun(error);
        self.inner().history.load_failed(Instant::now(), error, most)
    }

    /// Forgets failures and crashes: somebody wants it tried again.
    pub(super) fn forgive(&self) {
        self.inner().history = History::default();
    }

    /// Nobody wants it to run any more.
    pub(super) fn give_up(&self) {
        self.inner().down = None;
    }

    /// Whether its engine crashed, does not run again yet, and somebody wants it to.
    pub(super) fn is_down(&self) -> bool {
        self.inner().down.is_some()
    }

    /// How long the one before it was to stay, if that crashed: who asked for it knows nothing of a crash.
    pub(super) fn kept_before_crash(&self) -> Option<KeepAlive> {
        self.inner().down.as_ref().map(|down| down.keep_alive)
    }

    /// Takes the model out if `may` says so of it.
    pub(super) fn take_if(&self, may: impl FnOnce(&Resident) -> bool) -> Option<Arc<Resident>> {
        let mut inner = self.inner();
        match &inner.state {
            SlotState::Loaded(resident) if may(resident) => {
                let resident = Arc::clone(resident);
                inner.state = SlotState::Empty;
                Some(resident)
            }
            SlotState::Loaded(_) | SlotState::Empty | SlotState::Loading => None,
        }
    }

    /// Writes down that an engine crashed, once; what is to be done then.
    pub(super) fn note_crash(&self, resident: &Arc<Resident>, most: u32) -> Option<(Next, Error)> {
        let error = resident.engine.has_crashed()?;
        let mut inner = self.inner();
        if !resident.note_crash() {
            return None;
        }
        if matches!(&inner.state, SlotState::Loaded(here) if Arc::ptr_eq(here, resident)) {
            inner.state = SlotState::Empty;
        }
        inner.down = Some(Down {
            plugin: resident.plugin.id.clone(),
            reason: error.message.clone(),
            keep_alive: resident.keep_alive(),
        });
        let worked = resident.engine.generated_tokens() > 0;
        let next = inner.history.crashed(Instant::now(), &error, worked, most);
        Some((next, error))
    }

    /// Whether it may be loaded now.
    ///
    /// # Errors
    /// Why not.
    pub(super) fn check(&self) -> Result<()> {
        self.inner().history.check(Instant::now())
    }
}

/// Shows a slot as loading; if the load ends without success, or its caller goes away, as empty again.
pub(super) struct Loading<'a>(&'a Slot);

impl<'a> Loading<'a> {
    pub(super) fn mark(slot: &'a Slot) -> Self {
        slot.inner().state = SlotState::Loading;
        Loading(slot)
    }
}

impl Drop for Loading<'_> {
    fn drop(&mut self) {
        let mut inner = self.0.inner();
        if matches!(inner.state, SlotState::Loading) {
            inner.state = SlotState::Empty;
        }
    }
}
