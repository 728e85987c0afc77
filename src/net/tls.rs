//! TLS, on rustls: certificates and what they are read from.

use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

pub mod certificate_files;
pub mod handshake;
pub mod unverified;

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
