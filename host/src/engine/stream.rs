//! What one request hears of its engine.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::mpsc::UnboundedReceiver;

use super::Commands;
use super::message::{Command, Event, RequestId};
use super::router::Router;
use crate::error::{Error, Kind};

/// The events of one request. Dropping it cancels the request.
pub struct EventStream {
    pub(super) id: RequestId,
    pub(super) events: UnboundedReceiver<Event>,
    /// Bytes of events that wait here.
    pub(super) unread: Arc<AtomicUsize>,
    pub(super) commands: Commands,
    pub(super) router: Arc<Router>,
    pub(super) ended: bool,
}

impl EventStream {
    /// The next event; `None` after `Finished` or `Failed`, which always comes.
    pub async fn next(&mut self) -> Option<Event> {
        if self.ended {
            return None;
        }
        let event = self.events.recv().await.unwrap_or_else(|| {
            Event::Failed(Error::new(Kind::EngineCrashed, "the engine ended before this answer was complete"))
        });
        self.unread.fetch_sub(event.weight().min(self.unread.load(Ordering::Relaxed)), Ordering::Relaxed);
        self.ended = matches!(event, Event::Finished { .. } | Event::Failed(_));
        Some(event)
    }
}

impl Drop for EventStream {
    fn drop(&mut self) {
        if !self.ended {
            self.router.close(self.id);
            self.commands.send(Command::Cancel(self.id));
        }
    }
}
