//! Models on their way out: told to end, and still taking memory until their last request and their process have ended.

use std::sync::{Arc, MutexGuard, PoisonError, Weak};

use super::Models;
use super::life::Process;
use super::loaded::Resident;
use crate::events::ModelChange;
use crate::worker::Worker;

/// A model that was told to end.
pub(super) struct Leaving {
    pub(super) id: String,
    place: Place,
}

enum Place {
    Worker(Arc<Worker>),
    /// In this process it is gone when its last user is.
    Here(Weak<Resident>),
}

impl Leaving {
    pub(super) fn of(resident: &Arc<Resident>) -> Self {
        let here = || Place::Here(Arc::downgrade(resident));
        let place = resident.worker.as_ref().map_or_else(here, |worker| Place::Worker(Arc::clone(worker)));
        Leaving { id: resident.id.clone(), place }
    }

    pub(super) fn is_gone(&self) -> bool {
        match &self.place {
            Place::Worker(worker) => worker.is_gone(),
            Place::Here(resident) => resident.strong_count() == 0,
        }
    }

    pub(super) fn process(&self) -> Process {
        let worker = match &self.place {
            Place::Worker(worker) => Some(worker),
            Place::Here(_) => None,
        };
        Process {
            model: self.id.clone(),
            state: "leaving",
            isolation: isolation(worker),
            pid: worker.map_or_else(std::process::id, |worker| worker.pid()),
            memory_bytes: self.memory_bytes(),
            running: 0,
            waiting: 0,
            tokens_per_second: 0.0,
            idle_secs: None,
            keep_alive_secs: None,
            context_tokens: None,
            confinement: worker.map(|worker| worker.ready.confinement.clone()).unwrap_or_default(),
        }
    }

    /// In this process models cannot be told apart.
    pub(super) fn memory_bytes(&self) -> Option<u64> {
        match &self.place {
            Place::Worker(worker) => worker.memory_bytes(),
            Place::Here(resident) => resident.upgrade().map(|resident| resident.expected_bytes()),
        }
    }
}

impl Models {
    /// Those that were told to end and have not, or only just have.
    pub(super) fn leaving(&self) -> MutexGuard<'_, Vec<Leaving>> {
        self.leaving.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets those that have ended, and tells it.
    pub(super) fn forget_gone(&self) {
        let gone: Vec<Leaving> = self.leaving().extract_if(.., |leaving| leaving.is_gone()).collect();
        if !gone.is_empty() {
            crate::allocator::give_back();
        }
        // Where another one has taken its place, the model is not unloaded.
        let unloaded = gone.iter().filter(|leaving| self.slot(&leaving.id).is_empty());
        unloaded.for_each(|leaving| self.tell(&leaving.id, ModelChange::Unloaded, None));
    }
}

/// `process` or `none`, as plugins.toml has it.
pub(super) fn isolation(worker: Option<&Arc<Worker>>) -> &'static str {
    if worker.is_some() { "process" } else { "none" }
}
