//! What is loaded, for how long, and how it goes.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use utoipa::ToSchema;

use super::leaving::{Leaving, isolation};
use super::loaded::{KeepAlive, Resident};
use super::memory::Taken;
use super::slot::Slot;
use super::{Models, bug};
use crate::error::{Error, Result};
use crate::events::ModelChange;
use crate::worker::memory_of;

/// How often is looked whether a model has been idle for long enough.
const SWEEP: Duration = Duration::from_millis(500);

/// How long the end of an idle worker is waited for. It is killed before that.
const GOING: Duration = Duration::from_secs(8);

/// A loaded model and where it runs.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Process {
    /// The model.
    pub model: String,
    /// `loaded`, or `leaving` while it ends.
    pub state: &'static str,
    /// `process` or `none`, as plugins.toml has it.
    pub isolation: &'static str,
    /// The process that it runs in.
    pub pid: u32,
    /// Bytes that this process takes.
    pub memory_bytes: Option<u64>,
    /// Sequences being computed.
    pub running: usize,
    /// Sequences waiting for their turn.
    pub waiting: usize,
    /// Tokens of all answers in a second, lately.
    pub tokens_per_second: f64,
    /// For how many seconds nobody has used it; null while somebody does.
    pub idle_secs: Option<u64>,
    /// After how many seconds without use it is unloaded; null: when room is needed.
    pub keep_alive_secs: Option<u64>,
    /// The longest that prompt and answer together may be; null while it ends.
    pub context_tokens: Option<u32>,
    /// Which limits its process is under, by name.
    pub confinement: Vec<String>,
}

/// What became of a model that was to be unloaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Left {
    /// It is gone.
    Unloaded,
    /// It takes no more requests, and is gone when those that run have ended.
    Draining,
    /// It was not loaded.
    NotLoaded,
}

impl Models {
    /// Everything that is loaded.
    pub fn processes(&self) -> Vec<Process> {
        let mut processes: Vec<Process> = self.loaded().iter().map(|resident| process(resident)).collect();
        self.forget_gone();
        processes.extend(self.leaving().iter().map(Leaving::process));
        processes.sort_by(|a, b| a.model.cmp(&b.model));
        processes
    }

    /// Forgets failures and crashes of a model: somebody wants it tried again.
    pub fn forgive(&self, id: &str) {
        self.slot(id).forgive();
    }

    /// Unloads a model: it takes no more requests, and goes when those that run have ended.
    ///
    /// # Errors
    /// [`ModelNotFound`](crate::error::Kind::ModelNotFound).
    pub async fn unload(self: &Arc<Self>, id: &str) -> Result<Left> {
        let wanted = id.to_owned();
        let entry = self.look(move |models| models.find(&wanted)).await??;
        Ok(self.unload_entry(&entry.id).await)
    }

    /// The same by the whole id, of one that may lie outside of the models' folders.
    pub async fn unload_entry(self: &Arc<Self>, id: &str) -> Left {
        let slot = self.slot(id);
        // One that is being loaded is waited for.
        let _gate = slot.gate.lock().await;
        slot.give_up();
        let Some(resident) = slot.take_if(|_| true) else { return Left::NotLoaded };
        let draining = resident.users() > 0;
        let change = if draining { ModelChange::Draining } else { ModelChange::Unloading };
        self.let_go(resident, change, "somebody asked for it".to_owned()).await;
        if draining { Left::Draining } else { Left::Unloaded }
    }

    /// Lets go of the models whose plugin was replaced or removed, or whose own options were changed: their running requests
    /// hold them to their end, and who comes next gets the new plugin, or the reason why there is none.
    pub fn let_go_of_replaced(&self) {
        for (_, slot) in self.slots() {
            self.let_go_if_replaced(&slot);
        }
    }

    pub(super) fn let_go_if_replaced(&self, slot: &Slot) {
        let Some(resident) = slot.take_if(|resident| !self.is_current(resident)) else { return };
        let reason = match self.options_of(&resident.id) == resident.options {
            true => format!("its plugin `{}` was replaced or removed", resident.plugin.id),
            false => "its options in plugins.toml were changed".to_owned(),
        };
        tracing::info!(model = %resident.id, "it ends with its requests: {reason}");
        self.tell(&resident.id, ModelChange::Draining, Some(reason));
        self.leaving().push(Leaving::of(&resident));
    }

    /// Whether a model runs on the plugin that its format has now, with the options that it has now.
    fn is_current(&self, model: &Resident) -> bool {
        self.options_of(&model.id) == model.options
            && self.plugins.spec(&model.plugin.id).is_some_and(|spec| spec.is_same_code(&model.plugin))
    }

    /// Unloads what has been idle for as long as it may be, and looks how fast the others are, until the end.
    pub fn sweep(self: &Arc<Self>) {
        let models = Arc::downgrade(self);
        tokio::spawn(async move {
            let mut ticks = tokio::time::interval(SWEEP);
            ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                let Some(models) = models.upgrade() else { return };
                models.sweep_once().await;
            }
        });
    }

    async fn sweep_once(self: &Arc<Self>) {
        self.forget_gone();
        for (_, slot) in self.slots() {
            if let Some(resident) = slot.resident() {
                resident.sample();
            }
            if let Some(expired) = slot.take_if(has_expired) {
                let idle = expired.idle().unwrap_or_default().as_secs();
                let reason = format!("nobody has used it for {idle} s, and its keep_alive is over");
                self.let_go(expired, ModelChange::Unloading, reason).await;
            }
        }
    }

    /// Unloads a model that nobody uses, for another.
    pub(super) async fn evict(self: &Arc<Self>, id: &str, newcomer: &str) {
        let Some(resident) = self.slot(id).take_if(|resident| resident.idle().is_some()) else { return };
        let bytes = resident.worker.as_ref().and_then(|worker| worker.memory_bytes()).unwrap_or_default();
        let idle = resident.idle().unwrap_or_default().as_secs();
        let gib = bytes as f64 / f64::from(1 << 30);
        let reason = format!("{gib:.2} GiB, idle for {idle} s, to make room for {newcomer}");
        self.let_go(resident, ModelChange::Evicted, reason).await;
    }

    /// Lets a model that is out of its slot end; waits for it unless it is in use.
    async fn let_go(self: &Arc<Self>, resident: Arc<Resident>, change: ModelChange, reason: String) {
        tracing::info!(model = %resident.id, "{}: {reason}", change.name());
        self.tell(&resident.id, change, Some(reason));
        if let Some(bytes) = resident.worker.as_ref().and_then(|worker| worker.memory_bytes()) {
            self.memory().saw(&resident.id, bytes);
        }
        let leaving = Leaving::of(&resident);
        // In this process its memory goes with its last user; that may take a while, and is no work for a thread of the
        // runtime.
        let _ = tokio::task::spawn_blocking(move || drop(resident)).await;
        if change != ModelChange::Draining {
            let gone = async {
                while !leaving.is_gone() {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            };
            if tokio::time::timeout(GOING, gone).await.is_err() {
                tracing::warn!(model = %leaving.id, "it does not end");
            }
        }
        self.leaving().push(leaving);
        self.forget_gone();
    }

    /// What every model takes, measured where it can be.
    pub(super) fn taken(&self) -> Vec<Taken> {
        let mut taken = Vec::new();
        for (id, slot) in self.slots() {
            let Some(resident) = slot.resident() else { continue };
            let measured = resident.worker.as_ref().and_then(|worker| worker.memory_bytes());
            let bytes = match measured {
                Some(bytes) => {
                    self.memory().saw(&id, bytes);
                    bytes
                }
                // In this process models cannot be told apart.
                None => resident.expected_bytes(),
            };
            taken.push(Taken { id, bytes, idle: resident.idle() });
        }
        self.forget_gone();
        taken.extend(self.leaving().iter().map(|leaving| Taken {
            id: format!("{} (leaving)", leaving.id),
            bytes: leaving.memory_bytes().unwrap_or_default(),
            idle: None,
        }));
        taken
    }

    /// Finishes running requests within the limit, then ends their streams.
    pub async fn shutdown(&self, limit: Duration) {
        let loaded = self.slots().into_iter().filter_map(|(_, slot)| slot.resident());
        let ends: Vec<_> =
            loaded.map(|model| tokio::spawn(async move { model.engine.shut_down(limit).await })).collect();
        for end in ends {
            if let Err(error) = end.await {
                tracing::error!("{}", bug("the end of an engine", &error));
            }
        }
    }
}

impl KeepAlive {
    /// From a number of seconds (negative: for ever), or a text such as `90s`, `5m`, `1h`, `-1`.
    ///
    /// # Errors
    /// What was expected.
    pub fn parse(text: &str) -> Result<Self> {
        let text = text.trim();
        let wrong = || {
            Error::invalid(
                "keep_alive",
                format!("`keep_alive` must be seconds, or a text as `90s`, `5m` or `1h`; found `{text}`"),
            )
        };
        if text.starts_with('-') {
            let number = text.trim_end_matches(['s', 'm', 'h']);
            return number.parse::<f64>().map(|_| KeepAlive::Forever).map_err(|_| wrong());
        }
        let (number, unit) = match text.char_indices().last() {
            Some((at, 's')) => (&text[..at], 1.0),
            Some((at, 'm')) => (&text[..at], 60.0),
            Some((at, 'h')) => (&text[..at], 3600.0),
            _ => (text, 1.0),
        };
        let seconds = number.parse::<f64>().map_err(|_| wrong())? * unit;
        Duration::try_from_secs_f64(seconds).map(KeepAlive::For).map_err(|_| wrong())
    }
}

fn has_expired(resident: &Resident) -> bool {
    match resident.keep_alive() {
        KeepAlive::Forever => false,
        KeepAlive::For(longest) => resident.idle().is_some_and(|idle| idle >= longest),
    }
}

fn process(resident: &Resident) -> Process {
    let stats = resident.engine.stats();
    let keep_alive_secs = match resident.keep_alive() {
        KeepAlive::Forever => None,
        KeepAlive::For(longest) => Some(longest.as_secs()),
    };
    let own = std::process::id();
    Process {
        model: resident.id.clone(),
        state: "loaded",
        isolation: isolation(resident.worker.as_ref()),
        pid: resident.worker.as_ref().map_or(own, |worker| worker.pid()),
        memory_bytes: match &resident.worker {
            Some(worker) => worker.memory_bytes(),
            None => memory_of(own),
        },
        running: stats.running,
        waiting: stats.waiting,
        tokens_per_second: resident.tokens_per_second(),
        idle_secs: resident.idle().map(|idle| idle.as_secs()),
        keep_alive_secs,
        context_tokens: Some(resident.context_tokens()),
        confinement: resident
            .worker
            .as_ref()
            .map(|worker| worker.ready.confinement.clone())
            .unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    #[test]
    fn a_time_is_seconds_or_a_text_with_its_unit() {
        let seconds = |seconds: f64| KeepAlive::For(Duration::from_secs_f64(seconds));
        for (text, expected) in [
            ("0", seconds(0.0)),
            ("90", seconds(90.0)),
            ("1.5", seconds(1.5)),
            ("90s", seconds(90.0)),
            ("5m", seconds(300.0)),
            ("1h", seconds(3600.0)),
            ("-1", KeepAlive::Forever),
            ("-1m", KeepAlive::Forever),
        ] {
            assert_eq!(KeepAlive::parse(text), Ok(expected), "{text}");
        }
        for text in ["", "m", "soon", "5 weeks", "-x", "1e300h", "ä"] {
            assert_eq!(KeepAlive::parse(text).unwrap_err().kind, Kind::InvalidRequest, "{text}");
        }
    }
}
