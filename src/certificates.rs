//! The certificates that the configuration names: read, checked, and kept current for the request path.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls::sign::CertifiedKey;
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;
use tracing::{error, warn};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::config::report::Problem;
use crate::config::tls::{ClientTls, EndpointTrust};
use crate::config::{Config, ServiceConfig, WorkloadConfig};
use crate::net::tls::client::ClientConfigs;
use crate::net::tls::server::Server;
use crate::shutdown::Shutdown;
use crate::telemetry::{Exposition, Labels, MetricKind};

use self::sources::CertificateFiles;

mod sources;

/// Publishes what the request path needs for TLS; clones share it.
#[derive(Clone, Default)]
pub struct Certificates {
    applied: Arc<Mutex<Applied>>,
    published: watch::Sender<Arc<TlsSettings>>,
}

/// How connections are encrypted now.
#[derive(Default)]
pub struct TlsSettings {
    /// Absent where clients are not served over TLS.
    pub server: Option<Server>,
    endpoints: Vec<(EndpointTrust, ClientConfigs)>,
    expiries: Vec<Expiry>,
}

/// When a certificate expires.
struct Expiry {
    file: PathBuf,
    /// In seconds since the Unix epoch.
    not_after: i64,
}

/// What has been published, and what it was made from.
#[derive(Default)]
struct Applied {
    wanted: Wanted,
    files: CertificateFiles,
    /// Services about which the log has been told that nobody verifies their certificates.
    warned: HashSet<String>,
}

/// What a configuration asks for.
#[derive(Clone, Default, PartialEq)]
struct Wanted {
    clients: ClientTls,
    endpoints: HashSet<EndpointTrust>,
}

/// How often to look whether a file has changed.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// So many settings that no service names any more are kept for requests that are under way.
const MOST_RETIRED: usize = 64;

/// What is wrong with the files that a configuration names.
pub fn check(config: &Config) -> Vec<Problem> {
    CertificateFiles::read(&Wanted::of(config), &CertificateFiles::default())
        .err()
        .unwrap_or_default()
}

/// The same for an agimo that listens for clients over TLS (`--tls-port`), or does not.
pub fn check_with_port(config: &Config, is_open: bool) -> Vec<Problem> {
    let problem = match config.tls.certificates.first() {
        Some(first) if !is_open => Some((
            first.certificate.span.clone(),
            "there is a [[tls]], and no port for clients over TLS",
            "start agimo with --tls-port, or remove [[tls]]",
        )),
        None if is_open => Some((
            0..0,
            "--tls-port is set, and there is no [[tls]]",
            "write [[tls]] with `certificate` and `key`, or start agimo without --tls-port",
        )),
        _ => None,
    };
    let problem = problem.map(|(span, message, help)| Problem {
        span,
        message: message.to_owned(),
        help: help.to_owned(),
        related: None,
    });
    problem.into_iter().chain(check(config)).collect()
}

// === impl Certificates ===

impl Certificates {
    pub fn subscribe(&self) -> watch::Receiver<Arc<TlsSettings>> {
        self.published.subscribe()
    }

    /// Publishes what this configuration asks for, before its services are routed to. It reads files.
    ///
    /// # Errors
    /// What is wrong with the files; then nothing has changed.
    pub fn apply(&self, config: &Config) -> Result<(), Vec<Problem>> {
        let mut applied = self.applied.lock().unwrap_or_else(PoisonError::into_inner);
        for service in config.services.iter().filter(|service| is_unverified(service)) {
            if applied.warned.insert(service.name()) {
                warn!(
                    service = service.name(),
                    "the certificate of the application is not verified (`tls_insecure`)"
                );
            }
        }
        let wanted = Wanted::of(config);
        if wanted != applied.wanted {
            applied.files = CertificateFiles::read(&wanted, &applied.files)?;
            applied.wanted = wanted;
            self.publish(&mut applied);
        }
        Ok(())
    }

    /// Whether `apply` would change nothing.
    pub fn are_applied(&self, config: &Config) -> bool {
        let applied = self.applied.lock().unwrap_or_else(PoisonError::into_inner);
        let mut unverified = config.services.iter().filter(|service| is_unverified(service));
        unverified.all(|service| applied.warned.contains(&service.name()))
            && Wanted::of(config) == applied.wanted
    }

    /// Publishes what has changed in the files, until agimo is aborted.
    pub async fn run(self, shutdown: Shutdown) {
        let mut interval = tokio::time::interval(CHECK_INTERVAL);
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = shutdown.aborted() => return,
                _ = interval.tick() => {}
            }
            let certificates = self.clone();
            // A file may be on a slow volume.
            let _ = tokio::task::spawn_blocking(move || certificates.refresh()).await;
        }
    }

    fn refresh(&self) {
        let mut applied = self.applied.lock().unwrap_or_else(PoisonError::into_inner);
        if applied.files.refresh() {
            self.publish(&mut applied);
        }
    }

    fn publish(&self, applied: &mut Applied) {
        match applied.files.settings() {
            Ok(mut settings) => {
                // Requests may still be held for a service whose settings have changed.
                let before = self.published.borrow().clone();
                let retired = before.endpoints.iter();
                let retired = retired.filter(|(trust, _)| settings.endpoint(trust).is_none());
                let retired: Vec<_> = retired.take(MOST_RETIRED).cloned().collect();
                settings.endpoints.extend(retired);
                self.published.send_replace(Arc::new(settings));
            }
            Err(error) => {
                error!(%error, "TLS cannot be configured, what was used before stays in use")
            }
        }
    }

    /// Writes the metrics of the certificates.
    pub fn collect(&self, page: &mut Exposition) {
        let settings = self.published.borrow().clone();
        if settings.expiries.is_empty() {
            return;
        }
        page.family(
            "agimo_tls_certificate_expiry_timestamp_seconds",
            MetricKind::Gauge,
            "When a certificate of agimo expires, since the Unix epoch.",
        );
        for Expiry { file, not_after } in &settings.expiries {
            page.sample(&Labels::default().with("file", &file.to_string_lossy()), not_after);
        }
    }
}

// === impl TlsSettings ===

impl TlsSettings {
    /// How to connect to endpoints.
    pub fn endpoint(&self, trust: &EndpointTrust) -> Option<&ClientConfigs> {
        self.endpoints.iter().find(|(known, _)| known == trust).map(|(_, configs)| configs)
    }
}

// === impl Expiry ===

impl Expiry {
    fn of(file: &Path, certificate: &CertifiedKey) -> Option<Self> {
        let leaf = certificate.cert.first()?;
        let (_, leaf) = X509Certificate::from_der(leaf).ok()?;
        Some(Self { file: file.to_owned(), not_after: leaf.validity().not_after.timestamp() })
    }
}

// === impl Wanted ===

impl Wanted {
    fn of(config: &Config) -> Self {
        let services = config.services.iter().filter(|service| may_use_tls(service));
        // Many services share few: only these are cloned.
        let endpoints: HashSet<_> = services.map(|service| &service.tls.trust).collect();
        Self { clients: config.tls.clone(), endpoints: endpoints.into_iter().cloned().collect() }
    }
}

/// Whether the service or the port of its Service may ask for TLS.
fn may_use_tls(service: &ServiceConfig) -> bool {
    let is_discovered = matches!(service.workload, WorkloadConfig::Kubernetes(_));
    service.protocol.requires_tls() || service.protocol.is_discovered() && is_discovered
}

fn is_unverified(service: &ServiceConfig) -> bool {
    service.tls.trust.insecure && may_use_tls(service)
}
