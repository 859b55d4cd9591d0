//! What became of each plugin: one record feeds the command line, the HTTP API and the log.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::library::Identity;

/// Where a plugin stands. Closed: every library that was found is in exactly one of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = PluginState)]
pub enum State {
    /// It runs, and its formats are advertised.
    Loaded,
    /// plugins.toml says not to load it.
    Disabled,
    /// Its file or a folder above it could have been written by others.
    Untrusted,
    /// It is not the file that plugins.toml names by its hash.
    HashMismatch,
    /// No dynamic library, or one without the root symbol and manifest of a plugin.
    NotAPlugin,
    /// Built for another processor or system, or for features that this processor lacks.
    UnsupportedPlatform,
    /// Built for another version of the contract.
    IncompatibleApi,
    /// The same version, but its types are laid out differently.
    AbiMismatch,
    /// The system could not open it.
    LoadFailed,
    /// The running code says another identity than its manifest.
    ManifestMismatch,
    /// Another library has the same id and came first.
    DuplicatePlugin,
    /// All its formats are run by other plugins.
    DuplicateFormat,
    /// Its own `init` refused.
    InitFailed,
    /// Its process crashed or ended while it was checked or run.
    Crashed,
    /// It hung, or flooded its output, while it was checked or run, and is kept out.
    Quarantined,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            State::Loaded => "loaded",
            State::Disabled => "disabled",
            State::Untrusted => "untrusted",
            State::HashMismatch => "hash_mismatch",
            State::NotAPlugin => "not_a_plugin",
            State::UnsupportedPlatform => "unsupported_platform",
            State::IncompatibleApi => "incompatible_api",
            State::AbiMismatch => "abi_mismatch",
            State::LoadFailed => "load_failed",
            State::ManifestMismatch => "manifest_mismatch",
            State::DuplicatePlugin => "duplicate_plugin",
            State::DuplicateFormat => "duplicate_format",
            State::InitFailed => "init_failed",
            State::Crashed => "crashed",
            State::Quarantined => "quarantined",
        })
    }
}

/// One plugin, whatever became of it.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(as = PluginRecord)]
pub struct Record {
    /// Its id: from the manifest, else the library's file name without its ending.
    pub id: String,
    /// Its name for people, once it could be asked.
    pub name: Option<String>,
    /// Its own version.
    pub version: Option<String>,
    /// The library.
    #[schema(value_type = String)]
    pub path: PathBuf,
    /// SHA-256 of its content, once it was judged.
    pub sha256: Option<String>,
    /// Another version has taken its place, and it stays only until its running models end.
    pub superseded: bool,
    /// Where it stands.
    pub state: State,
    /// Why, in one line, unless it is loaded.
    pub reason: Option<String>,
    /// What to do about it.
    pub hint: Option<String>,
    /// More, for someone who looks for the fault.
    pub detail: Option<String>,
    /// The contract's version that it was built with.
    pub api_version: Option<String>,
    /// The contract's version of this host.
    pub host_api_version: String,
    /// Its licence.
    pub license: Option<String>,
    /// What it was built with.
    pub build: Option<String>,
    /// The formats that it offers.
    pub formats: Vec<FormatRecord>,
}

/// One format of one plugin.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct FormatRecord {
    /// The format's name.
    pub id: String,
    /// File name endings, without the dot.
    pub extensions: Vec<String>,
    /// Among several plugins the highest has it.
    pub priority: u32,
    /// Whether this plugin runs it here.
    pub active: bool,
    /// Which plugin runs it instead.
    pub shadowed_by: Option<String>,
}

impl Record {
    /// A record of which nothing but the file is known yet.
    pub(crate) fn of_file(path: &Path) -> Self {
        let stem = path.file_stem().unwrap_or_default().to_string_lossy();
        Record {
            id: stem.strip_prefix("lib").unwrap_or(&stem).to_owned(),
            name: None,
            version: None,
            path: path.to_owned(),
            sha256: None,
            superseded: false,
            state: State::NotAPlugin,
            reason: None,
            hint: None,
            detail: None,
            api_version: None,
            host_api_version: impetus_plugin_api::API_VERSION.to_owned(),
            license: None,
            build: None,
            formats: Vec::new(),
        }
    }

    /// Writes down that it runs, and what its code says of itself.
    pub(crate) fn load(&mut self, identity: Identity) {
        self.state = State::Loaded;
        self.reason = None;
        self.hint = None;
        self.detail = None;
        self.name = Some(identity.name);
        self.license = Some(identity.license);
        self.build = Some(identity.build).filter(|build| !build.is_empty());
    }

    /// Writes down why the pipeline stopped.
    pub(crate) fn refuse(&mut self, refusal: Refusal) {
        self.state = refusal.state;
        self.reason = Some(refusal.reason);
        self.hint = Some(refusal.hint);
        self.detail = refusal.detail;
        self.formats.iter_mut().for_each(|format| format.active = false);
    }
}

/// Why a step of the pipeline stopped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// Where the plugin stands then.
    pub state: State,
    /// Why, in one line.
    pub reason: String,
    /// What to do about it.
    pub hint: String,
    /// More, for someone who looks for the fault.
    pub detail: Option<String>,
}

impl Refusal {
    pub(crate) fn new(state: State, reason: impl Into<String>, hint: impl Into<String>) -> Self {
        Refusal { state, reason: reason.into(), hint: hint.into(), detail: None }
    }

    pub(crate) fn with_detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }
}
