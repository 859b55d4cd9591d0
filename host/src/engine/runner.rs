//! The loop of one loaded model: commands in, events out. It owns the context and blocks only when idle.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError};

use super::Settings;
use super::answer::{Answer, Progress};
use super::message::{Command, Event, FinishReason, Prompt, Request, RequestId, Segment};
use super::router::Router;
use super::scheduler::{Growth, Limits, Scheduler, Step};
use super::vocabulary::Vocabulary;
use crate::error::{Error, Kind, Result};
use crate::plugins::model::{Context, ErrorCode, Model, Token, TokenizeOptions};

/// Everything that the engine's thread owns.
pub(super) struct Runner {
    model: Arc<Model>,
    context: Context,
    vocabulary: Vocabulary,
    scheduler: Scheduler,
    answers: HashMap<RequestId, Answer>,
    step: Step,
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
        commands: Receiver<Command>,
        router: Arc<Router>,
    ) -> Result<Self> {
        let context = model.new_context(settings.max_sequences)?;
        let vocabulary = Vocabulary::of(&model)?;
        let scheduler = Scheduler::new(limits(&context, settings));
        Ok(Runner {
            model,
            context,
            vocabulary,
            scheduler,
            answers: HashMap::new(),
            step: Step::default(),
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
            if let Err(error) = self.step() {
                tracing::error!("the engine ends: {error}");
                self.router.fail_all(&error);
                return;
            }
            self.router.count(self.scheduler.running(), self.scheduler.waiting());
        }
    }

    fn step(&mut self) -> Result<()> {
        self.forget_emptied()?;
        self.scheduler.plan(&mut self.step);
        self.forget_emptied()?;
        if self.step.rows.is_empty() {
            return Ok(());
        }
        match self.context.decode(&self.step.rows) {
            Ok(()) => self.advance(),
            Err(error) if error.code == ErrorCode::CACHE_FULL => self.make_room(),
            Err(error) => return self.fail(error.code, &error.message),
        }
        Ok(())
    }

    /// Takes what was said since the last step; waits for something to be said when there is nothing to do.
    /// `false` ends the loop.
    fn receive(&mut self) -> bool {
        loop {
            let idle = self.scheduler.is_idle();
            if idle && self.finishing {
                return false;
            }
            let command = if idle {
                self.commands.recv().map_err(|_| TryRecvError::Disconnected)
            } else {
                self.commands.try_recv()
            };
            match command {
                Ok(Command::Submit(id, request)) => self.submit(id, &request),
                Ok(Command::Cancel(id)) => self.drop_sequence(id),
                Ok(Command::Finish) | Err(TryRecvError::Disconnected) => self.finishing = true,
                Ok(Command::Abort) => return false,
                Err(TryRecvError::Empty) => return true,
            }
            if self.finishing && !self.scheduler.is_idle() {
                return true;
            }
        }
    }

    fn submit(&mut self, id: RequestId, request: &Request) {
        let accepted = self.tokenize(&request.prompt).and_then(|prompt| {
            check_length(prompt.len(), self.limits().longest())?;
            Ok(prompt)
        });
        match accepted {
            Ok(prompt) => {
                self.router.deliver(id, Event::Accepted { prompt_tokens: prompt.len() as u32 });
                self.answers.insert(id, Answer::new(request, &prompt, &self.vocabulary));
                self.scheduler.add(id, prompt);
            }
            Err(error) => self.router.deliver(id, Event::Failed(error)),
        }
    }

    fn tokenize(&self, prompt: &Prompt) -> Result<Vec<Token>> {
        match prompt {
            Prompt::Chat(segments) => chat_tokens(&self.model, segments),
            Prompt::Text(text) => {
                self.model.tokenize(text, TokenizeOptions { add_special: true, parse_special: true })
            }
            Prompt::Tokens(tokens) => {
                let size = self.model.vocab_size();
                match tokens.iter().find(|&&token| token >= size) {
                    None => Ok(tokens.iter().copied().map(Token).collect()),
                    Some(token) => Err(Error::invalid(
                        "prompt",
                        format!("token {token} is beyond this model's vocabulary of {size} tokens"),
                    )),
                }
            }
        }
    }

    /// Samples for every row that wanted it, emits, and retires what ended.
    fn advance(&mut self) {
        self.scheduler.done(&self.step);
        for (row, id) in std::mem::take(&mut self.step.wanted) {
            let Some(answer) = self.answers.get_mut(&id) else { continue };
            let progress = match self.context.logits(row) {
                Ok(logits) => {
                    answer.advance(logits, &self.vocabulary, |event| self.router.deliver(id, event))
                }
                Err(error) => Err(Error::new(Kind::EngineCrashed, error.message)),
            };
            match progress {
                Ok(Progress::Goes(token)) => {
                    if self.scheduler.push(id, token) == Growth::Full {
                        self.finish(id, FinishReason::Length);
                    }
                }
                Ok(Progress::Ended(reason)) => self.finish(id, reason),
                Err(error) => self.fail_one(id, error),
            }
        }
    }

    fn finish(&mut self, id: RequestId, reason: FinishReason) {
        self.scheduler.remove(id);
        if let Some(answer) = self.answers.remove(&id) {
            answer.finish(reason, |event| self.router.deliver(id, event));
        }
    }

    fn fail_one(&mut self, id: RequestId, error: Error) {
        self.drop_sequence(id);
        self.router.deliver(id, Event::Failed(error));
    }

    fn drop_sequence(&mut self, id: RequestId) {
        self.scheduler.remove(id);
        self.answers.remove(&id);
    }

    /// The plugin has fewer cells than it said. The youngest waits; a lone sequence cannot grow any more.
    fn make_room(&mut self) {
        if !self.scheduler.preempt_youngest() {
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
        self.forget_emptied()?;
        let context = &self.context;
        self.scheduler.resynchronise(|slot| context.held(slot) as usize);
        Ok(())
    }

    /// A context that panicked answers nothing any more; the model behind it still may.
    fn rebuild_context(&mut self) -> Result<()> {
        self.context = self.model.new_context(self.settings.max_sequences).map_err(|error| {
            Error::new(Kind::EngineCrashed, format!("the plugin crashed and gives no new context: {error}"))
        })?;
        self.scheduler.take_emptied();
        self.scheduler.resynchronise(|_| 0);
        Ok(())
    }

    fn forget_emptied(&mut self) -> Result<()> {
        for slot in self.scheduler.take_emptied() {
            if let Err(error) = self.context.forget(slot) {
                tracing::error!(code = error.code.name(), "a sequence cannot be removed: {error}");
                return self.rebuild_context();
            }
        }
        Ok(())
    }
}

/// What a context really has room for, under what the host was told.
fn limits(context: &Context, settings: Settings) -> Limits {
    let found = context.limits();
    let slots = found.max_sequences.min(settings.max_sequences);
    Limits {
        total_tokens: found.total_tokens as usize,
        sequence_tokens: found.sequence_tokens as usize,
        slots: slots as usize,
        // Every running sequence must be able to take its one token in each step.
        step_tokens: settings.step_tokens.max(slots).min(found.batch_tokens) as usize,
    }
}

/// A chat's tokens: the template's own text with control tokens, what users wrote about them without.
///
/// # Errors
/// What the plugin refuses.
pub fn chat_tokens(model: &Model, segments: &[Segment]) -> Result<Vec<Token>> {
    let mut tokens = Vec::new();
    for segment in segments {
        let (text, parse_special) = match segment {
            Segment::Template(text) => (text, true),
            Segment::Literal(text) => (text, false),
        };
        tokens.extend(model.tokenize(text, TokenizeOptions { add_special: false, parse_special })?);
    }
    Ok(tokens)
}

fn check_length(prompt: usize, longest: usize) -> Result<()> {
    if prompt == 0 {
        return Err(Error::invalid("prompt", "the prompt is empty: there is nothing to go on from"));
    }
    if prompt < longest {
        return Ok(());
    }
    Err(Error::new(
        Kind::ContextLengthExceeded,
        format!(
            "this model's context is {longest} tokens here, and the prompt has {prompt}: it leaves no room for an \
             answer; shorten the prompt"
        ),
    ))
}
