//! How far a benchmark is, on stderr: a bar on a terminal, few plain lines elsewhere.

use std::io::{self, IsTerminal};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::bench::{OnProgress, Progress};
use crate::cli::output::{harmless, tell};

/// How often a plain line is written.
const PLAIN_INTERVAL: Duration = Duration::from_secs(5);

/// What a user sees of a running benchmark.
pub(super) struct Bar {
    bar: Option<ProgressBar>,
    told: Mutex<Option<Instant>>,
}

impl Bar {
    pub(super) fn start() -> Arc<Bar> {
        let bar = io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template("{elapsed:>4} [{bar:30}] {pos}/{len} {wide_msg}");
            // A template that is wrong would be seen at the first use: bars have a style of their own otherwise.
            let style = style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> ");
            let bar = ProgressBar::new(0).with_style(style);
            bar.enable_steady_tick(Duration::from_millis(250));
            bar
        });
        Arc::new(Bar { bar, told: Mutex::new(None) })
    }

    /// What the benchmark is to call.
    pub(super) fn listener(self: &Arc<Self>) -> OnProgress {
        let bar = Arc::clone(self);
        Arc::new(move |progress| bar.show(progress))
    }

    fn show(&self, progress: &Progress) {
        let Progress { done, of, what } = progress;
        if let Some(bar) = &self.bar {
            bar.set_length((*of).max(*done).into());
            bar.set_position((*done).into());
            bar.set_message(harmless(what).into_owned());
            return;
        }
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.is_none_or(|told| told.elapsed() >= PLAIN_INTERVAL) {
            *told = Some(Instant::now());
            tell(&format!("{done} of {of}: {what}"));
        }
    }

    /// Takes the bar away.
    pub(super) fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
