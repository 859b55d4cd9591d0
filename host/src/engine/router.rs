//! Brings each event to the request that it belongs to, and counts what runs.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::mpsc::UnboundedSender;

use super::Stats;
use super::message::{Event, RequestId, Usage};
use crate::error::Error;

/// The open requests of one engine.
#[derive(Default)]
pub(super) struct Router {
    routes: Mutex<Routes>,
    running: AtomicUsize,
    waiting: AtomicUsize,
    cells: AtomicUsize,
    prompt_tokens: AtomicU64,
    cached_tokens: AtomicU64,
}

#[derive(Default)]
struct Routes {
    open: HashMap<RequestId, Route>,
    ends: Ends,
}

/// How often requests end.
#[derive(Debug, Default)]
struct Ends {
    last: Option<Instant>,
    /// The moving average of the time from one end to the next.
    interval: Option<Duration>,
}

/// Where a request's events go. Its place in the queue is given back when it is dropped.
pub(super) struct Route {
    pub(super) events: UnboundedSender<Event>,
    pub(super) _admission: OwnedSemaphorePermit,
}

impl Router {
    pub(super) fn open(&self, id: RequestId, route: Route) {
        self.routes().open.insert(id, route);
    }

    pub(super) fn close(&self, id: RequestId) {
        self.routes().open.remove(&id);
    }

    /// How long it may take until the next request ends, by those that ended before.
    pub(super) fn until_next_end(&self) -> Option<Duration> {
        self.routes().ends.interval
    }

    /// Delivers; the last event of a request closes its route. Nobody there is no error: the client went away.
    pub(super) fn deliver(&self, id: RequestId, event: Event) {
        let last = matches!(event, Event::Finished { .. } | Event::Failed(_));
        let mut routes = self.routes();
        if let Some(route) = routes.open.get(&id) {
            let _ = route.events.send(event);
            if last {
                routes.open.remove(&id);
                let others_are_open = !routes.open.is_empty();
                routes.ends.count(Instant::now(), others_are_open);
            }
        }
    }

    /// Ends every open request with this error.
    pub(super) fn fail_all(&self, error: &Error) {
        for (_, route) in self.routes().open.drain() {
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

    fn routes(&self) -> MutexGuard<'_, Routes> {
        // No code panics while it holds the lock half-way through a change.
        self.routes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ends {
    /// A request ended; where none is left, the time until the next one ends says nothing.
    fn count(&mut self, now: Instant, others_are_open: bool) {
        let last = std::mem::replace(&mut self.last, others_are_open.then_some(now));
        if let Some(last) = last {
            let seen = now.saturating_duration_since(last);
            self.interval =
                Some(self.interval.map_or(seen, |before| before.mul_f64(0.8) + seen.mul_f64(0.2)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_follows_the_ends() {
        let (start, mut ends) = (Instant::now(), Ends::default());
        ends.count(start, true);
        assert_eq!(ends.interval, None);
        ends.count(start + Duration::from_secs(10), true);
        assert_eq!(ends.interval, Some(Duration::from_secs(10)));
        ends.count(start + Duration::from_secs(15), false);
        assert_eq!(ends.interval, Some(Duration::from_secs(9)));
        ends.count(start + Duration::from_secs(1000), true);
        assert_eq!(ends.interval, Some(Duration::from_secs(9)), "nobody was there in between");
    }
}
