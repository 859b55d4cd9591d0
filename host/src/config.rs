//! plugins.toml and the command line become one checked `Config`. Nothing below reads flags, files or environment.

mod keys;
mod live;
mod tables;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

pub use self::keys::ApiKey;
use self::keys::{keys, readable_secrets};
pub use self::live::{Edited, Reader};
use self::tables::File;
pub use self::tables::{
    Confinement, Engine, Isolation, LogFormat, ModelEntry, Models, PluginEntry, Plugins, Server,
};
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
    /// What was said about single models, by id.
    pub model: BTreeMap<String, ModelEntry>,
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
            model: file.model,
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
    use std::net::Ipv4Addr;

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
    fn a_model_has_options_of_its_own() {
        let text = "[model.\"a/Tiny.Q4\".options]\nquantize = \"int8\"\n";
        let config = Config::parse(text, Path::new("/base")).unwrap();
        assert_eq!(config.model["a/Tiny.Q4"].options["quantize"].as_str(), Some("int8"));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, expected) in [
            ("[server]\nprot = 1", "prot"),
            ("[server]\nport = \"x\"", "line 2"),
            ("[engine]\nmax_sequences = 0", "engine.max_sequences is 0"),
            ("[plugin.gguf]\nsha256 = \"abc\"", "plugin.gguf.sha256"),
            ("[models]\nfolders = \"models\"", "folders"),
            ("[model.tiny]\nquantize = \"int8\"", "quantize"),
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
        assert_eq!(config.server.shutdown_secs, defaults.server.shutdown_secs);
        assert_eq!(config.server.log_format, defaults.server.log_format);
        assert_eq!(config.server.kept_responses, defaults.server.kept_responses);
        assert_eq!(config.server.kept_response_bytes, defaults.server.kept_response_bytes);
        assert_eq!(config.models.folders, defaults.models.folders);
        assert_eq!(config.plugins.folder, defaults.plugins.folder);
        assert_eq!(config.plugins.isolation, defaults.plugins.isolation);
        assert_eq!(config.plugins.confinement, defaults.plugins.confinement);
        assert_eq!(config.plugins.memory_bytes, defaults.plugins.memory_bytes);
        assert_eq!(config.plugins.hang_secs, defaults.plugins.hang_secs);
        assert_eq!(config.plugins.max_crashes, defaults.plugins.max_crashes);
        assert_eq!(config.engine.queue, defaults.engine.queue);
        assert_eq!(config.engine.max_sequences, defaults.engine.max_sequences);
        assert_eq!(config.engine.step_tokens, defaults.engine.step_tokens);
    }
}
