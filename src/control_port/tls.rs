//! How a port beside the request path is encrypted.

use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{RootCertStore, ServerConfig};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tracing::debug;

use crate::net::tls::CertificateFiles;
use crate::net::tls::server::{ClientVerification, builder, client_verifier};

/// The certificate of a port, and who its clients must be; clones share both.
#[derive(Clone)]
pub struct Tls {
    certificate: CertificateSource,
    /// The issuers of the certificates that clients must have.
    client_issuers: Option<watch::Receiver<Arc<RootCertStore>>>,
}

/// Where the certificate of a port comes from.
#[derive(Clone)]
pub enum CertificateSource {
    Files(Arc<CertificateFiles>),
    /// Nobody is served while there is none.
    Published(watch::Receiver<Option<Arc<CertifiedKey>>>),
}

/// The verified certificate of a client, as an extension of its requests.
#[derive(Clone, Debug)]
pub struct ClientCertificate(pub CertificateDer<'static>);

// === impl Tls ===

impl Tls {
    pub fn new(certificate: CertificateSource) -> Self {
        Self { certificate, client_issuers: None }
    }

    /// Only clients with a certificate of one of these are served; none while there is no issuer.
    pub fn with_client_issuers(self, issuers: watch::Receiver<Arc<RootCertStore>>) -> Self {
        Self { client_issuers: Some(issuers), ..self }
    }

    /// Accepts connections with the newest certificate.
    pub async fn acceptor(&self) -> Option<TlsAcceptor> {
        let certificate = self.certificate.newest().await?;
        match self.config(certificate) {
            Ok(config) => Some(TlsAcceptor::from(Arc::new(config))),
            Err(error) => {
                debug!(%error, "TLS cannot be configured");
                None
            }
        }
    }

    fn config(&self, certificate: Arc<CertifiedKey>) -> Result<ServerConfig, rustls::Error> {
        let clients = self.client_issuers.as_ref().map(|issuers| ClientVerification {
            issuers: issuers.borrow().clone(),
            is_required: true,
        });
        let builder = builder(clients.map(client_verifier).transpose()?)?;
        let resolver = Arc::new(SingleCertAndKey::from(certificate));
        let mut config = builder.with_cert_resolver(resolver);
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(config)
    }
}

// === impl CertificateSource ===

impl CertificateSource {
    async fn newest(&self) -> Option<Arc<CertifiedKey>> {
        match self {
            Self::Files(files) => {
                let files = files.clone();
                // A file may be on a slow volume.
                tokio::task::spawn_blocking(move || files.newest()).await.ok()
            }
            Self::Published(certificate) => certificate.borrow().clone(),
        }
    }
}
