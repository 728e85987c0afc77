//! TLS as a client: which certificates of servers are accepted, and the certificate that agimo presents.

use std::sync::{Arc, OnceLock};

use rustls::crypto::ring::default_provider;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, RootCertStore};
use tokio_rustls::TlsConnector;

use super::alpn::{HTTP1, HTTP2};
use super::unverified;

/// Which servers are accepted.
pub enum Trust {
    /// Servers with a certificate of one of these.
    Issuers(Arc<RootCertStore>),
    /// Any server: its certificate is not verified.
    Unverified,
}

/// The two configurations for one trust; they share what is known of sessions.
#[derive(Clone)]
pub struct ClientConfigs {
    /// Offers HTTP/1.1 only.
    pub http1: Arc<ClientConfig>,
    /// Offers HTTP/2 only.
    pub http2: Arc<ClientConfig>,
}

/// Connects without verifying the certificate of the server, as the kubelet does for its probes.
pub fn unverified_connector() -> Option<TlsConnector> {
    static CONFIG: OnceLock<Option<Arc<ClientConfig>>> = OnceLock::new();
    let made = CONFIG.get_or_init(|| config(Trust::Unverified, None).ok().map(Arc::new));
    made.clone().map(TlsConnector::from)
}

/// A client that offers no version of HTTP.
fn config(
    trust: Trust,
    identity: Option<Arc<CertifiedKey>>,
) -> Result<ClientConfig, rustls::Error> {
    let provider = Arc::new(default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()?;
    let builder = match trust {
        Trust::Issuers(issuers) => builder.with_root_certificates(issuers),
        Trust::Unverified => {
            builder.dangerous().with_custom_certificate_verifier(unverified::verifier(provider))
        }
    };
    Ok(match identity {
        Some(identity) => {
            builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(identity)))
        }
        None => builder.with_no_client_auth(),
    })
}

// === impl ClientConfigs ===

impl ClientConfigs {
    /// `identity` is what the client presents where it is asked.
    ///
    /// # Errors
    /// When the versions of TLS are not supported.
    pub fn new(trust: Trust, identity: Option<Arc<CertifiedKey>>) -> Result<Self, rustls::Error> {
        let mut http1 = config(trust, identity)?;
        let mut http2 = http1.clone();
        http1.alpn_protocols = vec![HTTP1.to_vec()];
        http2.alpn_protocols = vec![HTTP2.to_vec()];
        Ok(Self { http1: Arc::new(http1), http2: Arc::new(http2) })
    }
}
