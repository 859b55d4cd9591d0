//! The host's side of a worker: starts it, carries words there and back, watches over it, and says how it ended.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::Builder;
use std::time::{Duration, Instant};

use super::{Loading, Ready, Task};
use crate::child::{Child, Ending, FrameReader, FrameWriter};
use crate::engine::Suspects;
use crate::engine::remote::{In, Out, Remote};
use crate::error::{Error, Kind, Result};

/// How often a worker is looked after.
const LOOK: Duration = Duration::from_millis(250);

/// How long a worker that was told to end may take.
const ENDING: Duration = Duration::from_secs(5);

/// What a worker may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// How long nothing may be heard of it while something is expected.
    pub silence: Duration,
    /// Bytes of memory of its own; 0: no limit.
    pub memory_bytes: u64,
}

/// A worker whose engine runs, or ran.
pub struct Worker {
    /// Its engine's end here.
    pub remote: Arc<Remote>,
    /// What it said of its model.
    pub ready: Ready,
    child: Arc<Child>,
    is_gone: Arc<AtomicBool>,
}

impl Worker {
    /// Starts a worker and waits until its engine runs. `progress` hears fractions from 0 to 1.
    ///
    /// # Errors
    /// What the worker refuses, and [`Kind::EngineCrashed`] when it ended or was silent for too long.
    pub fn start(
        task: &Task,
        bounds: Bounds,
        suspects: Arc<Suspects>,
        progress: impl Fn(f32),
    ) -> Result<Worker> {
        let (child, mut reader, mut writer) = Child::start("model", &task.model, bounds.memory_bytes)?;
        let sent = writer.send(task).and_then(|()| reader.stream().set_read_timeout(Some(bounds.silence)));
        let ready = sent.map_err(|error| lost(&child, &error)).and_then(|()| {
            loop {
                match reader.receive() {
                    Ok(Some(Loading::Progress(fraction))) => progress(fraction),
                    Ok(Some(Loading::Refused(error))) => return Err(error),
                    Ok(Some(Loading::Ready(ready))) => return Ok(*ready),
                    Ok(None) => return Err(crashed(&child.end(), "while it loaded the model")),
                    Err(error) => return Err(lost(&child, &error)),
                }
            }
        })?;
        let _ = reader.stream().set_read_timeout(None);
        let (out, words) = channel();
        let remote = Remote::new(out, suspects);
        let worker =
            Worker { remote, ready, child: Arc::new(child), is_gone: Arc::new(AtomicBool::new(false)) };
        worker.start_threads(&task.model, (reader, writer), words, bounds)?;
        Ok(worker)
    }

    fn start_threads(
        &self,
        model: &str,
        (reader, writer): (FrameReader, FrameWriter),
        words: Receiver<Out>,
        bounds: Bounds,
    ) -> Result<()> {
        let (ended, watched) = channel::<()>();
        let (remote, child, is_gone) =
            (Arc::clone(&self.remote), Arc::clone(&self.child), Arc::clone(&self.is_gone));
        let model = model.to_owned();
        let listening = move || {
            let _ended = ended;
            listen(&model, reader, &remote, &child);
            is_gone.store(true, Ordering::Release);
        };
        let (remote, child) = (Arc::clone(&self.remote), Arc::clone(&self.child));
        let watching = move || watch(&remote, &child, &watched, bounds);
        let failed = |error: std::io::Error| {
            Error::new(Kind::Internal, format!("a thread for the worker cannot be started: {error}"))
        };
        Builder::new().name("to worker".to_owned()).spawn(move || speak(writer, words)).map_err(failed)?;
        Builder::new().name("from worker".to_owned()).spawn(listening).map_err(failed)?;
        Builder::new().name("watches worker".to_owned()).spawn(watching).map_err(failed)?;
        Ok(())
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.pid()
    }

    /// Bytes of memory that it takes, as the system counts them; `None` when it is gone.
    pub fn memory_bytes(&self) -> Option<u64> {
        if self.is_gone() { None } else { memory_of(self.pid()) }
    }

    /// Whether its process has ended, and all its memory is back.
    pub fn is_gone(&self) -> bool {
        self.is_gone.load(Ordering::Acquire)
    }
}

fn speak(mut writer: FrameWriter, words: Receiver<Out>) {
    for word in words {
        // A worker that cannot be written to is at its end, which is noticed at the other thread.
        if let Err(error) = writer.send(&word) {
            tracing::debug!("a worker takes no more: {error}");
            if error.kind() != std::io::ErrorKind::InvalidData {
                return;
            }
        }
    }
}

/// Hands on what the worker says until it ends, and tells everyone who waits how.
fn listen(model: &str, mut reader: FrameReader, remote: &Remote, child: &Child) {
    let broken = loop {
        match reader.receive::<In>() {
            Ok(Some(heard)) => remote.hear(heard),
            Ok(None) => break None,
            Err(error) => break Some(error),
        }
    };
    if let Some(error) = broken.filter(|error| error.kind() == std::io::ErrorKind::InvalidData) {
        let message = format!("the process of the model's engine is not understood and was ended: {error}");
        remote.blame(Error::new(Kind::EngineCrashed, message));
        child.kill();
    }
    let ending = child.end();
    if remote.was_told_to_end() {
        tracing::debug!(model, "its process {}", ending.what);
    } else {
        tracing::error!(model, "its process {}", ending.told());
    }
    let last = ending.last_lines.join("\n");
    remote.end(crashed(&ending, "while it served this model"), last);
}

/// Ends a worker that is silent where something is expected, or does not end when told to.
fn watch(remote: &Remote, child: &Child, ended: &Receiver<()>, bounds: Bounds) {
    let (mut of_loop, mut of_answers) = (Silence::default(), Silence::default());
    let (mut knocked, mut told, mut looked) = (false, None, Instant::now());
    while ended.recv_timeout(LOOK) == Err(RecvTimeoutError::Timeout) {
        if remote.was_told_to_abort() && told.get_or_insert_with(Instant::now).elapsed() > ENDING {
            child.kill();
        }
        // Time in which this very process stood still is no silence of the other.
        let passed = looked.elapsed().min(LOOK * 2);
        looked = Instant::now();
        of_loop.goes_on(passed, remote.loop_heard());
        of_answers.goes_on(passed, remote.answer_heard());
        let expected =
            [(of_loop.lasts, "nothing was heard of it"), (of_answers.lasts, "it answered no question")];
        if let Some((lasts, what)) = expected.into_iter().find(|(lasts, _)| *lasts >= bounds.silence) {
            let seconds = lasts.as_secs_f32();
            let message = format!("the model's engine hung: {what} for {seconds:.1} s, and it was ended");
            remote.blame(Error::new(Kind::EngineCrashed, message));
            child.kill();
        }
        if of_loop.lasts < bounds.silence / 2 {
            knocked = false;
        } else if !std::mem::replace(&mut knocked, true) {
            // It may wait for something itself, such as a grammar that takes its time.
            remote.knock();
        }
    }
}

/// How long nothing has been heard where something is expected.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Silence {
    heard: Option<Instant>,
    lasts: Duration,
}

impl Silence {
    /// `heard`: when something last was; `None` while nothing is expected.
    fn goes_on(&mut self, passed: Duration, heard: Option<Instant>) {
        if heard.is_some() && heard == self.heard {
            self.lasts += passed;
        } else {
            *self = Silence { heard, lasts: Duration::ZERO };
        }
    }
}

/// A worker that ended before it was told to.
fn crashed(ending: &Ending, when: &str) -> Error {
    let message = format!("the process of the model's engine {} {when}", ending.what);
    Error::new(Kind::EngineCrashed, message).with_detail(ending.last_lines.join("\n"))
}

/// A worker that cannot be heard while it loads.
fn lost(child: &Child, error: &std::io::Error) -> Error {
    let is_silent = matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut);
    if is_silent {
        child.kill();
    }
    let ending = child.end();
    if is_silent {
        let message = "the plugin hung while it loaded the model: no progress was heard for too long";
        return Error::new(Kind::EngineCrashed, message).with_detail(ending.last_lines.join("\n"));
    }
    crashed(&ending, "while it loaded the model")
}

/// What a process takes, in bytes: its share of what it shares with others, where the system tells it, else all of it.
pub fn memory_of(pid: u32) -> Option<u64> {
    let process = Path::new("/proc").join(pid.to_string());
    let of = |file: &str, key: &str| {
        let text = std::fs::read_to_string(process.join(file)).ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix(key))?;
        line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
    };
    of("smaps_rollup", "Pss:").or_else(|| of("status", "VmRSS:"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_lasts_from_when_something_is_expected() {
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        let mut silence = Silence::default();
        let mut lasts = |heard| {
            silence.goes_on(second, heard);
            silence.lasts.as_secs()
        };
        assert_eq!([lasts(None), lasts(None)], [0, 0], "nothing is expected");
        // It was last heard long ago: that is no silence yet.
        assert_eq!([lasts(Some(start)), lasts(Some(start)), lasts(Some(start))], [0, 1, 2]);
        assert_eq!([lasts(Some(start + second)), lasts(Some(start + second))], [0, 1], "it was heard");
        assert_eq!([lasts(None), lasts(Some(start + second))], [0, 0], "all was answered in between");
    }
}
