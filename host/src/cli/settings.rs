//! Edits of plugins.toml that leave everything else in it as its owner wrote it.

use std::path::{Path, PathBuf};

use toml_edit::{DocumentMut, Item, Table, TableLike, value};

use crate::config::{Config, FILE_NAME};
use crate::error::{Error, Kind, Result};

/// The file that edits go to: the one that was read, else a new one in the working folder.
pub(super) fn path(config: &Config) -> PathBuf {
    config.path.clone().unwrap_or_else(|| PathBuf::from(FILE_NAME))
}

/// Sets keys of `[plugin.ID]`; `None` takes the key out, and a table that is then empty as well.
///
/// # Errors
/// [`Kind::Configuration`] when the file cannot be read or written, or would be wrong afterwards.
pub(super) fn set_plugin(config: &Config, id: &str, keys: &[(&str, Option<toml_edit::Value>)]) -> Result<()> {
    edit(&path(config), |text| with_keys(text, id, keys))
}

fn edit(path: &Path, change: impl FnOnce(&str) -> Result<String, String>) -> Result<()> {
    let failed = |what: &str, error: &dyn std::fmt::Display| {
        Error::new(Kind::Configuration, format!("{} {what}: {error}", path.display()))
    };
    let old = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(failed("cannot be read", &error)),
    };
    let new = change(&old).map_err(|error| failed("cannot be edited", &error))?;
    Config::parse(&new, Path::new("/")).map_err(|error| failed("would be wrong afterwards", &error))?;
    if new != old {
        replace(path, &new).map_err(|error| failed("cannot be written", &error))?;
    }
    Ok(())
}

/// In one step, so that nobody reads half of it; through a link to where the file is.
fn replace(path: &Path, text: &str) -> std::io::Result<()> {
    let real = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let name = real.file_name().unwrap_or_default().to_string_lossy();
    let draft = real.with_file_name(format!(".{name}.{}", std::process::id()));
    std::fs::write(&draft, text)?;
    if let Ok(metadata) = std::fs::metadata(&real) {
        std::fs::set_permissions(&draft, metadata.permissions())?;
    }
    std::fs::rename(&draft, &real).inspect_err(|_| {
        let _ = std::fs::remove_file(&draft);
    })
}

fn with_keys(text: &str, id: &str, keys: &[(&str, Option<toml_edit::Value>)]) -> Result<String, String> {
    let mut document: DocumentMut = text.parse().map_err(|error: toml_edit::TomlError| error.to_string())?;
    let root = document.as_table_mut();
    let plugins = table_in(root, "plugin", true).ok_or("`plugin` is no table")?;
    let plugin = table_in(plugins, id, false).ok_or_else(|| format!("`plugin.{id}` is no table"))?;
    for (key, wanted) in keys {
        match wanted {
            None => _ = plugin.remove(key),
            // What stands there keeps its place and its comment.
            Some(wanted) => match plugin.get_mut(key).and_then(Item::as_value_mut) {
                Some(there) => {
                    let decor = there.decor().clone();
                    *there = wanted.clone();
                    *there.decor_mut() = decor;
                }
                None => _ = plugin.insert(key, value(wanted.clone())),
            },
        }
    }
    if plugins.get(id).and_then(Item::as_table).is_some_and(says_nothing) {
        plugins.remove(id);
    }
    Ok(document.to_string())
}

/// The table of this name, made where there is none. An implicit one has no heading of its own.
/// Neither a key nor a comment of its owner's.
fn says_nothing(table: &Table) -> bool {
    let decor = table.decor();
    let has_comment = |text: Option<&toml_edit::RawString>| {
        text.and_then(toml_edit::RawString::as_str).is_some_and(|text| text.contains('#'))
    };
    table.is_empty() && !has_comment(decor.prefix()) && !has_comment(decor.suffix())
}

fn table_in<'a>(parent: &'a mut dyn TableLike, name: &str, implicit: bool) -> Option<&'a mut dyn TableLike> {
    if parent.get(name).is_none() {
        let mut table = Table::new();
        table.set_implicit(implicit);
        parent.insert(name, Item::Table(table));
    }
    parent.get_mut(name)?.as_table_like_mut()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_order_stay() {
        let text =
            "# mine\n[plugin.a] # its table\nenabled = true # yes\n# sha256 = \"x\"\n\n[server]\nport = 1\n";
        let edited = with_keys(text, "a", &[("enabled", Some(false.into())), ("version", Some("1".into()))]);
        let expected = "# mine\n[plugin.a] # its table\nenabled = false # yes\nversion = \"1\"\n# sha256 = \"x\"\n\n[server]\nport = 1\n";
        assert_eq!(edited.unwrap(), expected);
        let added = with_keys("", "b", &[("enabled", Some(false.into()))]).unwrap();
        assert_eq!(added, "[plugin.b]\nenabled = false\n");
        assert_eq!(with_keys(&added, "b", &[("enabled", None)]).unwrap(), "");
    }

    #[test]
    fn what_is_wrong_is_not_written() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("plugins.toml");
        std::fs::write(&file, "[plugin.a]\n").unwrap();
        let error = edit(&file, |text| Ok(format!("{text}nonsense = 1\n"))).unwrap_err();
        assert!(error.message.contains("nonsense"), "{}", error.message);
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "[plugin.a]\n");
        edit(&file, |_| Ok("[plugin.c]\n".to_owned())).unwrap();
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "[plugin.c]\n");
    }
}
