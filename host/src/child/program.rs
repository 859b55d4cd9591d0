//! Which program children are of: this very one, and which build of it that is.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use object::{Object, ReadCache};
use sha2::{Digest, Sha256};

static PROGRAM: OnceLock<PathBuf> = OnceLock::new();

/// Children are of this program from now on, not of the one that runs here: for programs that use this library and are no
/// `impetus` themselves, such as tests. The first call counts.
pub fn use_program(path: PathBuf) {
    let _ = PROGRAM.set(path);
}

/// The program that runs here, also where another has taken its place on the disk in the meantime.
pub(crate) fn own_program() -> io::Result<PathBuf> {
    if let Some(path) = PROGRAM.get() {
        return Ok(path.clone());
    }
    let (path, running) = (std::env::current_exe()?, Path::new("/proc/self/exe"));
    let id = |path: &Path| std::fs::metadata(path).ok().map(|file| (file.dev(), file.ino()));
    let is_replaced = id(running).is_some_and(|running| id(&path) != Some(running));
    Ok(if is_replaced { running.to_owned() } else { path })
}

/// What no two builds have in common, as text: what the linker made of the content, or the content's SHA-256 where it left
/// no such mark.
///
/// # Errors
/// What the system says when the file cannot be read.
pub(crate) fn build_of(program: &Path) -> io::Result<String> {
    let hexadecimal = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let cache = ReadCache::new(File::open(program)?);
    let marked = object::File::parse(&cache).ok();
    if let Some(Ok(Some(mark))) = marked.map(|file| file.build_id().map(|mark| mark.map(hexadecimal))) {
        return Ok(mark);
    }
    Ok(hexadecimal(&Sha256::digest(std::fs::read(program)?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_content_is_another_build() {
        let folder = tempfile::tempdir().unwrap();
        let build = |name: &str, content: &str| {
            std::fs::write(folder.path().join(name), content).unwrap();
            build_of(&folder.path().join(name)).unwrap()
        };
        assert_eq!(build("a", "one"), build("b", "one"), "the name is no part of it");
        assert_ne!(build("a", "one"), build("a", "two"), "of the same length");
        let own = std::env::current_exe().unwrap();
        assert!(build_of(&own).unwrap().len() >= 16);
        assert!(build_of(Path::new("/no/such/program")).is_err());
    }
}
