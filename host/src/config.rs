//! plugins.toml and the command line become one checked `Config`. Nothing below reads flags, files or environment.

mod live;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

pub use self::live::{Edited, Reader};
use crate::error::{Error, Kind, Result};

/// The name looked for in the working folder when no `--config` is given.
pub const FILE_NAME: &str = "plugins.toml";

/// API keys, separated by commas.
const KEYS_VARIABLE: &str = "IMPETUS_API_KEYS";

/// The same for administrators.
const ADMIN_KEYS_VARIABLE: &str = "IMPETUS_ADMIN_KEYS";

/// Everything that the host was told, checked, paths made absolute.
#[derive(Debug, Clone)]
pub struct Config {
    /// The file it came from; `None` when there is none and the defaults stand.
    pub path: Option<PathBuf>,
    /// Where to listen.
    pub server: Server,
    /// Where models live.
    pub models: Models,
    /// How much runs at once.
    pub engine: Engine,
    /// Where plugin libraries live.
    pub plugins: Plugins,
    /// Which plugin has a contested format: format id to plugin id.
    pub formats: BTreeMap<String, String>,
    /// What was said about single plugins, by id.
    pub plugin: BTreeMap<String, PluginEntry>,
    /// Where what can be found out again may be kept; `None` where the user has no such folder.
    pub cache: Option<PathBuf>,
    /// Where what cannot be found out again is kept, such as results of benchmarks; `None` where the user has no such folder.
    pub data: Option<PathBuf>,
    /// What is not wrong but unwise, for the log.
    pub warnings: Vec<String>,
}

/// What the command line says over the file.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    /// `--config`: this file must exist.
    pub config: Option<PathBuf>,
    /// `--host`.
    pub host: Option<IpAddr>,
    /// `--port`.
    pub port: Option<u16>,
    /// `--open`.
    pub open: bool,
    /// `--log-format`.
    pub log_format: Option<LogFormat>,
    /// `--models`: these folders in place of the file's.
    pub model_folders: Vec<PathBuf>,
    /// `--plugins`: this folder in place of the file's.
    pub plugin_folder: Option<PathBuf>,
}

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

/// A key's SHA-256: the key itself is not kept, and cannot get into a log.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct ApiKey([u8; 32]);

impl TryFrom<String> for ApiKey {
    type Error = &'static str;

    fn try_from(key: String) -> Result<Self, Self::Error> {
        if key.trim().is_empty() {
            return Err("an API key is empty: everybody would have it");
        }
        Ok(ApiKey(Sha256::digest(key.as_bytes()).into()))
    }
}

impl ApiKey {
    /// Whether this is the key; takes equally long for every key of one length.
    pub fn is(&self, key: &str) -> bool {
        let other = Sha256::digest(key.as_bytes());
        self.0.ct_eq(other.as_slice()).into()
    }
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

impl Default for Plugins {
    fn default() -> Self {
        Plugins {
            folder: "plugins/installed".into(),
            isolation: Isolation::Process,
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
    /// The host is not ready (`/readyz`) while this plugin is not loaded.
    pub required: bool,
    /// A library outside the plugin folder.
    pub path: Option<PathBuf>,
    /// The file's SHA-256 in hexadecimal: another file is refused.
    pub sha256: Option<String>,
    /// The plugin's version: another one is refused.
    pub version: Option<String>,
    /// Where its code runs, if not as `[plugins]` says.
    pub isolation: Option<Isolation>,
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
            memory_bytes: None,
            options: toml::Table::new(),
        }
    }
}

/// The file as it stands; a key that is not here is an error with its line.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct File {
    server: Server,
    models: Models,
    engine: Engine,
    plugins: Plugins,
    formats: BTreeMap<String, String>,
    plugin: BTreeMap<String, PluginEntry>,
}

impl Config {
    /// Reads `--config`, or plugins.toml in the working folder, or takes the defaults; then what the flags say.
    ///
    /// # Errors
    /// [`Kind::Configuration`] with the line and what was expected.
    pub fn load(overrides: Overrides) -> Result<Config> {
        let here = std::env::current_dir()
            .map_err(|error| configuration(format!("the working folder cannot be read: {error}")))?;
        let path = match &overrides.config {
            Some(path) => Some(here.join(path)),
            None => Some(here.join(FILE_NAME)).filter(|path| path.exists()),
        };
        let text = match &path {
            Some(path) => std::fs::read_to_string(path)
                .map_err(|error| configuration(format!("{} cannot be read: {error}", path.display())))?,
            None => String::new(),
        };
        let base = path.as_deref().and_then(Path::parent).unwrap_or(&here).to_owned();
        let mut config = Config::parse(&text, &base).map_err(|error| {
            configuration(format!("{}: {error}", path.as_deref().unwrap_or(&here).display()))
        })?;
        config.path = path;
        config.cache = own_folder("XDG_CACHE_HOME", ".cache");
        config.data = own_folder("XDG_DATA_HOME", ".local/share");
        config.apply(overrides, &here);
        config.read_keys()?;
        config.warnings = readable_secrets(&config.server);
        Ok(config)
    }

    /// Checks a file's text. Relative paths in it are relative to `base`.
    ///
    /// # Errors
    /// [`Kind::Configuration`] with the line and what was expected.
    pub fn parse(text: &str, base: &Path) -> Result<Config> {
        let file: File = toml::from_str(text).map_err(|error| configuration(error.to_string().trim_end()))?;
        let Engine { max_sequences, step_tokens, step_ms, .. } = file.engine;
        for (key, value) in
            [("max_sequences", max_sequences), ("step_tokens", step_tokens), ("step_ms", step_ms)]
        {
            if value == 0 {
                return Err(configuration(format!("engine.{key} is 0: it must be at least 1")));
            }
        }
        if file.plugins.hang_secs == 0 || file.plugins.max_crashes == 0 {
            return Err(configuration("plugins.hang_secs and plugins.max_crashes must be at least 1"));
        }
        let mut config = Config {
            path: None,
            server: file.server,
            models: file.models,
            engine: file.engine,
            plugins: file.plugins,
            formats: file.formats,
            plugin: file.plugin,
            cache: None,
            data: None,
            warnings: Vec::new(),
        };
        config.plugins.folder = base.join(&config.plugins.folder);
        let server = &mut config.server;
        let files =
            [&mut server.api_key_file, &mut server.admin_key_file, &mut server.tls_cert, &mut server.tls_key];
        for file in files {
            *file = file.take().map(|path| base.join(path));
        }
        check_connections(server)?;
        config.models.folders.iter_mut().for_each(|folder| *folder = base.join(&*folder));
        for (id, entry) in &mut config.plugin {
            entry.path = entry.path.take().map(|path| base.join(path));
            entry.sha256 = entry.sha256.take().map(|hex| checked_sha256(id, &hex)).transpose()?;
        }
        Ok(config)
    }

    /// Lets every plugin's code run in this process, whatever the file says.
    pub fn run_in_process(&mut self) {
        self.plugins.isolation = Isolation::None;
        self.plugin.values_mut().for_each(|entry| entry.isolation = None);
    }

    /// Adds the keys of the files and of the environment.
    fn read_keys(&mut self) -> Result<()> {
        let server = &mut self.server;
        server.api_keys.extend(keys("api_key_file", server.api_key_file.as_deref(), KEYS_VARIABLE)?);
        server.admin_keys.extend(keys(
            "admin_key_file",
            server.admin_key_file.as_deref(),
            ADMIN_KEYS_VARIABLE,
        )?);
        Ok(())
    }

    fn apply(&mut self, overrides: Overrides, here: &Path) {
        self.server.host = overrides.host.unwrap_or(self.server.host);
        self.server.port = overrides.port.unwrap_or(self.server.port);
        self.server.open |= overrides.open;
        self.server.log_format = overrides.log_format.unwrap_or(self.server.log_format);
        if !overrides.model_folders.is_empty() {
            self.models.folders = overrides.model_folders.iter().map(|folder| here.join(folder)).collect();
        }
        if let Some(folder) = overrides.plugin_folder {
            self.plugins.folder = here.join(folder);
        }
    }
}

/// As the XDG base directories have it: below the folder of a variable, else below the user's own.
fn own_folder(variable: &str, otherwise: &str) -> Option<PathBuf> {
    let folder = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let base = folder(variable).or_else(|| folder("HOME").map(|home| home.join(otherwise)))?;
    Some(base.join("impetus"))
}

fn check_connections(server: &Server) -> Result<()> {
    if server.tls_cert.is_some() != server.tls_key.is_some() {
        return Err(configuration("server.tls_cert and server.tls_key go together: one of them is missing"));
    }
    for (key, value) in
        [("header_timeout_secs", server.header_timeout_secs), ("body_timeout_secs", server.body_timeout_secs)]
    {
        if value == 0 {
            return Err(configuration(format!("server.{key} is 0: it must be at least 1")));
        }
    }
    if server.max_header_bytes < 1024 {
        let message =
            format!("server.max_header_bytes is {}: it must be at least 1024", server.max_header_bytes);
        return Err(configuration(message));
    }
    Ok(())
}

/// The keys of a file, one in each line, and of an environment variable.
fn keys(field: &str, file: Option<&Path>, variable: &str) -> Result<Vec<ApiKey>> {
    let mut texts = Vec::new();
    if let Some(path) = file {
        let text = std::fs::read_to_string(path).map_err(|error| {
            configuration(format!("server.{field} {} cannot be read: {error}", path.display()))
        })?;
        texts.extend(text.lines().map(str::to_owned));
        if texts.iter().all(|line| line.trim().is_empty()) {
            let message = format!("server.{field} {} has no key: write one in each line", path.display());
            return Err(configuration(message));
        }
    }
    if let Ok(keys) = std::env::var(variable) {
        texts.extend(keys.split(',').map(str::to_owned));
    }
    Ok(texts.iter().filter_map(|key| ApiKey::try_from(key.trim().to_owned()).ok()).collect())
}

/// Files with secrets that other users of this machine can read, one line about each.
fn readable_secrets(server: &Server) -> Vec<String> {
    let files = [
        ("api_key_file", &server.api_key_file),
        ("admin_key_file", &server.admin_key_file),
        ("tls_key", &server.tls_key),
    ];
    let mode =
        |path: &Path| std::fs::metadata(path).map_or(0, |metadata| metadata.permissions().mode() & 0o777);
    let warning = |(field, path): (&str, &Option<PathBuf>)| {
        let path = path.as_deref()?;
        let mode = mode(path);
        (mode & 0o077 != 0).then(|| {
            let path = path.display();
            format!("server.{field} {path} is open to other users (mode {mode:03o}): `chmod 600` keeps it to yourself")
        })
    };
    files.into_iter().filter_map(warning).collect()
}

fn checked_sha256(id: &str, hex: &str) -> Result<String> {
    if hex.len() == 64 && hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Ok(hex.to_ascii_lowercase());
    }
    Err(configuration(format!("plugin.{id}.sha256 must be 64 hexadecimal digits; found `{hex}`")))
}

fn configuration(message: impl Into<String>) -> Error {
    Error::new(Kind::Configuration, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_file_is_the_defaults() {
        let config = Config::parse("", Path::new("/base")).unwrap();
        assert_eq!(config.server.host, IpAddr::V4(Ipv4Addr::LOCALHOST));
        assert_eq!(config.plugins.folder, Path::new("/base/plugins/installed"));
        assert_eq!(config.models.folders, [Path::new("/base/models")]);
    }

    #[test]
    fn a_plugin_has_options_and_paths_are_relative_to_the_file() {
        let text = "[plugin.gguf]\npath = \"lib/x.so\"\n[plugin.gguf.options]\nthreads = 2\n";
        let config = Config::parse(text, Path::new("/base")).unwrap();
        let entry = &config.plugin["gguf"];
        assert!(entry.enabled);
        assert_eq!(entry.path.as_deref(), Some(Path::new("/base/lib/x.so")));
        assert_eq!(entry.options["threads"].as_integer(), Some(2));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, expected) in [
            ("[server]\nprot = 1", "prot"),
            ("[server]\nport = \"x\"", "line 2"),
            ("[engine]\nmax_sequences = 0", "engine.max_sequences is 0"),
            ("[plugin.gguf]\nsha256 = \"abc\"", "plugin.gguf.sha256"),
            ("[models]\nfolders = \"models\"", "folders"),
            ("[server]\napi_keys = [\"\"]", "an API key is empty"),
            ("[server]\ntls_cert = \"c.pem\"", "go together"),
            ("[server]\nbody_timeout_secs = 0", "server.body_timeout_secs is 0"),
            ("[server]\nmax_header_bytes = 10", "server.max_header_bytes is 10"),
            ("[server]\nlog_format = \"xml\"", "line 2"),
            ("x", "line 1"),
        ] {
            let error = Config::parse(text, Path::new("/")).unwrap_err();
            assert_eq!(error.kind, Kind::Configuration);
            assert!(error.message.contains(expected), "{text:?} gave {:?}", error.message);
        }
    }

    #[test]
    fn the_file_in_the_repository_is_the_defaults() {
        let text = include_str!("../../plugins.toml");
        let config = Config::parse(text, Path::new("/base")).unwrap();
        let defaults = Config::parse("", Path::new("/base")).unwrap();
        assert_eq!(config.server.port, defaults.server.port);
        assert_eq!(config.server.max_body_bytes, defaults.server.max_body_bytes);
        assert_eq!(config.server.max_header_bytes, defaults.server.max_header_bytes);
        assert_eq!(config.server.header_timeout_secs, defaults.server.header_timeout_secs);
        assert_eq!(config.server.body_timeout_secs, defaults.server.body_timeout_secs);
        assert_eq!(config.server.log_format, defaults.server.log_format);
        assert_eq!(config.server.kept_responses, defaults.server.kept_responses);
        assert_eq!(config.server.kept_response_bytes, defaults.server.kept_response_bytes);
        assert_eq!(config.models.folders, defaults.models.folders);
        assert_eq!(config.plugins.folder, defaults.plugins.folder);
        assert_eq!(config.engine.queue, defaults.engine.queue);
        assert_eq!(config.engine.max_sequences, defaults.engine.max_sequences);
        assert_eq!(config.engine.step_tokens, defaults.engine.step_tokens);
    }
}
