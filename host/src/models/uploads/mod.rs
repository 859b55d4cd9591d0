//! Models that come over the network: staged in a hidden folder within the first model folder, looked at by the plugins as
//! soon as their headers are there, and given their place when they are whole.
//!
//! `manifest` says what may come at all, `staged` is one upload on the disk. The server names the next piece, so that
//! an upload that was broken off, by either side, goes on where it was. Files are staged at their full length: plugins see
//! headers as they will be, and a hole takes no disk.

mod manifest;
mod staged;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use serde::Serialize;
use utoipa::ToSchema;

pub use self::manifest::{Manifest, Wanted};
use self::staged::Staged;
use super::scan::shards_of;
use super::{ModelState, Models, file_name};
use crate::error::{Error, Kind};

/// The most bytes of one piece.
pub const PIECE_BYTES: u64 = 4 << 20;

/// By so many bytes of each file a header is there, or is none: larger ones are an attack, or no model.
const HEADER_BYTES: u64 = 32 << 20;

/// Where uploads are staged, below the first model folder. Hidden folders are not searched for models.
const FOLDER: &str = ".uploads";

/// What the disk keeps free.
const RESERVE_BYTES: u64 = 256 << 20;

/// What nobody went on with for so long is thrown away.
const FORGOTTEN: Duration = Duration::from_secs(7 * 24 * 3600);

/// Uploads of a host.
pub struct Uploads {
    models: Arc<Models>,
    open: Mutex<HashMap<String, Arc<Mutex<Staged>>>>,
    /// Held while one is begun, so that no two count on the same room.
    beginning: Mutex<()>,
}

/// Why an upload does not go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stop {
    /// There is something of this name already.
    Exists(String),
    /// The disk has no room.
    NoRoom(String),
    /// There is no such upload.
    NoSuch(String),
    /// Another piece is the next one.
    WrongPiece(String),
    /// Anything else.
    Host(Error),
}

/// The result of everything here.
pub type Result<T> = std::result::Result<T, Stop>;

/// How an upload stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct UploadState {
    /// Its id: the same files have the same.
    pub id: String,
    /// Bytes of all files.
    pub bytes: u64,
    /// Bytes that have come.
    pub received: u64,
    /// Whether a plugin has seen the headers and can run the model.
    pub checked: bool,
    /// Its files.
    pub files: Vec<UploadFile>,
    /// What is to be sent next; null when all is there.
    pub next: Option<Piece>,
    /// The model's id, once it is among the models.
    pub model: Option<String>,
}

/// One file of an upload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct UploadFile {
    /// Its path below the model folder.
    pub path: String,
    /// Its length.
    pub bytes: u64,
    /// How much of it has come.
    pub received: u64,
    /// SHA-256 of what came, once all of it did.
    pub sha256: Option<String>,
}

/// A piece of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Piece {
    /// The file.
    pub path: String,
    /// From this byte on.
    pub offset: u64,
    /// So many bytes.
    pub bytes: u64,
}

impl Uploads {
    /// Of a host with these models.
    pub fn new(models: Arc<Models>) -> Self {
        Uploads { models, open: Mutex::default(), beginning: Mutex::default() }
    }

    /// Those that are not complete, by id.
    ///
    /// # Errors
    /// [`Stop::Host`] without a model folder.
    pub fn list(&self) -> Result<Vec<UploadState>> {
        let folder = self.folder()?;
        let mut ids: Vec<String> = std::fs::read_dir(&folder)
            .into_iter()
            .flatten()
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .collect();
        ids.sort();
        Ok(ids.iter().filter_map(|id| self.state(id).ok()).collect())
    }

    /// Begins an upload, or goes on with the one of the same files.
    ///
    /// # Errors
    /// [`Stop::Exists`], [`Stop::NoRoom`], and [`Stop::Host`] for files that no plugin reads.
    pub fn begin(&self, manifest: &Manifest) -> Result<UploadState> {
        let _alone = held(&self.beginning);
        let folder = self.folder()?;
        self.throw_away_forgotten(&folder);
        let id = manifest.id();
        if let Ok(known) = self.find(&id) {
            return Ok(lock(&known).state());
        }
        self.check_endings(manifest)?;
        let root = self.root()?;
        if let Some(top) = manifest.tops().find(|top| root.join(top).symlink_metadata().is_ok()) {
            return Err(Stop::Exists(format!(
                "there is a `{top}` among the models already: delete it first, or give this one another name"
            )));
        }
        std::fs::create_dir_all(&folder).map_err(|error| failed("making the folder for uploads", &error))?;
        let coming = self.list()?.iter().map(|other| other.bytes.saturating_sub(other.received)).sum();
        check_room(&folder, manifest.bytes(), coming)?;
        let staged = Staged::create(folder.join(&id), manifest)?;
        let state = staged.state();
        held(&self.open).insert(id, Arc::new(Mutex::new(staged)));
        Ok(state)
    }

    /// Takes one piece: the very one that was named. When the headers are there, the plugins look at them; when all is
    /// there, the model is put among the others.
    ///
    /// # Errors
    /// [`Stop::NoSuch`], [`Stop::WrongPiece`], and [`Stop::Host`] with the reason why no plugin can run it: the upload is
    /// gone then.
    pub fn take(&self, id: &str, path: &str, offset: u64, bytes: &[u8]) -> Result<UploadState> {
        let upload = self.find(id)?;
        let mut staged = lock(&upload);
        staged.write(path, offset, bytes)?;
        while staged.wants_judgement() {
            match self.judge(&staged) {
                Ok(()) => staged.pass()?,
                Err(_) if staged.look_further() => {}
                Err(reason) => {
                    staged.throw_away();
                    held(&self.open).remove(id);
                    return Err(Stop::Host(Error::new(Kind::LoadFailed, reason)));
                }
            }
        }
        let mut state = staged.state();
        if state.next.is_none() {
            staged.hash_all()?;
            state = staged.state();
            let placed = staged.place(&self.root()?)?;
            held(&self.open).remove(id);
            let entry = self.models.inspect(&placed).map_err(Stop::Host)?;
            tracing::info!(model = %entry.id, bytes = state.bytes, "added by an upload");
            state.model = Some(entry.id);
        }
        Ok(state)
    }

    /// How one upload stands.
    ///
    /// # Errors
    /// [`Stop::NoSuch`].
    pub fn state(&self, id: &str) -> Result<UploadState> {
        let upload = self.find(id)?;
        Ok(lock(&upload).state())
    }

    /// Throws one away.
    ///
    /// # Errors
    /// [`Stop::NoSuch`].
    pub fn discard(&self, id: &str) -> Result<()> {
        let upload = self.find(id)?;
        lock(&upload).throw_away();
        held(&self.open).remove(id);
        Ok(())
    }

    /// Why no plugin can run it, as far as its headers say.
    fn judge(&self, staged: &Staged) -> std::result::Result<(), String> {
        let path = staged.model_path();
        let entry = self.models.catalog.judge(&path);
        if entry.state == ModelState::Available {
            return Ok(());
        }
        let reason = entry.reason.unwrap_or_else(|| "no loaded plugin can run it".to_owned());
        Err(format!("`{}` is not taken: {reason}", file_name(&path)))
    }

    /// At least one file has an ending that some plugin claims; shards of one file belong together.
    fn check_endings(&self, manifest: &Manifest) -> Result<()> {
        let endings = self.models.catalog.extensions();
        let is_claimed = |path: &str| {
            let ending =
                Path::new(path).extension().map(|ending| ending.to_string_lossy().to_ascii_lowercase());
            ending.is_some_and(|ending| endings.contains(&ending))
        };
        if !manifest.files().iter().any(|file| is_claimed(&file.path)) {
            let known: Vec<String> = endings.iter().map(|ending| format!(".{ending}")).collect();
            let known =
                if known.is_empty() { "none: no plugin is there".to_owned() } else { known.join(", ") };
            let message = format!("no plugin reads such files; endings of models are {known}");
            return Err(Stop::Host(Error::invalid("files", message)));
        }
        let first = manifest.model();
        let alone = manifest.files().len() == 1 || manifest.is_folder();
        let together: Vec<PathBuf> = shards_of(Path::new(first));
        let all_there = manifest.files().len() == together.len()
            && manifest.files().iter().all(|file| together.contains(&PathBuf::from(&file.path)));
        if alone || all_there {
            return Ok(());
        }
        let message =
            "several files are one model only within a folder, or as all numbered parts of one file";
        Err(Stop::Host(Error::invalid("files", message)))
    }

    fn find(&self, id: &str) -> Result<Arc<Mutex<Staged>>> {
        let missing =
            || Stop::NoSuch(format!("there is no upload `{id}`: it was completed, refused or discarded"));
        if !id.bytes().all(|byte| byte.is_ascii_hexdigit()) || id.is_empty() {
            return Err(missing());
        }
        let folder = self.folder()?.join(id);
        let mut open = held(&self.open);
        if let Some(upload) = open.get(id) {
            return Ok(Arc::clone(upload));
        }
        let upload = Arc::new(Mutex::new(Staged::open(folder).ok_or_else(missing)?));
        open.insert(id.to_owned(), Arc::clone(&upload));
        Ok(upload)
    }

    fn root(&self) -> Result<PathBuf> {
        let first = self.models.catalog.folders().first().cloned();
        first.ok_or_else(|| {
            let message =
                "the server has no model folder: name one under `folders` of [models] in plugins.toml";
            Stop::Host(Error::new(Kind::InvalidRequest, message))
        })
    }

    fn folder(&self) -> Result<PathBuf> {
        Ok(self.root()?.join(FOLDER))
    }

    fn throw_away_forgotten(&self, folder: &Path) {
        for entry in std::fs::read_dir(folder).into_iter().flatten().filter_map(std::result::Result::ok) {
            let touched = staged::touched(&entry.path());
            let age = touched.and_then(|touched| SystemTime::now().duration_since(touched).ok());
            if age.is_some_and(|age| age > FORGOTTEN) {
                let _ = std::fs::remove_dir_all(entry.path());
                held(&self.open).remove(entry.file_name().to_string_lossy().as_ref());
            }
        }
    }
}

/// Whether there is room for so many bytes beside those that other uploads have yet to send: a hole takes no disk until
/// it is filled.
fn check_room(folder: &Path, bytes: u64, coming: u64) -> Result<()> {
    let room = nix::sys::statvfs::statvfs(folder)
        .map_err(|error| failed("asking for the free disk", &error.into()))?;
    #[allow(clippy::useless_conversion, reason = "macOS counts blocks in 32 bits")]
    let free = u64::from(room.blocks_available()).saturating_mul(room.fragment_size());
    if bytes.saturating_add(RESERVE_BYTES).saturating_add(coming) <= free {
        return Ok(());
    }
    let gib = |bytes: u64| format!("{:.2} GiB", bytes as f64 / f64::from(1 << 30));
    Err(Stop::NoRoom(format!(
        "the model has {}, and the disk of the model folder has {} free, of which {} are kept free and {} are for uploads that \
         are not complete: delete something there, or discard an upload",
        gib(bytes),
        gib(free),
        gib(RESERVE_BYTES),
        gib(coming)
    )))
}

/// A failure of the system's: its words are for the client too, for they name no path.
fn failed(what: &str, error: &std::io::Error) -> Stop {
    Stop::Host(Error::new(Kind::InvalidRequest, format!("{what} failed: {error}")))
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn lock(upload: &Mutex<Staged>) -> MutexGuard<'_, Staged> {
    // What is on the disk is written down after it is there: a half-done write is done again.
    held(upload)
}
