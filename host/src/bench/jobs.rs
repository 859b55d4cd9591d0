//! Benchmarks that a server runs for whoever asks: one at a time, beside each other those that have ended.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use serde::Serialize;
use serde_json::Value;
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
}

#[derive(Default)]
struct Inner {
    running: Option<Running>,
    /// Newest first.
    ended: VecDeque<Job>,
}

struct Running {
    job: Job,
    begun: Instant,
    stopper: Stopper,
}

impl Running {
    fn now(&self) -> Job {
        Job { seconds: self.begun.elapsed().as_secs_f64(), ..self.job.clone() }
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
}

impl Jobs {
    /// None yet. Without a store, nothing can be saved.
    pub fn new(store: Option<Store>, bus: Bus) -> Arc<Jobs> {
        Arc::new(Jobs { store, bus, inner: Mutex::default() })
    }

    /// Begins a benchmark; `None` where one runs already.
    ///
    /// # Errors
    /// When it is to be saved and there is nowhere to.
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
            if inner.running.is_some() {
                return Ok(None);
            }
            inner.running = Some(Running { job: job.clone(), begun: Instant::now(), stopper });
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
        let Some(mut job) = self.inner().running.as_ref().map(Running::now) else { return };
        match worked {
            Ok((recorder, result)) => {
                let report = recorder.report();
                job.seconds = report.seconds;
                job.subject.clone_from(&report.subject);
                job.state = if report.interrupted { JobState::Cancelled } else { JobState::Finished };
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
        if let (true, Some(store), Some(report)) = (save && job.error.is_none(), &self.store, &job.report) {
            match store.save(&job.id, report) {
                Ok(()) => job.saved = true,
                Err(error) => job.error = Some(error.message),
            }
        }
        {
            let mut inner = self.inner();
            inner.running = None;
            inner.ended.push_front(job.clone());
            inner.ended.truncate(REMEMBERED);
        }
        self.tell(&job);
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
mod tests {
    use super::*;
    use crate::bench::report::{Named, Unit};

    fn order(save: bool) -> Order {
        Order { kind: Kind::Machine, subject: "s".to_owned(), options: Value::Null, save }
    }

    async fn until(jobs: &Jobs, id: &str, state: JobState) -> Job {
        for _ in 0..500 {
            let job = jobs.get(id).unwrap().unwrap();
            if job.state == state {
                return job;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        panic!("it never came to be {state:?}");
    }

    async fn one_figure(mut recorder: Recorder) -> Worked {
        recorder.plan(1);
        recorder.begin("a");
        recorder.found(Named::new("a", "a", Unit::Seconds).measured([1.0].into_iter().collect()));
        (recorder, Ok(()))
    }

    #[tokio::test]
    async fn one_at_a_time_and_what_is_stopped_keeps_what_it_has() {
        let bus = Bus::default();
        let (jobs, mut heard) = (Jobs::new(None, bus.clone()), bus.listen());
        let work = async |recorder: Recorder| {
            let (recorder, _) = one_figure(recorder).await;
            recorder.stopper().asked().await;
            (recorder, Ok(()))
        };
        let job = jobs.start(order(false), work).unwrap().unwrap();
        assert!(jobs.start(order(false), one_figure).unwrap().is_none() && jobs.is_running());
        assert!(jobs.start(order(true), one_figure).is_err(), "there is no store");
        let Some(Change::Benchmark { id, state: JobState::Running, .. }) = heard.next().await else {
            panic!("nothing was told")
        };
        assert_eq!(id, job.id);
        assert_eq!(jobs.remove(&job.id).unwrap().unwrap().id, job.id);
        let ended = until(&jobs, &job.id, JobState::Cancelled).await;
        assert!(ended.report.unwrap().figure("a").is_some());
        assert_eq!(jobs.list().unwrap().len(), 1);
        assert!(jobs.remove(&job.id).unwrap().is_some() && jobs.remove(&job.id).unwrap().is_none());
    }

    #[tokio::test]
    async fn what_is_saved_outlives_the_server() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::at(folder.path().join("b.sqlite"));
        let jobs = Jobs::new(Some(store.clone()), Bus::default());
        let job = jobs.start(order(true), one_figure).unwrap().unwrap();
        assert!(until(&jobs, &job.id, JobState::Finished).await.saved);
        let others = Jobs::new(Some(store), Bus::default());
        let listed = others.list().unwrap();
        assert_eq!((listed.len(), listed[0].state, &listed[0].report), (1, JobState::Finished, &None));
        assert!(others.get(&job.id).unwrap().unwrap().report.is_some());
        let failing =
            async |recorder: Recorder| (recorder, Err(Error::new(error::Kind::Internal, "told to fail")));
        let failed = others.start(order(true), failing).unwrap().unwrap();
        let failed = until(&others, &failed.id, JobState::Failed).await;
        assert_eq!((failed.error.as_deref(), failed.saved), (Some("told to fail"), false));
        let panicking = async |recorder: Recorder| -> Worked {
            drop(recorder);
            panic!("told to panic")
        };
        let broken = others.start(order(false), panicking).unwrap().unwrap();
        assert!(until(&others, &broken.id, JobState::Failed).await.error.unwrap().contains("bug"));
    }
}
