//! Benchmarks that a server runs for whoever asks: one at a time, beside each other those that have ended.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::Value;
use tokio::sync::Notify;
use utoipa::ToSchema;

use super::recorder::{OnProgress, Progress, Recorder, Stopper};
use super::report::{Kind, Report};
use super::store::{Saved, Store, new_id};
use crate::error::{self, Error};
use crate::events::{Bus, Change};

/// Of benchmarks that have ended and were not saved, so many are remembered.
const REMEMBERED: usize = 32;

/// Where a benchmark stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = BenchmarkState)]
pub enum JobState {
    /// It measures.
    Running,
    /// It came to its end.
    Finished,
    /// It was stopped, and has what it had measured.
    Cancelled,
    /// It could not go on; `error` says why.
    Failed,
}

/// A benchmark, running or ended.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[schema(as = BenchmarkJob)]
pub struct Job {
    /// Its name.
    pub id: String,
    /// What is measured.
    pub kind: Kind,
    /// Of what.
    pub subject: String,
    /// Where it stands.
    pub state: JobState,
    /// When it began, UTC, as RFC 3339 writes it.
    pub started_at: String,
    /// How long it took, or has taken so far.
    pub seconds: f64,
    /// How far it is, or was at its end; null where that is not known any more.
    pub progress: Option<Progress>,
    /// Why it failed.
    pub error: Option<String>,
    /// Whether it is in the database.
    pub saved: bool,
    /// What it found; null while it runs, and in lists.
    pub report: Option<Report>,
}

/// What a benchmark's work gives back: what it has found, and whether it failed.
pub type Worked = (Recorder, error::Result<()>);

/// All benchmarks of a server.
pub struct Jobs {
    store: Option<Store>,
    bus: Bus,
    inner: Mutex<Inner>,
    /// Told whenever one has ended.
    ended: Notify,
}

#[derive(Default)]
struct Inner {
    running: Option<Running>,
    /// No other begins: the server ends.
    closed: bool,
    /// Newest first.
    ended: VecDeque<Job>,
}

struct Running {
    job: Job,
    begun: Instant,
    stopper: Stopper,
    /// Requests that were being served when it began.
    busy: usize,
    /// Requests that came since.
    meanwhile: u32,
}

impl Running {
    fn now(&self) -> Job {
        Job { seconds: self.begun.elapsed().as_secs_f64(), ..self.job.clone() }
    }

    /// What disturbed the measurement, and was disturbed by it.
    fn disturbance(&self) -> Option<String> {
        let Running { busy, meanwhile, .. } = self;
        (*busy > 0 || *meanwhile > 0).then(|| {
            format!(
                "the server had other work, and each slowed the other down: requests being served when it began: {busy}, \
                 requests that came meanwhile: {meanwhile}"
            )
        })
    }
}

/// What is to be measured.
pub struct Order {
    /// The kind.
    pub kind: Kind,
    /// Of what.
    pub subject: String,
    /// As in the report.
    pub options: Value,
    /// Whether to keep it in the database.
    pub save: bool,
    /// Requests that are being served now, where it was forced.
    pub busy: usize,
}

impl Jobs {
    /// None yet. Without a store, nothing can be saved.
    pub fn new(store: Option<Store>, bus: Bus) -> Arc<Jobs> {
        Arc::new(Jobs { store, bus, inner: Mutex::default(), ended: Notify::new() })
    }

    /// Begins a benchmark; `None` where one runs already.
    ///
    /// # Errors
    /// When it is to be saved and there is nowhere to, and [`ShuttingDown`](error::Kind::ShuttingDown) when the server ends.
    pub fn start<W>(
        self: &Arc<Self>,
        order: Order,
        work: impl FnOnce(Recorder) -> W + Send + 'static,
    ) -> error::Result<Option<Job>>
    where
        W: Future<Output = Worked> + Send + 'static,
    {
        if order.save && self.store.is_none() {
            let message = "it cannot be saved: this user has no folder for data";
            return Err(Error::new(error::Kind::InvalidRequest, message));
        }
        let (id, stopper) = (new_id(), Stopper::default());
        let recorder = Recorder::new(order.kind, order.options, stopper.clone(), self.on_progress(&id));
        let job = Job {
            id: id.clone(),
            kind: order.kind,
            subject: order.subject,
            state: JobState::Running,
            started_at: recorder.started_at().to_owned(),
            seconds: 0.0,
            progress: Some(Progress::default()),
            error: None,
            saved: false,
            report: None,
        };
        {
            let mut inner = self.inner();
            if inner.closed {
                return Err(Error::new(error::Kind::ShuttingDown, "the server is shutting down"));
            }
            if inner.running.is_some() {
                return Ok(None);
            }
            let (begun, busy) = (Instant::now(), order.busy);
            inner.running = Some(Running { job: job.clone(), begun, stopper, busy, meanwhile: 0 });
        }
        self.tell(&job);
        let jobs = Arc::clone(self);
        tokio::spawn(async move {
            let worked = tokio::spawn(work(recorder)).await;
            // Writing to the database waits for a disk.
            let _ = tokio::task::spawn_blocking(move || jobs.end(worked, order.save)).await;
        });
        Ok(Some(job))
    }

    fn end(&self, worked: Result<Worked, tokio::task::JoinError>, save: bool) {
        let running = self.inner().running.as_ref().map(|running| (running.now(), running.disturbance()));
        let Some((mut job, disturbance)) = running else { return };
        let mut found = false;
        match worked {
            Ok((mut recorder, result)) => {
                found = recorder.has_found();
                disturbance.into_iter().for_each(|words| recorder.note(words));
                let was_stopped = recorder.stopper().is_asked();
                let _ = result.as_ref().inspect_err(|error| recorder.broke_off(error));
                let report = recorder.report();
                job.seconds = report.seconds;
                job.subject.clone_from(&report.subject);
                job.state = if was_stopped { JobState::Cancelled } else { JobState::Finished };
                if let Err(error) = result {
                    job.state = JobState::Failed;
                    job.error = Some(error.message);
                }
                job.report = Some(report);
            }
            Err(error) => {
                job.state = JobState::Failed;
                job.error = Some(format!("the benchmark broke off: this is a bug: {error}"));
            }
        }
        // What one that failed had found is kept as well.
        let worth_it = save && (found || job.error.is_none());
        if let (true, Some(store), Some(report)) = (worth_it, &self.store, &job.report) {
            match store.save(&job.id, report) {
                Ok(()) => job.saved = true,
                Err(error) => {
                    job.error.get_or_insert(error.message);
                }
            }
        }
        {
            let mut inner = self.inner();
            inner.running = None;
            inner.ended.push_front(job.clone());
            inner.ended.truncate(REMEMBERED);
        }
        self.tell(&job);
        self.ended.notify_waiters();
    }

    /// A request came to this server: the report of one that runs will say how many did.
    pub fn request_came(&self) {
        if let Some(running) = &mut self.inner().running {
            running.meanwhile += 1;
        }
    }

    /// Lets no other begin, stops one that runs and waits until it has ended and is kept, where that is wanted; no longer
    /// than this.
    pub async fn shutdown(&self, patience: Duration) {
        {
            let mut inner = self.inner();
            inner.closed = true;
            inner.running.iter().for_each(|running| running.stopper.stop());
        }
        let ended = async {
            loop {
                // Heard from here on: nothing is missed between looking and waiting.
                let heard = self.ended.notified();
                if !self.is_running() {
                    return;
                }
                heard.await;
            }
        };
        if tokio::time::timeout(patience, ended).await.is_err() {
            tracing::error!("a benchmark did not end within {} s, and is lost", patience.as_secs());
        }
    }

    /// Whether one runs.
    pub fn is_running(&self) -> bool {
        self.inner().running.is_some()
    }

    /// All, newest first, without their reports. Blocks while the database is read.
    ///
    /// # Errors
    /// What the database says.
    pub fn list(&self) -> error::Result<Vec<Job>> {
        let mut jobs: Vec<Job> = {
            let inner = self.inner();
            let ended = inner.ended.iter().map(|job| Job { report: None, ..job.clone() });
            inner.running.iter().map(Running::now).chain(ended).collect()
        };
        let saved = self.store.as_ref().map_or(Ok(Vec::new()), Store::list)?;
        let older: Vec<Job> = saved
            .into_iter()
            .filter(|saved| jobs.iter().all(|job| job.id != saved.id))
            .map(of_saved)
            .collect();
        jobs.extend(older);
        jobs.sort_by(|a, b| b.started_at.cmp(&a.started_at));
        Ok(jobs)
    }

    /// One, with its report. Blocks while the database is read.
    ///
    /// # Errors
    /// What the database says.
    pub fn get(&self, id: &str) -> error::Result<Option<Job>> {
        if let Some(job) = self.remembered(id) {
            return Ok(Some(job));
        }
        let Some(store) = &self.store else { return Ok(None) };
        let Some((name, report)) = store.get(id)?.filter(|(name, _)| name == id) else { return Ok(None) };
        let saved = Saved {
            id: name,
            kind: report.kind,
            subject: report.subject.clone(),
            started_at: report.started_at.clone(),
            seconds: report.seconds,
            interrupted: report.interrupted,
        };
        Ok(Some(Job { report: Some(report), ..of_saved(saved) }))
    }

    fn remembered(&self, id: &str) -> Option<Job> {
        let inner = self.inner();
        let running = inner.running.as_ref().filter(|running| running.job.id == id).map(Running::now);
        running.or_else(|| inner.ended.iter().find(|job| job.id == id).cloned())
    }

    /// Stops one that runs, forgets one that has ended. As it was; `None` where there is none of this name. Blocks while the
    /// database is written.
    ///
    /// # Errors
    /// What the database says.
    pub fn remove(&self, id: &str) -> error::Result<Option<Job>> {
        let Some(job) = self.get(id)? else { return Ok(None) };
        {
            let mut inner = self.inner();
            if let Some(running) = inner.running.as_ref().filter(|running| running.job.id == id) {
                running.stopper.stop();
                return Ok(Some(job));
            }
            inner.ended.retain(|job| job.id != id);
        }
        if let Some(store) = &self.store {
            store.delete(id)?;
        }
        Ok(Some(job))
    }

    fn on_progress(self: &Arc<Self>, id: &str) -> OnProgress {
        let (jobs, id) = (Arc::downgrade(self), id.to_owned());
        Arc::new(move |progress| {
            let Some(jobs) = jobs.upgrade() else { return };
            let now = {
                let mut inner = jobs.inner();
                let Some(running) = inner.running.as_mut().filter(|running| running.job.id == id) else {
                    return;
                };
                running.job.progress = Some(progress.clone());
                running.job.clone()
            };
            jobs.tell(&now);
        })
    }

    fn tell(&self, job: &Job) {
        self.bus.tell(Change::Benchmark {
            id: job.id.clone(),
            kind: job.kind,
            state: job.state,
            progress: job.progress.clone(),
            reason: job.error.clone(),
        });
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        // Nobody panics while holding it.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn of_saved(saved: Saved) -> Job {
    let Saved { id, kind, subject, started_at, seconds, interrupted } = saved;
    let state = if interrupted { JobState::Cancelled } else { JobState::Finished };
    Job {
        id,
        kind,
        subject,
        state,
        started_at,
        seconds,
        progress: None,
        error: None,
        saved: true,
        report: None,
    }
}

#[cfg(test)]
mod tests;
