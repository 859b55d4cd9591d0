//! What happened to a model before, and whether it may be tried now. Pure: it is told the time.

use std::time::{Duration, Instant};

use crate::error::{Error, Kind, Result};

/// Crashes that are further back do not count.
const WINDOW: Duration = Duration::from_secs(300);

/// The pause after a failed load; it doubles with each further one.
const FIRST_PAUSE: Duration = Duration::from_secs(10);

/// The longest pause after failed loads.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// The longest pause before an engine that crashes without ever having answered is started again.
const LONGEST_BACK_OFF: Duration = Duration::from_secs(60);

/// Failures of one model.
#[derive(Debug, Default)]
pub(super) struct History {
    crashes: Vec<Instant>,
    /// Crashes since an engine of this model last gave an answer.
    fruitless: u32,
    failed_loads: u32,
    /// Not before then, for this reason.
    pause: Option<(Instant, Error)>,
    /// Not again, for this reason.
    stopped: Option<Error>,
}

/// What becomes of an engine that crashed, or of a model that could not be loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Next {
    /// It may be started again after this time.
    Again(Duration),
    /// It is not started again by itself.
    Stop,
}

impl History {
    /// Whether the model may be tried now.
    ///
    /// # Errors
    /// Why not, and from when on where that is known.
    pub(super) fn check(&self, now: Instant) -> Result<()> {
        if let Some(stopped) = &self.stopped {
            return Err(stopped.clone());
        }
        match &self.pause {
            Some((until, error)) if *until > now => {
                let seconds = (*until - now).as_secs_f64().ceil() as u16;
                Err(Error { retry_after_secs: Some(seconds.max(1)), ..error.clone() })
            }
            _ => Ok(()),
        }
    }

    /// Why it was stopped, if it was.
    pub(super) fn stopped(&self) -> Option<&Error> {
        self.stopped.as_ref()
    }

    /// A load failed. A crash while loading is a crash.
    pub(super) fn load_failed(&mut self, now: Instant, error: &Error, most: u32) -> Next {
        if error.kind == Kind::EngineCrashed && self.is_one_too_many(now, error, most) {
            return Next::Stop;
        }
        let pause = FIRST_PAUSE.saturating_mul(1 << self.failed_loads.min(8)).min(LONGEST_PAUSE);
        self.failed_loads += 1;
        let message = format!("{}; it is tried again in {} s", error.message, pause.as_secs());
        let cooling = Error { kind: Kind::ModelCooling, message, ..error.clone() };
        self.pause = Some((now + pause, cooling));
        Next::Again(pause)
    }

    /// It was loaded.
    pub(super) fn loaded(&mut self) {
        self.failed_loads = 0;
        self.pause = None;
    }

    /// An engine crashed, at the latest `most` times within a while; `worked`: it had given answers.
    pub(super) fn crashed(&mut self, now: Instant, error: &Error, worked: bool, most: u32) -> Next {
        self.fruitless = if worked { 0 } else { self.fruitless + 1 };
        if self.is_one_too_many(now, error, most) {
            return Next::Stop;
        }
        let pause = match self.fruitless {
            0 | 1 => Duration::ZERO,
            more => Duration::from_secs(1 << (more - 2).min(6)).min(LONGEST_BACK_OFF),
        };
        self.pause = Some((now + pause, error.clone()));
        Next::Again(pause)
    }

    /// Counts a crash; if it is the last that is put up with, the model is stopped.
    fn is_one_too_many(&mut self, now: Instant, error: &Error, most: u32) -> bool {
        self.crashes.retain(|&at| now.saturating_duration_since(at) < WINDOW);
        self.crashes.push(now);
        if self.crashes.len() < most as usize {
            return false;
        }
        let message = format!(
            "the engine of this model crashed {} times within {} minutes and is not started again by itself: {}; look \
             into the server's log, then POST /api/models/…/load starts it anew",
            self.crashes.len(),
            WINDOW.as_secs() / 60,
            error.message
        );
        self.stopped = Some(Error { kind: Kind::EngineStopped, message, ..error.clone() });
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn error() -> Error {
        Error::new(Kind::EngineCrashed, "it broke")
    }

    #[test]
    fn a_failed_load_cools_down_ever_longer_and_says_when() {
        let (mut history, mut now) = (History::default(), Instant::now());
        for expected in [10, 20, 40, 80, 160, 300, 300] {
            let failed = history.load_failed(now, &Error::new(Kind::LoadFailed, "no tensor"), 3);
            assert_eq!(failed, Next::Again(SECOND * u32::from(expected)));
            let refused = history.check(now).unwrap_err();
            assert_eq!((refused.kind, refused.retry_after_secs), (Kind::ModelCooling, Some(expected)));
            assert!(refused.message.starts_with("no tensor"), "{refused}");
            now += SECOND * u32::from(expected);
            assert!(history.check(now).is_ok());
        }
        history.loaded();
        history.load_failed(now, &Error::new(Kind::LoadFailed, "no tensor"), 3);
        assert_eq!(history.check(now).unwrap_err().retry_after_secs, Some(10));
    }

    #[test]
    fn a_crash_while_loading_is_a_crash() {
        let (mut history, now) = (History::default(), Instant::now());
        assert_eq!(history.load_failed(now, &error(), 3), Next::Again(FIRST_PAUSE));
        assert_eq!(history.check(now).unwrap_err().kind, Kind::ModelCooling);
        history.loaded();
        assert_eq!(history.crashed(now, &error(), true, 3), Next::Again(Duration::ZERO));
        assert_eq!(history.load_failed(now, &error(), 3), Next::Stop);
        assert_eq!(history.check(now).unwrap_err().kind, Kind::EngineStopped);
    }

    #[test]
    fn the_third_crash_within_five_minutes_stops_it() {
        let (mut history, now) = (History::default(), Instant::now());
        assert_eq!(history.crashed(now, &error(), true, 3), Next::Again(Duration::ZERO));
        assert_eq!(history.crashed(now + SECOND, &error(), true, 3), Next::Again(Duration::ZERO));
        // The first two are too long ago.
        let later = now + WINDOW + SECOND * 2;
        assert_eq!(history.crashed(later, &error(), true, 3), Next::Again(Duration::ZERO));
        history.crashed(later, &error(), true, 3);
        assert_eq!(history.crashed(later, &error(), true, 3), Next::Stop);
        let refused = history.check(later + WINDOW * 10).unwrap_err();
        assert_eq!(refused.kind, Kind::EngineStopped);
        assert!(refused.message.contains("3 times") && refused.message.contains("it broke"), "{refused}");
    }

    #[test]
    fn an_engine_that_never_answers_is_started_ever_later() {
        let (mut history, now) = (History::default(), Instant::now());
        let pauses: Vec<u64> = (0..9)
            .map(|_| match history.crashed(now, &error(), false, 100) {
                Next::Again(pause) => pause.as_secs(),
                Next::Stop => panic!("stopped"),
            })
            .collect();
        assert_eq!(pauses, [0, 1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(history.crashed(now, &error(), true, 100), Next::Again(Duration::ZERO));
    }
}
