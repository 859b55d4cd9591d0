//! The loop of one loaded model: commands in, events out. It owns the context and blocks only when idle.

mod context;
mod deadlines;
mod guided;
mod prompts;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, TryRecvError};
use std::time::{Duration, Instant};

use self::context::{limits, new_context};
pub(super) use self::prompts::chat_tokens;
use super::Settings;
use super::answer::{Answer, Progress};
use super::embedding::{Embeddings, no_vectors};
use super::message::{Command, Event, FinishReason, Inputs, RequestId};
use super::pace::Pace;
use super::router::Router;
use super::scheduler::{Growth, Limits, Scheduler};
use super::speculation::{Costs, LONGEST_DRAFT};
use super::step::Step;
use super::structures::Structures;
use super::vocabulary::Vocabulary;
use crate::error::{Error, Kind, Result};
use crate::plugins::model::{Capabilities, Context, ErrorCode, Model};

/// How long a step waits for an answer's grammar before the others go on without it.
const PATIENCE: Duration = Duration::from_millis(2);

/// How long where nobody else is kept waiting. Longer, and the loop would not hear of what is new.
const PATIENCE_ALONE: Duration = Duration::from_secs(2);

/// Everything that the engine's thread owns.
pub(super) struct Runner {
    model: Arc<Model>,
    context: Context,
    vocabulary: Arc<Vocabulary>,
    scheduler: Scheduler,
    answers: HashMap<RequestId, Answer>,
    structures: Structures,
    /// The logits of answers whose grammars take their time to say what is allowed.
    parked: HashMap<RequestId, Vec<f32>>,
    /// Where the model makes vectors too.
    embeddings: Option<Embeddings>,
    step: Step,
    pace: Pace,
    costs: Costs,
    commands: Receiver<Command>,
    router: Arc<Router>,
    settings: Settings,
    finishing: bool,
}

impl Runner {
    /// Makes the context and reads the vocabulary: what can fail fails here, before the engine is announced.
    ///
    /// # Errors
    /// What the plugin refuses.
    pub(super) fn new(
        model: Arc<Model>,
        settings: Settings,
        (wake, commands): (Sender<Command>, Receiver<Command>),
        router: Arc<Router>,
    ) -> Result<Self> {
        let context = new_context(&model, settings)?;
        let vocabulary = Arc::new(Vocabulary::of(&model)?);
        let structures = Structures::new(Arc::clone(&vocabulary), wake);
        let scheduler = Scheduler::new(limits(&model, &context, settings));
        let embeddings = Embeddings::of(&model, settings, &router)?;
        Ok(Runner {
            model,
            context,
            vocabulary,
            scheduler,
            answers: HashMap::new(),
            structures,
            parked: HashMap::new(),
            embeddings,
            step: Step::default(),
            pace: Pace::new(Duration::from_millis(settings.step_ms.into())),
            costs: Costs::default(),
            commands,
            router,
            settings,
            finishing: false,
        })
    }

    pub(super) fn limits(&self) -> Limits {
        self.scheduler.limits()
    }

    /// Runs until told to end, or until the context is lost for good.
    pub(super) fn run(mut self) {
        while self.receive() {
            if let Err(error) = self.step().and_then(|()| self.embed()) {
                tracing::error!("the engine ends: {error}");
                self.router.fail_all(&error);
                return;
            }
            self.count();
        }
    }

    /// Tells what runs and waits.
    fn count(&self) {
        let running = self.scheduler.running() + self.embedding();
        self.router.count(running, self.scheduler.waiting(), self.scheduler.cells());
    }

    fn step(&mut self) -> Result<()> {
        self.end_late();
        self.resume();
        let budget = self.budget();
        self.scheduler.plan(&mut self.step, budget);
        self.tell_what_is_computed();
        if !self.edit_context()? {
            return Ok(());
        }
        for &(id, cached_tokens) in &self.step.started {
            if let Some(answer) = self.answers.get_mut(&id) {
                self.router.count_prompt(answer.start(cached_tokens));
            }
        }
        if self.step.rows.is_empty() {
            return Ok(());
        }
        let started = Instant::now();
        match self.context.decode(&self.step.rows) {
            Ok(()) => {
                let generating = self.step.wanted.len() == self.step.rows.len();
                self.advance();
                self.observe(generating, started.elapsed());
                self.propose();
            }
            Err(error) if error.code == ErrorCode::CACHE_FULL => self.make_room(),
            Err(error) => return self.fail(error.code, &error.message),
        }
        Ok(())
    }

    /// Beside the step, grammars are read and followed.
    fn tell_what_is_computed(&self) {
        let grammars = self.structures.waiting().chain(self.parked.keys().copied());
        self.router.computing(self.step.members().chain(grammars));
    }

    /// A prompt that is alone holds up nobody; otherwise a step lasts no longer than a stream may be silent.
    fn budget(&self) -> usize {
        if self.scheduler.running() + self.scheduler.waiting() > 1 { self.pace.rows() } else { usize::MAX }
    }

    /// Takes what was said since the last step; waits for something to be said when there is nothing to do.
    /// `false` ends the loop.
    fn receive(&mut self) -> bool {
        loop {
            let idle = self.scheduler.is_idle() && self.embedding() == 0;
            if idle && self.finishing && self.structures.is_idle() {
                return false;
            }
            // Where nobody has anything to compute, all wait for their grammars, each of which wakes the loop.
            let stalled = !self.parked.is_empty() && self.step.rows.is_empty() && self.embedding() == 0;
            let command = if idle || stalled { self.wait() } else { self.commands.try_recv() };
            match command {
                Ok(Command::Submit(id, request)) => self.submit(id, request),
                Ok(Command::Embed(id, inputs)) => self.submit_inputs(id, &inputs),
                Ok(Command::Wake) => {
                    self.accept_structured();
                    self.router.alive();
                }
                Ok(Command::Cancel(id)) => {
                    self.drop_sequence(id);
                    // There may be no next step.
                    self.count();
                }
                Ok(Command::Finish) | Err(TryRecvError::Disconnected) => self.finishing = true,
                Ok(Command::Abort) => return false,
                Err(TryRecvError::Empty) => return true,
            }
            if stalled || (self.finishing && !idle) {
                return true;
            }
        }
    }

    /// Requests for vectors that are not answered yet.
    fn embedding(&self) -> usize {
        self.embeddings.as_ref().map_or(0, Embeddings::requests)
    }

    fn submit_inputs(&mut self, id: RequestId, inputs: &Inputs) {
        match &mut self.embeddings {
            Some(embeddings) => embeddings.submit(id, inputs),
            None => self.router.deliver(id, Event::Failed(no_vectors())),
        }
    }

    /// Between two steps, one batch of vectors.
    fn embed(&mut self) -> Result<()> {
        self.embeddings.as_mut().map_or(Ok(()), Embeddings::step)
    }

    /// Samples for every row that wanted it, emits, and retires what ended.
    fn advance(&mut self) {
        self.scheduler.done(&self.step);
        let patience = if self.scheduler.running() > 1 { PATIENCE } else { PATIENCE_ALONE };
        self.score();
        let mut parted = None;
        for (row, id) in std::mem::take(&mut self.step.wanted) {
            // The rows after a token that did not come as proposed say nothing.
            if parted == Some(id) {
                continue;
            }
            let Some(answer) = self.answers.get_mut(&id) else { continue };
            // What was computed again after giving way.
            self.parked.remove(&id);
            let progress = match self.context.logits(row) {
                Ok(logits) => {
                    let emit = |event| self.router.deliver(id, event);
                    let progress = answer.advance(logits, &self.vocabulary, patience, emit);
                    if matches!(progress, Ok(Progress::Waits)) {
                        self.parked.insert(id, logits.to_vec());
                    }
                    progress
                }
                Err(error) => Err(Error::new(Kind::EngineCrashed, error.message)),
            };
            if self.progress(id, progress) != Some(Growth::AsProposed) {
                parted = Some(id);
            }
        }
    }

    /// Tells answers how probable the tokens of their prompts are.
    fn score(&mut self) {
        for (row, id, token) in std::mem::take(&mut self.step.scored) {
            let Some(answer) = self.answers.get_mut(&id) else { continue };
            match self.context.logits(row) {
                Ok(logits) => answer.score(logits, token, &self.vocabulary),
                Err(error) => self.fail_one(id, Error::new(Kind::EngineCrashed, error.message)),
            }
        }
    }

    /// Does what follows from an answer's next token.
    fn progress(&mut self, id: RequestId, progress: Result<Progress>) -> Option<Growth> {
        match progress {
            Ok(Progress::Goes(token)) => {
                let growth = self.scheduler.push(id, token);
                if growth == Growth::AsProposed
                    && let Some(answer) = self.answers.get_mut(&id)
                {
                    answer.accepted();
                }
                if growth == Growth::Full {
                    self.finish(id, FinishReason::Length);
                }
                return Some(growth);
            }
            Ok(Progress::Ended(reason)) => self.finish(id, reason),
            Ok(Progress::Waits) => {}
            Err(error) => self.fail_one(id, error),
        }
        None
    }

    fn observe(&mut self, generating: bool, took: Duration) {
        self.pace.observe(self.step.prompt_rows(), took);
        // A step of one sequence that generates is what drafts are weighed by.
        if generating && self.scheduler.running() == 1 {
            self.costs.observe(self.step.rows.len(), took);
        }
    }

    /// Proposes what a sequence that is alone may go on with. In company a row more costs what it costs anybody else.
    fn propose(&mut self) {
        // What did not come is cut off again.
        let can_be_cut = self.model.capabilities().has(Capabilities::PARTIAL_SEQ_RM);
        let Some(id) = self.scheduler.only_one().filter(|_| can_be_cut && self.settings.speculate) else {
            return;
        };
        if self.parked.contains_key(&id) {
            return;
        }
        let Some(answer) = self.answers.get_mut(&id) else { return };
        let (right, there) = (answer.lookup().right(), answer.lookup().draft(LONGEST_DRAFT));
        let worth = self.costs.best_draft(right, there.len());
        if worth > 0 {
            let drafted = self.scheduler.propose(id, &there[..worth]);
            answer.drafted(drafted);
        }
    }

    fn finish(&mut self, id: RequestId, reason: FinishReason) {
        self.scheduler.remove(id);
        if let Some(answer) = self.answers.remove(&id) {
            answer.finish(reason, |event| self.router.deliver(id, event));
        }
    }

    fn fail_one(&mut self, id: RequestId, error: Error) {
        self.scheduler.discard(id);
        self.answers.remove(&id);
        self.router.deliver(id, Event::Failed(error));
    }

    fn drop_sequence(&mut self, id: RequestId) {
        self.scheduler.remove(id);
        self.answers.remove(&id);
        self.structures.forget(id);
        if let Some(embeddings) = &mut self.embeddings {
            embeddings.forget(id);
        }
    }

    /// The plugin has fewer cells than it said. A lone sequence that nothing can give way to cannot grow any more.
    fn make_room(&mut self) {
        if !self.scheduler.give_way() {
            for id in self.step.members().collect::<Vec<_>>() {
                self.finish(id, FinishReason::Length);
            }
        }
    }

    /// A decode failed: its sequences end with the error, the others go on.
    fn fail(&mut self, code: ErrorCode, message: &str) -> Result<()> {
        tracing::error!(code = code.name(), "a decode failed: {message}");
        let error = Error::new(Kind::EngineCrashed, format!("the plugin failed while computing: {message}"));
        for id in self.step.members().collect::<Vec<_>>() {
            self.fail_one(id, error.clone());
        }
        if code == ErrorCode::PANICKED || code == ErrorCode::POISONED {
            return self.rebuild_context();
        }
        if self.edit_context()? {
            let context = &self.context;
            self.scheduler.resynchronise(|slot| context.held(slot) as usize);
        }
        Ok(())
    }
}
