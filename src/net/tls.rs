//! TLS, on rustls: certificates and what they are read from.

use std::path::Path;
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

use self::watched_files::{InvalidFile, WatchedFiles};

mod alpn;
pub mod client;
pub mod failure;
pub mod handshake;
pub mod server;
pub mod subject;
pub mod tickets;
mod unverified;
pub mod watched_files;

/// A certificate chain and its key, in files.
pub type CertificateFiles = WatchedFiles<CertifiedKey>;

/// A part of a certificate in PEM that cannot be used, and why.
#[derive(Debug)]
pub enum InvalidPem {
    Certificate(String),
    Key(String),
}

/// Reads a certificate chain and its key in PEM.
///
/// # Errors
/// When one of them cannot be read, there is no certificate, or they do not belong together.
pub fn certified_key(certificate: &[u8], key: &[u8]) -> Result<CertifiedKey, InvalidPem> {
    let of_certificate = |error: &dyn std::fmt::Display| InvalidPem::Certificate(error.to_string());
    let chain = CertificateDer::pem_slice_iter(certificate)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| of_certificate(&error))?;
    if chain.is_empty() {
        return Err(of_certificate(&"there is no certificate"));
    }
    let key =
        PrivateKeyDer::from_pem_slice(key).map_err(|error| InvalidPem::Key(error.to_string()))?;
    CertifiedKey::from_der(chain, key, &default_provider()).map_err(|error| of_certificate(&error))
}

/// The content of a file with a certificate chain and of one with its key.
///
/// # Errors
/// Which one of them cannot be used.
pub fn parse_certificate(files: &[Vec<u8>]) -> Result<CertifiedKey, InvalidFile> {
    let [certificate, key] = files else { return Err(InvalidFile::incomplete()) };
    certified_key(certificate, key).map_err(|invalid| match invalid {
        InvalidPem::Certificate(problem) => InvalidFile { index: 0, problem },
        InvalidPem::Key(problem) => InvalidFile { index: 1, problem },
    })
}

/// The content of a file with certificates of authorities.
///
/// # Errors
/// When there is none, or one of them cannot be used.
pub fn parse_issuers(files: &[Vec<u8>]) -> Result<RootCertStore, InvalidFile> {
    let [file] = files else { return Err(InvalidFile::incomplete()) };
    let problem =
        |problem: &dyn std::fmt::Display| InvalidFile { index: 0, problem: problem.to_string() };
    let mut issuers = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(file) {
        let certificate = certificate.map_err(|error| problem(&error))?;
        issuers.add(certificate).map_err(|error| problem(&error))?;
    }
    if issuers.is_empty() { Err(problem(&"there is no certificate")) } else { Ok(issuers) }
}

/// `tls.crt` and `tls.key` of a folder, as a mounted Secret of the type kubernetes.io/tls has them.
///
/// # Errors
/// What is wrong with the files.
pub fn of_folder(folder: &Path) -> Result<Arc<CertificateFiles>, String> {
    let paths = vec![folder.join("tls.crt"), folder.join("tls.key")];
    let problem = |invalid: InvalidFile| {
        let path = paths.get(invalid.index).map(|path| path.display().to_string());
        format!("{}: {}", path.unwrap_or_default(), invalid.problem)
    };
    WatchedFiles::new(paths.clone(), parse_certificate).map(Arc::new).map_err(problem)
}
