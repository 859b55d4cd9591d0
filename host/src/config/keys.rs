//! Who may ask: the keys of plugins.toml, of files and of the environment.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::{Server, configuration};
use crate::error::Result;

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

/// The keys of a file, one in each line, and of an environment variable.
pub(super) fn keys(field: &str, file: Option<&Path>, variable: &str) -> Result<Vec<ApiKey>> {
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
pub(super) fn readable_secrets(server: &Server) -> Vec<String> {
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
