//! A plugin whose code runs in this very process: opened, proven to be what its file says, and started.
//!
//! The in-process mode has it, and so has every child that works for the host.

use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use impetus_plugin_api::{Extension, PluginRef};
use serde::{Deserialize, Serialize};

use super::inspection::{self, Inspection};
use super::model::{self, Model, Probe};
use super::record::Refusal;
use super::spec::Spec;
use super::{copies, inspect, open};
use crate::error::{Error, Kind, Result};

/// An open plugin. It stays open as long as the process lives.
#[derive(Clone, Copy)]
pub struct Library {
    plugin: PluginRef,
}

/// What a plugin's running code says of itself, beyond what its file says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Its name for people.
    pub name: String,
    /// Its licence.
    pub license: String,
    /// What it was built with; may be empty.
    pub build: String,
}

impl Library {
    /// Opens the library, or its copy, if that is still what was checked: header, layout, identity, then `init`.
    ///
    /// # Errors
    /// The step that refused it.
    pub fn open(spec: &Spec) -> Result<(Library, Identity), Refusal> {
        let file = copies::to_open(spec)?;
        let manifest = inspect::manifest(&file)?;
        let (plugin, _) = open::open(&file, &manifest)?;
        open::start(plugin, &spec.id, &spec.options)?;
        let library = Library { plugin };
        Ok((library, library.identity()))
    }

    /// What its code says of itself.
    pub fn identity(&self) -> Identity {
        let info = self.plugin.info()();
        Identity { name: info.name.into(), license: info.license.into(), build: info.build.into() }
    }

    /// A named table beyond the contract's root.
    pub(super) fn extension(&self, name: &str) -> Option<Extension> {
        self.plugin.extension()(name.into()).into_option()
    }

    /// Endings of its formats' files, without the dot.
    pub(super) fn extensions(&self) -> Vec<String> {
        let formats = self.plugin.info()().formats;
        formats.iter().flat_map(|format| format.extensions.iter().map(ToString::to_string)).collect()
    }

    /// Asks the plugin about a file or folder.
    ///
    /// # Errors
    /// What the plugin refuses, and [`Kind::LoadFailed`] for a file that cannot be read.
    pub fn probe(&self, path: &Path, is_dir: bool) -> Result<Probe> {
        let head = head(path, is_dir)
            .map_err(|error| Error::new(Kind::LoadFailed, format!("the file cannot be read: {error}")))?;
        model::probe(self.plugin, path, is_dir, &head)
    }

    /// The same about a file of which nothing but this beginning is there.
    pub(super) fn probe_head(&self, path: &Path, head: &[u8]) -> Result<Probe> {
        model::probe(self.plugin, path, false, head)
    }

    /// All that a model's headers say; `None` from a plugin that does not offer to tell.
    ///
    /// # Errors
    /// As [`Library::probe`].
    pub fn inspect(&self, path: &Path, is_dir: bool) -> Result<Option<Inspection>> {
        let head = head(path, is_dir)
            .map_err(|error| Error::new(Kind::LoadFailed, format!("the file cannot be read: {error}")))?;
        inspection::inspect(self.plugin, path, is_dir, &head)
    }

    /// Loads a model of a format, with options of this model alone, a JSON object. `progress` hears fractions from 0 to 1 and answers whether to go on. Blocks until it is loaded.
    ///
    /// # Errors
    /// What the plugin refuses.
    pub fn load_model(
        &self,
        path: &Path,
        (format, options): (&str, &str),
        progress: impl Fn(f32) -> bool + Send + Sync + 'static,
    ) -> Result<Arc<Model>> {
        model::utf8(path).and_then(|path| Model::load(self.plugin, path, (format, options), progress))
    }
}

/// How much of a file is read for `probe`.
const HEAD_BYTES: u64 = 64 << 10;

fn head(path: &Path, is_dir: bool) -> std::io::Result<Vec<u8>> {
    let mut head = Vec::new();
    if !is_dir {
        std::fs::File::open(path)?.take(HEAD_BYTES).read_to_end(&mut head)?;
    }
    Ok(head)
}
