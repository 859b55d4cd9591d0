//! What trials came to, remembered: a library is tried once, and again when its content, what it is told or this host
//! are others. A plugin that crashes or hangs costs its trial once, not at each start.
//!
//! In memory, and in files of the user's cache folder where there is one. A file that cannot be read or understood is
//! no verdict, nor is one that others could have written, or that another build of this program wrote: a program that
//! only calls itself so fails at every plugin. Verdicts that depend on more than the library (a missing library of the system, a device that was not
//! there) are remembered in memory alone.

use std::collections::{HashMap, HashSet};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::path;
use super::record::State;
use super::spec::Spec;
use super::trial::{self, Verdict};
use crate::child::{build_of, own_program};

/// All verdicts that are known.
pub(super) struct Verdicts {
    /// This program, which runs trials.
    program: PathBuf,
    /// Its version, its contract and which build it is.
    host: String,
    /// Where they are kept beyond this process; nowhere where nobody can say which build this is.
    folder: Option<PathBuf>,
    known: Mutex<Known>,
    /// Told whenever a verdict comes to be known.
    news: Condvar,
}

#[derive(Default)]
struct Known {
    verdicts: HashMap<String, Verdict>,
    /// Those whose trial is under way.
    trying: HashSet<String>,
}

/// A verdict's file.
#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    key: String,
    verdict: Verdict,
}

impl Verdicts {
    /// `cache` is the folder of this program's caches, where there is one.
    pub(super) fn new(cache: Option<PathBuf>) -> Self {
        Verdicts::of_program(own_program().unwrap_or_else(|_| PathBuf::from("/proc/self/exe")), cache)
    }

    fn of_program(program: PathBuf, cache: Option<PathBuf>) -> Self {
        let build = build_of(&program);
        let folder = cache.filter(|_| build.is_ok()).map(|cache| cache.join("plugins"));
        let build = build.unwrap_or_default();
        let host = format!("{} {} {build}", env!("CARGO_PKG_VERSION"), impetus_plugin_api::API_VERSION);
        Verdicts { program, host, folder, known: Mutex::default(), news: Condvar::new() }
    }

    /// Begins the trial of a plugin whose verdict is neither remembered nor on its way.
    pub(super) fn begin(self: &Arc<Self>, spec: &Spec) {
        let key = self.key(spec);
        {
            let mut known = self.known();
            if known.verdicts.contains_key(&key) || !known.trying.insert(key.clone()) {
                return;
            }
        }
        if let Some(verdict) = self.read(&key) {
            return self.remember(key, verdict);
        }
        let (verdicts, tried) = (Arc::clone(self), spec.clone());
        let trial = std::thread::Builder::new().name("plugin's trial".to_owned());
        if trial.spawn(move || verdicts.anew(&tried)).is_err() {
            self.anew(spec);
        }
    }

    /// Whether the verdict on a plugin whose trial was begun is known, at the latest by then. Waits for it.
    pub(super) fn is_known_by(&self, spec: &Spec, deadline: Instant) -> bool {
        let (key, mut known) = (self.key(spec), self.known());
        while !known.verdicts.contains_key(&key) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            known = self.news.wait_timeout(known, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    /// The verdict on a plugin, remembered or from a trial.
    pub(super) fn of(&self, spec: &Spec) -> Verdict {
        let key = self.key(spec);
        if let Some(verdict) = self.remembered(&key).or_else(|| self.read(&key)) {
            self.remember(key, verdict.clone());
            return verdict;
        }
        self.anew(spec)
    }

    /// The verdict of a new trial, whatever is remembered.
    pub(super) fn anew(&self, spec: &Spec) -> Verdict {
        let (key, verdict) = (self.key(spec), trial::run(&self.program, spec));
        if is_the_librarys_own(&verdict) {
            self.write(&key, &verdict);
        } else {
            self.remove(&key);
        }
        self.remember(key, verdict.clone());
        verdict
    }

    fn remembered(&self, key: &str) -> Option<Verdict> {
        self.known().verdicts.get(key).cloned()
    }

    fn remember(&self, key: String, verdict: Verdict) {
        let mut known = self.known();
        known.trying.remove(&key);
        known.verdicts.insert(key, verdict);
        self.news.notify_all();
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Content, options, what it may do, and this very host.
    fn key(&self, spec: &Spec) -> String {
        let confinement = format!("{:?}", spec.confinement);
        let text = [self.host.as_str(), &spec.id, &spec.sha256, &spec.options, &confinement].join("\n");
        Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn file(&self, key: &str) -> Option<PathBuf> {
        self.folder.as_ref().map(|folder| folder.join(format!("{key}.json")))
    }

    fn read(&self, key: &str) -> Option<Verdict> {
        // As a library's file is judged: it says of a library that it may run.
        let file = path::resolve(&self.file(key)?).ok()?;
        let text = std::fs::read(file).ok()?;
        let kept: Kept = serde_json::from_slice(&text).ok()?;
        (kept.key == key).then_some(kept.verdict)
    }

    fn write(&self, key: &str, verdict: &Verdict) {
        let (Some(folder), Some(file)) = (&self.folder, self.file(key)) else { return };
        let kept = Kept { key: key.to_owned(), verdict: verdict.clone() };
        let write = || -> std::io::Result<()> {
            std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
            let draft = folder.join(format!(".{key}.{}", std::process::id()));
            let _ = std::fs::remove_file(&draft);
            let mut written =
                std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
            written.write_all(&serde_json::to_vec(&kept)?)?;
            std::fs::rename(draft, file)
        };
        if let Err(error) = write() {
            tracing::debug!("a plugin's verdict cannot be kept in {}: {error}", folder.display());
        }
    }

    fn remove(&self, key: &str) {
        if let Some(file) = self.file(key) {
            let _ = std::fs::remove_file(file);
        }
    }
}

/// Whether the same library would fare the same tomorrow.
fn is_the_librarys_own(verdict: &Verdict) -> bool {
    match verdict {
        Verdict::Sound(_) => true,
        Verdict::Refused(refusal) => matches!(
            refusal.state,
            State::AbiMismatch | State::ManifestMismatch | State::Crashed | State::Quarantined
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugins::record::Refusal;

    fn refused(state: State) -> Verdict {
        Verdict::Refused(Refusal::new(state, "reason", "hint"))
    }

    #[test]
    fn a_verdict_survives_the_process_and_a_broken_file_is_none() {
        let cache = tempfile::tempdir().unwrap();
        let verdicts = || Verdicts::new(Some(cache.path().to_owned()));
        assert_eq!(verdicts().read("k"), None);
        verdicts().write("k", &refused(State::Crashed));
        assert_eq!(verdicts().read("k"), Some(refused(State::Crashed)));
        let file = cache.path().join("plugins/k.json");
        std::fs::rename(&file, cache.path().join("plugins/other.json")).unwrap();
        assert_eq!(verdicts().read("other"), None, "a file under another's name");
        for broken in ["", "{", "null", "{\"key\":\"k\",\"verdict\":{\"sound\":1}}"] {
            std::fs::write(&file, broken).unwrap();
            assert_eq!(verdicts().read("k"), None, "{broken}");
        }
    }

    #[test]
    fn what_others_could_have_written_is_no_verdict() {
        use std::os::unix::fs::PermissionsExt;

        let cache = tempfile::tempdir().unwrap();
        let verdicts = Verdicts::new(Some(cache.path().to_owned()));
        verdicts.write("k", &refused(State::Crashed));
        let (folder, file) = (cache.path().join("plugins"), cache.path().join("plugins/k.json"));
        let set_mode =
            |path: &PathBuf, mode| std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
        let mode = |path: &PathBuf| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&folder), mode(&file)), (0o700, 0o600));
        for (path, loose) in [(&file, 0o666), (&folder, 0o777)] {
            let strict = mode(path);
            set_mode(path, loose);
            assert_eq!(verdicts.read("k"), None, "{}", path.display());
            set_mode(path, strict);
            assert!(verdicts.read("k").is_some());
        }
    }

    #[test]
    fn a_verdict_of_another_build_is_another_verdict() {
        let cache = tempfile::tempdir().unwrap();
        let program = cache.path().join("program");
        std::fs::write(cache.path().join("x.so"), "abc").unwrap();
        let file = crate::plugins::trust::judge(&cache.path().join("x.so"), None).unwrap();
        let spec = Spec::example(&file);
        let of = |content: &str| {
            std::fs::write(&program, content).unwrap();
            Verdicts::of_program(program.clone(), Some(cache.path().to_owned()))
        };
        let one = of("one");
        one.write(&one.key(&spec), &refused(State::Crashed));
        let (same, two) = (of("one"), of("two"));
        assert_eq!(same.read(&same.key(&spec)), Some(refused(State::Crashed)));
        assert_eq!(two.read(&two.key(&spec)), None);
        let other = Spec { options: "{\"x\":1}".to_owned(), ..spec.clone() };
        assert_eq!(same.read(&same.key(&other)), None);
    }

    #[test]
    fn what_may_be_otherwise_tomorrow_is_not_kept() {
        for (state, kept) in [
            (State::Crashed, true),
            (State::Quarantined, true),
            (State::InitFailed, false),
            (State::LoadFailed, false),
        ] {
            assert_eq!(is_the_librarys_own(&refused(state)), kept, "{state}");
        }
    }
}
