//! Watches the plugin folder and plugins.toml: what is dropped in, replaced, removed or edited takes effect by itself.
//!
//! Files are copied in many ways. A rename is whole at once. A copy in place is judged only once nobody writes to it any
//! more: after its last writer has closed it, or after a pause, where the system does not tell of closing. `Settling`
//! decides that, without files and clocks of its own; the rest is a thread around it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use notify::event::{AccessKind, AccessMode, CreateKind, EventKind, ModifyKind};
use notify::{RecommendedWatcher, RecursiveMode, Watcher};

use super::Plugins;
use crate::config::{Config, Reader};
use crate::events::Change;

/// How long all must be quiet before it is looked at: many files are often changed together.
const QUIET: Duration = Duration::from_millis(150);
/// How long a file that was written to and not closed must be left alone before it counts as whole.
const PAUSE: Duration = Duration::from_secs(1);
/// How often folders that are not there yet, and replaced plugins that still run, are looked for.
const ROUND: Duration = Duration::from_millis(500);

/// What changes are to be made of.
pub struct Watched {
    /// The plugins to keep up with the folder.
    pub plugins: Arc<Plugins>,
    /// What holds now.
    pub config: Config,
    /// Reads plugins.toml again.
    pub reader: Reader,
    /// Called after each look at the plugins, with what holds then: engines may have to end.
    pub then: Box<dyn Fn(&Config) + Send>,
}

/// Watches on a thread of its own for as long as the process lives.
///
/// # Errors
/// What the system says when nothing can be watched.
pub fn start(watched: Watched) -> notify::Result<()> {
    let (tell, told) = mpsc::channel();
    let watcher = notify::recommended_watcher(move |event| {
        let _ = tell.send(event);
    })?;
    let mut watch = Watch { watched, watcher, folders: BTreeSet::new(), settling: Settling::default() };
    watch.find_folders();
    // What changed since the plugins were loaded was not told.
    watch.settling.changed(Instant::now());
    let thread = std::thread::Builder::new().name("plugin-watch".to_owned());
    thread.spawn(move || watch.run(&told)).map_err(notify::Error::io)?;
    Ok(())
}

struct Watch {
    watched: Watched,
    watcher: RecommendedWatcher,
    /// Those that are watched now.
    folders: BTreeSet<PathBuf>,
    settling: Settling,
}

impl Watch {
    fn run(mut self, told: &Receiver<notify::Result<notify::Event>>) {
        loop {
            let wait = self.settling.due(Instant::now()).map_or(ROUND, |due| due.min(ROUND));
            match told.recv_timeout(wait) {
                Ok(Ok(event)) => self.note(&event),
                Ok(Err(error)) => tracing::warn!("the plugin folder cannot be watched: {error}"),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            let found = self.find_folders();
            if found {
                self.settling.changed(Instant::now());
            }
            if let Some(unsettled) = self.settling.take(Instant::now()) {
                self.look(&unsettled);
            }
            self.watched.plugins.forget_ended();
        }
    }

    fn note(&mut self, event: &notify::Event) {
        for path in &event.paths {
            if self.folders.contains(path) && matches!(event.kind, EventKind::Remove(_)) {
                // When it is made anew it is another folder.
                self.folders.remove(path);
                self.settling.changed(Instant::now());
            } else if self.concerns_us(path) {
                self.settling.note(path, event.kind, Instant::now());
            }
        }
    }

    fn concerns_us(&self, path: &Path) -> bool {
        let config = &self.watched.config;
        let is_library = path.extension().is_some_and(|ending| ending == std::env::consts::DLL_EXTENSION)
            && !path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        let is_named = config.plugin.values().any(|entry| entry.path.as_deref() == Some(path));
        is_named
            || path == self.watched.reader.file()
            || (is_library && path.starts_with(&config.plugins.folder))
    }

    /// Watches the folders that are there and were not watched; whether there was one.
    fn find_folders(&mut self) -> bool {
        let config = &self.watched.config;
        let named = config.plugin.values().filter_map(|entry| entry.path.as_deref()?.parent());
        let file = self.watched.reader.file().parent();
        let all = [config.plugins.folder.as_path()].into_iter().chain(named).chain(file);
        let wanted: BTreeSet<PathBuf> = all.map(Path::to_owned).collect();
        let mut found = false;
        for folder in wanted {
            if !self.folders.contains(&folder)
                && folder.is_dir()
                && self.watcher.watch(&folder, RecursiveMode::NonRecursive).is_ok()
            {
                found = true;
                self.folders.insert(folder);
            }
        }
        found
    }

    /// Reads plugins.toml again if it changed, and judges all libraries but those that are still written to.
    fn look(&mut self, unsettled: &BTreeSet<PathBuf>) {
        let Watched { plugins, config, reader, then } = &mut self.watched;
        match reader.read_again(config) {
            Ok(None) => {}
            Ok(Some(edited)) => {
                plugins.tell(Change::Configuration {
                    applied: edited.applied,
                    needs_restart: edited.needs_restart,
                });
                *config = edited.config;
            }
            Err(error) => plugins.tell(Change::ConfigurationRefused { reason: error.message }),
        }
        plugins.refresh(config, unsettled);
        then(config);
        crate::allocator::give_back();
    }
}

/// When to look, and what not to look at yet.
#[derive(Debug, Default)]
struct Settling {
    /// When something last changed that is to be looked at.
    changed: Option<Instant>,
    /// Files that are being written to, and when they last were.
    writing: BTreeMap<PathBuf, Instant>,
}

impl Settling {
    fn note(&mut self, path: &Path, kind: EventKind, now: Instant) {
        match kind {
            EventKind::Create(CreateKind::File | CreateKind::Any)
            | EventKind::Modify(ModifyKind::Data(_)) => {
                self.writing.insert(path.to_owned(), now);
            }
            EventKind::Access(AccessKind::Close(AccessMode::Write))
            | EventKind::Modify(ModifyKind::Name(_))
            | EventKind::Remove(_) => {
                self.writing.remove(path);
                self.changed(now);
            }
            EventKind::Access(_) => {}
            EventKind::Create(_) | EventKind::Modify(_) | EventKind::Any | EventKind::Other => {
                self.changed(now)
            }
        }
    }

    fn changed(&mut self, now: Instant) {
        self.changed = Some(now);
    }

    /// How long until there may be something to look at; `None` when nothing is awaited.
    fn due(&self, now: Instant) -> Option<Duration> {
        let left = |since: Instant, wait: Duration| wait.saturating_sub(now.saturating_duration_since(since));
        let quiet = self.changed.map(|since| left(since, QUIET));
        self.writing.values().map(|&since| left(since, PAUSE)).chain(quiet).min()
    }

    /// Whether it is time to look: then the files that are still written to.
    fn take(&mut self, now: Instant) -> Option<BTreeSet<PathBuf>> {
        let paused = |since: &Instant| now.saturating_duration_since(*since) >= PAUSE;
        let before = self.writing.len();
        self.writing.retain(|_, since| !paused(since));
        if self.writing.len() < before {
            self.changed.get_or_insert(now.checked_sub(QUIET).unwrap_or(now));
        }
        let quiet = self.changed.is_some_and(|since| now.saturating_duration_since(since) >= QUIET);
        if !quiet {
            return None;
        }
        self.changed = None;
        Some(self.writing.keys().cloned().collect())
    }
}

#[cfg(test)]
mod tests {
    use notify::event::{DataChange, ModifyKind, RemoveKind, RenameMode};

    use super::*;

    const WRITE: EventKind = EventKind::Modify(ModifyKind::Data(DataChange::Any));
    const CLOSE: EventKind = EventKind::Access(AccessKind::Close(AccessMode::Write));
    const RENAME: EventKind = EventKind::Modify(ModifyKind::Name(RenameMode::To));

    fn set(paths: &[&str]) -> Option<BTreeSet<PathBuf>> {
        Some(paths.iter().map(PathBuf::from).collect())
    }

    #[test]
    fn a_rename_is_looked_at_once_all_is_quiet() {
        let (mut settling, start) = (Settling::default(), Instant::now());
        assert_eq!(settling.due(start), None);
        settling.note(Path::new("a"), RENAME, start);
        assert_eq!((settling.due(start), settling.take(start)), (Some(QUIET), None));
        settling.note(Path::new("b"), EventKind::Remove(RemoveKind::File), start + QUIET / 2);
        assert_eq!(settling.take(start + QUIET), None, "there was another change");
        assert_eq!(settling.take(start + 2 * QUIET), set(&[]));
        assert_eq!(settling.take(start + 9 * QUIET), None, "once is enough");
    }

    #[test]
    fn a_copy_in_place_is_not_judged_before_it_is_closed() {
        let (mut settling, start) = (Settling::default(), Instant::now());
        settling.note(Path::new("slow"), EventKind::Create(CreateKind::File), start);
        settling.note(Path::new("other"), RENAME, start);
        assert_eq!(settling.take(start + QUIET), set(&["slow"]), "others need not wait for it");
        for tenth in 1..50 {
            let now = start + tenth * PAUSE / 10;
            settling.note(Path::new("slow"), WRITE, now);
            assert_eq!(settling.take(now), None);
        }
        settling.note(Path::new("slow"), CLOSE, start + 5 * PAUSE);
        assert_eq!(settling.take(start + 5 * PAUSE + QUIET), set(&[]));
    }

    #[test]
    fn a_file_that_is_left_alone_counts_as_whole() {
        let (mut settling, start) = (Settling::default(), Instant::now());
        settling.note(Path::new("a"), WRITE, start);
        assert_eq!((settling.due(start), settling.take(start + PAUSE / 2)), (Some(PAUSE), None));
        assert_eq!(settling.take(start + PAUSE), set(&[]));
        assert_eq!(settling.due(start + PAUSE), None);
    }
}
