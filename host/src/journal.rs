//! The last answers and the last failures, in memory, for whoever looks at how the server goes. Neither prompts nor
//! answers nor keys are in it. Knows neither HTTP nor engines.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use serde::Serialize;
use utoipa::ToSchema;

/// How many of each are kept.
const KEPT: usize = 100;

/// What is kept.
#[derive(Debug, Default)]
pub struct Journal {
    answers: Mutex<VecDeque<Answered>>,
    failures: Mutex<VecDeque<Failed>>,
}

/// An answer that ended, one way or the other.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Answered {
    /// The request's id.
    pub request: String,
    /// The model that gave it.
    pub model: String,
    /// When it ended, in seconds since 1970.
    pub at: u64,
    /// Tokens of the prompt.
    pub prompt_tokens: u32,
    /// Of these, tokens that were in the cache.
    pub cached_tokens: u32,
    /// Tokens that were generated.
    pub completion_tokens: u32,
    /// From the request's arrival to the first token; null where none came.
    pub first_token_secs: Option<f64>,
    /// From the request's arrival to the end.
    pub total_secs: f64,
    /// `stop`, `length`, `abort` (the client went away) or `failed`.
    pub ending: &'static str,
}

/// A request that was refused, or failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Failed {
    /// The request's id.
    pub request: String,
    /// When, in seconds since 1970.
    pub at: u64,
    /// Its method.
    pub method: String,
    /// Its path.
    pub path: String,
    /// The status that it was answered with; 200 where it failed within a stream.
    pub status: u16,
    /// The code that the client was told.
    pub code: Option<String>,
    /// What the client was told.
    pub message: String,
}

impl Journal {
    /// Writes down an answer.
    pub fn answered(&self, answer: Answered) {
        push(lock(&self.answers), answer);
    }

    /// Writes down a failure.
    pub fn failed(&self, failure: Failed) {
        push(lock(&self.failures), failure);
    }

    /// The last answers, the latest first.
    pub fn answers(&self) -> Vec<Answered> {
        lock(&self.answers).iter().cloned().collect()
    }

    /// The last failures, the latest first.
    pub fn failures(&self) -> Vec<Failed> {
        lock(&self.failures).iter().cloned().collect()
    }
}

/// Seconds since 1970.
pub fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |age| age.as_secs())
}

fn push<T>(mut list: MutexGuard<'_, VecDeque<T>>, entry: T) {
    list.truncate(KEPT - 1);
    list.push_front(entry);
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A list is whole between any two steps of a change.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(request: usize) -> Failed {
        Failed {
            request: request.to_string(),
            at: now(),
            method: "GET".to_owned(),
            path: "/".to_owned(),
            status: 404,
            code: None,
            message: "m".to_owned(),
        }
    }

    #[test]
    fn the_latest_come_first_and_the_oldest_go() {
        let journal = Journal::default();
        (0..KEPT + 5).for_each(|request| journal.failed(failed(request)));
        let kept = journal.failures();
        assert_eq!(kept.len(), KEPT);
        assert_eq!((kept[0].request.as_str(), kept[KEPT - 1].request.as_str()), ("104", "5"));
        assert_eq!(journal.answers(), []);
    }
}
