//! Counts one answer's events as they pass: tokens, how long they took, how it ended.

use std::time::Instant;

use crate::engine::message::{Event, FinishReason, Usage};
use crate::http::account::Account;
use crate::http::error::Failure;

/// One answer's.
pub(super) struct Meter {
    account: Account,
    model: String,
    prompt_tokens: u32,
    told: u32,
    last: Option<Instant>,
    ended: bool,
}

impl Meter {
    /// Of an answer that was accepted; the prompt of the `first` of a prompt's answers counts as the request's.
    pub(super) fn new(account: &Account, model: &str, prompt_tokens: u32, first: bool) -> Self {
        if first {
            account.add_prompt(prompt_tokens);
        }
        Meter {
            account: account.clone(),
            model: model.to_owned(),
            prompt_tokens,
            told: 0,
            last: None,
            ended: false,
        }
    }

    /// Takes note of an event.
    pub(super) fn hear(&mut self, event: &Event) {
        match event {
            Event::Accepted { .. } | Event::Prompt { .. } | Event::Vector { .. } => {}
            Event::Text { told, .. } => self.tokens(*told),
            Event::Finished { reason, usage } => self.finish(*reason, *usage),
            Event::Failed(error) => {
                let body = Failure::from(error.clone()).body();
                self.account.metrics().request_failed(&self.model, body.error.code.unwrap_or("other"));
                self.ended = true;
            }
        }
    }

    /// The answer has so many tokens now.
    fn tokens(&mut self, told: u32) {
        let new = told.saturating_sub(self.told);
        if new == 0 {
            return;
        }
        let (metrics, now) = (self.account.metrics(), Instant::now());
        match self.last {
            None => {
                metrics.prompt(&self.model, self.prompt_tokens);
                metrics.first_token(&self.model, now - self.account.started());
            }
            Some(last) => metrics.next_tokens(&self.model, new, now - last),
        }
        metrics.generated(&self.model, new);
        self.account.add_completion(new);
        (self.told, self.last) = (told, Some(now));
    }

    fn finish(&mut self, reason: FinishReason, usage: Usage) {
        // The token that ended the answer, and those of a stop string, were never told.
        self.tokens(usage.completion_tokens);
        let reason = match reason {
            FinishReason::Stop => "stop",
            FinishReason::Length => "length",
        };
        let metrics = self.account.metrics();
        metrics.prefix(&self.model, usage.prompt_tokens, usage.cached_tokens);
        metrics.whole_request(&self.model, self.account.started().elapsed());
        metrics.request_ended(&self.model, reason);
        self.ended = true;
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        if !self.ended {
            self.account.metrics().request_ended(&self.model, "abort");
        }
    }
}
