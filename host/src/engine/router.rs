//! Brings each event to the request that it belongs to, and counts what runs.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::mpsc::UnboundedSender;

use super::Stats;
use super::message::{Event, RequestId, Usage};
use crate::error::Error;

/// The open requests of one engine.
#[derive(Default)]
pub(super) struct Router {
    routes: Mutex<HashMap<RequestId, Route>>,
    running: AtomicUsize,
    waiting: AtomicUsize,
    cells: AtomicUsize,
    prompt_tokens: AtomicU64,
    cached_tokens: AtomicU64,
}

/// Where a request's events go. Its place in the queue is given back when it is dropped.
pub(super) struct Route {
    pub(super) events: UnboundedSender<Event>,
    pub(super) _admission: OwnedSemaphorePermit,
}

impl Router {
    pub(super) fn open(&self, id: RequestId, route: Route) {
        self.routes().insert(id, route);
    }

    pub(super) fn close(&self, id: RequestId) {
        self.routes().remove(&id);
    }

    /// Delivers; the last event of a request closes its route. Nobody there is no error: the client went away.
    pub(super) fn deliver(&self, id: RequestId, event: Event) {
        let last = matches!(event, Event::Finished { .. } | Event::Failed(_));
        let mut routes = self.routes();
        if let Some(route) = routes.get(&id) {
            let _ = route.events.send(event);
            if last {
                routes.remove(&id);
            }
        }
    }

    /// Ends every open request with this error.
    pub(super) fn fail_all(&self, error: &Error) {
        for (_, route) in self.routes().drain() {
            let _ = route.events.send(Event::Failed(error.clone()));
        }
    }

    pub(super) fn count(&self, running: usize, waiting: usize, cells: usize) {
        self.running.store(running, Ordering::Relaxed);
        self.waiting.store(waiting, Ordering::Relaxed);
        self.cells.store(cells, Ordering::Relaxed);
    }

    /// A prompt begins to be computed.
    pub(super) fn count_prompt(&self, usage: Usage) {
        self.prompt_tokens.fetch_add(usage.prompt_tokens.into(), Ordering::Relaxed);
        self.cached_tokens.fetch_add(usage.cached_tokens.into(), Ordering::Relaxed);
    }

    pub(super) fn stats(&self) -> Stats {
        Stats {
            running: self.running.load(Ordering::Relaxed),
            waiting: self.waiting.load(Ordering::Relaxed),
            cells: self.cells.load(Ordering::Relaxed),
            prompt_tokens: self.prompt_tokens.load(Ordering::Relaxed),
            cached_tokens: self.cached_tokens.load(Ordering::Relaxed),
        }
    }

    fn routes(&self) -> MutexGuard<'_, HashMap<RequestId, Route>> {
        // No code panics while it holds the lock half-way through a change.
        self.routes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
