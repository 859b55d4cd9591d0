//! One engine per loaded model: requests in, events out.
//!
//! Its whole interface is the two enums in [`message`]. The loop runs on one named thread; a process border can be put
//! between it and its callers without their noticing. It knows nothing of HTTP, templates or files.

mod answer;
mod guide;
mod lookup;
pub mod message;
mod nodes;
mod pace;
mod prefix;
mod router;
mod runner;
mod scheduler;
mod speculation;
mod step;
mod structures;
mod vocabulary;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::sync::{Semaphore, TryAcquireError, watch};

use self::message::{Command, Event, Request, RequestId};
use self::router::{Route, Router};
use self::runner::Runner;
pub use self::runner::chat_tokens;
use crate::error::{Error, Kind, Result};
use crate::plugins::model::Model;
use crate::sampling::constraint::STACK_BYTES;

/// How much an engine takes at once.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// Sequences computed at once.
    pub max_sequences: u32,
    /// Requests that may wait beyond these.
    pub queue: u32,
    /// Tokens of one step at most.
    pub step_tokens: u32,
    /// How long a step may last while others wait for it, in milliseconds.
    pub step_ms: u32,
    /// Ended sequences whose keys and values are kept for prompts that begin as they do; 0: none.
    pub kept_sequences: u32,
    /// Verify guesses of a lone sequence's next tokens where that was measured to be faster.
    pub speculate: bool,
}

/// What an engine is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stats {
    /// Sequences being computed.
    pub running: usize,
    /// Sequences waiting for their turn.
    pub waiting: usize,
    /// Cells of the KV cache that hold something, for running sequences or for those to come.
    pub cells: usize,
    /// Tokens of all prompts so far.
    pub prompt_tokens: u64,
    /// Of these, the ones that were not computed because the context held them.
    pub cached_tokens: u64,
}

/// A running engine.
pub struct Engine {
    commands: Sender<Command>,
    router: Arc<Router>,
    admission: Arc<Semaphore>,
    next_id: AtomicU64,
    capacity: u32,
    longest_sequence: u32,
    /// Cells of the KV cache, shared by all sequences.
    total_cells: usize,
    /// Closed when the loop has ended.
    ended: watch::Receiver<()>,
}

impl Engine {
    /// Starts an engine on a thread of its own. Blocks while the plugin makes the context.
    ///
    /// # Errors
    /// What the plugin refuses.
    pub fn start(name: &str, model: Arc<Model>, settings: Settings) -> Result<Engine> {
        let (commands, receiver) = channel();
        let router = Arc::new(Router::default());
        let runner = Runner::new(model, settings, (commands.clone(), receiver), Arc::clone(&router))?;
        let limits = runner.limits();
        let (end, ended) = watch::channel(());
        let at_end = AtEnd { router: Arc::clone(&router), _end: end };
        let body = move || {
            let _at_end = at_end;
            runner.run();
        };
        // It goes on in grammars by tokens, and strangers' grammars nest deeply.
        let thread = std::thread::Builder::new().name(thread_name(name)).stack_size(STACK_BYTES);
        thread.spawn(body).map_err(|error| {
            Error::new(Kind::Internal, format!("the engine's thread cannot be started: {error}"))
        })?;
        let capacity = (limits.running as u32).saturating_add(settings.queue);
        Ok(Engine {
            commands,
            router,
            admission: Arc::new(Semaphore::new(capacity as usize)),
            next_id: AtomicU64::new(0),
            capacity,
            longest_sequence: u32::try_from(limits.longest()).unwrap_or(u32::MAX),
            total_cells: limits.total_tokens,
            ended,
        })
    }

    /// The longest that prompt and answer together may be, in tokens.
    pub fn longest_sequence(&self) -> u32 {
        self.longest_sequence
    }

    /// Admits one request.
    ///
    /// # Errors
    /// [`Kind::QueueFull`], or [`Kind::EngineCrashed`] when the loop has ended.
    pub fn submit(&self, request: Request) -> Result<EventStream> {
        let mut streams = self.submit_all(vec![request])?;
        streams.pop().ok_or_else(|| Error::new(Kind::Internal, "one request gave no stream: this is a bug"))
    }

    /// Admits all of these requests or none.
    ///
    /// # Errors
    /// As [`Engine::submit`].
    pub fn submit_all(&self, requests: Vec<Request>) -> Result<Vec<EventStream>> {
        let wanted = u32::try_from(requests.len()).unwrap_or(u32::MAX);
        if self.has_ended() {
            return Err(Error::new(Kind::EngineCrashed, "the engine of this model has ended"));
        }
        let mut permits = Arc::clone(&self.admission)
            .try_acquire_many_owned(wanted)
            .map_err(|error| self.refuse(wanted, &error))?;
        let mut admit = |request| {
            let id = RequestId(self.next_id.fetch_add(1, Ordering::Relaxed));
            let (events, receiver) = unbounded_channel();
            let admission = permits
                .split(1)
                .ok_or_else(|| Error::new(Kind::Internal, "a permit was counted wrongly: this is a bug"))?;
            self.router.open(id, Route { events, _admission: admission });
            let _ = self.commands.send(Command::Submit(id, Box::new(request)));
            Ok(EventStream {
                id,
                events: receiver,
                commands: self.commands.clone(),
                router: Arc::clone(&self.router),
                ended: false,
            })
        };
        let streams = requests.into_iter().map(&mut admit).collect();
        if self.has_ended() {
            // It ended between the question above and here: whoever was not told then is told now.
            self.router.fail_all(&Error::new(Kind::EngineCrashed, "the engine of this model has ended"));
        }
        streams
    }

    /// What it is doing.
    pub fn stats(&self) -> Stats {
        self.router.stats()
    }

    /// The part of the KV cache that holds something, 0 to 1.
    pub fn cache_usage(&self) -> f64 {
        self.stats().cells as f64 / self.total_cells.max(1) as f64
    }

    /// Whether the loop has ended: nothing can be submitted any more.
    pub fn has_ended(&self) -> bool {
        self.ended.has_changed().is_err()
    }

    /// Finishes what was admitted within the limit, then ends every stream that is left.
    pub async fn shut_down(&self, limit: Duration) {
        let _ = self.commands.send(Command::Finish);
        let mut ended = self.ended.clone();
        if tokio::time::timeout(limit, ended.changed()).await.is_err() {
            self.router.fail_all(&Error::new(Kind::ShuttingDown, "the server is stopping"));
            let _ = self.commands.send(Command::Abort);
        }
    }

    fn refuse(&self, wanted: u32, error: &TryAcquireError) -> Error {
        match error {
            TryAcquireError::Closed => Error::new(Kind::ShuttingDown, "the server is stopping"),
            TryAcquireError::NoPermits if wanted > self.capacity => Error::invalid(
                "n",
                format!(
                    "{wanted} answers at once are more than the {} that this server takes",
                    self.capacity
                ),
            ),
            TryAcquireError::NoPermits => Error::new(
                Kind::QueueFull,
                format!("{} requests are running or waiting for this model; try again later", self.capacity),
            ),
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let _ = self.commands.send(Command::Abort);
    }
}

/// However the loop ends, by order, by error or by a panic of our own: no stream is left open.
struct AtEnd {
    router: Arc<Router>,
    _end: watch::Sender<()>,
}

impl Drop for AtEnd {
    fn drop(&mut self) {
        self.router
            .fail_all(&Error::new(Kind::EngineCrashed, "the engine ended before this answer was complete"));
        self.router.count(0, 0, 0);
    }
}

/// The events of one request. Dropping it cancels the request.
pub struct EventStream {
    id: RequestId,
    events: UnboundedReceiver<Event>,
    commands: Sender<Command>,
    router: Arc<Router>,
    ended: bool,
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
        self.ended = matches!(event, Event::Finished { .. } | Event::Failed(_));
        Some(event)
    }
}

impl Drop for EventStream {
    fn drop(&mut self) {
        if !self.ended {
            self.router.close(self.id);
            let _ = self.commands.send(Command::Cancel(self.id));
        }
    }
}

/// Linux shows 15 bytes of a thread's name.
fn thread_name(model: &str) -> String {
    format!("engine {model}").chars().filter(|&c| c != '\0').collect()
}
