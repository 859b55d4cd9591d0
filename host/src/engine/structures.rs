//! Makes constraints of what requests ask their answers to be, on threads of their own: a stranger's schema may take its
//! time to be read, and the loop goes on.
//!
//! What all of them share is made at the first such request: most models are never asked for any.

use std::collections::HashMap;
use std::fmt::Display;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::Sender;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use super::guide::{Followers, Guide, refused};
use super::message::{Command, Offered, Request, RequestId, Structure};
use super::readers::{Claim, Readers};
use super::vocabulary::Vocabulary;
use crate::error::{Error, Kind, Result};
use crate::plugins::model::Token;
use crate::sampling::constraint::{Allowed, Constraint, Grammar, Grammars, Refusal};

/// Threads that read, and threads that follow: with more than one of each, one client's slow grammar is no other's.
const READERS: usize = 2;
const FOLLOWERS: usize = 2;

/// The requests whose structures are being read.
pub(super) struct Structures {
    library: Arc<Library>,
    /// Tells the loop that something is there to be taken.
    wake: Sender<Command>,
    threads: Option<Threads>,
    waiting: HashMap<RequestId, (Prepared, Claim)>,
}

/// A request whose prompt was read.
pub(super) struct Prepared {
    pub(super) request: Box<Request>,
    pub(super) prompt: Vec<Token>,
    /// When its answer must have ended.
    pub(super) deadline: Option<Instant>,
}

/// The beginning of an answer to a grammar, and what may begin it.
pub(super) type Beginning = (Constraint, Allowed);

struct Threads {
    readers: Readers<Structure, Result<(Structure, Beginning)>>,
    followers: Followers,
}

/// What the grammars of one model's requests have in common, made when it is first needed.
pub(super) struct Library {
    vocabulary: Arc<Vocabulary>,
    grammars: OnceLock<Result<Grammars, Refusal>>,
}

impl Structures {
    pub(super) fn new(vocabulary: Arc<Vocabulary>, wake: Sender<Command>) -> Self {
        let library = Arc::new(Library { vocabulary, grammars: OnceLock::new() });
        Structures { library, wake, threads: None, waiting: HashMap::new() }
    }

    /// Whether no request waits here.
    pub(super) fn is_idle(&self) -> bool {
        self.waiting.is_empty()
    }

    /// The requests whose structures are being read.
    pub(super) fn waiting(&self) -> impl Iterator<Item = RequestId> {
        self.waiting.keys().copied()
    }

    /// When the first of these must have been answered.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.waiting.values().filter_map(|(prepared, _)| prepared.deadline).min()
    }

    /// Those that must have been answered by now.
    pub(super) fn late(&self, now: Instant) -> Vec<RequestId> {
        let is_late = |prepared: &Prepared| prepared.deadline.is_some_and(|deadline| deadline <= now);
        self.waiting.iter().filter(|(_, (prepared, _))| is_late(prepared)).map(|(&id, _)| id).collect()
    }

    /// Lets a request wait until its structure was read.
    ///
    /// # Errors
    /// When there is no thread to do it.
    pub(super) fn read(&mut self, id: RequestId, structure: Structure, prepared: Prepared) -> Result<()> {
        let claim = self.threads()?.readers.order(id, structure).map_err(|_| broken(&"they have ended"))?;
        self.waiting.insert(id, (prepared, claim));
        Ok(())
    }

    /// What an answer goes by that may call tools: nothing is read before it begins a call.
    ///
    /// # Errors
    /// When there is no thread to do it then.
    pub(super) fn offer(&mut self, offered: Offered) -> Result<Guide> {
        let library = Arc::clone(&self.library);
        let followers = self.threads()?.followers.clone();
        Ok(Guide::offered(offered, library, followers))
    }

    fn threads(&mut self) -> Result<&Threads> {
        if self.threads.is_none() {
            let library = Arc::clone(&self.library);
            let readers = Readers::start(READERS, &self.wake, move |structure| library.read(structure));
            self.threads = Some(Threads {
                readers: readers.map_err(|error| broken(&error))?,
                followers: Followers::start(FOLLOWERS, &self.wake).map_err(|error| broken(&error))?,
            });
        }
        self.threads.as_ref().ok_or_else(|| broken(&"this is a bug"))
    }

    /// A request whose structure was read, with what its answer goes by. Those that were given up are passed over.
    pub(super) fn take(&mut self) -> Option<(RequestId, Prepared, Result<Guide>)> {
        let threads = self.threads.as_ref()?;
        loop {
            let (id, result) = threads.readers.take()?;
            if let Some((prepared, _)) = self.waiting.remove(&id) {
                let guide = result.map(|(structure, beginning)| {
                    Guide::new(structure, beginning, threads.followers.clone())
                });
                return Some((id, prepared, guide));
            }
        }
    }

    /// Nobody waits for this one any more.
    pub(super) fn forget(&mut self, id: RequestId) {
        self.waiting.remove(&id);
    }
}

impl Library {
    fn read(&self, structure: Structure) -> Result<(Structure, Beginning)> {
        if let Some((field, grammar)) = &structure.beside {
            self.begin(grammar).map_err(|refusal| refused(field, &refusal))?;
        }
        match self.begin(&structure.grammar) {
            Ok(beginning) => Ok((structure, beginning)),
            Err(refusal) => Err(refused(&structure.field, &refusal)),
        }
    }

    /// The beginning of an answer: also a grammar that allows no beginning is refused before there is an answer.
    ///
    /// # Errors
    /// What is wrong with the grammar, or with the model's vocabulary.
    pub(super) fn begin(&self, grammar: &Grammar) -> Result<Beginning, Refusal> {
        let begin = || {
            let grammars = self.grammars.get_or_init(|| self.make()).as_ref().map_err(Clone::clone)?;
            let mut constraint = grammars.constraint(grammar)?;
            let first = constraint.allowed()?;
            Ok((constraint, first))
        };
        catch_unwind(AssertUnwindSafe(begin)).unwrap_or_else(|_| Err(Refusal::panicked()))
    }

    fn make(&self) -> Result<Grammars, Refusal> {
        let vocabulary = &self.vocabulary;
        let grammars = Grammars::new(vocabulary.texts(), vocabulary.end_of_generation())?;
        Ok(grammars.with_control(vocabulary.control()))
    }
}

fn broken(reason: &dyn Display) -> Error {
    Error::new(Kind::Internal, format!("no thread for grammars can be started: {reason}"))
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;
    use std::time::Duration;

    use super::*;
    use crate::engine::message::Prompt;
    use crate::sampling::Settings;

    fn prepared(deadline: Option<Instant>) -> Prepared {
        let request = Request {
            prompt: Prompt::Tokens(vec![1]),
            max_tokens: None,
            stop: Vec::new(),
            ignore_eos: false,
            sampling: Settings::default(),
            seed: None,
            logprobs: None,
            prompt_logprobs: false,
            afresh: false,
            structure: None,
            offered: None,
            priority: 0,
            time_limit_ms: None,
            shown: Vec::new(),
        };
        Prepared { request: Box::new(request), prompt: vec![Token(1)], deadline }
    }

    fn structure() -> Structure {
        Structure { field: "f".to_owned(), grammar: Grammar::JsonObject, after: None, beside: None }
    }

    #[test]
    fn a_deadline_counts_while_a_structure_is_read() {
        let (wake, woken) = channel();
        let mut structures = Structures::new(Arc::new(Vocabulary::default()), wake);
        let (now, later) = (Instant::now(), Instant::now() + Duration::from_secs(60));
        for (id, deadline) in [(1, Some(now)), (2, Some(later)), (3, None)] {
            structures.read(RequestId(id), structure(), prepared(deadline)).unwrap();
        }
        assert_eq!(structures.next_deadline(), Some(now));
        assert_eq!(structures.late(now), [RequestId(1)]);
        structures.forget(RequestId(1));
        assert_eq!((structures.next_deadline(), structures.late(now)), (Some(later), Vec::new()));
        let mut read = Vec::new();
        while read.len() < 2 {
            woken.recv_timeout(Duration::from_secs(30)).unwrap();
            read.extend(structures.take().map(|(id, ..)| id.0));
        }
        read.sort_unstable();
        assert_eq!((read, structures.is_idle()), (vec![2, 3], true));
    }
}
