//! Which files could be plugins: the entries of plugins.toml, then the plugin folder by name. One file counts once.

use std::path::{Path, PathBuf};

use crate::config::Config;

/// A library to look at, and the plugins.toml entry that named it, if one did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Candidate {
    pub(super) path: PathBuf,
    pub(super) entry: Option<String>,
    /// A link must not lead out of the plugin folder.
    pub(super) confined: bool,
}

/// The candidates in their order, and what could not be read.
pub(super) fn candidates(config: &Config) -> Vec<Candidate> {
    let mut found: Vec<Candidate> = Vec::new();
    for (id, entry) in &config.plugin {
        if let Some(path) = &entry.path {
            push(&mut found, Candidate { path: path.clone(), entry: Some(id.clone()), confined: false });
        }
    }
    for path in libraries_in(&config.plugins.folder) {
        push(&mut found, Candidate { path, entry: None, confined: true });
    }
    found
}

fn push(found: &mut Vec<Candidate>, candidate: Candidate) {
    let same = |other: &Candidate| canonical(&other.path) == canonical(&candidate.path);
    if !found.iter().any(same) {
        found.push(candidate);
    }
}

fn canonical(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}

fn libraries_in(folder: &Path) -> Vec<PathBuf> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) => {
            tracing::warn!("the plugin folder {} cannot be read: {error}", folder.display());
            return Vec::new();
        }
    };
    let is_library = |path: &PathBuf| {
        let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        !hidden && path.extension().is_some_and(|ending| ending == std::env::consts::DLL_EXTENSION)
    };
    let mut libraries: Vec<PathBuf> =
        entries.filter_map(Result::ok).map(|entry| entry.path()).filter(is_library).collect();
    libraries.sort();
    libraries
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_come_first_and_a_file_counts_once() {
        let folder = tempfile::tempdir().unwrap();
        let library = |name: &str| folder.path().join(format!("{name}.{}", std::env::consts::DLL_EXTENSION));
        for name in ["libb", "liba", ".half-copied"] {
            std::fs::write(library(name), "").unwrap();
        }
        std::fs::write(folder.path().join("notes.txt"), "").unwrap();
        let text = format!(
            "[plugins]\nfolder = {:?}\n[plugin.b]\npath = {:?}\n",
            folder.path().to_str().unwrap(),
            library("libb").to_str().unwrap()
        );
        let config = Config::parse(&text, Path::new("/")).unwrap();
        let found = candidates(&config);
        let names: Vec<_> =
            found.iter().map(|candidate| (candidate.path.clone(), candidate.entry.clone())).collect();
        assert_eq!(names, [(library("libb"), Some("b".to_owned())), (library("liba"), None)]);
    }
}
