//! A benchmark while it runs: what it found so far, how far it is, and whether it is to stop.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::watch;
use utoipa::ToSchema;

use super::environment::Machine;
use super::report::{Figure, Kind, Report};
use super::serve::{Exchange, RoundTime};
use super::subject::{PluginUsed, Subject};
use crate::error::Error;
use crate::pinning;
use crate::plugins::{CONTRACT_VERSION, Spec};

/// How far a benchmark is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = BenchmarkProgress)]
pub struct Progress {
    /// Steps that are done.
    pub done: u32,
    /// Of so many, as far as is known.
    pub of: u32,
    /// What is being measured.
    pub what: String,
}

/// Hears how far a benchmark is.
pub type OnProgress = Arc<dyn Fn(&Progress) + Send + Sync>;

/// The way to stop a benchmark: it ends soon, with what it has.
#[derive(Debug, Clone)]
pub struct Stopper(Arc<watch::Sender<bool>>);

impl Default for Stopper {
    fn default() -> Self {
        Stopper(Arc::new(watch::channel(false).0))
    }
}

impl Stopper {
    /// Asks it to stop.
    pub fn stop(&self) {
        self.0.send_replace(true);
    }

    /// Whether it was asked to.
    pub fn is_asked(&self) -> bool {
        *self.0.borrow()
    }

    /// Comes back once it was asked to.
    pub async fn asked(&self) {
        // The sender is in `self`: waiting cannot fail.
        let _ = self.0.subscribe().wait_for(|asked| *asked).await;
    }

    /// What `work` gives; `None` where it was asked to stop first, and then `work` is dropped.
    pub(super) async fn or<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            () = self.asked() => None,
            done = work => Some(done),
        }
    }
}

/// Collects what a benchmark finds.
pub struct Recorder {
    kind: Kind,
    /// What is measured; the report's subject.
    pub subject: String,
    options: Value,
    started: Instant,
    started_at: String,
    progress: Progress,
    tell: OnProgress,
    stopper: Stopper,
    machine: Machine,
    versions: BTreeMap<String, String>,
    plugins: BTreeMap<String, PluginUsed>,
    model: Option<Subject>,
    figures: Vec<Figure>,
    notes: Vec<String>,
    requests: Vec<Exchange>,
    rounds: Vec<RoundTime>,
    failed: bool,
}

impl Recorder {
    /// Begins.
    pub fn new(kind: Kind, options: Value, stopper: Stopper, tell: OnProgress) -> Self {
        let own = [("impetus", env!("CARGO_PKG_VERSION")), ("plugin-api", CONTRACT_VERSION)];
        Recorder {
            kind,
            subject: String::new(),
            options,
            started: Instant::now(),
            started_at: chrono::Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Secs, true),
            progress: Progress::default(),
            tell,
            stopper,
            machine: Machine::here(&pinning::allowed()),
            versions: own.map(|(name, version)| (name.to_owned(), version.to_owned())).into(),
            plugins: BTreeMap::new(),
            model: None,
            figures: Vec::new(),
            notes: Vec::new(),
            requests: Vec::new(),
            rounds: Vec::new(),
            failed: false,
        }
    }

    /// When it began, UTC.
    pub fn started_at(&self) -> &str {
        &self.started_at
    }

    /// The machine it runs on.
    pub fn machine(&self) -> &Machine {
        &self.machine
    }

    /// The way to stop it.
    pub fn stopper(&self) -> &Stopper {
        &self.stopper
    }

    /// So many steps more are to come.
    pub(super) fn plan(&mut self, steps: usize) {
        self.progress.of += u32::try_from(steps).unwrap_or(u32::MAX);
    }

    /// Tells what comes next. `false` where it is to stop instead.
    pub(super) fn begin(&mut self, what: impl Into<String>) -> bool {
        if self.stopper.is_asked() {
            return false;
        }
        self.progress.what = what.into();
        (self.tell)(&self.progress);
        true
    }

    /// Tells how far one step is, from 0 to 1, from whichever thread.
    pub(super) fn within_step(&self) -> Arc<dyn Fn(f32) + Send + Sync> {
        let (progress, tell) = (self.progress.clone(), Arc::clone(&self.tell));
        let told = std::sync::atomic::AtomicU32::new(0);
        Arc::new(move |share| {
            let percent = (share.clamp(0.0, 1.0) * 100.0) as u32;
            if told.swap(percent, std::sync::atomic::Ordering::Relaxed) != percent {
                tell(&Progress { what: format!("{}, {percent} %", progress.what), ..progress.clone() });
            }
        })
    }

    /// A step is done.
    pub(super) fn step(&mut self) {
        self.progress.done += 1;
        (self.tell)(&self.progress);
    }

    /// A step is done, and this was found.
    pub(super) fn found(&mut self, figure: Figure) {
        self.add(figure);
        self.step();
    }

    /// Something was found beside the steps.
    pub fn add(&mut self, figure: Figure) {
        self.figures.push(figure);
    }

    /// What was found so far.
    pub(super) fn figure(&self, name: &str) -> Option<&Figure> {
        self.figures.iter().find(|figure| figure.name == name)
    }

    /// All that was found so far.
    pub(super) fn figures(&self) -> &[Figure] {
        &self.figures
    }

    /// Something that a reader should know.
    pub fn note(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
    }

    /// The same, where it was not said before.
    pub(super) fn note_once(&mut self, note: &str) {
        if !self.notes.iter().any(|said| said == note) {
            self.note(note);
        }
    }

    /// A plugin had a part in it.
    pub fn used(&mut self, spec: &Spec) {
        self.versions.insert(format!("plugin {}", spec.id), spec.version.clone());
        self.plugins.insert(spec.id.clone(), PluginUsed::of(spec));
    }

    /// This model is measured.
    pub fn of_model(&mut self, model: Subject) {
        self.model = Some(model);
    }

    /// It could not go on. What was found until then stays.
    pub fn broke_off(&mut self, error: &Error) {
        self.failed = true;
        self.note(format!("it broke off: {}", error.message));
    }

    /// Whether there is anything to tell.
    pub fn has_found(&self) -> bool {
        !self.figures.is_empty() || !self.requests.is_empty()
    }

    /// Requests that were answered, or not, and are kept.
    pub fn requests(&self) -> usize {
        self.requests.len()
    }

    /// A request was answered, or not.
    pub(super) fn exchanges(&mut self, exchanges: impl IntoIterator<Item = Exchange>) {
        self.requests.extend(exchanges);
    }

    /// A round came to its end.
    pub(super) fn round(&mut self, round: RoundTime) {
        self.rounds.push(round);
    }

    /// The end, whether by itself or because it was stopped.
    pub fn report(self) -> Report {
        Report {
            kind: self.kind,
            subject: self.subject,
            started_at: self.started_at,
            seconds: self.started.elapsed().as_secs_f64(),
            interrupted: self.stopper.is_asked() || self.failed,
            versions: self.versions,
            plugins: self.plugins,
            model: self.model,
            machine: self.machine,
            options: self.options,
            figures: self.figures,
            notes: self.notes,
            requests: self.requests,
            rounds: self.rounds,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::report::{Named, Unit};

    #[tokio::test]
    async fn what_was_found_before_the_stop_is_kept() {
        let (stopper, heard) = (Stopper::default(), Arc::new(std::sync::Mutex::new(Vec::new())));
        let told = Arc::clone(&heard);
        let tell: OnProgress = Arc::new(move |progress| told.lock().unwrap().push(progress.clone()));
        let mut recorder = Recorder::new(Kind::Machine, Value::Null, stopper.clone(), tell);
        recorder.plan(2);
        assert!(recorder.begin("a"));
        recorder.found(Named::new("a", "a", Unit::Seconds).measured([1.0].into_iter().collect()));
        assert_eq!(stopper.or(async { 7 }).await, Some(7));
        stopper.stop();
        assert_eq!(stopper.or(std::future::pending::<()>()).await, None);
        assert!(!recorder.begin("b"));
        let report = recorder.report();
        assert!(report.interrupted && report.figure("a").is_some());
        let progress = |done| Progress { done, of: 2, what: "a".to_owned() };
        assert_eq!(*heard.lock().unwrap(), [progress(0), progress(1)]);
    }

    #[test]
    fn a_long_step_tells_how_far_it_is() {
        let heard = Arc::new(std::sync::Mutex::new(Vec::new()));
        let told = Arc::clone(&heard);
        let tell: OnProgress = Arc::new(move |progress| told.lock().unwrap().push(progress.what.clone()));
        let mut recorder = Recorder::new(Kind::Model, Value::Null, Stopper::default(), tell);
        assert!(recorder.begin("loading"));
        let within = recorder.within_step();
        [0.5, 0.501, 1.0].into_iter().for_each(|share| within(share));
        assert_eq!(*heard.lock().unwrap(), ["loading", "loading, 50 %", "loading, 100 %"]);
    }
}
