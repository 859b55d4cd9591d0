//! Where the loop has to do with grammars: requests are accepted when theirs has been read, and an answer whose grammar
//! takes its time sits out without holding up the others.

use std::time::{Duration, Instant};

use super::Runner;
use super::prompts::check_length;
use crate::engine::answer::{Answer, Progress};
use crate::engine::guide::Guide;
use crate::engine::message::{Event, Request, RequestId};
use crate::engine::step::Computed;
use crate::engine::structures::Prepared;

impl Runner {
    pub(super) fn submit(&mut self, id: RequestId, request: Box<Request>) {
        // The plugin reads its text now.
        self.router.computing([id]);
        let deadline = request.time_limit_ms.map(|limit| Instant::now() + Duration::from_millis(limit));
        let accepted = self.tokenize(&request.prompt).and_then(|prompt| {
            check_length(prompt.len(), self.limits().longest())?;
            Ok(prompt)
        });
        let submitted = accepted.and_then(|prompt| {
            if let Some(structure) = request.structure.clone() {
                return self.structures.read(id, structure, Prepared { request, prompt, deadline });
            }
            let guide = request.offered.clone().map(|offered| self.structures.offer(offered)).transpose()?;
            self.accept(id, Prepared { request, prompt, deadline }, guide);
            Ok(())
        });
        if let Err(error) = submitted {
            self.router.deliver(id, Event::Failed(error));
        }
    }

    fn accept(&mut self, id: RequestId, prepared: Prepared, guide: Option<Guide>) {
        let Prepared { request, prompt, deadline } = prepared;
        self.router.deliver(id, Event::Accepted { prompt_tokens: prompt.len() as u32 });
        self.answers
            .insert(id, Answer::new(&request, &prompt, &self.vocabulary).guided(guide).until(deadline));
        let computed = match *request {
            Request { prompt_logprobs: true, .. } => Computed::Scored,
            Request { afresh: true, .. } => Computed::Afresh,
            _ => Computed::Beyond,
        };
        self.scheduler.add(id, request.priority, prompt, computed);
    }

    /// The requests whose schemas and grammars were read in the meantime.
    pub(super) fn accept_structured(&mut self) {
        while let Some((id, prepared, guide)) = self.structures.take() {
            match guide {
                Ok(guide) => self.accept(id, prepared, Some(guide)),
                Err(error) => self.router.deliver(id, Event::Failed(error)),
            }
        }
    }

    /// Samples for the answers whose grammars have said in the meantime what is allowed.
    pub(super) fn resume(&mut self) {
        for (id, logits) in std::mem::take(&mut self.parked) {
            let Some(answer) = self.answers.get_mut(&id) else { continue };
            if !self.scheduler.is_running(id) {
                // It gave way to others, and can take a token when it is back.
                self.parked.insert(id, logits);
                continue;
            }
            let emit = |event| self.router.deliver(id, event);
            let progress = answer.advance(&logits, &self.vocabulary, Duration::ZERO, emit);
            if matches!(progress, Ok(Progress::Waits)) {
                self.parked.insert(id, logits);
            }
            self.progress(id, progress);
        }
    }
}
