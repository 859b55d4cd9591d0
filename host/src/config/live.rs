//! plugins.toml while the host runs: read again when it was edited, and what of the edit holds at once.

use std::path::{Path, PathBuf};

use super::{Config, FILE_NAME, Overrides};
use crate::error::Result;

/// Tables and keys that hold at once; all others at the next start.
const LIVE: [&str; 7] = [
    "formats.",
    "plugin.",
    "model.",
    "plugins.folder",
    "plugins.isolation",
    "plugins.confinement",
    "plugins.memory_bytes",
];

/// Reads the file again, with the same words of the command line over it.
pub struct Reader {
    overrides: Overrides,
    file: PathBuf,
    /// What was read last, right or wrong.
    seen: String,
    /// What was read last and was right.
    good: toml::Table,
}

/// What an edit came to.
#[derive(Debug)]
pub struct Edited {
    /// What holds from now on.
    pub config: Config,
    /// The keys that were changed and hold now, as `plugin.gguf.enabled`.
    pub applied: Vec<String>,
    /// The keys that were changed and hold at the next start.
    pub needs_restart: Vec<String>,
}

impl Reader {
    /// For the configuration that was loaded with these overrides.
    pub fn new(overrides: Overrides, config: &Config) -> Self {
        let here = || std::env::current_dir().unwrap_or_default().join(FILE_NAME);
        let file = config.path.clone().unwrap_or_else(here);
        let seen = read(&file);
        let good = seen.parse().unwrap_or_default();
        Reader { overrides, file, seen, good }
    }

    /// The file, whether it is there or not.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// What the file's edit changes of `now`; `None` when it was not edited since it was read last.
    ///
    /// # Errors
    /// As [`Config::load`]. What was good before still is, and the same text is not refused twice.
    pub fn read_again(&mut self, now: &Config) -> Result<Option<Edited>> {
        let text = read(&self.file);
        if text == self.seen {
            return Ok(None);
        }
        self.seen.clone_from(&text);
        let new = Config::load(self.overrides.clone())?;
        let table: toml::Table = text.parse().unwrap_or_default();
        let mut changed = Vec::new();
        differences(&self.good, &table, "", &mut changed);
        self.good = table;
        let is_live = |key: &String| LIVE.iter().any(|live| key.starts_with(live));
        let (applied, needs_restart) = changed.into_iter().partition(is_live);
        let Config { plugins, formats, plugin, model, .. } = new;
        let config = Config { plugins, formats, plugin, model, ..now.clone() };
        Ok(Some(Edited { config, applied, needs_restart }))
    }
}

/// A file that is not there is an empty one.
fn read(file: &Path) -> String {
    std::fs::read_to_string(file).unwrap_or_default()
}

/// The dotted names of the values in which two tables differ.
fn differences(old: &toml::Table, new: &toml::Table, above: &str, found: &mut Vec<String>) {
    let mut keys: Vec<&String> = old.keys().chain(new.keys().filter(|key| !old.contains_key(*key))).collect();
    keys.sort();
    for key in keys {
        let name = format!("{above}{key}");
        let empty = toml::Table::new();
        match (old.get(key), new.get(key)) {
            (Some(toml::Value::Table(old)), Some(toml::Value::Table(new))) => {
                differences(old, new, &format!("{name}."), found);
            }
            (Some(toml::Value::Table(old)), None) => differences(old, &empty, &format!("{name}."), found),
            (None, Some(toml::Value::Table(new))) => differences(&empty, new, &format!("{name}."), found),
            (old, new) if old != new => found.push(name),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_edit_is_told_by_its_keys() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("plugins.toml");
        let write = |text: &str| std::fs::write(&file, text).unwrap();
        write("[server]\nport = 1\n[plugin.a]\nenabled = true\n[plugin.b.options]\nx = 1\n");
        let overrides = Overrides { config: Some(file.clone()), ..Overrides::default() };
        let config = Config::load(overrides.clone()).unwrap();
        let mut reader = Reader::new(overrides, &config);
        assert!(reader.read_again(&config).unwrap().is_none());

        write(
            "[server]\nport = 2\n[plugin.a]\nenabled = false\n[plugin.b.options]\nx = 2\n[formats]\nf = \"a\"\n",
        );
        let edited = reader.read_again(&config).unwrap().unwrap();
        assert_eq!(edited.applied, ["formats.f", "plugin.a.enabled", "plugin.b.options.x"]);
        assert_eq!(edited.needs_restart, ["server.port"]);
        assert_eq!((edited.config.server.port, edited.config.plugin["a"].enabled), (1, false));

        write("[plugin.a]\nenabled = maybe\n");
        let error = reader.read_again(&edited.config).unwrap_err();
        assert!(error.message.contains("line 2"), "{}", error.message);
        assert!(reader.read_again(&edited.config).unwrap().is_none(), "it is refused once");
        write("[plugin.a]\nenabled = true\n");
        let mended = reader.read_again(&edited.config).unwrap().unwrap();
        assert_eq!(mended.applied, ["formats.f", "plugin.a.enabled", "plugin.b.options.x"]);
    }
}
