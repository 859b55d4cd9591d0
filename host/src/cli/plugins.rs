//! `impetus plugins …`: lists, checks and changes plugins. What is changed are files, the plugin folder's and
//! plugins.toml; a running server sees that by itself.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::args::{PluginsAction, PluginsCommand};
use super::lists;
use super::output::{harmless, tell};
use super::{Failure, Outcome, new_plugin, settings};
use crate::config::Config;
use crate::error::{Error, Kind};
use crate::plugins::{Plugins, Record, State};

/// Does what was asked for.
pub(super) fn plugins(config: &Config, command: &PluginsCommand) -> Outcome {
    match &command.action {
        None => lists::plugins(config, command.listing.json),
        Some(PluginsAction::List(listing)) => lists::plugins(config, listing.json),
        Some(PluginsAction::Check(check)) => check_one(config, &check.file, check.listing.json),
        Some(PluginsAction::Add { file }) => add(config, file),
        Some(PluginsAction::Remove(plugin)) => remove(config, &plugin.id),
        Some(PluginsAction::Enable(plugin)) => enable(config, &plugin.id, true),
        Some(PluginsAction::Disable(plugin)) => enable(config, &plugin.id, false),
        Some(PluginsAction::Pin(plugin)) => pin(config, &plugin.id),
        Some(PluginsAction::New(new)) => new_plugin::create(new),
    }
}

/// Prints what became of one library; fails where it would not be loaded.
fn check_one(config: &Config, file: &Path, as_json: bool) -> Outcome {
    let record = Plugins::check(config, file);
    lists::plugin_records(std::slice::from_ref(&record), as_json)?;
    if record.state == State::Loaded { Ok(()) } else { Err(Failure::Told) }
}

fn add(config: &Config, file: &Path) -> Outcome {
    let record = Plugins::check(&trusting(config), file);
    if record.state != State::Loaded {
        tell(&format!("{} was not added:", file.display()));
        lists::plugin_records(&[record], false)?;
        return Err(Failure::Told);
    }
    let target = place(config, &record, file)?;
    let draft =
        Draft::copy(file, &target, &record).map_err(|error| failed(&target, "cannot be written", &error))?;
    // First the pin: the library is never there with another's. What stood there comes back where it does not get there.
    write_pin(config, &record)?;
    draft.put_in_place().map_err(|error| {
        let before = config.plugin.get(&record.id);
        let text = |value: Option<&String>| value.map(|value| value.clone().into());
        let keys = [
            ("version", text(before.and_then(|entry| entry.version.as_ref()))),
            ("sha256", text(before.and_then(|entry| entry.sha256.as_ref()))),
        ];
        match settings::set_plugin(config, &record.id, &keys) {
            Ok(()) => failed(&target, "cannot be written", &error),
            Err(error) => error.into(),
        }
    })?;
    say(&format!(
        "plugin {} {} is in {}, and its hash in {}",
        record.id,
        record.version.as_deref().unwrap_or_default(),
        target.display(),
        settings::path(config).display()
    ))
}

/// The same settings without pins and switches: they are about to be written anew.
fn trusting(config: &Config) -> Config {
    let mut config = config.clone();
    for entry in config.plugin.values_mut() {
        entry.enabled = true;
        entry.sha256 = None;
        entry.version = None;
    }
    config
}

/// Where a library goes: in place of the one that has its id, else under its own name.
fn place(config: &Config, record: &Record, file: &Path) -> Outcome<PathBuf> {
    let folder = &config.plugins.folder;
    let there = Plugins::look(&trusting(config));
    let in_folder = |other: &&Record| other.path.parent() == Some(folder);
    if let Some(same) = there.iter().filter(in_folder).find(|other| other.id == record.id) {
        return Ok(same.path.clone());
    }
    if let Some(elsewhere) = there.iter().find(|other| other.id == record.id) {
        return Err(refused(format!(
            "plugins.toml names the library of plugin `{}` itself ({}): replace that file, or take its `path` out first",
            record.id,
            elsewhere.path.display()
        )));
    }
    let name = file.file_name().unwrap_or_default();
    let target = folder.join(name).with_extension(std::env::consts::DLL_EXTENSION);
    match there.iter().find(|other| other.path == target) {
        None => Ok(target),
        Some(other) => Err(refused(format!(
            "{} is there already and is plugin `{}`: give the new library another name, or remove that plugin",
            target.display(),
            other.id
        ))),
    }
}

/// A library that was copied into the plugin folder under a name that no plugin has. Gone when dropped.
struct Draft {
    path: PathBuf,
    target: PathBuf,
}

impl Draft {
    /// What is copied is what was checked.
    fn copy(from: &Path, target: &Path, record: &Record) -> io::Result<Draft> {
        let folder = target.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(folder)?;
        let name = target.file_name().unwrap_or_default().to_string_lossy();
        // A name that begins with a dot is no plugin's.
        let path = folder.join(format!(".{name}.{}", std::process::id()));
        let mut source = File::open(from)?;
        let mut copy = fs::OpenOptions::new().write(true).create_new(true).mode(0o644).open(&path)?;
        let draft = Draft { path, target: target.to_owned() };
        io::copy(&mut source, &mut copy)?;
        copy.sync_all()?;
        if Some(Plugins::sha256(&draft.path)?) != record.sha256 {
            return Err(io::Error::other("the file was changed after it was checked; add it again"));
        }
        Ok(draft)
    }

    /// In one step: whoever looks into the folder sees the whole library or none.
    fn put_in_place(self) -> io::Result<()> {
        fs::rename(&self.path, &self.target)
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

fn remove(config: &Config, id: &str) -> Outcome {
    let record = find(config, id)?;
    let in_folder = record.path.parent() == Some(config.plugins.folder.as_path());
    if in_folder {
        fs::remove_file(&record.path).map_err(|error| failed(&record.path, "cannot be removed", &error))?;
    }
    settings::set_plugin(config, id, &[("path", None), ("sha256", None), ("version", None)])?;
    let left = if in_folder { "is removed" } else { "is named no more; the file itself was not touched" };
    say(&format!("plugin {id}: {} {left}", record.path.display()))
}

fn enable(config: &Config, id: &str, enabled: bool) -> Outcome {
    find(config, id)?;
    settings::set_plugin(config, id, &[("enabled", Some(enabled.into()))])?;
    say(&format!("plugin {id}: enabled = {enabled} in {}", settings::path(config).display()))
}

fn pin(config: &Config, id: &str) -> Outcome {
    let record = find(&trusting(config), id)?;
    write_pin(config, &record)?;
    say(&format!(
        "plugin {id}: pinned to sha256 {} in {}",
        record.sha256.as_deref().unwrap_or_default(),
        settings::path(config).display()
    ))
}

fn write_pin(config: &Config, record: &Record) -> Outcome {
    let Some(sha256) = record.sha256.clone() else {
        let reason = record.reason.as_deref().unwrap_or("its file could not be read");
        return Err(refused(format!("plugin `{}` cannot be pinned: {reason}", record.id)));
    };
    let version = record.version.clone().map(Into::into);
    let keys = [("version", version), ("sha256", Some(sha256.into()))];
    Ok(settings::set_plugin(config, &record.id, &keys)?)
}

/// The library of this id, loaded or not.
fn find(config: &Config, id: &str) -> Outcome<Record> {
    let records = Plugins::look(config);
    let ids: Vec<&str> = records.iter().map(|record| record.id.as_str()).collect();
    let there =
        if ids.is_empty() { "there is none".to_owned() } else { format!("there is: {}", ids.join(", ")) };
    match records.iter().find(|record| record.id == id) {
        Some(record) => Ok(record.clone()),
        None => Err(refused(format!("no plugin `{id}`; {there}"))),
    }
}

fn say(text: &str) -> Outcome {
    Ok(writeln!(io::stdout().lock(), "{}", harmless(text))?)
}

fn refused(message: String) -> Failure {
    Failure::Error(Error::new(Kind::Configuration, message))
}

fn failed(path: &Path, what: &str, error: &io::Error) -> Failure {
    Failure::Error(Error::new(Kind::Internal, format!("{} {what}: {error}", path.display())))
}
