//! Whether a library may be opened at all, judged by its file. Opening it is running its code.
//!
//! This step looks at the file and its folder, and at the hash that plugins.toml pins. Folders further up are not
//! judged here.

use std::io::Read;
use std::path::Path;

use sha2::{Digest, Sha256};

use super::record::{Refusal, State};

/// Refuses what others could have written, and what is not the pinned file.
pub(super) fn check(path: &Path, sha256: Option<&str>) -> Result<(), Refusal> {
    let missing = |error: std::io::Error| {
        Refusal::new(
            State::LoadFailed,
            format!("the library cannot be read: {error}"),
            "correct the path in plugins.toml, or put the library there",
        )
    };
    let metadata = std::fs::metadata(path).map_err(missing)?;
    if !metadata.is_file() {
        return Err(Refusal::new(
            State::NotAPlugin,
            "it is not a regular file",
            "put the library itself there",
        ));
    }
    check_owner(path, &metadata)?;
    match sha256 {
        Some(expected) => check_hash(path, expected),
        None => Ok(()),
    }
}

#[cfg(unix)]
fn check_owner(path: &Path, metadata: &std::fs::Metadata) -> Result<(), Refusal> {
    use std::os::unix::fs::MetadataExt;

    check_one("the library", metadata, "chmod go-w the library, or chown it to the user who runs impetus")?;
    let folder = path.parent().unwrap_or(Path::new("/"));
    let folder_metadata = std::fs::metadata(folder).map_err(|error| {
        Refusal::new(
            State::LoadFailed,
            format!("its folder cannot be read: {error}"),
            "check the folder's modes",
        )
    })?;
    // A sticky folder, such as /tmp, lets everyone add files but only owners replace theirs.
    const STICKY: u32 = 0o1000;
    if folder_metadata.mode() & STICKY != 0 {
        return Ok(());
    }
    check_one(
        "its folder",
        &folder_metadata,
        "chmod go-w the folder, or chown it to the user who runs impetus",
    )
}

#[cfg(unix)]
fn check_one(what: &str, metadata: &std::fs::Metadata, hint: &str) -> Result<(), Refusal> {
    use std::os::unix::fs::MetadataExt;

    let us = own_uid();
    if metadata.uid() != 0 && us.is_some_and(|us| metadata.uid() != us) {
        let reason =
            format!("{what} belongs to user {}, neither root nor the user who runs impetus", metadata.uid());
        return Err(Refusal::new(State::Untrusted, reason, hint));
    }
    const WRITABLE_BY_OTHERS: u32 = 0o002;
    if metadata.mode() & WRITABLE_BY_OTHERS != 0 {
        let reason = format!("{what} can be written by every user (mode {:03o})", metadata.mode() & 0o777);
        return Err(Refusal::new(State::Untrusted, reason, hint));
    }
    Ok(())
}

/// The user who runs this process, as the owner of its own entry under /proc; `None` where there is no such thing.
#[cfg(unix)]
fn own_uid() -> Option<u32> {
    use std::os::unix::fs::MetadataExt;

    std::fs::metadata("/proc/self").ok().map(|metadata| metadata.uid())
}

#[cfg(not(unix))]
fn check_owner(_: &Path, _: &std::fs::Metadata) -> Result<(), Refusal> {
    Ok(())
}

fn check_hash(path: &Path, expected: &str) -> Result<(), Refusal> {
    let found = sha256_of(path).map_err(|error| {
        Refusal::new(
            State::LoadFailed,
            format!("the library cannot be read: {error}"),
            "check the file's modes",
        )
    })?;
    if found == expected {
        return Ok(());
    }
    Err(Refusal::new(
        State::HashMismatch,
        format!("plugins.toml pins sha256 {expected}, but the file has {found}"),
        "restore the pinned file, or write the new hash into plugins.toml if you trust the new file",
    ))
}

/// SHA-256 of a file's content, in hexadecimal.
pub(super) fn sha256_of(path: &Path) -> std::io::Result<String> {
    let mut file = std::fs::File::open(path)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        match file.read(&mut buffer)? {
            0 => break,
            length => hasher.update(&buffer[..length]),
        }
    }
    Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn what_others_could_have_written_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("x.so");
        std::fs::write(&file, "abc").unwrap();
        assert_eq!(check(&file, None), Ok(()));

        std::fs::set_permissions(&file, PermissionsExt::from_mode(0o666)).unwrap();
        let refusal = check(&file, None).unwrap_err();
        assert_eq!(refusal.state, State::Untrusted);
        assert_eq!(refusal.reason, "the library can be written by every user (mode 666)");

        std::fs::set_permissions(&file, PermissionsExt::from_mode(0o644)).unwrap();
        std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o777)).unwrap();
        assert_eq!(check(&file, None).unwrap_err().state, State::Untrusted);
    }

    #[test]
    fn a_pin_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("x.so");
        std::fs::write(&file, "abc").unwrap();
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(check(&file, Some(abc)), Ok(()));
        std::fs::write(&file, "abd").unwrap();
        let refusal = check(&file, Some(abc)).unwrap_err();
        assert_eq!(refusal.state, State::HashMismatch);
        assert!(refusal.reason.contains(abc), "{}", refusal.reason);
    }
}
