//! One engine per loaded model: requests in, events out.
//!
//! Its whole interface is the enums in [`message`]. The loop runs on one named thread, in this process or in a worker
//! (`remote` is then its end here) without its callers noticing. It knows nothing of HTTP, templates or files.

mod answer;
mod ask;
mod budget;
mod embedding;
mod guide;
mod lookup;
mod mark;
pub mod message;
mod nodes;
mod pace;
mod prefix;
mod readers;
pub mod remote;
mod room;
mod router;
mod runner;
mod scheduler;
mod speculation;
mod step;
mod stream;
mod structures;
mod suspects;
mod texts;
mod thread;
mod vocabulary;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::mpsc::unbounded_channel;
use tokio::sync::{Semaphore, TryAcquireError, watch};

pub(crate) use self::answer::random_seed;
pub use self::ask::answer;
use self::message::{Command, Inputs, Question, Request, RequestId, Told};
use self::remote::Remote;
pub use self::router::Wire;
use self::router::{Route, Router};
use self::runner::chat_tokens;
pub use self::stream::EventStream;
pub use self::suspects::Suspects;
use self::thread::start_loop;
pub use self::thread::{Running, start};
use crate::error::{Error, Kind, Result};
use crate::plugins::model::Model;

/// How much an engine takes at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
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
    commands: Commands,
    router: Arc<Router>,
    admission: Arc<Semaphore>,
    next_id: AtomicU64,
    capacity: u32,
    longest_sequence: u32,
    most_sequences: usize,
    /// Cells of the KV cache, shared by all sequences.
    total_cells: usize,
    /// Closed when the loop has ended.
    ended: watch::Receiver<()>,
    told_to_end: AtomicBool,
    place: Place,
}

/// Where the model is.
enum Place {
    Here(Arc<Model>),
    Elsewhere(Arc<Remote>),
}

/// Takes commands to the loop, wherever it is.
#[derive(Clone)]
struct Commands(Arc<dyn Fn(Command) + Send + Sync>);

impl Commands {
    fn send(&self, command: Command) {
        (self.0)(command);
    }
}

/// What an engine has room for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Room {
    /// The longest that prompt and answer together may be, in tokens.
    pub longest_sequence: u32,
    /// Sequences computed at once.
    pub sequences: u32,
    /// Cells of the KV cache, shared by all sequences; none where nothing is generated.
    pub cells: usize,
}

impl Engine {
    /// Starts an engine on a thread of its own in this process. Blocks while the plugin makes the context.
    ///
    /// # Errors
    /// What the plugin refuses.
    pub fn start(name: &str, model: Arc<Model>, settings: Settings) -> Result<Engine> {
        let router = Arc::new(Router::default());
        let (end, ended) = watch::channel(());
        let Running { commands, room, .. } = start_loop(name, Arc::clone(&model), settings, &router, end)?;
        let commands = Commands(Arc::new(move |command| {
            let _ = commands.send(command);
        }));
        Ok(Engine::new(commands, router, ended, (room, settings), Place::Here(model)))
    }

    /// The engine at the other end of a wire.
    pub fn elsewhere(remote: Arc<Remote>, room: Room, settings: Settings) -> Engine {
        let (sending, ended) = (Arc::clone(&remote), remote.ended());
        let commands = Commands(Arc::new(move |command| sending.send(command)));
        let router = Arc::clone(remote.router());
        Engine::new(commands, router, ended, (room, settings), Place::Elsewhere(remote))
    }

    fn new(
        commands: Commands,
        router: Arc<Router>,
        ended: watch::Receiver<()>,
        (room, settings): (Room, Settings),
        place: Place,
    ) -> Engine {
        let capacity = room.sequences.saturating_add(settings.queue);
        Engine {
            commands,
            router,
            admission: Arc::new(Semaphore::new(capacity as usize)),
            next_id: AtomicU64::new(0),
            capacity,
            longest_sequence: room.longest_sequence,
            most_sequences: room.sequences as usize,
            total_cells: room.cells,
            ended,
            told_to_end: AtomicBool::new(false),
            place,
        }
    }

    /// Asks the model something beside the loop.
    ///
    /// # Errors
    /// What the plugin refuses, or [`Kind::EngineCrashed`].
    pub async fn ask(&self, question: Question) -> Result<Told> {
        match &self.place {
            Place::Here(model) => {
                let model = Arc::clone(model);
                // A long text takes its time: not on a thread that other requests wait for.
                let told = tokio::task::spawn_blocking(move || answer(&model, question)).await;
                told.unwrap_or_else(|error| {
                    Err(Error::new(Kind::Internal, format!("a question to the model panicked: {error}")))
                })
            }
            Place::Elsewhere(remote) => remote.ask(question).await,
        }
    }

    /// Completes when the loop has ended.
    pub fn until_ended(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut ended = self.ended.clone();
        async move { while ended.changed().await.is_ok() {} }
    }

    /// The longest that prompt and answer together may be, in tokens; for a model that only embeds, the longest input.
    pub fn longest_sequence(&self) -> u32 {
        self.longest_sequence
    }

    /// How many sequences are computed together at most.
    pub fn most_sequences(&self) -> usize {
        self.most_sequences
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
        self.admit(requests, |id, request| Command::Submit(id, Box::new(request)))
    }

    /// Admits one request for vectors, however many these are.
    ///
    /// # Errors
    /// As [`Engine::submit`].
    pub fn embed(&self, inputs: Inputs) -> Result<EventStream> {
        let mut streams = self.admit(vec![inputs], |id, inputs| Command::Embed(id, Box::new(inputs)))?;
        streams.pop().ok_or_else(|| Error::new(Kind::Internal, "one request gave no stream: this is a bug"))
    }

    fn admit<T: Serialize>(
        &self,
        requests: Vec<T>,
        command: fn(RequestId, T) -> Command,
    ) -> Result<Vec<EventStream>> {
        let wanted = u32::try_from(requests.len()).unwrap_or(u32::MAX);
        if self.has_ended() {
            return Err(self.why_ended());
        }
        let prints = requests.iter().map(|request| self.checked(request)).collect::<Result<Vec<_>>>()?;
        let mut permits = Arc::clone(&self.admission)
            .try_acquire_many_owned(wanted)
            .map_err(|error| self.refuse(wanted, &error))?;
        let mut admit = |(request, fingerprint)| {
            let id = RequestId(self.next_id.fetch_add(1, Ordering::Relaxed));
            let (events, receiver) = unbounded_channel();
            let unread = Arc::new(AtomicUsize::new(0));
            let admission = permits
                .split(1)
                .ok_or_else(|| Error::new(Kind::Internal, "a permit was counted wrongly: this is a bug"))?;
            let unread_too = Arc::clone(&unread);
            let route = Route {
                events,
                unread: unread_too,
                commands: self.commands.clone(),
                fingerprint,
                told: 0,
                _admission: admission,
            };
            self.router.admit(id, route);
            self.commands.send(command(id, request));
            Ok(EventStream {
                id,
                events: receiver,
                unread,
                commands: self.commands.clone(),
                router: Arc::clone(&self.router),
                ended: false,
            })
        };
        let streams = requests.into_iter().zip(prints).map(&mut admit).collect();
        if self.has_ended() {
            // It ended between the question above and here: whoever was not told then is told now.
            self.router.fail_all(&self.why_ended());
        }
        streams
    }

    /// What a request is known by, unless it is refused for what it did before.
    fn checked<T: Serialize>(&self, request: &T) -> Result<u64> {
        match &self.place {
            Place::Here(_) => Ok(0),
            Place::Elsewhere(remote) => {
                let fingerprint = Suspects::fingerprint(request);
                remote.suspects().check(fingerprint).map(|()| fingerprint)
            }
        }
    }

    /// Whether it ended without being told to.
    pub fn has_crashed(&self) -> Option<Error> {
        let was_told = self.told_to_end.load(Ordering::Relaxed);
        (self.has_ended() && !was_told).then(|| self.why_ended())
    }

    /// Tokens of all answers so far.
    pub fn generated_tokens(&self) -> u64 {
        self.router.generated()
    }

    fn why_ended(&self) -> Error {
        match &self.place {
            Place::Here(_) => Error::new(Kind::EngineCrashed, "the engine of this model has ended"),
            Place::Elsewhere(remote) => remote.why(),
        }
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
        self.told_to_end.store(true, Ordering::Relaxed);
        self.commands.send(Command::Finish);
        let mut ended = self.ended.clone();
        if tokio::time::timeout(limit, ended.changed()).await.is_err() {
            self.router.fail_all(&Error::new(Kind::ShuttingDown, "the server is stopping"));
            self.commands.send(Command::Abort);
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
            TryAcquireError::NoPermits => {
                let message = format!(
                    "{} requests are running or waiting for this model; try again later",
                    self.capacity
                );
                // A place is free after the next end; whoever asks earlier asks in vain.
                let next_end = self.router.until_next_end();
                let retry_after_secs =
                    next_end.map(|time| time.as_secs_f64().ceil().clamp(1.0, 120.0) as u16);
                Error { retry_after_secs, ..Error::new(Kind::QueueFull, message) }
            }
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.commands.send(Command::Abort);
    }
}
