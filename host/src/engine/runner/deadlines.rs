//! Where the loop has to do with the time that requests give themselves. A step that runs is not interrupted.

use std::sync::mpsc::{RecvTimeoutError, TryRecvError};
use std::time::Instant;

use super::Runner;
use crate::engine::answer::Answer;
use crate::engine::message::{Command, Event, FinishReason, RequestId};
use crate::error::{Error, Kind};

impl Runner {
    /// Waits for the next command, but not beyond the next deadline.
    pub(super) fn wait(&self) -> Result<Command, TryRecvError> {
        let deadlines = self.answers.values().filter_map(Answer::deadline);
        let Some(deadline) = deadlines.chain(self.structures.next_deadline()).min() else {
            return self.commands.recv().map_err(|_| TryRecvError::Disconnected);
        };
        let left = deadline.saturating_duration_since(Instant::now());
        self.commands.recv_timeout(left).map_err(|error| match error {
            RecvTimeoutError::Timeout => TryRecvError::Empty,
            RecvTimeoutError::Disconnected => TryRecvError::Disconnected,
        })
    }

    /// Ends the answers whose time is over: those that have begun with what they have, the others with an error.
    pub(super) fn end_late(&mut self) {
        let now = Instant::now();
        let is_late = |answer: &Answer| answer.deadline().is_some_and(|deadline| deadline <= now);
        let late: Vec<(RequestId, bool)> = self
            .answers
            .iter()
            .filter(|(_, answer)| is_late(answer))
            .map(|(&id, answer)| (id, answer.has_begun()))
            .collect();
        for (id, has_begun) in late {
            self.parked.remove(&id);
            if has_begun {
                self.finish(id, FinishReason::Length);
            } else {
                self.scheduler.remove(id);
                self.answers.remove(&id);
                self.router.deliver(id, Event::Failed(too_late()));
            }
        }
        for id in self.structures.late(now) {
            self.structures.forget(id);
            self.router.deliver(id, Event::Failed(too_late()));
        }
    }
}

fn too_late() -> Error {
    let message = "`deadline_ms` was over before the answer began: allow more time, or ask when the server is less \
                   busy";
    let error = Error::new(Kind::DeadlineExceeded, message);
    Error { param: Some("deadline_ms".to_owned()), ..error }
}
