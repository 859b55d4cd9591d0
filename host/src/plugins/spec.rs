//! What is needed to open a plugin, wherever that is done: in this process, or in a child to which it is sent.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::inspect::Manifest;
use super::record::{Refusal, State};
use super::trust::{Fingerprint, Seal};
use crate::config::{self, Confinement, Isolation, PluginEntry};

/// A plugin that passed every check of its file, and what it is to be told. None of its code has run for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spec {
    /// Its id.
    pub id: String,
    /// Its own version.
    pub version: String,
    /// The library, with every link resolved.
    pub path: PathBuf,
    /// SHA-256 of the library's content, in hexadecimal: another file is not opened under this name.
    pub sha256: String,
    /// Which file that was, beyond its content.
    pub seal: Seal,
    /// The copy that is opened in its place; `None`: it is opened where it lies.
    pub copy: Option<PathBuf>,
    /// What its `init` is told, a JSON object.
    pub options: String,
    /// Where its code may run.
    pub isolation: Isolation,
    /// What its code may do there.
    pub confinement: Confinement,
    /// Bytes of memory of its own that a process with its code may take; 0: no limit.
    pub memory_bytes: u64,
}

impl Spec {
    /// Of a library whose manifest was read from its file, as plugins.toml wants it.
    pub(super) fn new(
        file: &Fingerprint,
        manifest: &Manifest,
        entry: &PluginEntry,
        all: &config::Plugins,
    ) -> Result<Self, Refusal> {
        let options = serde_json::to_string(&entry.options).map_err(|error| {
            Refusal::new(
                State::InitFailed,
                format!("its options are no JSON: {error}"),
                format!("correct [plugin.{}.options] in plugins.toml", manifest.id),
            )
        })?;
        Ok(Spec {
            id: manifest.id.clone(),
            version: manifest.version.clone(),
            path: file.path.clone(),
            sha256: file.sha256.clone(),
            seal: file.seal,
            copy: None,
            options,
            isolation: entry.isolation.unwrap_or(all.isolation),
            confinement: entry.confinement.unwrap_or(all.confinement),
            memory_bytes: entry.memory_bytes.unwrap_or(all.memory_bytes),
        })
    }

    #[cfg(test)]
    pub(super) fn example(file: &Fingerprint) -> Self {
        Spec {
            id: "example".to_owned(),
            version: "1.0.0".to_owned(),
            path: file.path.clone(),
            sha256: file.sha256.clone(),
            seal: file.seal,
            copy: None,
            options: "{}".to_owned(),
            isolation: Isolation::default(),
            confinement: Confinement::default(),
            memory_bytes: 0,
        }
    }

    /// Whether both say the same but for the file's times and its copy: then who runs one need not change to the other.
    pub fn is_same_code(&self, other: &Spec) -> bool {
        Spec { seal: other.seal, copy: other.copy.clone(), ..self.clone() } == *other
    }

    /// Where the library and its copy lie: who opens it reads there.
    pub fn folders(&self) -> Vec<PathBuf> {
        let files = [Some(&self.path), self.copy.as_ref()].into_iter().flatten();
        files.filter_map(|file| file.parent()).map(Path::to_owned).collect()
    }

    /// The file that was judged.
    pub(super) fn file(&self) -> Fingerprint {
        Fingerprint { path: self.path.clone(), sha256: self.sha256.clone(), seal: self.seal }
    }
}
