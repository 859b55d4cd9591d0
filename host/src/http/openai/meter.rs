//! Counts one answer's events as they pass: tokens, how long they took, how it ended.

use std::time::Instant;

use crate::engine::message::{Event, FinishReason, Usage};
use crate::http::account::Account;
use crate::http::error::Failure;
use crate::journal::{self, Answered};

/// One answer's.
pub(super) struct Meter {
    account: Account,
    model: String,
    prompt_tokens: u32,
    told: u32,
    first_token_secs: Option<f64>,
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
            first_token_secs: None,
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
                let failure = Failure::from(error.clone());
                self.account
                    .metrics()
                    .request_failed(&self.model, failure.body().error.code.unwrap_or("other"));
                self.note("failed", 0);
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
                let after = now - self.account.started();
                metrics.first_token(&self.model, after);
                self.first_token_secs = Some(after.as_secs_f64());
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
        let reason = reason.name();
        let metrics = self.account.metrics();
        metrics.prefix(&self.model, usage.prompt_tokens, usage.cached_tokens);
        metrics.drafts(&self.model, usage.drafted_tokens, usage.accepted_tokens);
        metrics.whole_request(&self.model, self.account.started().elapsed());
        metrics.request_ended(&self.model, reason);
        self.note(reason, usage.cached_tokens);
        self.ended = true;
    }

    /// The journal hears how it ended.
    fn note(&self, ending: &'static str, cached_tokens: u32) {
        self.account.metrics().journal().answered(Answered {
            request: self.account.id().to_string(),
            model: self.model.clone(),
            at: journal::now(),
            prompt_tokens: self.prompt_tokens,
            cached_tokens,
            completion_tokens: self.told,
            first_token_secs: self.first_token_secs,
            total_secs: self.account.started().elapsed().as_secs_f64(),
            ending,
        });
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        if !self.ended {
            self.account.metrics().request_ended(&self.model, "abort");
            self.note("abort", 0);
        }
    }
}
