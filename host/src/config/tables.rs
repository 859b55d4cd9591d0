//! The tables of plugins.toml, each with its defaults.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::keys::ApiKey;

/// `[server]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Server {
    /// Address to listen on; loopback unless said otherwise.
    pub host: IpAddr,
    /// Port to listen on; 0 lets the system choose.
    pub port: u16,
    /// Largest request body, in bytes.
    pub max_body_bytes: usize,
    /// Longest request line and headers together, in bytes.
    pub max_header_bytes: usize,
    /// How long a client may take to send its headers, and may leave a connection idle; in seconds.
    pub header_timeout_secs: u32,
    /// How long a client may take to send a body, in seconds.
    pub body_timeout_secs: u32,
    /// How long running answers may go on after the order to stop, in seconds; 0: they end at once.
    pub shutdown_secs: u32,
    /// A PEM file with the certificate that encrypts connections, and those above it. Goes with `tls_key`.
    pub tls_cert: Option<PathBuf>,
    /// A PEM file with the certificate's key.
    pub tls_key: Option<PathBuf>,
    /// How log lines are written.
    pub log_format: LogFormat,
    /// Responses of `/v1/responses` that are kept in memory; 0: none.
    pub kept_responses: usize,
    /// Bytes that these may have together.
    pub kept_response_bytes: usize,
    /// Keys of which every request needs one; none: nobody is asked for a key.
    pub api_keys: Vec<ApiKey>,
    /// A file with further keys, one in each line.
    pub api_key_file: Option<PathBuf>,
    /// Keys of those who may load and unload models; each counts as an API key too. None: whoever is on this machine may.
    pub admin_keys: Vec<ApiKey>,
    /// A file with further ones, one in each line.
    pub admin_key_file: Option<PathBuf>,
    /// Names under which the server is reached, beside addresses and `localhost`.
    pub hosts: Vec<String>,
    /// Web pages that may use the server, as `https://chat.example`; `*` is every page.
    pub origins: Vec<String>,
    /// Listen beyond this machine without a key.
    pub open: bool,
}

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object in each line, for programs.
    Json,
}

impl Default for Server {
    fn default() -> Self {
        Server {
            host: IpAddr::V4(Ipv4Addr::LOCALHOST),
            port: 8484,
            max_body_bytes: 16 << 20,
            max_header_bytes: 32 << 10,
            header_timeout_secs: 30,
            body_timeout_secs: 120,
            shutdown_secs: 30,
            tls_cert: None,
            tls_key: None,
            log_format: LogFormat::Text,
            kept_responses: 1000,
            kept_response_bytes: 64 << 20,
            api_keys: Vec::new(),
            api_key_file: None,
            admin_keys: Vec::new(),
            admin_key_file: None,
            hosts: Vec::new(),
            origins: Vec::new(),
            open: false,
        }
    }
}

/// `[models]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Models {
    /// Folders searched for models, with their subfolders.
    pub folders: Vec<PathBuf>,
    /// Bytes that loaded models may take together; without it, a share of what the machine has.
    pub memory_bytes: Option<u64>,
    /// After how many seconds without use a model is unloaded; 0: when room is needed.
    pub keep_alive_secs: u64,
}

impl Default for Models {
    fn default() -> Self {
        Models { folders: vec!["models".into()], memory_bytes: None, keep_alive_secs: 0 }
    }
}

/// `[engine]`
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Engine {
    /// Sequences that a model computes at once.
    pub max_sequences: u32,
    /// Requests that may wait beyond these; one more is answered 429.
    pub queue: u32,
    /// Tokens computed in one step at most: bounds how long a new prompt holds up running answers.
    pub step_tokens: u32,
    /// How long a step may last while others wait for it, in milliseconds.
    pub step_ms: u32,
    /// Ended sequences whose keys and values are kept for prompts that begin as they do; 0: none.
    pub kept_sequences: u32,
    /// Verify guesses of a lone sequence's next tokens where that was measured to be faster.
    pub speculate: bool,
}

impl Default for Engine {
    fn default() -> Self {
        Engine {
            max_sequences: 8,
            queue: 64,
            step_tokens: 512,
            step_ms: 250,
            kept_sequences: 32,
            speculate: true,
        }
    }
}

/// `[plugins]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Plugins {
    /// Folder of plugin libraries: each library dropped into it is a plugin.
    pub folder: PathBuf,
    /// Where plugins' code runs, unless a plugin's own table says otherwise.
    pub isolation: Isolation,
    /// What it may do there, unless a plugin's own table says otherwise.
    pub confinement: Confinement,
    /// Bytes of memory that a process with a plugin's code may allocate; 0: no limit.
    pub memory_bytes: u64,
    /// How long nothing may be heard of an engine that has work, in seconds, before it counts as hung.
    pub hang_secs: u64,
    /// After this many crashes of one model's engine within five minutes it is not started again.
    pub max_crashes: u32,
}

/// Where a plugin's code runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Isolation {
    /// In processes of its own: what it does to them ends them alone.
    #[default]
    Process,
    /// In the host's process.
    None,
}

/// What a plugin's code may do in a process of its own.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Confinement {
    /// It reads what it needs, writes nothing, and makes no system calls that engines have no use for.
    #[default]
    Full,
    /// It reads what it needs and writes nothing.
    Files,
    /// What its user may do.
    None,
}

impl Default for Plugins {
    fn default() -> Self {
        Plugins {
            folder: "plugins/installed".into(),
            isolation: Isolation::Process,
            confinement: Confinement::Full,
            memory_bytes: 0,
            hang_secs: 120,
            max_crashes: 3,
        }
    }
}

/// `[plugin.ID]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PluginEntry {
    /// `false`: the library is not opened.
    pub enabled: bool,
    /// The host is not ready (`/readyz`) while this plugin is not loaded or an engine of it is down.
    pub required: bool,
    /// A library outside the plugin folder.
    pub path: Option<PathBuf>,
    /// The file's SHA-256 in hexadecimal: another file is refused.
    pub sha256: Option<String>,
    /// The plugin's version: another one is refused.
    pub version: Option<String>,
    /// Where its code runs, if not as `[plugins]` says.
    pub isolation: Option<Isolation>,
    /// What it may do there, if not as `[plugins]` says.
    pub confinement: Option<Confinement>,
    /// The bound of its processes' memory, if not as `[plugins]` says.
    pub memory_bytes: Option<u64>,
    /// Options for the plugin's `init`; the plugin refuses what it does not know.
    pub options: toml::Table,
}

impl Default for PluginEntry {
    fn default() -> Self {
        PluginEntry {
            enabled: true,
            required: false,
            path: None,
            sha256: None,
            version: None,
            isolation: None,
            confinement: None,
            memory_bytes: None,
            options: toml::Table::new(),
        }
    }
}

/// `[model."ID"]`
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ModelEntry {
    /// Options for the plugin's load of this model alone, which go before the plugin's own; the plugin refuses what it does
    /// not know.
    pub options: toml::Table,
}

/// The file as it stands; a key that is not here is an error with its line.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct File {
    pub(super) server: Server,
    pub(super) models: Models,
    pub(super) engine: Engine,
    pub(super) plugins: Plugins,
    pub(super) formats: BTreeMap<String, String>,
    pub(super) plugin: BTreeMap<String, PluginEntry>,
    pub(super) model: BTreeMap<String, ModelEntry>,
}
