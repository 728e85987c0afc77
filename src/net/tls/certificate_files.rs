//! A certificate and its key in files, read again when the files change.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use rustls::sign::CertifiedKey;
use tracing::{error, info};

use super::{InvalidPem, certified_key};

/// A certificate chain and its key in PEM, as a mounted Secret of the type kubernetes.io/tls has them; clones share what
/// was read.
#[derive(Clone)]
pub struct CertificateFiles {
    shared: Arc<Shared>,
}

struct Shared {
    certificate: PathBuf,
    key: PathBuf,
    loaded: Mutex<Loaded>,
}

struct Loaded {
    version: FileVersion,
    certificate: Arc<CertifiedKey>,
}

/// When both files were last modified.
type FileVersion = [Option<SystemTime>; 2];

// === impl CertificateFiles ===

impl CertificateFiles {
    /// Reads `tls.crt` and `tls.key` of a folder.
    ///
    /// # Errors
    /// What is wrong with the files.
    pub fn new(folder: &Path) -> Result<Self, String> {
        let (certificate, key) = (folder.join("tls.crt"), folder.join("tls.key"));
        let version = version(&certificate, &key);
        let loaded = Mutex::new(Loaded { version, certificate: load(&certificate, &key)? });
        Ok(Self { shared: Arc::new(Shared { certificate, key, loaded }) })
    }

    /// The newest certificate that could be read.
    pub fn newest(&self) -> Arc<CertifiedKey> {
        let Shared { certificate, key, loaded } = &*self.shared;
        let mut loaded = loaded.lock().unwrap_or_else(PoisonError::into_inner);
        let version = version(certificate, key);
        if version != loaded.version {
            match load(certificate, key) {
                Ok(read) => {
                    loaded.certificate = read;
                    info!(certificate = %certificate.display(), "a new certificate is in use");
                }
                Err(problem) => error!(
                    "the certificate was not renewed, the previous one stays in use: {problem}"
                ),
            }
            loaded.version = version;
        }
        loaded.certificate.clone()
    }
}

fn version(certificate: &Path, key: &Path) -> FileVersion {
    [certificate, key].map(|file| std::fs::metadata(file).and_then(|found| found.modified()).ok())
}

fn load(certificate: &Path, key: &Path) -> Result<Arc<CertifiedKey>, String> {
    let problem =
        |file: &Path, error: &dyn std::fmt::Display| format!("{}: {error}", file.display());
    let read = |file: &Path| std::fs::read(file).map_err(|error| problem(file, &error));
    certified_key(&read(certificate)?, &read(key)?).map(Arc::new).map_err(|invalid| match invalid {
        InvalidPem::Certificate(error) => problem(certificate, &error),
        InvalidPem::Key(error) => problem(key, &error),
    })
}
