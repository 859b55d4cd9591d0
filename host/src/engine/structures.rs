//! Makes constraints of what requests ask their answers to be, on a thread of its own: a stranger's schema may take its
//! time to be read, and the loop goes on.
//!
//! What all of them share is made at the first such request: most models are never asked for any.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Instant;

use super::guide::{Followers, Guide, refused};
use super::message::{Command, Request, RequestId, Structure};
use super::vocabulary::Vocabulary;
use crate::error::{Error, Kind, Result};
use crate::plugins::model::Token;
use crate::sampling::constraint::{Allowed, Constraint, Grammars, Refusal, STACK_BYTES};

/// Threads that follow grammars: with more, one client's slow grammar is no other's.
const FOLLOWERS: usize = 2;

/// The requests whose structures are being read.
pub(super) struct Structures {
    vocabulary: Arc<Vocabulary>,
    /// Tells the loop that something is there to be taken.
    wake: Sender<Command>,
    reader: Option<Reader>,
    waiting: HashMap<RequestId, Prepared>,
}

/// A request whose prompt was read.
pub(super) struct Prepared {
    pub(super) request: Box<Request>,
    pub(super) prompt: Vec<Token>,
    /// When its answer must have ended.
    pub(super) deadline: Option<Instant>,
}

/// What was asked for, the beginning of an answer to it, and what may begin it.
type Beginning = (Structure, (Constraint, Allowed));

/// The thread.
struct Reader {
    orders: Sender<(RequestId, Structure)>,
    results: Receiver<(RequestId, Result<Beginning>)>,
    followers: Followers,
}

impl Structures {
    pub(super) fn new(vocabulary: Arc<Vocabulary>, wake: Sender<Command>) -> Self {
        Structures { vocabulary, wake, reader: None, waiting: HashMap::new() }
    }

    /// Whether no request waits here.
    pub(super) fn is_idle(&self) -> bool {
        self.waiting.is_empty()
    }

    /// The requests whose structures are being read.
    pub(super) fn waiting(&self) -> impl Iterator<Item = RequestId> {
        self.waiting.keys().copied()
    }

    /// Lets a request wait until its structure was read.
    ///
    /// # Errors
    /// When there is no thread to do it.
    pub(super) fn read(&mut self, id: RequestId, structure: Structure, prepared: Prepared) -> Result<()> {
        let broken = |error: &dyn std::fmt::Display| {
            Error::new(Kind::Internal, format!("no thread for grammars can be started: {error}"))
        };
        if self.reader.is_none() {
            self.reader = Some(Reader::start(&self.vocabulary, &self.wake).map_err(|error| broken(&error))?);
        }
        if let Some(reader) = &self.reader {
            reader.orders.send((id, structure)).map_err(|error| broken(&error))?;
        }
        self.waiting.insert(id, prepared);
        Ok(())
    }

    /// A request whose structure was read, with what its answer goes by. Those that were given up are passed over.
    pub(super) fn take(&mut self) -> Option<(RequestId, Prepared, Result<Guide>)> {
        let reader = self.reader.as_ref()?;
        loop {
            let (id, result) = reader.results.try_recv().ok()?;
            if let Some(prepared) = self.waiting.remove(&id) {
                let guide = result
                    .map(|(structure, beginning)| Guide::new(structure, beginning, reader.followers.clone()));
                return Some((id, prepared, guide));
            }
        }
    }

    /// Nobody waits for this one any more.
    pub(super) fn forget(&mut self, id: RequestId) {
        self.waiting.remove(&id);
    }
}

impl Reader {
    fn start(vocabulary: &Arc<Vocabulary>, wake: &Sender<Command>) -> std::io::Result<Self> {
        let (orders, ordered) = channel::<(RequestId, Structure)>();
        let (result, results) = channel();
        let (vocabulary, waking) = (Arc::clone(vocabulary), wake.clone());
        let read = move || {
            let mut grammars = None;
            for (id, structure) in ordered {
                let made = || {
                    let grammars = Grammars::new(vocabulary.texts(), vocabulary.end_of_generation());
                    grammars.map(|grammars| grammars.with_control(vocabulary.control()))
                };
                let grammars = grammars.get_or_insert_with(made);
                let found = match grammars {
                    Ok(grammars) => begin(grammars, structure),
                    Err(refusal) => Err(Error::unsupported(structure.field, refusal.message.clone())),
                };
                let _ = result.send((id, found));
                let _ = waking.send(Command::Wake);
            }
        };
        std::thread::Builder::new().name("schemas".to_owned()).stack_size(STACK_BYTES).spawn(read)?;
        Ok(Reader { orders, results, followers: Followers::start(FOLLOWERS, wake)? })
    }
}

/// The beginning of an answer: also a grammar that allows no beginning is refused before there is an answer.
fn begin(grammars: &Grammars, structure: Structure) -> Result<Beginning> {
    let begin = || {
        let mut constraint = grammars.constraint(&structure.grammar)?;
        let first = constraint.allowed()?;
        Ok((constraint, first))
    };
    let found = catch_unwind(AssertUnwindSafe(begin)).unwrap_or_else(|_| Err(Refusal::panicked()));
    match found {
        Ok(beginning) => Ok((structure, beginning)),
        Err(refusal) => Err(refused(&structure.field, &refusal)),
    }
}
