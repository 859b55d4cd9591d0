//! Private copies of libraries: what is opened is a copy that nobody but us writes to, named by its content.
//!
//! A library that is copied over in place changes under everyone who has it open: code that has run for days is gone from one
//! instruction to the next. So running engines keep their copy, whatever is done to the file in the plugin folder, and what
//! is opened is what was judged.
//!
//! A library that looks for others beside itself (`$ORIGIN`) is opened where it lies, as is every library where there is
//! no folder for copies: both as long as they are what was judged.

use std::collections::HashMap;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, SystemTime};

use super::record::Refusal;
use super::spec::Spec;
use super::{held, needed, trust};

/// A copy that no plugin of ours has is kept for so long: another server may have it.
const UNUSED: Duration = Duration::from_secs(7 * 24 * 3600);

/// The copies of this user.
pub(super) struct Copies {
    folder: Option<PathBuf>,
    /// Those that were found whole, or were made, by hash.
    whole: Mutex<HashMap<String, PathBuf>>,
}

impl Copies {
    /// `cache` is the folder of this program's caches, where there is one.
    pub(super) fn new(cache: Option<&Path>) -> Self {
        // Elsewhere the loader's words for "beside itself" are others.
        let folder = cache.filter(|_| cfg!(target_os = "linux")).map(|cache| cache.join("libraries"));
        Copies { folder, whole: Mutex::default() }
    }

    /// The copy of a library, made where there is none; `None` where it is to be opened where it lies.
    pub(super) fn of(&self, spec: &Spec) -> Option<PathBuf> {
        let folder = self.folder.as_ref().filter(|_| !needed::looks_beside_itself(&spec.path))?;
        let copy = folder.join(&spec.sha256).join(spec.path.file_name()?);
        let made = self.see_to(&copy, spec);
        made.inspect_err(|error| {
            let (plugin, folder) = (&spec.id, folder.display());
            tracing::warn!(%plugin, "it is opened where it lies, for it cannot be copied into {folder}: {error}");
        })
        .ok()
    }

    fn see_to(&self, copy: &Path, spec: &Spec) -> io::Result<PathBuf> {
        let known = held(&self.whole)
            .get(&spec.sha256)
            .filter(|known| known.file_name() == copy.file_name())
            .cloned();
        let path = match known.filter(|path| path.exists()).or_else(|| whole(copy, &spec.sha256)) {
            Some(path) => path,
            None => {
                write(copy, spec)?;
                whole(copy, &spec.sha256).ok_or_else(|| {
                    io::Error::other("another user could write there, or no code may be run from there")
                })?
            }
        };
        if let Some(folder) = path.parent() {
            // How others see that it is used.
            File::open(folder)?.set_modified(SystemTime::now())?;
        }
        held(&self.whole).insert(spec.sha256.clone(), path.clone());
        Ok(path)
    }

    /// Removes copies that `is_used` does not know and that nobody has used for long. Who has one open keeps it.
    pub(super) fn prune(&self, is_used: impl Fn(&str) -> bool) {
        let folders = self.folder.iter().filter_map(|folder| std::fs::read_dir(folder).ok()).flatten();
        for folder in folders.filter_map(Result::ok) {
            let modified = folder.metadata().and_then(|metadata| metadata.modified());
            let age = modified.ok().and_then(|modified| modified.elapsed().ok()).unwrap_or_default();
            if age > UNUSED && !is_used(&folder.file_name().to_string_lossy()) {
                let _ = std::fs::remove_dir_all(folder.path());
            }
        }
    }
}

/// What is to be opened: the copy, or the library itself if it still is what was judged.
///
/// # Errors
/// What it is by now.
pub(super) fn to_open(spec: &Spec) -> Result<PathBuf, Refusal> {
    if let Some(copy) = spec.copy.as_deref().and_then(|copy| whole(copy, &spec.sha256)) {
        return Ok(copy);
    }
    spec.file().check_again()?;
    Ok(spec.path.clone())
}

/// Where a copy really lies, if it has this content, nobody else could have written it and its code may be run.
fn whole(copy: &Path, sha256: &str) -> Option<PathBuf> {
    // As the library itself is judged.
    let file = trust::judge(copy, None).ok().filter(|file| file.sha256 == sha256)?;
    may_be_run(&file.path).then_some(file.path)
}

#[cfg(target_os = "linux")]
fn may_be_run(path: &Path) -> bool {
    use nix::sys::statvfs::{FsFlags, statvfs};

    statvfs(path).is_ok_and(|system| !system.flags().contains(FsFlags::ST_NOEXEC))
}

#[cfg(not(target_os = "linux"))]
fn may_be_run(_: &Path) -> bool {
    true
}

/// In one step: whoever finds it finds it whole.
fn write(copy: &Path, spec: &Spec) -> io::Result<()> {
    let folder = copy.parent().unwrap_or(Path::new("/"));
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let draft = folder.join(format!(".{}", std::process::id()));
    let _ = std::fs::remove_file(&draft);
    let write = || {
        let mut target = OpenOptions::new().write(true).create_new(true).mode(0o500).open(&draft)?;
        io::copy(&mut File::open(&spec.path)?, &mut target)?;
        if trust::sha256_of(&mut File::open(&draft)?)? != spec.sha256 {
            return Err(io::Error::other("the library was changed meanwhile"));
        }
        std::fs::rename(&draft, copy)
    };
    write().inspect_err(|_| {
        let _ = std::fs::remove_file(&draft);
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::plugins::record::State;

    struct Case {
        folder: tempfile::TempDir,
        copies: Copies,
        spec: Spec,
    }

    fn case() -> Case {
        let folder = tempfile::tempdir().unwrap();
        let library = folder.path().join("libx.so");
        std::fs::write(&library, "abc").unwrap();
        let spec = Spec::example(&trust::judge(&library, None).unwrap());
        Case { copies: Copies::new(Some(folder.path())), folder, spec }
    }

    fn set_mode(path: &Path, mode: u32) {
        std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
    }

    #[test]
    fn what_is_opened_is_what_was_judged_whatever_becomes_of_the_file() {
        let Case { copies, mut spec, folder: _folder } = case();
        spec.copy = copies.of(&spec);
        let copy = spec.copy.clone().unwrap();
        assert_eq!(
            (copy.file_name(), std::fs::read(&copy).unwrap()),
            (spec.path.file_name(), b"abc".to_vec())
        );
        assert_eq!(std::fs::metadata(&copy).unwrap().permissions().mode() & 0o777, 0o500);
        std::fs::write(&spec.path, "other").unwrap();
        assert_eq!(to_open(&spec).unwrap(), copy);
        // No copy any more: the file is all there is, and it is another.
        std::fs::remove_file(&copy).unwrap();
        assert_eq!(to_open(&spec).unwrap_err().state, State::LoadFailed);
        assert_eq!(copies.of(&spec), None, "nor can one be made of it");
        std::fs::write(&spec.path, "abc").unwrap();
        assert_eq!(copies.of(&spec), Some(copy));
    }

    #[test]
    fn a_copy_that_is_not_whole_or_not_ours_is_made_anew_or_not_used() {
        let Case { copies, spec, folder } = case();
        let copy = copies.of(&spec).unwrap();
        set_mode(&copy, 0o700);
        std::fs::write(&copy, "ab").unwrap();
        let again = Copies::new(Some(folder.path()));
        assert_eq!(again.of(&spec), Some(copy.clone()));
        assert_eq!(std::fs::read(&copy).unwrap(), b"abc");
        set_mode(&folder.path().join("libraries"), 0o777);
        let loose = Copies::new(Some(folder.path()));
        assert_eq!(loose.of(&spec), None);
        assert_eq!(whole(&copy, &spec.sha256), None);
    }

    #[test]
    fn copies_go_when_nobody_has_used_them_for_long() {
        let Case { copies, spec, folder: _folder } = case();
        let copy = copies.of(&spec).unwrap();
        copies.prune(|_| false);
        assert!(copy.exists(), "it was used just now");
        let long_ago = SystemTime::now() - 2 * UNUSED;
        let age = || File::open(copy.parent().unwrap()).unwrap().set_modified(long_ago).unwrap();
        age();
        copies.prune(|sha256| sha256 == spec.sha256);
        assert!(copy.exists(), "it is used here");
        copies.prune(|_| false);
        assert!(!copy.exists());
    }
}
