//! The models under the configured folders: which files there are, and what the plugins say of each.
//!
//! A file is looked into once and again when it changes: probing reads headers, but of many files.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use super::capability;
use super::entry::{Entry, ModelState, Summary};
use super::scan::{Wanted, id_below, models_below, shards_of};
use super::{Found, file_name};
use crate::plugins::model::Probe;
use crate::plugins::{ActiveFormat, Plugins, State};

/// Endings that are a model's whichever plugins there are: such a file is shown with the reason where none reads it.
const WELL_KNOWN: [&str; 3] = ["gguf", "onnx", "safetensors"];

/// What there is.
pub(super) struct Catalog {
    plugins: Arc<Plugins>,
    folders: Vec<PathBuf>,
    seen: Mutex<HashMap<PathBuf, Seen>>,
    /// Held while plugins are asked: who wants to know the same meanwhile finds the answer.
    asking: Mutex<()>,
    /// Endings that some plugin has claimed since the host was started: its files stay when it goes.
    claimed: Mutex<BTreeSet<String>>,
}

struct Seen {
    modified: Option<SystemTime>,
    length: u64,
    /// The plugins that were asked.
    generation: u64,
    entry: Entry,
}

impl Catalog {
    pub(super) fn new(plugins: Arc<Plugins>, folders: Vec<PathBuf>) -> Self {
        Catalog {
            plugins,
            folders,
            seen: Mutex::default(),
            asking: Mutex::default(),
            claimed: Mutex::default(),
        }
    }

    /// Everything under the folders, by id. Of two with one id, the first folder's counts; the other is shown under a
    /// longer name, with the reason.
    pub(super) fn entries(&self) -> Vec<Entry> {
        let extensions = self.searched();
        let is_model = |folder: &Path| self.is_model_folder(folder);
        let wanted = Wanted { extensions: &extensions, is_model: &is_model };
        let mut entries: Vec<Entry> = Vec::new();
        for folder in &self.folders {
            for found in models_below(folder, &wanted) {
                let mut entry = self.look(&found);
                if entries.iter().any(|other| other.id == entry.id) {
                    entry.reason =
                        Some(format!("another model has the id `{}`; rename one of the files", entry.id));
                    entry.id = format!("{} (hidden, in {})", entry.id, file_name(folder));
                    entry.state = ModelState::Unavailable;
                }
                entries.push(entry);
            }
        }
        entries.sort_by(|a, b| a.id.cmp(&b.id));
        entries
    }

    /// What the plugins say of any path. Under a model folder it has its id there, else its file name.
    pub(super) fn entry_of(&self, path: &Path) -> Entry {
        let root = self.folders.iter().find(|folder| path.starts_with(folder));
        let id = id_below(root.map_or_else(|| path.parent().unwrap_or(path), PathBuf::as_path), path);
        self.look(&Found { id, path: path.to_owned() })
    }

    /// The folders that are searched.
    pub(super) fn folders(&self) -> &[PathBuf] {
        &self.folders
    }

    /// What the plugins say of a path that is still being written to: nothing of it is remembered.
    pub(super) fn judge(&self, path: &Path) -> Entry {
        let found = Found { id: file_name(path), path: path.to_owned() };
        self.probe(&found, path.is_dir())
    }

    /// Whether some plugin takes a folder for a model as a whole: for one that it runs, or that it refuses by a reason.
    fn is_model_folder(&self, folder: &Path) -> bool {
        let found = Found { id: String::new(), path: folder.to_owned() };
        self.look(&found).format.is_some()
    }

    /// What is looked for: a model whose plugin is missing is shown with the reason.
    fn searched(&self) -> Vec<String> {
        let mut claimed = self.claimed.lock().unwrap_or_else(PoisonError::into_inner);
        claimed.extend(self.extensions());
        let mut searched = claimed.clone();
        searched.extend(WELL_KNOWN.map(str::to_owned));
        searched.into_iter().collect()
    }

    /// Endings of every plugin's formats, running or not.
    pub(super) fn extensions(&self) -> Vec<String> {
        let formats = self.plugins.records().into_iter().flat_map(|record| record.formats);
        let mut extensions: Vec<String> = formats.flat_map(|format| format.extensions).collect();
        extensions.sort();
        extensions.dedup();
        extensions
    }

    fn look(&self, found: &Found) -> Entry {
        let generation = self.plugins.generation();
        let metadata = std::fs::metadata(&found.path).ok();
        // Of all its parts: one that comes later changes what the plugin says.
        let parts = shards_of(&found.path).into_iter().filter_map(|part| std::fs::metadata(part).ok());
        let (modified, length) = parts.chain(metadata.clone().filter(std::fs::Metadata::is_dir)).fold(
            (None, 0),
            |(latest, length), part| {
                (latest.max(part.modified().ok()), length + if part.is_file() { part.len() } else { 0 })
            },
        );
        let seen_before = || {
            let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            let now = (modified, length, generation);
            let same =
                seen.get(&found.path).filter(|seen| (seen.modified, seen.length, seen.generation) == now);
            same.map(|same| Entry { id: found.id.clone(), ..same.entry.clone() })
        };
        if let Some(entry) = seen_before() {
            return entry;
        }
        let _asking = self.asking.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = seen_before() {
            return entry;
        }
        let mut entry = self.probe(found, metadata.as_ref().is_some_and(std::fs::Metadata::is_dir));
        entry.created = modified
            .and_then(|modified| modified.duration_since(SystemTime::UNIX_EPOCH).ok())
            .map_or(0, |age| age.as_secs());
        entry.summary.size_bytes = Some(length);
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.insert(found.path.clone(), Seen { modified, length, generation, entry: entry.clone() });
        entry
    }

    /// Asks the plugins, those first that claim the file's ending. The highest score wins, and its word stands.
    fn probe(&self, found: &Found, is_dir: bool) -> Entry {
        if let Err(error) = readable(&found.path, is_dir) {
            return unavailable(found, format!("the file cannot be read: {error}"));
        }
        let mut best: Option<(ActiveFormat, Probe)> = None;
        let mut refusal = None;
        for format in self.candidates(&found.path) {
            match self.plugins.probe(&format.plugin, &found.path, is_dir) {
                Some(Ok(probe)) if probe.score > best.as_ref().map_or(0, |(_, best)| best.score) => {
                    best = Some((format, probe));
                }
                Some(Err(error)) => refusal = refusal.or(Some((format, error.message))),
                Some(Ok(_)) | None => {}
            }
        }
        match (best, refusal) {
            (Some((format, probe)), _) => described(found, &format, probe),
            (None, Some((format, reason))) => {
                Entry { format: Some(format.id), plugin: Some(format.plugin), ..unavailable(found, reason) }
            }
            (None, None) => unavailable(found, self.nobody(&found.path)),
        }
    }

    /// One format of each running plugin; of those that claim the ending where there are any, else of all.
    fn candidates(&self, path: &Path) -> Vec<ActiveFormat> {
        let formats = self.plugins.formats();
        let ending =
            path.extension().map(|ending| ending.to_string_lossy().to_ascii_lowercase()).unwrap_or_default();
        let claims = |format: &&ActiveFormat| format.extensions.contains(&ending);
        let mut candidates: Vec<ActiveFormat> = formats.iter().filter(claims).cloned().collect();
        if candidates.is_empty() {
            candidates = formats;
        }
        let mut plugins = Vec::new();
        candidates.retain(|format| {
            let new = !plugins.contains(&format.plugin);
            plugins.push(format.plugin.clone());
            new
        });
        candidates
    }

    /// Why no plugin runs a file: what is active, and which plugins failed to load.
    fn nobody(&self, path: &Path) -> String {
        let ending =
            path.extension().map(|ending| ending.to_string_lossy().to_ascii_lowercase()).unwrap_or_default();
        let records = self.plugins.records();
        let failed = records.iter().filter(|record| record.state != State::Loaded);
        let of_it = failed
            .clone()
            .filter(|record| record.formats.iter().any(|format| format.extensions.contains(&ending)))
            .map(|record| {
                let reason = record.reason.as_deref().unwrap_or("no reason given");
                format!("a plugin `{}` for it is present but {}: {reason}", record.id, record.state)
            })
            .next();
        let active: Vec<String> = self.plugins.formats().into_iter().map(|format| format.id).collect();
        let active = if active.is_empty() { "none".to_owned() } else { active.join(", ") };
        let failed: Vec<String> = failed.map(|record| format!("{} ({})", record.id, record.state)).collect();
        let failed = if failed.is_empty() {
            String::new()
        } else {
            format!("; plugins not loaded: {}", failed.join(", "))
        };
        let is_claimed = self.plugins.formats().iter().any(|format| format.extensions.contains(&ending));
        let lacking = if is_claimed || ending.is_empty() {
            "no loaded plugin recognises it".to_owned()
        } else {
            format!("no plugin for {ending} files is loaded")
        };
        of_it.unwrap_or_else(|| format!("{lacking}; active formats: {active}{failed}"))
    }
}

fn readable(path: &Path, is_dir: bool) -> std::io::Result<()> {
    if is_dir { Ok(()) } else { std::fs::File::open(path).map(drop) }
}

fn described(found: &Found, format: &ActiveFormat, probe: Probe) -> Entry {
    let missing = shards_of(&found.path).into_iter().find(|shard| !shard.exists());
    let reason =
        probe.obstacle.or_else(|| missing.map(|shard| format!("its part {} is missing", file_name(&shard))));
    let summary = Summary::from_json(&probe.summary);
    Entry {
        id: found.id.clone(),
        path: found.path.clone(),
        created: 0,
        format: Some(probe.format),
        plugin: Some(format.plugin.clone()),
        state: if reason.is_some() { ModelState::Unavailable } else { ModelState::Available },
        reason,
        detail: None,
        capabilities: capability::of_headers(&summary.capabilities, summary.chat_template),
        summary,
    }
}

fn unavailable(found: &Found, reason: String) -> Entry {
    Entry {
        id: found.id.clone(),
        path: found.path.clone(),
        created: 0,
        format: None,
        plugin: None,
        state: ModelState::Unavailable,
        reason: Some(reason),
        detail: None,
        summary: Summary::default(),
        capabilities: Vec::new(),
    }
}
