//! The end here of an engine that runs elsewhere: what was submitted there and is not finished, who asked what, and
//! whether it is alive.
//!
//! Who carries its words there and back is another's business (`worker::link`).

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use serde::{Deserialize, Serialize};
use tokio::sync::{Semaphore, oneshot, watch};

use super::Stats;
use super::message::{Command, Event, Question, RequestId, Told};
use super::router::Router;
use super::suspects::Suspects;
use crate::error::{Error, Kind, Result};

/// Questions that are under way at once; the others wait here, where their texts are already.
const QUESTIONS: usize = 16;

/// Towards the engine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Out {
    /// For its loop.
    Command(Command),
    /// For its model; the answer has the same number.
    Ask(u64, Question),
}

/// From the engine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum In {
    /// About one request.
    Event(RequestId, Event),
    /// From here on these are what is computed.
    Computing(Vec<RequestId>),
    /// The loop is alive, and doing this.
    Alive(Stats),
    /// The answer to a question.
    Told(u64, Result<Told>),
    /// The loop has ended by this error.
    Ended(Error),
}

/// One engine elsewhere.
pub struct Remote {
    out: Sender<Out>,
    suspects: Arc<Suspects>,
    /// What it was at when it was last heard.
    computing: Mutex<Vec<RequestId>>,
    router: Arc<Router>,
    asking: Semaphore,
    asked: Mutex<HashMap<u64, oneshot::Sender<Result<Told>>>>,
    next_question: AtomicU64,
    loop_heard: Mutex<Instant>,
    answer_heard: Mutex<Instant>,
    /// Dropped when it has ended, with what it ended by.
    end: Mutex<Option<watch::Sender<()>>>,
    ended: watch::Receiver<()>,
    why: Mutex<Option<Error>>,
    last_lines: Mutex<String>,
    told_to_end: AtomicBool,
    told_to_abort: AtomicBool,
}

impl Remote {
    /// Whose words go to `out`.
    pub fn new(out: Sender<Out>, suspects: Arc<Suspects>) -> Arc<Self> {
        let (end, ended) = watch::channel(());
        Arc::new(Remote {
            out,
            suspects,
            computing: Mutex::default(),
            router: Arc::default(),
            asking: Semaphore::new(QUESTIONS),
            asked: Mutex::default(),
            next_question: AtomicU64::new(0),
            loop_heard: Mutex::new(Instant::now()),
            answer_heard: Mutex::new(Instant::now()),
            end: Mutex::new(Some(end)),
            ended,
            why: Mutex::default(),
            last_lines: Mutex::default(),
            told_to_end: AtomicBool::new(false),
            told_to_abort: AtomicBool::new(false),
        })
    }

    pub(super) fn router(&self) -> &Arc<Router> {
        &self.router
    }

    pub(super) fn suspects(&self) -> &Suspects {
        &self.suspects
    }

    pub(super) fn ended(&self) -> watch::Receiver<()> {
        self.ended.clone()
    }

    pub(super) fn send(&self, command: Command) {
        let (aborts, finishes) = (matches!(command, Command::Abort), matches!(command, Command::Finish));
        self.told_to_abort.fetch_or(aborts, Ordering::Relaxed);
        self.told_to_end.fetch_or(aborts || finishes, Ordering::Relaxed);
        let _ = self.out.send(Out::Command(command));
    }

    /// Whether it was told to end, at once or after what it is at.
    pub fn was_told_to_end(&self) -> bool {
        self.told_to_end.load(Ordering::Relaxed)
    }

    /// Whether it was told to end at once.
    pub fn was_told_to_abort(&self) -> bool {
        self.told_to_abort.load(Ordering::Relaxed)
    }

    /// Asks the model there.
    ///
    /// # Errors
    /// What the plugin refuses, or what the engine ended by.
    pub async fn ask(&self, question: Question) -> Result<Told> {
        // It is never closed, and what cannot be waited for is only not waited for.
        let _turn = self.asking.acquire().await.ok();
        let (answer, told) = oneshot::channel();
        let number = self.next_question.fetch_add(1, Ordering::Relaxed);
        lock(&self.asked).insert(number, answer);
        let sent = self.out.send(Out::Ask(number, question));
        if sent.is_err() || self.ended.has_changed().is_err() {
            lock(&self.asked).remove(&number);
            return Err(self.why());
        }
        told.await.unwrap_or_else(|_| Err(self.why()))
    }

    /// Takes what came from there.
    pub fn hear(&self, heard: In) {
        let clock = if matches!(heard, In::Told(..)) { &self.answer_heard } else { &self.loop_heard };
        *lock(clock) = Instant::now();
        match heard {
            In::Event(id, event) => {
                if let (Event::Finished { .. }, Some(fingerprint)) = (&event, self.router.fingerprint(id)) {
                    self.suspects.clear(fingerprint);
                }
                self.router.deliver(id, event);
            }
            In::Computing(requests) => *lock(&self.computing) = requests,
            In::Alive(stats) => self.router.hear(stats),
            In::Told(number, told) => {
                if let Some(answer) = lock(&self.asked).remove(&number) {
                    let _ = answer.send(told);
                }
            }
            In::Ended(error) => {
                lock(&self.why).get_or_insert(error);
            }
        }
    }

    /// When the loop was last heard; `None` while no request is open, and nothing is expected of it.
    pub fn loop_heard(&self) -> Option<Instant> {
        (!self.router.is_empty()).then(|| *lock(&self.loop_heard))
    }

    /// When a question was last answered; `None` while none is open. They are answered beside the loop: neither says of the
    /// other that it is alive.
    pub fn answer_heard(&self) -> Option<Instant> {
        (!lock(&self.asked).is_empty()).then(|| *lock(&self.answer_heard))
    }

    /// Asks the loop for a sign of life.
    pub fn knock(&self) {
        let _ = self.out.send(Out::Command(Command::Wake));
    }

    /// Writes down why it ends, before anybody else does.
    pub fn blame(&self, error: Error) {
        lock(&self.why).get_or_insert(error);
    }

    /// It has ended: whoever waits is told why, `error` where it did not say so itself.
    pub fn end(&self, error: Error, last_lines: String) {
        *lock(&self.last_lines) = last_lines;
        let why = lock(&self.why).get_or_insert(error).clone();
        if !self.was_told_to_end() {
            // One that was answered in the meantime is none of them.
            let computed = std::mem::take(&mut *lock(&self.computing));
            self.suspects.ran_at_crash(computed.iter().filter_map(|&id| self.router.fingerprint(id)));
        }
        // Whoever comes from here on finds it ended; whoever came before is in one of the lists.
        lock(&self.end).take();
        self.router.fail_all(&why);
        lock(&self.asked).clear();
        self.router.hear(Stats { running: 0, waiting: 0, cells: 0, ..self.router.stats() });
    }

    /// The last that its process said before it ended.
    pub fn last_lines(&self) -> String {
        lock(&self.last_lines).clone()
    }

    /// Why it ended.
    pub fn why(&self) -> Error {
        let unknown = || Error::new(Kind::EngineCrashed, "the engine of this model has ended");
        lock(&self.why).clone().unwrap_or_else(unknown)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // No code panics while it holds one of these half-way through a change.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
