//! The loop on its thread: what it runs by what its model can do, and how it ends.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use super::embedding::{EmbeddingRunner, Embeddings};
use super::message::Command;
use super::router::{Router, Wire};
use super::runner::Runner;
use super::{Room, Settings};
use crate::error::{Error, Kind, Result};
use crate::plugins::model::{Capabilities, Model};
use crate::sampling::constraint::STACK_BYTES;

/// A loop on its thread.
pub struct Running {
    /// Into the loop.
    pub commands: Sender<Command>,
    /// What it has room for.
    pub room: Room,
    /// Ends with the loop.
    pub thread: JoinHandle<()>,
}

/// Starts the loop on a thread of its own, whose events go over a wire. Blocks while the plugin makes the context.
///
/// # Errors
/// What the plugin refuses.
pub fn start(name: &str, model: Arc<Model>, settings: Settings, wire: Box<dyn Wire>) -> Result<Running> {
    start_loop(name, model, settings, &Arc::new(Router::over(wire)), ())
}

pub(super) fn start_loop(
    name: &str,
    model: Arc<Model>,
    settings: Settings,
    router: &Arc<Router>,
    dropped_at_end: impl Send + 'static,
) -> Result<Running> {
    let (commands, receiver) = channel();
    let work = Work::new(model, settings, (commands.clone(), receiver), router)?;
    let room = work.room(settings);
    let at_end = AtEnd { router: Arc::clone(router), _end: dropped_at_end };
    let body = move || {
        let _at_end = at_end;
        work.run();
    };
    // It goes on in grammars by tokens, and strangers' grammars nest deeply.
    let thread = std::thread::Builder::new().name(thread_name(name)).stack_size(STACK_BYTES);
    let thread = thread.spawn(body).map_err(|error| {
        Error::new(Kind::Internal, format!("the engine's thread cannot be started: {error}"))
    })?;
    Ok(Running { commands, room, thread })
}

/// What an engine's thread does, by what its model can do.
enum Work {
    /// Generates, and embeds where the model does both.
    Generating(Box<Runner>),
    /// Embeds alone.
    Embedding(Box<EmbeddingRunner>),
}

impl Work {
    fn new(
        model: Arc<Model>,
        settings: Settings,
        (commands, receiver): (Sender<Command>, Receiver<Command>),
        router: &Arc<Router>,
    ) -> Result<Self> {
        if model.capabilities().has(Capabilities::GENERATE) {
            let runner = Runner::new(model, settings, (commands, receiver), Arc::clone(router))?;
            return Ok(Work::Generating(Box::new(runner)));
        }
        let embeddings = Embeddings::of(&model, settings, router)?.ok_or_else(|| {
            Error::new(
                Kind::LoadFailed,
                "it neither generates text nor makes embeddings: there is nothing to serve",
            )
        })?;
        Ok(Work::Embedding(Box::new(EmbeddingRunner::new(embeddings, receiver))))
    }

    fn room(&self, settings: Settings) -> Room {
        match self {
            Work::Generating(runner) => {
                let limits = runner.limits();
                let longest_sequence = u32::try_from(limits.longest()).unwrap_or(u32::MAX);
                Room { longest_sequence, sequences: limits.running as u32, cells: limits.total_tokens }
            }
            Work::Embedding(runner) => {
                Room { longest_sequence: runner.longest(), sequences: settings.max_sequences, cells: 0 }
            }
        }
    }

    fn run(self) {
        match self {
            Work::Generating(runner) => runner.run(),
            Work::Embedding(runner) => runner.run(),
        }
    }
}

/// However the loop ends, by order, by error or by a panic of our own: no stream is left open.
struct AtEnd<E> {
    router: Arc<Router>,
    _end: E,
}

impl<E> Drop for AtEnd<E> {
    fn drop(&mut self) {
        self.router
            .fail_all(&Error::new(Kind::EngineCrashed, "the engine ended before this answer was complete"));
        self.router.count(0, 0, 0);
    }
}

/// Linux shows 15 bytes of a thread's name.
fn thread_name(model: &str) -> String {
    format!("engine {model}").chars().filter(|&c| c != '\0').collect()
}
