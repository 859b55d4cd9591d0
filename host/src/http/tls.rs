//! TLS by rustls: what `tls_cert` and `tls_key` of plugins.toml name.

use std::path::Path;
use std::sync::Arc;

use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::config::Server;
use crate::error::{Error, Kind, Result};

/// What encrypts connections, where plugins.toml names a certificate and its key.
///
/// # Errors
/// [`Kind::Configuration`] when one of the files cannot be read, or they do not belong together.
pub fn tls(server: &Server) -> Result<Option<TlsAcceptor>> {
    let (Some(certificate), Some(key)) = (&server.tls_cert, &server.tls_key) else {
        return Ok(None);
    };
    let chain = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect::<std::result::Result<Vec<_>, _>>)
        .map_err(|error| unusable("tls_cert", certificate, &error))?;
    if chain.is_empty() {
        return Err(unusable("tls_cert", certificate, &"there is no certificate in it"));
    }
    let secret = PrivateKeyDer::from_pem_file(key).map_err(|error| unusable("tls_key", key, &error))?;
    let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::new(Kind::Internal, format!("rustls refuses its own defaults: {error}")))?
        .with_no_client_auth()
        .with_single_cert(chain, secret)
        .map_err(|error| unusable("tls_key", key, &error))?;
    Ok(Some(TlsAcceptor::from(Arc::new(config))))
}

fn unusable(field: &str, path: &Path, error: &dyn std::fmt::Display) -> Error {
    let message =
        format!("server.{field} {} cannot be used: {error}; a PEM file is expected", path.display());
    Error::new(Kind::Configuration, message)
}
