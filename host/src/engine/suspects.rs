//! Requests that were being computed when their engine crashed. One that was there twice is taken for the cause.

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeSet, HashMap};
use std::hash::{Hash, Hasher};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::Serialize;

use crate::error::{Error, Kind, Result};

/// What a request is known by when it comes again.
pub(super) type Fingerprint = u64;

/// A request that ran at so many crashes is refused.
const REFUSED_AT: u32 = 2;

/// More are not remembered: the first to come is as good a guess as the last.
const MOST: usize = 4096;

/// The suspects of one model, over the lives of its engines.
#[derive(Debug, Default)]
pub struct Suspects(Mutex<HashMap<Fingerprint, u32>>);

impl Suspects {
    /// What a request is known by: all of it but the seed that was drawn for it.
    pub(super) fn fingerprint<T: Serialize>(request: &T) -> Fingerprint {
        let mut hasher = DefaultHasher::new();
        // Whatever cannot be written is the same as nothing, and a request can be written.
        rmp_serde::to_vec(request).unwrap_or_default().hash(&mut hasher);
        hasher.finish()
    }

    /// Refuses what ran at two crashes.
    pub(super) fn check(&self, request: Fingerprint) -> Result<()> {
        match self.lock().get(&request) {
            Some(&crashes) if crashes >= REFUSED_AT => Err(Error::new(
                Kind::RequestCrashes,
                format!(
                    "the engine of this model crashed {crashes} times while it computed this very request: it is not \
                     tried again"
                ),
            )),
            _ => Ok(()),
        }
    }

    /// These were being computed when it crashed.
    pub(super) fn ran_at_crash(&self, requests: impl Iterator<Item = Fingerprint>) {
        // Several answers to one request are one suspect.
        let requests: BTreeSet<Fingerprint> = requests.collect();
        let mut suspects = self.lock();
        for request in requests {
            if suspects.len() < MOST || suspects.contains_key(&request) {
                *suspects.entry(request).or_default() += 1;
            }
        }
    }

    /// This one came to its end.
    pub(super) fn clear(&self, request: Fingerprint) {
        self.lock().remove(&request);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Fingerprint, u32>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_crash_makes_a_suspect_and_an_answer_clears_it() {
        let suspects = Suspects::default();
        suspects.ran_at_crash([1, 2, 1].into_iter());
        assert!(suspects.check(1).is_ok());
        suspects.clear(2);
        suspects.ran_at_crash([1, 2].into_iter());
        assert_eq!(suspects.check(1).unwrap_err().kind, Kind::RequestCrashes);
        assert!(suspects.check(2).is_ok() && suspects.check(3).is_ok());
    }
}
