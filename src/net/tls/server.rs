//! TLS as a server: which certificate a client is shown, and what is asked of it.

use std::collections::HashMap;
use std::sync::Arc;

use rustls::crypto::ring::default_provider;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{
    ClientHello, NoServerSessionStorage, ProducesTickets, ResolvesServerCert, WantsServerCert,
    WebPkiClientVerifier,
};
use rustls::sign::CertifiedKey;
use rustls::{ConfigBuilder, RootCertStore, ServerConfig};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::alpn::{HTTP1, HTTP2};

/// What clients are served with.
pub struct ServerSettings {
    /// The first one serves clients for which no certificate is.
    pub certificates: Vec<Arc<CertifiedKey>>,
    /// Absent where clients are not asked for a certificate.
    pub clients: Option<ClientVerification>,
    pub tickets: Arc<dyn ProducesTickets>,
}

/// Which certificates of clients are accepted.
#[derive(Clone)]
pub struct ClientVerification {
    pub issuers: Arc<RootCertStore>,
    pub is_required: bool,
}

/// Finds the certificate for the host that a client names (RFC 6066 section 3).
#[derive(Debug)]
struct ByHost {
    /// In lower case; a name such as `*.example.com` stands for one label. Several certificates with keys of different kinds may
    /// be for one name.
    named: HashMap<String, Vec<Arc<CertifiedKey>>>,
    first: Arc<CertifiedKey>,
}

/// A server, as handshakes use it.
#[derive(Clone)]
pub struct Server {
    pub config: Arc<ServerConfig>,
    /// Absent where clients are not asked for a certificate.
    client_verifier: Option<Arc<dyn ClientCertVerifier>>,
}

/// A server that speaks HTTP/2 and HTTP/1.1.
///
/// # Errors
/// When there is no certificate, or none of the issuers of client certificates can be used.
pub fn server(settings: ServerSettings) -> Result<Server, rustls::Error> {
    let ServerSettings { certificates, clients, tickets } = settings;
    let client_verifier = clients.map(client_verifier).transpose()?;
    let builder = builder(client_verifier.clone())?;
    let resolver = ByHost::new(certificates).ok_or(rustls::Error::NoCertificatesPresented)?;
    let mut config = builder.with_cert_resolver(Arc::new(resolver));
    config.alpn_protocols = vec![HTTP2.to_vec(), HTTP1.to_vec()];
    config.ticketer = tickets;
    // Tickets keep the state of sessions with the clients.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    Ok(Server { config: Arc::new(config), client_verifier })
}

/// A server with what it asks of clients; its certificate comes next.
///
/// # Errors
/// When the versions of TLS are not supported.
pub fn builder(
    client_verifier: Option<Arc<dyn ClientCertVerifier>>,
) -> Result<ConfigBuilder<ServerConfig, WantsServerCert>, rustls::Error> {
    let builder = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()?;
    Ok(match client_verifier {
        Some(verifier) => builder.with_client_cert_verifier(verifier),
        None => builder.with_no_client_auth(),
    })
}

/// Verifies the certificates of clients.
///
/// # Errors
/// When none of the issuers can be used.
pub fn client_verifier(
    clients: ClientVerification,
) -> Result<Arc<dyn ClientCertVerifier>, rustls::Error> {
    let ClientVerification { issuers, is_required } = clients;
    let provider = Arc::new(default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(issuers, provider);
    let verifier = if is_required { verifier } else { verifier.allow_unauthenticated() };
    verifier.build().map_err(|error| rustls::Error::General(error.to_string()))
}

// === impl Server ===

impl Server {
    /// Verifies the certificate of a client that resumes a session: the handshake itself does not, and the ticket may be older
    /// than what is required now, or outlive the certificate.
    ///
    /// # Errors
    /// When the client is not to be served.
    pub fn verify_resumed(&self, chain: &[CertificateDer<'_>]) -> Result<(), rustls::Error> {
        let Some(verifier) = &self.client_verifier else { return Ok(()) };
        match chain.split_first() {
            Some((leaf, others)) => {
                verifier.verify_client_cert(leaf, others, UnixTime::now()).map(|_| ())
            }
            None if verifier.client_auth_mandatory() => Err(rustls::Error::NoCertificatesPresented),
            None => Ok(()),
        }
    }
}

// === impl ByHost ===

impl ByHost {
    fn new(certificates: Vec<Arc<CertifiedKey>>) -> Option<Self> {
        let first = certificates.first()?.clone();
        let mut named: HashMap<String, Vec<_>> = HashMap::new();
        for certificate in certificates {
            for host in hosts_of(&certificate) {
                named.entry(host).or_default().push(certificate.clone());
            }
        }
        Some(Self { named, first })
    }

    fn of_host(&self, host: &str) -> Option<&[Arc<CertifiedKey>]> {
        let host = host.to_ascii_lowercase();
        let wildcard = || Some(format!("*.{}", host.split_once('.')?.1));
        let exact = self.named.get(&host);
        exact.or_else(|| self.named.get(&wildcard()?)).map(Vec::as_slice)
    }
}

impl ResolvesServerCert for ByHost {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let named = hello.server_name().and_then(|host| self.of_host(host)).unwrap_or_default();
        let fits =
            |one: &&Arc<CertifiedKey>| one.key.choose_scheme(hello.signature_schemes()).is_some();
        let chosen = named.iter().find(fits).or_else(|| named.first());
        Some(chosen.unwrap_or(&self.first).clone())
    }
}

/// The hosts that a certificate is for, in lower case (RFC 5280 section 4.2.1.6).
fn hosts_of(certificate: &CertifiedKey) -> Vec<String> {
    let leaf = certificate.cert.first().map(|leaf| leaf.as_ref()).unwrap_or_default();
    let Ok((_, leaf)) = X509Certificate::from_der(leaf) else { return Vec::new() };
    let Ok(Some(names)) = leaf.subject_alternative_name() else { return Vec::new() };
    let host = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(host) => Some(host.to_ascii_lowercase()),
        _ => None,
    };
    names.value.general_names.iter().filter_map(host).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::tls::certified_key;

    fn certificate(hosts: &[&str]) -> Arc<CertifiedKey> {
        let hosts: Vec<String> = hosts.iter().map(ToString::to_string).collect();
        let made = rcgen::generate_simple_self_signed(hosts).unwrap();
        let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
        Arc::new(certified_key(certificate.as_bytes(), key.as_bytes()).unwrap())
    }

    #[test]
    fn a_certificate_is_found_by_host_and_by_wildcard() {
        let all = [
            certificate(&["shop.test", "www.shop.test"]),
            certificate(&["*.Shop.test"]),
            certificate(&["blog.test"]),
        ];
        let by_host = ByHost::new(all.to_vec()).unwrap();
        for (host, expected) in [
            ("shop.test", Some(0)),
            ("WWW.shop.test", Some(0)),
            ("a.shop.test", Some(1)),
            ("a.b.shop.test", None),
            ("blog.test", Some(2)),
            ("test", None),
        ] {
            let found = by_host.of_host(host).map(|found| found[0].clone());
            let index = found.map(|found| all.iter().position(|one| Arc::ptr_eq(one, &found)));
            assert_eq!(index.flatten(), expected, "{host}");
        }
        assert!(ByHost::new(Vec::new()).is_none());
    }
}
