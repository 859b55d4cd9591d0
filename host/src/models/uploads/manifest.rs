//! What an upload will be of: paths and lengths, checked before anything is made on the disk. Pure.

use std::collections::BTreeSet;

use sha2::{Digest, Sha256};

use super::{Result, Stop};
use crate::error::Error;

/// A checkpoint has some dozens of files.
const MOST_FILES: usize = 2000;

/// A folder with folders: deeper ones are no models.
const DEEPEST: usize = 4;

/// What file systems take.
const LONGEST_NAME: usize = 255;

/// One file that is to come.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Wanted {
    /// Its path below the model folder, with `/`.
    pub path: String,
    /// Its length.
    pub bytes: u64,
    /// When it was last changed where it comes from, in milliseconds since 1970, as far as that is known.
    pub modified: Option<i64>,
}

/// The files of one model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    files: Vec<Wanted>,
}

impl Manifest {
    /// Files by their paths. Either all lie in one folder, which is the model, or none does.
    ///
    /// # Errors
    /// [`Stop::Host`] with the path that is wrong, and how.
    pub fn new(mut files: Vec<Wanted>) -> Result<Self> {
        let wrong = |message: String| Err(Stop::Host(Error::invalid("files", message)));
        files.sort();
        if files.is_empty() || files.len() > MOST_FILES {
            return wrong(format!("`files` must name 1 to {MOST_FILES} files; found {}", files.len()));
        }
        for Wanted { path, .. } in &files {
            if let Some(fault) = fault(path) {
                return wrong(format!("the path `{}` {fault}", path.escape_debug()));
            }
        }
        if let Some(pair) = files.windows(2).find(|pair| pair[0].path == pair[1].path) {
            return wrong(format!("`{}` is named twice", pair[0].path));
        }
        let folders: BTreeSet<Option<&str>> =
            files.iter().map(|file| file.path.split_once('/').map(|(top, _)| top)).collect();
        if folders.len() > 1 {
            return wrong("the files must lie in one folder, or in none".to_owned());
        }
        let sum = files.iter().try_fold(0u64, |sum, file| sum.checked_add(file.bytes));
        match sum {
            None | Some(0) => wrong("the files have no bytes, or more than 64 bits can count".to_owned()),
            Some(_) => Ok(Manifest { files }),
        }
    }

    /// By their paths.
    pub fn files(&self) -> &[Wanted] {
        &self.files
    }

    /// Bytes of all.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }

    /// The same for the same files. One that was changed since is another: half of each would be no model.
    pub fn id(&self) -> String {
        let mut hash = Sha256::new();
        for Wanted { path, bytes, modified } in &self.files {
            hash.update(format!("{bytes} {modified:?} {path}\n"));
        }
        hash.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
    }

    /// Whether the model is a folder.
    pub fn is_folder(&self) -> bool {
        self.model().len() < self.files[0].path.len()
    }

    /// The path that is the model: its folder, or its first file.
    pub fn model(&self) -> &str {
        let first = &self.files[0].path;
        first.split_once('/').map_or(first, |(top, _)| top)
    }

    /// What will stand in the model folder itself.
    pub fn tops(&self) -> impl Iterator<Item = &str> {
        let top = |file: &'_ Wanted| file.path.find('/').unwrap_or(file.path.len());
        let mut names: Vec<&str> = self.files.iter().map(|file| &file.path[..top(file)]).collect();
        names.dedup();
        names.into_iter()
    }
}

/// What is wrong with a path.
fn fault(path: &str) -> Option<String> {
    let parts: Vec<&str> = path.split('/').collect();
    if parts.len() > DEEPEST {
        return Some(format!("is deeper than {DEEPEST} folders"));
    }
    parts.into_iter().find_map(|part| {
        if part.is_empty() {
            Some("has an empty part, or begins at the root".to_owned())
        } else if part.starts_with('.') {
            Some("has a hidden part, or leads out of the model folder".to_owned())
        } else if part.len() > LONGEST_NAME {
            Some(format!("has a part of more than {LONGEST_NAME} bytes"))
        } else if part.chars().any(|letter| letter.is_control() || "\\:*?\"<>|".contains(letter)) {
            Some("has letters that file names must not have".to_owned())
        } else {
            None
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(paths: &[&str]) -> Result<Manifest> {
        let wanted = |path: &&str| Wanted { path: (*path).to_owned(), bytes: 3, modified: None };
        Manifest::new(paths.iter().map(wanted).collect())
    }

    #[test]
    fn a_file_that_was_changed_is_another_upload() {
        let id = |modified| {
            Manifest::new(vec![Wanted { path: "a.gguf".to_owned(), bytes: 3, modified }]).unwrap().id()
        };
        assert_eq!(id(Some(5)), id(Some(5)));
        assert!(id(Some(5)) != id(Some(6)) && id(Some(5)) != id(None));
    }

    #[test]
    fn a_model_is_a_file_its_parts_or_a_folder() {
        let file = manifest(&["a.gguf"]).unwrap();
        assert_eq!((file.model(), file.is_folder(), file.bytes()), ("a.gguf", false, 3));
        let folder = manifest(&["m/config.json", "m/a/b.safetensors"]).unwrap();
        assert_eq!((folder.model(), folder.is_folder()), ("m", true));
        assert_eq!(folder.tops().collect::<Vec<_>>(), ["m"]);
        assert_eq!(folder.id(), manifest(&["m/a/b.safetensors", "m/config.json"]).unwrap().id());
        assert_ne!(folder.id(), file.id());
        let parts = manifest(&["a-00001-of-00002.gguf", "a-00002-of-00002.gguf"]).unwrap();
        assert_eq!(parts.tops().count(), 2);
    }

    #[test]
    fn nothing_leads_out_of_the_model_folder() {
        for path in [
            "",
            "/etc/passwd",
            "../a.gguf",
            "a/../../b.gguf",
            "./a.gguf",
            "a//b.gguf",
            ".uploads/x",
            "a/.git/x",
            "a\\b.gguf",
            "a\0.gguf",
            "a\n.gguf",
            "c:a.gguf",
            "1/2/3/4/5.gguf",
        ] {
            assert!(manifest(&[path]).is_err(), "{path:?}");
        }
        assert!(manifest(&[&"x".repeat(256)]).is_err());
        assert!(manifest(&[]).is_err() && manifest(&["a.gguf", "a.gguf"]).is_err());
        assert!(manifest(&["a.gguf", "m/b.gguf"]).is_err() && manifest(&["m/a.gguf", "n/b.gguf"]).is_err());
        let vast = |path: &str| Wanted { path: path.to_owned(), bytes: u64::MAX, modified: None };
        assert!(Manifest::new(vec![vast("m/a"), vast("m/b")]).is_err());
    }
}
