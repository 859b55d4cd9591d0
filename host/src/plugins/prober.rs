//! A child that opens one plugin and answers what it says of model files: a plugin that crashes or hangs over a file costs
//! that file alone.
//!
//! It is kept while it is asked, ends by itself when nobody asks any more, and is started again by the next question. It
//! reads the model folders and what links there lead to; a question about a file elsewhere is asked of a new one.

use std::collections::HashMap;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::inspection::Inspection;
use super::library::{Identity, Library};
use super::model::Probe;
use super::record::{Refusal, State};
use super::spec::Spec;
use crate::child::{self, Begun, Child, Ending, FrameReader, FrameWriter, confine};
use crate::error::{Error, Kind, Result};

/// How long opening a plugin may take.
const OPENING: Duration = Duration::from_secs(15);

/// How long a plugin may look at a file's headers.
const LOOKING: Duration = Duration::from_secs(10);

/// How long a child waits for the next question.
const IDLE: Duration = Duration::from_secs(30);

/// A file or folder to look at, and how closely.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
enum Question {
    /// What is it?
    Probe { path: PathBuf, is_dir: bool },
    /// What do its headers say?
    Inspect { path: PathBuf, is_dir: bool },
}

impl Question {
    fn path(&self) -> &Path {
        match self {
            Question::Probe { path, .. } | Question::Inspect { path, .. } => path,
        }
    }
}

/// What a child is to open, and where it may read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Task {
    spec: Spec,
    readable: Vec<PathBuf>,
}

/// The host's side.
pub(super) struct Prober {
    spec: Spec,
    open: Mutex<Asked>,
    /// Files that the plugin hung over, as they were then: each would cost its time again.
    hung: Mutex<HashMap<PathBuf, (Age, Error)>>,
}

/// When a file was written, and its length.
type Age = (Option<SystemTime>, u64);

struct Asked {
    /// Where its child may read.
    readable: Vec<PathBuf>,
    child: Option<Open>,
}

struct Open {
    child: Child,
    /// What it may read, as it was when it began: a folder that is made anew is another one.
    readable: Vec<Option<(u64, u64)>>,
    reader: FrameReader,
    writer: FrameWriter,
}

/// Why a question got no answer.
enum Silence {
    /// The child ended.
    Ended(Ending),
    /// It took too long and was ended.
    TooLong,
}

impl Prober {
    /// For a plugin that was tried, and models that lie in these folders. The child is started by the first question.
    pub(super) fn new(spec: Spec, folders: Vec<PathBuf>) -> Self {
        let folders = folders.into_iter().map(|folder| folder.canonicalize().unwrap_or(folder));
        let readable = spec.folders().into_iter().chain(folders).collect();
        Prober { spec, open: Mutex::new(Asked { readable, child: None }), hung: Mutex::default() }
    }

    /// How to open its plugin.
    pub(super) fn spec(&self) -> &Spec {
        &self.spec
    }

    /// Asks the plugin about a file or folder.
    ///
    /// # Errors
    /// What the plugin refuses, and [`Kind::LoadFailed`] when it crashed or hung over the file.
    pub(super) fn probe(&self, path: &Path, is_dir: bool) -> Result<Probe> {
        self.answer(&Question::Probe { path: path.to_owned(), is_dir })
    }

    /// Asks the plugin for all that a model's headers say; `None` where it does not offer to tell.
    ///
    /// # Errors
    /// As [`Prober::probe`].
    pub(super) fn inspect(&self, path: &Path, is_dir: bool) -> Result<Option<Inspection>> {
        self.answer(&Question::Inspect { path: path.to_owned(), is_dir })
    }

    fn answer<T: DeserializeOwned>(&self, question: &Question) -> Result<T> {
        let mut open = lock(&self.open);
        let (path, age) = (question.path(), age(question.path()));
        if let Some((_, error)) = lock(&self.hung).get(path).filter(|(then, _)| *then == age) {
            return Err(error.clone());
        }
        open.allow(path);
        let kept = open.child.is_some();
        let first = self.ask(&mut open, question)?;
        let answer = match first {
            // One that was kept may just have ended because nobody asked: that says nothing about the file.
            Err(Silence::Ended(ending)) if kept && ending.clean => self.ask(&mut open, question)?,
            first => first,
        };
        answer.unwrap_or_else(|silence| {
            let hung = matches!(silence, Silence::TooLong);
            let error = self.failed(silence);
            if hung {
                lock(&self.hung).insert(path.to_owned(), (age, error.clone()));
            }
            Err(error)
        })
    }

    fn ask<T: DeserializeOwned>(
        &self,
        open: &mut Asked,
        question: &Question,
    ) -> Result<Result<Result<T>, Silence>> {
        let mut asked = match open.child.take() {
            Some(open) => open,
            None => Open::start(&self.spec, &open.readable).map(|(open, _)| open).map_err(|refusal| {
                let message = format!("plugin `{}` is {}: {}", self.spec.id, refusal.state, refusal.reason);
                Error::new(Kind::PluginUnavailable, message)
            })?,
        };
        let answer =
            asked.writer.send(question).map_err(|_| asked.ended()).and_then(|()| asked.hear(LOOKING));
        if answer.is_ok() {
            open.child = Some(asked);
        }
        Ok(answer)
    }

    fn failed(&self, silence: Silence) -> Error {
        let (what, detail) = match silence {
            Silence::Ended(ending) => {
                (format!("crashed on this file: its process {}", ending.what), ending.last_lines.join("\n"))
            }
            Silence::TooLong => {
                (format!("did not answer about this file within {} s", LOOKING.as_secs()), String::new())
            }
        };
        Error::new(Kind::LoadFailed, format!("plugin `{}` {what}", self.spec.id)).with_detail(detail)
    }
}

impl Asked {
    /// Whoever is asked about this path next may read what it takes. What is allowed to a process cannot be widened: one
    /// that may not is ended.
    fn allow(&mut self, path: &Path) {
        let is_allowed = |folder: &PathBuf| self.readable.iter().any(|allowed| folder.starts_with(allowed));
        let more: Vec<PathBuf> =
            confine::folders_of(path).into_iter().filter(|folder| !is_allowed(folder)).collect();
        self.readable.extend(more);
        let now = identities(&self.readable);
        drop(self.child.take_if(|open| open.readable != now));
    }
}

/// Which folders these really are, where they are there: device and inode.
fn identities(folders: &[PathBuf]) -> Vec<Option<(u64, u64)>> {
    let identity = |folder: &PathBuf| std::fs::metadata(folder).ok().map(|it| (it.dev(), it.ino()));
    folders.iter().map(identity).collect()
}

impl Open {
    fn start(spec: &Spec, readable: &[PathBuf]) -> Result<(Open, Identity), Refusal> {
        let name = format!("plugin {}", spec.id);
        let failed = |reason: String| {
            Refusal::new(State::Crashed, reason, "report it to the plugin's author, and remove the plugin")
        };
        let folders = identities(readable);
        let (child, reader, writer) = Child::start("probe", &name, spec.memory_bytes)
            .map_err(|error| failed(format!("it could not be opened in a process of its own: {error}")))?;
        let mut open = Open { child, readable: folders, reader, writer };
        let task = Task { spec: spec.clone(), readable: readable.to_vec() };
        let opened: Result<Result<Identity, Refusal>, Silence> =
            open.writer.send(&task).map_err(|_| open.ended()).and_then(|()| open.hear(OPENING));
        match opened {
            Ok(opened) => opened.map(|identity| (open, identity)),
            Err(Silence::Ended(ending)) => {
                let reason = format!("it crashed while it was opened: its process {}", ending.what);
                Err(failed(reason).with_detail(ending.last_lines.join("\n")))
            }
            Err(Silence::TooLong) => {
                Err(failed(format!("it was not open within {} s: it hung", OPENING.as_secs())))
            }
        }
    }

    fn ended(&self) -> Silence {
        Silence::Ended(self.child.end())
    }

    fn hear<T: DeserializeOwned>(&mut self, patience: Duration) -> Result<T, Silence> {
        let _ = self.reader.stream().set_read_timeout(Some(patience));
        match self.reader.receive() {
            Ok(Some(heard)) => Ok(heard),
            Err(error) if is_timeout(&error) => {
                self.child.kill();
                Err(Silence::TooLong)
            }
            Ok(None) | Err(_) => Err(self.ended()),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn age(path: &Path) -> Age {
    std::fs::metadata(path).map_or((None, 0), |metadata| (metadata.modified().ok(), metadata.len()))
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

/// The child's side: opens the plugin, and answers until nobody asks any more.
///
/// # Errors
/// When there is no host.
pub fn serve() -> Result<()> {
    let Begun { mut from_host, mut to_host, task: Task { spec, readable }, .. } = child::begin::<Task>()?;
    confine::confine(&readable, spec.confinement);
    let gone = |error: io::Error| Error::new(Kind::Internal, format!("the host is gone: {error}"));
    let opened = Library::open(&spec);
    let told: Result<&Identity, &Refusal> = opened.as_ref().map(|(_, identity)| identity);
    to_host.send(&told).map_err(gone)?;
    let Ok((library, _)) = opened else { return Ok(()) };
    let _ = from_host.stream().set_read_timeout(Some(IDLE));
    loop {
        match from_host.receive::<Question>() {
            Ok(Some(Question::Probe { path, is_dir })) => {
                to_host.send(&library.probe(&path, is_dir)).map_err(gone)?;
            }
            Ok(Some(Question::Inspect { path, is_dir })) => {
                to_host.send(&library.inspect(&path, is_dir)).map_err(gone)?;
            }
            Ok(None) => return Ok(()),
            Err(error) if is_timeout(&error) => return Ok(()),
            Err(error) => return Err(gone(error)),
        }
    }
}
