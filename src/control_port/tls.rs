//! The certificate of a port beside the request path, read again when its files change.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;
use tracing::{error, info};

/// A certificate chain and its key in PEM, as a mounted Secret of the type kubernetes.io/tls has them; clones share what
/// was read.
#[derive(Clone)]
pub struct TlsFiles {
    shared: Arc<Shared>,
}

struct Shared {
    certificate: PathBuf,
    key: PathBuf,
    loaded: Mutex<Loaded>,
}

struct Loaded {
    version: FileVersion,
    config: Arc<ServerConfig>,
}

/// When both files were last modified.
type FileVersion = [Option<SystemTime>; 2];

// === impl TlsFiles ===

impl TlsFiles {
    /// Reads `tls.crt` and `tls.key` of a folder.
    ///
    /// # Errors
    /// What is wrong with the files.
    pub fn new(folder: &Path) -> Result<Self, String> {
        let (certificate, key) = (folder.join("tls.crt"), folder.join("tls.key"));
        let version = version(&certificate, &key);
        let config = load(&certificate, &key)?;
        let loaded = Mutex::new(Loaded { version, config });
        Ok(Self { shared: Arc::new(Shared { certificate, key, loaded }) })
    }

    /// Accepts connections with the newest certificate that could be read.
    pub async fn acceptor(&self) -> Option<TlsAcceptor> {
        let files = self.clone();
        // A file may be on a slow volume.
        let config = tokio::task::spawn_blocking(move || files.newest()).await.ok()?;
        Some(TlsAcceptor::from(config))
    }

    fn newest(&self) -> Arc<ServerConfig> {
        let Shared { certificate, key, loaded } = &*self.shared;
        let mut loaded = loaded.lock().unwrap_or_else(PoisonError::into_inner);
        let version = version(certificate, key);
        if version != loaded.version {
            match load(certificate, key) {
                Ok(config) => {
                    loaded.config = config;
                    info!(certificate = %certificate.display(), "a new certificate is in use");
                }
                Err(problem) => error!(
                    "the certificate was not renewed, the previous one stays in use: {problem}"
                ),
            }
            loaded.version = version;
        }
        loaded.config.clone()
    }
}

fn version(certificate: &Path, key: &Path) -> FileVersion {
    [certificate, key].map(|file| std::fs::metadata(file).and_then(|found| found.modified()).ok())
}

fn load(certificate: &Path, key: &Path) -> Result<Arc<ServerConfig>, String> {
    let problem =
        |file: &Path, error: &dyn std::fmt::Display| format!("{}: {error}", file.display());
    let chain: Vec<_> = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect)
        .map_err(|error| problem(certificate, &error))?;
    if chain.is_empty() {
        return Err(problem(certificate, &"there is no certificate"));
    }
    let private = PrivateKeyDer::from_pem_file(key).map_err(|error| problem(key, &error))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, private))
        .map_err(|error| problem(certificate, &error))?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Arc::new(config))
}
