//! What a user calls a model: a file's path or an id.

use std::path::Path;

use crate::error::{Error, Kind, Result};
use crate::models::{Entry, Models};

/// A file of this name, else the model of this id, else a folder of this name.
///
/// # Errors
/// [`Kind::ModelNotFound`] with what there is.
pub(super) fn model(models: &Models, name: &str) -> Result<Entry> {
    let path = Path::new(name);
    if path.is_file() {
        return models.inspect(path);
    }
    let not_found = match models.find(name) {
        Ok(entry) => return Ok(entry),
        Err(error) => error,
    };
    if path.is_dir() {
        return models.inspect(path);
    }
    if not_found.kind != Kind::ModelNotFound {
        return Err(not_found);
    }
    Err(Error { message: format!("{}; nor is there a file of that name", not_found.message), ..not_found })
}
