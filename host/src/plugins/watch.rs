//! Watches the plugin folder and plugins.toml: what is dropped in, replaced, removed or edited takes effect by itself.
//!
//! Files are copied in many ways. A rename is whole at once. A copy in place is judged only once nobody writes to it any
//! more: after its last writer has closed it, however long that takes; after a pause where the system does not tell of
//! closing. `Settling` decides that, without files and clocks of its own; the rest is a thread around it.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt;
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
/// How long a file of which nobody may tell that it was closed must be left alone before it counts as whole.
const PAUSE: Duration = Duration::from_secs(1);
/// Whether the system tells when a file that was written to is closed.
const TELLS_CLOSING: bool = cfg!(any(target_os = "linux", target_os = "android"));
/// How often folders that are not there yet, and replaced plugins that still run, are looked for.
const ROUND: Duration = Duration::from_millis(500);
/// How long a look waits for plugins' trials, and how often it is seen whether those that take longer have ended.
const TRIALS: Duration = Duration::from_millis(250);

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
    let mut watch = Watch { watched, watcher, folders: BTreeMap::new(), settling: Settling::default() };
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
    /// Those that are watched now, and which folders these really are: device and inode.
    folders: BTreeMap<PathBuf, (u64, u64)>,
    settling: Settling,
}

impl Watch {
    fn run(mut self, told: &Receiver<notify::Result<notify::Event>>) {
        loop {
            let round = if self.watched.plugins.late().is_empty() { ROUND } else { TRIALS };
            let wait = self.settling.due(Instant::now()).map_or(round, |due| due.min(round));
            match told.recv_timeout(wait) {
                Ok(Ok(event)) => self.note(&event),
                Ok(Err(error)) => tracing::warn!("the plugin folder cannot be watched: {error}"),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            if self.find_folders() {
                self.settling.changed(Instant::now());
            }
            if self.watched.plugins.has_late_verdict() {
                self.settling.look_soon(Instant::now());
            }
            if let Some(unsettled) = self.settling.take(Instant::now()) {
                self.look(&unsettled);
            }
            self.watched.plugins.forget_ended();
        }
    }

    fn note(&mut self, event: &notify::Event) {
        if event.need_rescan() {
            self.settling.lost(Instant::now());
        }
        for path in &event.paths {
            let is_gone = matches!(event.kind, EventKind::Remove(_) | EventKind::Modify(ModifyKind::Name(_)));
            if is_gone && self.folders.contains_key(path) {
                // When it is made anew, or another takes its name, it is another folder.
                self.forget_folder(path);
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

    fn forget_folder(&mut self, folder: &Path) {
        self.folders.remove(folder);
        // One that was removed is not watched any more.
        let _ = self.watcher.unwatch(folder);
    }

    /// Watches the folders that are there and were not watched; whether there was one. What was watched and is now another
    /// folder, or none, because one above it was renamed, is told by nobody.
    fn find_folders(&mut self) -> bool {
        let config = &self.watched.config;
        let named = config.plugin.values().filter_map(|entry| entry.path.as_deref()?.parent());
        let file = self.watched.reader.file().parent();
        let all = [config.plugins.folder.as_path()].into_iter().chain(named).chain(file);
        let wanted: BTreeSet<PathBuf> = all.map(Path::to_owned).collect();
        let mut found = false;
        for folder in wanted {
            let now = std::fs::metadata(&folder).ok().filter(std::fs::Metadata::is_dir);
            let now = now.map(|metadata| (metadata.dev(), metadata.ino()));
            if self.folders.get(&folder).is_some_and(|watched| Some(*watched) != now) {
                self.forget_folder(&folder);
                found = true;
            }
            if let Some(id) = now.filter(|_| !self.folders.contains_key(&folder))
                && self.watcher.watch(&folder, RecursiveMode::NonRecursive).is_ok()
            {
                found = true;
                self.folders.insert(folder, id);
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
        plugins.refresh(config, unsettled, TRIALS);
        then(config);
        crate::allocator::give_back();
    }
}

/// When to look, and what not to look at yet.
#[derive(Debug, Default)]
struct Settling {
    /// When something last changed that is to be looked at.
    changed: Option<Instant>,
    /// Files that are being written to.
    writing: BTreeMap<PathBuf, Writing>,
}

/// When a file was last written to, and whether its end will be told.
#[derive(Debug, Clone, Copy)]
struct Writing {
    last: Instant,
    will_be_closed: bool,
}

impl Settling {
    fn note(&mut self, path: &Path, kind: EventKind, now: Instant) {
        match kind {
            // A link is made and never closed; who writes has the file open.
            EventKind::Create(CreateKind::File | CreateKind::Any) => self.written(path, now, false),
            EventKind::Modify(ModifyKind::Data(_)) => self.written(path, now, TELLS_CLOSING),
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

    fn written(&mut self, path: &Path, now: Instant, will_be_closed: bool) {
        self.writing.insert(path.to_owned(), Writing { last: now, will_be_closed });
    }

    fn changed(&mut self, now: Instant) {
        self.changed = Some(now);
    }

    /// There is something to look at, which does not go on changing until that is done.
    fn look_soon(&mut self, now: Instant) {
        self.changed.get_or_insert(now);
    }

    /// Not all was told: what is awaited may have been.
    fn lost(&mut self, now: Instant) {
        self.writing.values_mut().for_each(|writing| writing.will_be_closed = false);
        self.changed(now);
    }

    /// How long until there may be something to look at; `None` when nothing is awaited.
    fn due(&self, now: Instant) -> Option<Duration> {
        let left = |since: Instant, wait: Duration| wait.saturating_sub(now.saturating_duration_since(since));
        let quiet = self.changed.map(|since| left(since, QUIET));
        let open = self.writing.values().filter(|writing| !writing.will_be_closed);
        open.map(|writing| left(writing.last, PAUSE)).chain(quiet).min()
    }

    /// Whether it is time to look: then the files that are still written to.
    fn take(&mut self, now: Instant) -> Option<BTreeSet<PathBuf>> {
        let paused = |since: Instant| now.saturating_duration_since(since) >= PAUSE;
        let before = self.writing.len();
        self.writing.retain(|_, writing| writing.will_be_closed || !paused(writing.last));
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
        if TELLS_CLOSING {
            // Nothing comes for long, and it still is not whole.
            assert_eq!((settling.due(start + 7 * PAUSE), settling.take(start + 8 * PAUSE)), (None, None));
        }
        settling.note(Path::new("slow"), CLOSE, start + 9 * PAUSE);
        assert_eq!(settling.take(start + 9 * PAUSE + QUIET), set(&[]));
    }

    #[test]
    fn when_not_all_was_told_a_pause_must_do() {
        let (mut settling, start) = (Settling::default(), Instant::now());
        settling.note(Path::new("a"), WRITE, start);
        settling.lost(start);
        assert_eq!(settling.take(start + QUIET), set(&["a"]));
        assert_eq!(settling.take(start + PAUSE), set(&[]));
    }

    #[test]
    fn what_is_said_again_and_again_until_it_is_looked_at_is_looked_at() {
        let (mut settling, start) = (Settling::default(), Instant::now());
        settling.look_soon(start);
        settling.look_soon(start + QUIET / 2);
        assert_eq!(settling.take(start + QUIET), set(&[]));
    }

    #[test]
    fn a_file_that_is_left_alone_counts_as_whole() {
        let (mut settling, start) = (Settling::default(), Instant::now());
        settling.note(Path::new("a"), EventKind::Create(CreateKind::File), start);
        assert_eq!((settling.due(start), settling.take(start + PAUSE / 2)), (Some(PAUSE), None));
        assert_eq!(settling.take(start + PAUSE), set(&[]));
        assert_eq!(settling.due(start + PAUSE), None);
    }
}
