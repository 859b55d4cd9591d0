//! What changes while the host runs: one bus, on which plugins and models tell and everyone may listen.
//!
//! Nothing here knows who listens; `http` makes server-sent events of it. A change is told after it is true.

use serde::Serialize;
use tokio::sync::broadcast;
use utoipa::ToSchema;

use crate::plugins::State;

/// How many changes a slow listener may lag behind before it misses some.
const KEPT: usize = 256;

/// One change. Closed: whoever listens can name every kind.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Change {
    /// A plugin library was found, or stands elsewhere than before.
    Plugin {
        /// Its id.
        id: String,
        /// Its own version.
        version: Option<String>,
        /// Where it stands now.
        state: State,
        /// Why, unless it is loaded.
        reason: Option<String>,
        /// What to do about it.
        hint: Option<String>,
    },
    /// A plugin library is no longer there, or a replaced one has ended with its last engine.
    PluginRemoved {
        /// Its id.
        id: String,
        /// Its own version.
        version: Option<String>,
    },
    /// The formats that can be served now are others than before.
    Formats {
        /// All of them, by name.
        formats: Vec<String>,
    },
    /// plugins.toml was edited.
    Configuration {
        /// What holds from now on, as `plugin.gguf.options`.
        applied: Vec<String>,
        /// What holds only after a restart, as `server.port`.
        needs_restart: Vec<String>,
    },
    /// plugins.toml was edited and is wrong: what was read before still holds.
    ConfigurationRefused {
        /// What is wrong, with its line.
        reason: String,
    },
    /// A model stands elsewhere than before.
    Model {
        /// Its id.
        id: String,
        /// Where it stands now.
        state: ModelChange,
        /// Why, where it failed.
        reason: Option<String>,
    },
    /// A benchmark began, went on or ended.
    Benchmark {
        /// Its id.
        id: String,
        /// What is measured.
        kind: crate::bench::Kind,
        /// Where it stands.
        state: crate::bench::JobState,
        /// How far it is.
        progress: Option<crate::bench::Progress>,
        /// Why it failed.
        reason: Option<String>,
    },
    /// The listener was too slow, and this many changes were passed over: look at the lists again.
    Missed {
        /// How many.
        count: u64,
    },
}

/// What happens to a model. Each is told once, when it happens: `loading` again whenever it has come further.
///
/// From `loading` it goes on to `loaded`, `failed` or `stopped`; from `loaded` over `unloading`, `draining` or `evicted` to
/// `unloaded`, or to `crashed` and from there to `restarting` or `stopped`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, ToSchema)]
#[serde(tag = "name", rename_all = "snake_case")]
pub enum ModelChange {
    /// It is being loaded.
    Loading {
        /// How far, from 0 to 1.
        progress: f32,
    },
    /// It answers.
    Loaded,
    /// It takes no more requests, and nobody uses it: it ends.
    Unloading,
    /// It takes no more requests, and ends with its running ones.
    Draining,
    /// It has to give its room to another model, and ends.
    Evicted,
    /// Its memory is back, and it loads again when it is asked for.
    Unloaded,
    /// It could not be loaded.
    Failed {
        /// It is tried again after so long, when it is asked for.
        retry_after_secs: u64,
    },
    /// Its engine ended by itself.
    Crashed,
    /// Its engine is started again.
    Restarting {
        /// After so long.
        after_secs: u64,
    },
    /// It crashed too often, and is started again only when somebody asks for just that.
    Stopped,
}

impl ModelChange {
    /// Its name, as in JSON.
    pub fn name(self) -> &'static str {
        match self {
            ModelChange::Loading { .. } => "loading",
            ModelChange::Loaded => "loaded",
            ModelChange::Unloading => "unloading",
            ModelChange::Draining => "draining",
            ModelChange::Evicted => "evicted",
            ModelChange::Unloaded => "unloaded",
            ModelChange::Failed { .. } => "failed",
            ModelChange::Crashed => "crashed",
            ModelChange::Restarting { .. } => "restarting",
            ModelChange::Stopped => "stopped",
        }
    }
}

/// Where changes are told. Clones tell on the same bus.
#[derive(Debug, Clone)]
pub struct Bus(broadcast::Sender<Change>);

impl Default for Bus {
    fn default() -> Self {
        Bus(broadcast::channel(KEPT).0)
    }
}

impl Bus {
    /// Tells everyone who listens now. Never blocks.
    pub fn tell(&self, change: Change) {
        // An error says that nobody listens.
        let _ = self.0.send(change);
    }

    /// Hears every change from now on.
    pub fn listen(&self) -> Listener {
        Listener(self.0.subscribe())
    }
}

/// Someone who hears changes.
#[derive(Debug)]
pub struct Listener(broadcast::Receiver<Change>);

impl Listener {
    /// The next change; `None` once nobody can tell any more.
    pub async fn next(&mut self) -> Option<Change> {
        match self.0.recv().await {
            Ok(change) => Some(change),
            Err(broadcast::error::RecvError::Lagged(count)) => Some(Change::Missed { count }),
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn formats(name: &str) -> Change {
        Change::Formats { formats: vec![name.to_owned()] }
    }

    #[tokio::test]
    async fn everyone_hears_what_is_told_after_they_came() {
        let bus = Bus::default();
        bus.tell(formats("before"));
        let (mut one, mut other) = (bus.listen(), bus.clone().listen());
        bus.tell(formats("after"));
        drop(bus);
        for listener in [&mut one, &mut other] {
            assert_eq!(listener.next().await, Some(formats("after")));
            assert_eq!(listener.next().await, None);
        }
    }

    #[tokio::test]
    async fn a_slow_listener_is_told_that_it_missed_something() {
        let bus = Bus::default();
        let mut slow = bus.listen();
        (0..KEPT + 3).for_each(|_| bus.tell(formats("x")));
        assert_eq!(slow.next().await, Some(Change::Missed { count: 3 }));
        assert_eq!(slow.next().await, Some(formats("x")));
    }

    #[test]
    fn a_change_is_flat_json() {
        let change =
            Change::Model { id: "m".into(), state: ModelChange::Loading { progress: 0.5 }, reason: None };
        let json = serde_json::to_value(change).unwrap();
        let expected = r#"{"type":"model","id":"m","state":{"name":"loading","progress":0.5},"reason":null}"#;
        assert_eq!(json.to_string(), expected);
    }
}
