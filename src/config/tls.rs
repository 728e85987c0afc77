//! TLS to clients (`[[tls]]`) and to applications.

use std::sync::{Arc, OnceLock};

use super::file_path::FilePath;

/// How agimo serves clients over TLS; without certificates it does not.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ClientTls {
    /// In the order of the file. The first one serves clients that name no host, or one that no certificate is for.
    pub certificates: Vec<CertificatePaths>,
    /// The certificates of clients; absent where clients are not asked for one.
    pub client_certificates: Option<ClientCertificates>,
    /// The secret from which all replicas derive the keys of session tickets (`ticket_key`).
    pub ticket_key: Option<FilePath>,
}

/// The certificates of clients.
#[derive(Clone, Debug, PartialEq)]
pub struct ClientCertificates {
    /// The authorities that issue them (`client_ca`).
    pub ca: FilePath,
    /// A client without one is not served (`client_certificate`).
    pub is_required: bool,
}

/// A certificate chain and its key, in PEM.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CertificatePaths {
    pub certificate: FilePath,
    pub key: FilePath,
}

/// How agimo connects to the endpoints of a service over TLS, where `protocol` says so.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct EndpointTls {
    /// What the certificate of the application must be for (`tls_server_name`); where it is absent, the workload decides.
    pub server_name: Option<String>,
    pub trust: EndpointTrust,
}

/// Which certificates of applications are accepted, and the certificate that agimo presents. Most services have neither file, so
/// that these are boxed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct EndpointTrust {
    /// The authorities that issue certificates of applications; those of the system where it is absent (`tls_ca`).
    pub ca: Option<Box<FilePath>>,
    /// What agimo presents (`tls_certificate`, `tls_key`).
    pub certificate: Option<Box<CertificatePaths>>,
    /// Any certificate is accepted (`tls_insecure`).
    pub insecure: bool,
}

// === impl EndpointTls ===

impl EndpointTls {
    /// The same, shared by all services that set nothing: there may be many.
    pub fn shared(self) -> Arc<Self> {
        static NOTHING_SET: OnceLock<Arc<EndpointTls>> = OnceLock::new();
        let nothing_set = NOTHING_SET.get_or_init(Arc::default);
        if self == **nothing_set { nothing_set.clone() } else { Arc::new(self) }
    }
}
