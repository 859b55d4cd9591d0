//! Whether a library may be opened at all, judged by its file. Opening it is running its code.
//!
//! Its path and every folder on the way are judged (`path`), a link must not lead out of the plugin folder, and a pin of
//! plugins.toml must fit. What was judged is remembered as a [`Fingerprint`], which is compared again right before the
//! library is opened: nobody but us and root could have changed the file in between, and a change that we made
//! ourselves, such as a new version that is just being copied, is noticed.

use std::fs::{File, Metadata};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::path;
use super::record::{Refusal, State};

/// Which file was judged, and its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fingerprint {
    /// Without links.
    pub(super) path: PathBuf,
    /// SHA-256 of the content, in hexadecimal.
    pub(super) sha256: String,
    pub(super) seal: Seal,
}

/// Which file it was, and in what state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seal {
    device: u64,
    inode: u64,
    bytes: u64,
    /// Seconds and nanoseconds since 1970.
    modified: (i64, i64),
}

/// Refuses what others could have written, and a link out of the folder that it is confined to; no folder for a library
/// that was named outright.
pub(super) fn judge(library: &Path, confined_to: Option<&Path>) -> Result<Fingerprint, Refusal> {
    let path = path::resolve(library)?;
    if let Some(folder) = confined_to {
        check_confined(&path, &path::resolve(folder)?)?;
    }
    Fingerprint::of(&path)
}

fn check_confined(path: &Path, folder: &Path) -> Result<(), Refusal> {
    if path.starts_with(folder) {
        return Ok(());
    }
    Err(Refusal::new(
        State::Untrusted,
        format!("it is a link out of the plugin folder, to {}", path.display()),
        format!(
            "copy the library into the folder (`impetus plugins add FILE`), or name it outright in plugins.toml: \
             [plugin.ID] path = \"{}\"",
            path.display()
        ),
    ))
}

impl Fingerprint {
    fn of(path: &Path) -> Result<Self, Refusal> {
        let unreadable = |error: std::io::Error| {
            Refusal::new(
                State::LoadFailed,
                format!("the library cannot be read: {error}"),
                "make the file readable for the user who runs impetus",
            )
        };
        let judged = std::fs::symlink_metadata(path).map_err(unreadable)?;
        let mut file = File::open(path).map_err(unreadable)?;
        let before = seal(&file.metadata().map_err(unreadable)?);
        let sha256 = sha256_of(&mut file).map_err(unreadable)?;
        let after = seal(&file.metadata().map_err(unreadable)?);
        if before != after || seal(&judged) != after {
            return Err(changed("it changed while it was read", path));
        }
        Ok(Fingerprint { path: path.to_owned(), sha256, seal: after })
    }

    /// It is the file that plugins.toml pins by its hash, if one is pinned.
    pub(super) fn check_pin(&self, id: &str, pin: Option<&str>) -> Result<(), Refusal> {
        match pin.filter(|pin| *pin != self.sha256) {
            None => Ok(()),
            Some(pin) => Err(Refusal::new(
                State::HashMismatch,
                format!("plugins.toml pins sha256 {pin}, but the file has {}", self.sha256),
                format!("restore the pinned file, or, if you trust the new one, `impetus plugins pin {id}`"),
            )),
        }
    }

    /// To be called right before the library is opened: it still is the file that was judged.
    pub(super) fn check_again(&self) -> Result<(), Refusal> {
        let now = path::resolve(&self.path)?;
        if now == self.path && Fingerprint::of(&now)? == *self {
            return Ok(());
        }
        Err(changed("it is no longer the file that was checked", &self.path))
    }
}

fn changed(reason: &str, path: &Path) -> Refusal {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    Refusal::new(
        State::LoadFailed,
        format!("{reason}: {name} was written in the meantime"),
        "wait until it is copied whole; `impetus plugins add FILE` replaces a library in one step",
    )
}

fn seal(metadata: &Metadata) -> Seal {
    Seal {
        device: metadata.dev(),
        inode: metadata.ino(),
        bytes: metadata.len(),
        modified: (metadata.mtime(), metadata.mtime_nsec()),
    }
}

/// SHA-256 of a file's content, in hexadecimal.
pub(super) fn sha256_of(file: &mut File) -> std::io::Result<String> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 18];
    loop {
        match file.read(&mut buffer)? {
            0 => break,
            length => hasher.update(&buffer[..length]),
        }
    }
    Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    fn abc(folder: &Path) -> PathBuf {
        let file = folder.join("x.so");
        std::fs::write(&file, "abc").unwrap();
        file
    }

    #[test]
    fn a_pin_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let file = abc(folder.path());
        let check = || judge(&file, None).unwrap().check_pin("x", Some(ABC));
        assert_eq!(check(), Ok(()));
        std::fs::write(&file, "abd").unwrap();
        let refusal = check().unwrap_err();
        assert_eq!(refusal.state, State::HashMismatch);
        assert!(refusal.reason.contains(ABC), "{}", refusal.reason);
    }

    #[test]
    fn a_link_may_not_lead_out_of_the_folder() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("plugins");
        std::fs::create_dir(&folder).unwrap();
        let outside = abc(root.path());
        let inside = abc(&folder);
        symlink(&outside, folder.join("out.so")).unwrap();
        symlink(&inside, folder.join("in.so")).unwrap();
        let confined = |name: &str| judge(&folder.join(name), Some(&folder));
        assert_eq!(confined("in.so").unwrap().path, inside.canonicalize().unwrap());
        assert_eq!(confined("out.so").unwrap_err().state, State::Untrusted);
        assert!(judge(&folder.join("out.so"), None).is_ok(), "named outright");
    }

    #[test]
    fn another_file_in_the_same_place_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let file = abc(folder.path());
        let judged = judge(&file, None).unwrap();
        assert_eq!(judged.check_again(), Ok(()));
        let other = folder.path().join("y.so");
        std::fs::write(&other, "abc").unwrap();
        std::fs::rename(&other, &file).unwrap();
        assert!(judged.check_again().unwrap_err().reason.contains("no longer the file"));
        std::fs::remove_file(&file).unwrap();
        assert_eq!(judged.check_again().unwrap_err().state, State::LoadFailed);
    }
}
