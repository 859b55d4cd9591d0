//! One upload on the disk: a folder with `state.json` and, under `files`, the files at their full length.
//!
//! What was received is written down after it is there. Hashes grow with what comes; after a restart of the server they
//! are made anew of what is there, once somebody goes on with the upload.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{HEADER_BYTES, Manifest, PIECE_BYTES, Piece, Result, Stop, UploadFile, UploadState, failed};

const STATE: &str = "state.json";
const FILES: &str = "files";

/// An upload.
pub(super) struct Staged {
    folder: PathBuf,
    noted: Noted,
    hashes: HashMap<String, Sha256>,
}

/// What is written down.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Noted {
    /// The path that is the model.
    model: String,
    /// Whether the headers passed.
    checked: bool,
    /// How far into each file headers are looked for.
    level: u64,
    files: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Part {
    path: String,
    bytes: u64,
    received: u64,
}

impl Staged {
    /// Makes the folder with the files, empty at their full length.
    pub(super) fn create(folder: PathBuf, manifest: &Manifest) -> Result<Self> {
        let made = |error: std::io::Error| failed("staging the upload", &error);
        // What a server left that was ended in the midst of this.
        let _ = std::fs::remove_dir_all(&folder);
        for wanted in manifest.files() {
            let path = folder.join(FILES).join(&wanted.path);
            if let Some(above) = path.parent() {
                std::fs::create_dir_all(above).map_err(made)?;
            }
            File::create_new(&path).and_then(|file| file.set_len(wanted.bytes)).map_err(made)?;
        }
        let part =
            |wanted: &super::Wanted| Part { path: wanted.path.clone(), bytes: wanted.bytes, received: 0 };
        let noted = Noted {
            model: manifest.model().to_owned(),
            checked: false,
            level: PIECE_BYTES,
            files: manifest.files().iter().map(part).collect(),
        };
        let staged = Staged { folder, noted, hashes: HashMap::new() };
        staged.note()?;
        Ok(staged)
    }

    /// One that is there. `None` where none is, or a broken one.
    pub(super) fn open(folder: PathBuf) -> Option<Self> {
        let noted: Noted = serde_json::from_slice(&std::fs::read(folder.join(STATE)).ok()?).ok()?;
        Some(Staged { folder, noted, hashes: HashMap::new() })
    }

    /// How it stands.
    pub(super) fn state(&self) -> UploadState {
        let id = self.folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let files = self.noted.files.iter();
        UploadState {
            id,
            bytes: files.clone().map(|part| part.bytes).sum(),
            received: files.clone().map(|part| part.received).sum(),
            checked: self.noted.checked,
            files: files.map(|part| self.file(part)).collect(),
            next: self.next(),
            model: None,
        }
    }

    fn file(&self, part: &Part) -> UploadFile {
        let hash = self.hashes.get(&part.path).filter(|_| part.received == part.bytes);
        UploadFile {
            path: part.path.clone(),
            bytes: part.bytes,
            received: part.received,
            sha256: hash.map(|hash| hex(&hash.clone().finalize())),
        }
    }

    /// First the beginnings of all files; the rest once the headers passed.
    fn next(&self) -> Option<Piece> {
        let end =
            |part: &Part| if self.noted.checked { part.bytes } else { part.bytes.min(self.noted.level) };
        let part = self.noted.files.iter().find(|part| part.received < end(part))?;
        Some(Piece {
            path: part.path.clone(),
            offset: part.received,
            bytes: (end(part) - part.received).min(PIECE_BYTES),
        })
    }

    /// Writes the next piece.
    pub(super) fn write(&mut self, path: &str, offset: u64, bytes: &[u8]) -> Result<()> {
        let next = self.next();
        let is_next = |piece: &Piece| {
            (piece.path.as_str(), piece.offset, piece.bytes) == (path, offset, bytes.len() as u64)
        };
        if !next.as_ref().is_some_and(is_next) {
            let what = match next {
                Some(Piece { path, offset, bytes }) => format!("{bytes} bytes of `{path}` from {offset} on"),
                None => "none: all is there".to_owned(),
            };
            let found = bytes.len();
            return Err(Stop::WrongPiece(format!(
                "the next piece is {what}; found {found} bytes of `{path}` from {offset} on"
            )));
        }
        let mut hash = self.hash(path, offset)?;
        let file = File::options().write(true).open(self.folder.join(FILES).join(path));
        let written = file.and_then(|file| file.write_all_at(bytes, offset));
        written.map_err(|error| failed("writing the piece", &error))?;
        hash.update(bytes);
        self.hashes.insert(path.to_owned(), hash);
        if let Some(part) = self.noted.files.iter_mut().find(|part| part.path == path) {
            part.received += bytes.len() as u64;
        }
        self.note()
    }

    /// Of the first bytes of a file.
    fn hash(&mut self, path: &str, bytes: u64) -> Result<Sha256> {
        if let Some(known) = self.hashes.remove(path) {
            return Ok(known);
        }
        let file = File::open(self.folder.join(FILES).join(path));
        let hash = file.and_then(|file| hash_of(file.take(bytes)));
        hash.map_err(|error| failed("reading what had come", &error))
    }

    /// Makes the hashes that are missing since the server was started.
    pub(super) fn hash_all(&mut self) -> Result<()> {
        for Part { path, received, .. } in self.noted.files.clone() {
            let hash = self.hash(&path, received)?;
            self.hashes.insert(path, hash);
        }
        Ok(())
    }

    /// Whether the beginnings are there, and nobody has judged them.
    pub(super) fn wants_judgement(&self) -> bool {
        !self.noted.checked && self.next().is_none()
    }

    /// The headers passed.
    pub(super) fn pass(&mut self) -> Result<()> {
        self.noted.checked = true;
        self.note()
    }

    /// Asks for longer beginnings, since a header may be longer than what came. `false` where that helps no more.
    pub(super) fn look_further(&mut self) -> bool {
        let more = self.noted.files.iter().any(|part| part.received < part.bytes.min(HEADER_BYTES));
        if more {
            self.noted.level *= 2;
        }
        more
    }

    /// The model as it is staged.
    pub(super) fn model_path(&self) -> PathBuf {
        self.folder.join(FILES).join(&self.noted.model)
    }

    /// Puts the complete files below `root`. Where the model lies then.
    pub(super) fn place(&mut self, root: &Path) -> Result<PathBuf> {
        let done = |error: std::io::Error| failed("putting the model into its folder", &error);
        for part in &self.noted.files {
            File::open(self.folder.join(FILES).join(&part.path))
                .and_then(|file| file.sync_all())
                .map_err(done)?;
        }
        for entry in std::fs::read_dir(self.folder.join(FILES)).map_err(done)? {
            let name = entry.map_err(done)?.file_name();
            let to = root.join(&name);
            if to.symlink_metadata().is_ok() {
                let name = name.to_string_lossy();
                return Err(Stop::Exists(format!(
                    "there is a `{name}` among the models by now: delete one of them"
                )));
            }
            std::fs::rename(self.folder.join(FILES).join(&name), &to).map_err(done)?;
        }
        self.throw_away();
        Ok(root.join(&self.noted.model))
    }

    /// Takes it from the disk.
    pub(super) fn throw_away(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.folder) {
            tracing::warn!("an upload could not be thrown away: {error}");
        }
    }

    fn note(&self) -> Result<()> {
        let text =
            serde_json::to_vec(&self.noted).map_err(|error| failed("noting the upload", &error.into()))?;
        let new = self.folder.join("state.new");
        let noted = std::fs::write(&new, text).and_then(|()| std::fs::rename(new, self.folder.join(STATE)));
        noted.map_err(|error| failed("noting the upload", &error))
    }
}

/// When an upload was last gone on with.
pub(super) fn touched(folder: &Path) -> Option<SystemTime> {
    std::fs::metadata(folder.join(STATE)).ok()?.modified().ok()
}

fn hash_of(mut source: impl Read) -> std::io::Result<Sha256> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match source.read(&mut buffer)? {
            0 => return Ok(hash),
            read => hash.update(&buffer[..read]),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::super::Wanted;
    use super::*;

    fn manifest(files: &[(&str, u64)]) -> Manifest {
        let wanted = files.iter().map(|(path, bytes)| Wanted {
            path: (*path).to_owned(),
            bytes: *bytes,
            modified: None,
        });
        Manifest::new(wanted.collect()).unwrap()
    }

    fn piece(staged: &Staged) -> Option<(String, u64, u64)> {
        staged.next().map(|Piece { path, offset, bytes }| (path, offset, bytes))
    }

    fn send(staged: &mut Staged) {
        let Piece { path, offset, bytes } = staged.next().unwrap();
        staged.write(&path, offset, &vec![b'x'; bytes as usize]).unwrap();
    }

    #[test]
    fn beginnings_come_first_and_the_rest_once_they_passed() {
        let folder = tempfile::tempdir().unwrap();
        let long = PIECE_BYTES * 2 + 5;
        let files = manifest(&[("m/a.json", 3), ("m/b.st", long)]);
        let mut staged = Staged::create(folder.path().join("ab"), &files).unwrap();
        assert_eq!(piece(&staged), Some(("m/a.json".to_owned(), 0, 3)));
        send(&mut staged);
        send(&mut staged);
        assert!(staged.wants_judgement());
        assert!(staged.look_further(), "a header may be longer than what came");
        assert_eq!(piece(&staged), Some(("m/b.st".to_owned(), PIECE_BYTES, PIECE_BYTES)));
        send(&mut staged);
        assert!(staged.look_further());
        send(&mut staged);
        assert!(staged.wants_judgement() && !staged.look_further(), "all is there");
        staged.pass().unwrap();
        let state = staged.state();
        assert_eq!((state.next, state.received), (None, long + 3));
        let expected = hash_of(&vec![b'x'; long as usize][..]).unwrap();
        assert_eq!(state.files[1].sha256, Some(hex(&expected.finalize())));
        let placed = staged.place(folder.path()).unwrap();
        assert_eq!(std::fs::metadata(placed.join("b.st")).unwrap().len(), long);
        assert!(!folder.path().join("ab").exists());
    }

    #[test]
    fn another_piece_than_the_next_is_refused_and_a_restart_loses_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let mut staged = Staged::create(folder.path().join("cd"), &manifest(&[("a.gguf", 10)])).unwrap();
        for (path, offset, bytes) in [("b.gguf", 0, 10), ("a.gguf", 1, 9), ("a.gguf", 0, 9)] {
            let refused = staged.write(path, offset, &vec![0; bytes]).unwrap_err();
            assert!(matches!(refused, Stop::WrongPiece(_)), "{refused:?}");
        }
        send(&mut staged);
        let before = staged.state();
        let mut after = Staged::open(folder.path().join("cd")).unwrap();
        after.hash_all().unwrap();
        assert_eq!(after.state(), before);
        assert!(before.files[0].sha256.is_some());
        assert!(Staged::open(folder.path().join("ef")).is_none());
    }
}
