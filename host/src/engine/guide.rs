//! What an answer may go on with under its grammar: worked out on threads of its own while the model computes.
//!
//! A set of allowed tokens takes microseconds for most grammars; a stranger's may take far longer, and must hold up nobody
//! else: whoever asks says how long it waits, and asks again later.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::mark::Watch;
use super::message::{Command, Offered, Structure};
use super::structures::{Beginning, Library};
use crate::error::{Error, Kind, Result};
use crate::sampling::constraint::{Allowed, Constraint, Grammar, Place, Refusal, STACK_BYTES};
use crate::text::StopMatcher;

/// What took no longer is done at once: to hand it over would take as long.
const AT_ONCE: Duration = Duration::from_millis(1);

/// An answer whose sets of tokens took longer than this in all ends with an error.
const MOST_IN_ALL: Duration = Duration::from_secs(20);

/// The threads that follow grammars. They end when nobody can hand them work any more.
#[derive(Clone)]
pub(super) struct Followers {
    jobs: Sender<Job>,
}

/// One answer's way through its grammar.
pub(super) struct Guide {
    state: State,
    followers: Followers,
    reply: Sender<Reply>,
    replies: Receiver<Reply>,
    /// The request's field, for refusals; nothing where the grammar was never asked for, so that an answer that cannot be
    /// kept to it is free.
    field: Option<String>,
    before: Option<Before>,
    masked: Vec<f32>,
    /// What the last set of tokens took, and all of them.
    last: Duration,
    in_all: Duration,
}

/// What comes before the grammar.
enum Before {
    /// A text, behind which it begins.
    Text(StopMatcher),
    /// An answer that is whole without it, unless it begins a call. The grammar is read then.
    Answer(Watch, Arc<Library>, Grammar),
}

enum State {
    /// There is no grammar, or none any more.
    Free,
    /// What may come next is known.
    Here(Box<Constraint>, Allowed),
    /// It is being worked out.
    Away,
    /// Nothing can follow.
    Complete,
    /// It was refused; the reason was told.
    Lost,
}

/// What a grammar leaves of logits.
pub(super) enum Left<'a> {
    /// These: whatever is not allowed is -∞.
    Logits(&'a [f32]),
    /// None: the text is complete.
    Nothing,
    /// It is not known yet.
    Unknown,
}

struct Job {
    start: Start,
    reply: Sender<Reply>,
}

/// What is gone on from.
enum Start {
    /// A place, and a token to go on by first.
    Place(Box<Constraint>, Option<u32>),
    /// The beginning of a grammar that was not read yet, and what of the text stands behind it.
    Grammar(Arc<Library>, Grammar, String),
}

struct Reply {
    found: Result<State, Refusal>,
    took: Duration,
}

impl Followers {
    /// Starts `threads` of them; `wake` hears whenever one of them has finished something.
    ///
    /// # Errors
    /// When no thread can be started.
    pub(super) fn start(threads: usize, wake: &Sender<Command>) -> std::io::Result<Self> {
        let (jobs, receiver) = channel();
        let receiver = Arc::new(Mutex::new(receiver));
        for _ in 0..threads.max(1) {
            let (receiver, wake) = (Arc::clone(&receiver), wake.clone());
            let follow = move || {
                while let Some(job) = next_job(&receiver) {
                    work(job);
                    let _ = wake.send(Command::Wake);
                }
            };
            std::thread::Builder::new().name("grammar".to_owned()).stack_size(STACK_BYTES).spawn(follow)?;
        }
        Ok(Followers { jobs })
    }
}

fn next_job(jobs: &Mutex<Receiver<Job>>) -> Option<Job> {
    jobs.lock().unwrap_or_else(PoisonError::into_inner).recv().ok()
}

fn work(job: Job) {
    let Job { start, reply } = job;
    let started = Instant::now();
    let found = match start {
        Start::Place(constraint, token) => follow(constraint, token),
        Start::Grammar(library, grammar, behind) => begin(&library, &grammar, &behind),
    };
    // Nobody there is no error: the answer has ended.
    let _ = reply.send(Reply { found, took: started.elapsed() });
}

fn follow(mut constraint: Box<Constraint>, token: Option<u32>) -> Result<State, Refusal> {
    if let Some(token) = token
        && constraint.commit(token)? == Place::Complete
    {
        return Ok(State::Complete);
    }
    let allowed = constraint.allowed()?;
    Ok(State::Here(constraint, allowed))
}

fn begin(library: &Library, grammar: &Grammar, behind: &str) -> Result<State, Refusal> {
    let (mut constraint, first) = library.begin(grammar)?;
    if behind.is_empty() {
        return Ok(State::Here(Box::new(constraint), first));
    }
    if constraint.commit_text(behind)? == Place::Complete {
        return Ok(State::Complete);
    }
    let allowed = constraint.allowed()?;
    Ok(State::Here(Box::new(constraint), allowed))
}

impl Guide {
    /// At the beginning of an answer, with what may begin it.
    pub(super) fn new(structure: Structure, (constraint, first): Beginning, followers: Followers) -> Self {
        let before = structure.after.map(|text| Before::Text(StopMatcher::new(vec![text])));
        let state = State::Here(Box::new(constraint), first);
        Guide::of(state, Some(structure.field), before, followers)
    }

    /// Of an answer that may call tools.
    pub(super) fn offered(offered: Offered, library: Arc<Library>, followers: Followers) -> Self {
        let before = Before::Answer(Watch::new(&offered), library, offered.grammar);
        Guide::of(State::Free, None, Some(before), followers)
    }

    fn of(state: State, field: Option<String>, before: Option<Before>, followers: Followers) -> Self {
        let (reply, replies) = channel();
        Guide {
            state,
            followers,
            reply,
            replies,
            field,
            before,
            masked: Vec::new(),
            last: Duration::ZERO,
            in_all: Duration::ZERO,
        }
    }

    /// What of `logits` may come next; waits up to `patience` until it is known. `ends` are the tokens that end answers.
    ///
    /// # Errors
    /// [`Kind::InvalidGrammar`] when the grammar cannot be followed any further.
    pub(super) fn mask<'a>(
        &'a mut self,
        logits: &'a [f32],
        ends: &[u32],
        patience: Duration,
    ) -> Result<Left<'a>> {
        if let Some(Before::Text(_)) = self.before {
            // The answer may not end before it has begun.
            self.masked.clear();
            self.masked.extend_from_slice(logits);
            for &end in ends {
                self.masked[end as usize] = f32::NEG_INFINITY;
            }
            return Ok(Left::Logits(&self.masked));
        }
        if let Err(refusal) = self.receive(patience) {
            self.give_up(&refusal)?;
        }
        match &self.state {
            State::Free => Ok(Left::Logits(logits)),
            State::Here(_, allowed) => {
                allowed.apply(logits, &mut self.masked);
                Ok(Left::Logits(&self.masked))
            }
            State::Complete => Ok(Left::Nothing),
            State::Away => Ok(Left::Unknown),
            State::Lost => Err(refused(self.field.as_deref().unwrap_or_default(), &Refusal::lost())),
        }
    }

    /// Goes on by a token that was allowed. What may follow it is worked out from now on.
    ///
    /// # Errors
    /// As [`Guide::mask`].
    pub(super) fn commit(&mut self, token: u32) -> Result<Place> {
        if self.before.is_some() || matches!(self.state, State::Free) {
            return Ok(Place::Within);
        }
        match self.follow(token) {
            Ok(place) => Ok(place),
            Err(refusal) => self.give_up(&refusal).map(|()| Place::Within),
        }
    }

    /// The last token added this text.
    pub(super) fn hear(&mut self, text: &str) {
        let found = match &mut self.before {
            None => return,
            Some(Before::Text(before)) => before.push(text).stop.map(|_| String::new()),
            Some(Before::Answer(watch, ..)) => watch.push(text),
        };
        let Some(behind) = found else { return };
        if let Some(Before::Answer(_, library, grammar)) = self.before.take() {
            let job = Job { start: Start::Grammar(library, grammar, behind), reply: self.reply.clone() };
            // Without a thread the answer goes on as it is.
            if self.followers.jobs.send(job).is_ok() {
                self.state = State::Away;
            }
        }
    }

    /// The grammar cannot be followed any further: an error where the request asked for it.
    fn give_up(&mut self, refusal: &Refusal) -> Result<()> {
        match &self.field {
            Some(field) => Err(refused(field, refusal)),
            None => {
                tracing::debug!("a call is not kept to its form: {}", refusal.message);
                self.state = State::Free;
                Ok(())
            }
        }
    }

    fn receive(&mut self, patience: Duration) -> Result<(), Refusal> {
        if !matches!(self.state, State::Away) {
            return Ok(());
        }
        match self.replies.recv_timeout(patience) {
            Ok(reply) => self.take(reply),
            Err(RecvTimeoutError::Timeout) => Ok(()),
            // Its own sender is held here.
            Err(RecvTimeoutError::Disconnected) => Err(Refusal::lost()),
        }
    }

    fn follow(&mut self, token: u32) -> Result<Place, Refusal> {
        let State::Here(mut constraint, _) = std::mem::replace(&mut self.state, State::Lost) else {
            return Err(Refusal::lost());
        };
        let mut pending = Some(token);
        if self.last <= AT_ONCE {
            if constraint.commit(token)? == Place::Complete {
                self.state = State::Complete;
                return Ok(Place::Complete);
            }
            pending = None;
        }
        let job = Job { start: Start::Place(constraint, pending), reply: self.reply.clone() };
        self.followers.jobs.send(job).map_err(|_| Refusal::lost())?;
        self.state = State::Away;
        Ok(Place::Within)
    }

    fn take(&mut self, reply: Reply) -> Result<(), Refusal> {
        self.last = reply.took;
        self.in_all += reply.took;
        self.state = State::Lost;
        self.state = reply.found?;
        if self.in_all > MOST_IN_ALL { Err(Refusal::too_slow(MOST_IN_ALL.as_secs())) } else { Ok(()) }
    }
}

/// The refusal of a grammar that stands in this field of a request.
pub(super) fn refused(field: &str, refusal: &Refusal) -> Error {
    let field = refusal.field.as_deref().unwrap_or(field);
    let message = format!("`{field}` cannot be kept to: {}", refusal.message);
    Error { param: Some(format!("{field}{}", refusal.at)), ..Error::new(Kind::InvalidGrammar, message) }
}
