//! How far a load is, on stderr: one line that changes on a terminal, few plain lines elsewhere.

use std::io::{self, IsTerminal, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::output::{harmless, tell};
use crate::models::OnProgress;

/// How often a plain line is written.
const PLAIN_INTERVAL: Duration = Duration::from_secs(5);

/// A running load, as the user sees it.
pub(super) struct Progress {
    model: String,
    started: Instant,
    on_terminal: bool,
    shown: Arc<Mutex<Shown>>,
}

struct Shown {
    percent: u32,
    at: Instant,
}

impl Progress {
    pub(super) fn start(model: &str) -> Self {
        let started = Instant::now();
        let on_terminal = io::stderr().is_terminal();
        let model = harmless(model).into_owned();
        if on_terminal {
            let _ = write!(io::stderr(), "\rloading {model}");
        } else {
            tell(&format!("loading {model}"));
        }
        Progress {
            model,
            started,
            on_terminal,
            shown: Arc::new(Mutex::new(Shown { percent: 0, at: started })),
        }
    }

    /// What the loader is to call.
    pub(super) fn listener(&self) -> OnProgress {
        let (model, on_terminal, shown) = (self.model.clone(), self.on_terminal, Arc::clone(&self.shown));
        Arc::new(move |fraction| {
            let percent = (fraction.clamp(0.0, 1.0) * 100.0) as u32;
            let mut shown = shown.lock().unwrap_or_else(PoisonError::into_inner);
            let due = on_terminal || shown.at.elapsed() >= PLAIN_INTERVAL;
            if percent == shown.percent || !due {
                return;
            }
            *shown = Shown { percent, at: Instant::now() };
            if on_terminal {
                let _ = write!(io::stderr(), "\rloading {model} {percent:3} %");
            } else {
                tell(&format!("loading {model}: {percent} %"));
            }
        })
    }

    /// Takes the changing line away; says how long it took where lines stay.
    pub(super) fn finish(self, loaded: bool) {
        if self.on_terminal {
            let _ = write!(io::stderr(), "\r\u{1b}[K");
        } else if loaded {
            tell(&format!("loaded {} in {:.1} s", self.model, self.started.elapsed().as_secs_f64()));
        }
    }
}
