//! Models as files: what their headers say in full, and taking them from the disk.

use std::path::Path;
use std::sync::Arc;

use super::life::Left;
use super::scan::shards_of;
use super::{Entry, Models, file_name};
use crate::error::{Error, Kind, Result};
use crate::plugins::inspection::Inspection;

impl Models {
    /// All that a model's headers say.
    ///
    /// # Errors
    /// [`Kind::ModelNotFound`], [`Kind::PluginUnavailable`] where no plugin knows it, [`Kind::Unsupported`] where its
    /// plugin does not offer to tell, and what the plugin refuses.
    pub fn details(&self, id: &str) -> Result<Inspection> {
        let entry = self.find(id)?;
        let Some(plugin) = &entry.plugin else { return Err(entry.refusal()) };
        let told = self.plugins.inspect(plugin, &entry.path, entry.path.is_dir())?;
        told.ok_or_else(|| {
            let message = format!("plugin `{plugin}` tells no more of its models than what lists show");
            Error::new(Kind::Unsupported, message)
        })
    }

    /// Takes a model's files from the disk, for good; unloads it first. Its id, and how many bytes it had.
    ///
    /// # Errors
    /// [`Kind::ModelNotFound`], [`Kind::InvalidRequest`] while it answers requests, and [`Kind::Internal`] with what the
    /// system says.
    pub async fn delete(self: &Arc<Self>, id: &str) -> Result<(String, u64)> {
        let wanted = id.to_owned();
        let entry = self.look(move |models| models.find(&wanted)).await??;
        if self.unload(&entry.id).await? == Left::Draining {
            let message = format!(
                "model `{}` was answering requests: it takes no more and ends with them; delete it then",
                entry.id
            );
            return Err(Error::new(Kind::InvalidRequest, message));
        }
        let (id, bytes) = (entry.id.clone(), entry.summary.size_bytes.unwrap_or_default());
        self.look(move |models| models.remove(&entry)).await??;
        tracing::info!(model = %id, bytes, "deleted, as was asked for");
        Ok((id, bytes))
    }

    fn remove(&self, entry: &Entry) -> Result<()> {
        // What the catalogue found lies in one of its folders, and is none of them.
        let is_inside = |folder: &std::path::PathBuf| entry.path.starts_with(folder) && entry.path != *folder;
        if !self.catalog.folders().iter().any(is_inside) {
            let message = format!("model `{}` does not lie in a model folder", entry.id);
            return Err(Error::new(Kind::InvalidRequest, message));
        }
        if entry.path.is_dir() {
            return remove_folder(&entry.path).map_err(|error| cannot(&entry.path, &error));
        }
        shards_of(&entry.path)
            .iter()
            .filter(|path| path.symlink_metadata().is_ok())
            .try_for_each(|path| std::fs::remove_file(path).map_err(|error| cannot(path, &error)))
    }
}

/// A link goes, and what it leads to stays.
fn remove_folder(folder: &Path) -> std::io::Result<()> {
    if folder.is_symlink() { std::fs::remove_file(folder) } else { std::fs::remove_dir_all(folder) }
}

fn cannot(path: &Path, error: &std::io::Error) -> Error {
    Error::new(Kind::InvalidRequest, format!("`{}` cannot be deleted: {error}", file_name(path)))
}
