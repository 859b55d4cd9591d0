//! Brings each event to the request that it belongs to, and counts what runs.
//!
//! Of an engine whose callers are in another process, everything goes to the [`Wire`] that leads there; at its other end
//! another router has the routes.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::mpsc::UnboundedSender;

use super::message::{Command, Event, RequestId, Usage};
use super::suspects::Fingerprint;
use super::{Commands, Stats};
use crate::error::{Error, Kind};

/// Where an engine's events go when its callers are elsewhere.
pub trait Wire: Send + Sync {
    /// An event of a request.
    fn event(&self, id: RequestId, event: Event);
    /// The loop is alive, and doing this.
    fn alive(&self, stats: Stats);
    /// From here on these are what is computed.
    fn computing(&self, requests: &[RequestId]);
    /// The loop ends, and with it every open request.
    fn end(&self, error: &Error);
}

/// The open requests of one engine.
#[derive(Default)]
pub(super) struct Router {
    wire: Option<Box<dyn Wire>>,
    computing: Mutex<Computing>,
    routes: Mutex<Routes>,
    /// What an engine elsewhere last said that it does.
    elsewhere: Mutex<Option<Stats>>,
    running: AtomicUsize,
    waiting: AtomicUsize,
    cells: AtomicUsize,
    prompt_tokens: AtomicU64,
    cached_tokens: AtomicU64,
    generated: AtomicU64,
}

#[derive(Default)]
struct Routes {
    open: HashMap<RequestId, Route>,
    ends: Ends,
}

/// What was last told to be computed, and room for what comes next.
#[derive(Default)]
struct Computing {
    told: Vec<RequestId>,
    next: Vec<RequestId>,
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
    /// Bytes of events that wait for the client.
    pub(super) unread: Arc<AtomicUsize>,
    /// Into the engine, for when the client reads too slowly.
    pub(super) commands: Commands,
    /// What the request is known by.
    pub(super) fingerprint: Fingerprint,
    /// Tokens of its answer that were told.
    pub(super) told: u32,
    pub(super) _admission: OwnedSemaphorePermit,
}

/// What may wait for a client that does not read: more than the longest answers, far less than would hurt.
const MOST_UNREAD: usize = 32 << 20;

impl Router {
    /// A router whose routes are at the other end of a wire.
    pub(super) fn over(wire: Box<dyn Wire>) -> Self {
        Router { wire: Some(wire), ..Router::default() }
    }

    pub(super) fn admit(&self, id: RequestId, route: Route) {
        self.routes().open.insert(id, route);
    }

    pub(super) fn close(&self, id: RequestId) {
        self.routes().open.remove(&id);
    }

    /// How long it may take until the next request ends, by those that ended before.
    pub(super) fn until_next_end(&self) -> Option<Duration> {
        self.routes().ends.interval
    }

    /// Delivers; the last event of a request closes its route. Nobody there is no error: the client went away. A client
    /// that lets too much wait gets no more, and nothing more is computed for it.
    pub(super) fn deliver(&self, id: RequestId, event: Event) {
        if let Some(wire) = &self.wire {
            return wire.event(id, event);
        }
        let last = matches!(event, Event::Finished { .. } | Event::Failed(_));
        let mut routes = self.routes();
        let Some(route) = routes.open.get_mut(&id) else { return };
        if let Event::Text { told, .. } = event {
            self.generated.fetch_add(told.saturating_sub(route.told).into(), Ordering::Relaxed);
            route.told = told;
        }
        let unread = route.unread.fetch_add(event.weight(), Ordering::Relaxed);
        let too_slow = unread > MOST_UNREAD && !last;
        let _ = route.events.send(if too_slow { Event::Failed(reads_too_slowly(unread)) } else { event });
        if !last && !too_slow {
            return;
        }
        let route = routes.open.remove(&id);
        let others_are_open = !routes.open.is_empty();
        routes.ends.count(Instant::now(), others_are_open);
        drop(routes);
        if let Some(route) = route.filter(|_| too_slow) {
            route.commands.send(Command::Cancel(id));
        }
    }

    /// Ends every open request with this error.
    pub(super) fn fail_all(&self, error: &Error) {
        if let Some(wire) = &self.wire {
            wire.end(error);
        }
        for (_, route) in self.routes().open.drain() {
            let _ = route.events.send(Event::Failed(error.clone()));
        }
    }

    pub(super) fn count(&self, running: usize, waiting: usize, cells: usize) {
        self.running.store(running, Ordering::Relaxed);
        self.waiting.store(waiting, Ordering::Relaxed);
        self.cells.store(cells, Ordering::Relaxed);
        self.alive();
    }

    /// These are what the plugin, or a grammar, works at from here on. Callers elsewhere are told before it begins: where
    /// it ends the process, nobody can ask any more.
    pub(super) fn computing(&self, requests: impl IntoIterator<Item = RequestId>) {
        let Some(wire) = &self.wire else { return };
        let mut computing = self.computing.lock().unwrap_or_else(PoisonError::into_inner);
        let Computing { told, next } = &mut *computing;
        next.clear();
        next.extend(requests);
        if next != told {
            std::mem::swap(next, told);
            wire.computing(told);
        }
    }

    /// The loop goes on.
    pub(super) fn alive(&self) {
        if let Some(wire) = &self.wire {
            wire.alive(self.stats());
        }
    }

    /// An engine elsewhere says what it does.
    pub(super) fn hear(&self, stats: Stats) {
        *self.elsewhere.lock().unwrap_or_else(PoisonError::into_inner) = Some(stats);
    }

    /// Whether no request is open.
    pub(super) fn is_empty(&self) -> bool {
        self.routes().open.is_empty()
    }

    /// What an open request is known by.
    pub(super) fn fingerprint(&self, id: RequestId) -> Option<Fingerprint> {
        self.routes().open.get(&id).map(|route| route.fingerprint)
    }

    /// Tokens of all answers that were told so far.
    pub(super) fn generated(&self) -> u64 {
        self.generated.load(Ordering::Relaxed)
    }

    /// A prompt begins to be computed.
    pub(super) fn count_prompt(&self, usage: Usage) {
        self.prompt_tokens.fetch_add(usage.prompt_tokens.into(), Ordering::Relaxed);
        self.cached_tokens.fetch_add(usage.cached_tokens.into(), Ordering::Relaxed);
    }

    pub(super) fn stats(&self) -> Stats {
        if let Some(elsewhere) = *self.elsewhere.lock().unwrap_or_else(PoisonError::into_inner) {
            return elsewhere;
        }
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

fn reads_too_slowly(unread: usize) -> Error {
    let message = format!("the answer was not read: {} MiB of it wait for the client", unread >> 20);
    Error::new(Kind::InvalidRequest, message)
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
