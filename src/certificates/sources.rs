//! The files behind the certificates of one configuration.

use std::sync::{Arc, OnceLock};

use rustls::RootCertStore;
use rustls::server::ProducesTickets;
use rustls::sign::CertifiedKey;

use super::{Expiry, TlsSettings, Wanted};
use crate::config::file_path::FilePath;
use crate::config::report::Problem;
use crate::config::tls::{CertificatePaths, EndpointTrust};
use crate::net::tls::client::{ClientConfigs, Trust};
use crate::net::tls::server::{ClientVerification, ServerSettings, server_config};
use crate::net::tls::watched_files::{InvalidFile, Parse, WatchedFiles};
use crate::net::tls::{parse_certificate, parse_issuers, tickets};

/// Where everything is read from.
#[derive(Default)]
pub(super) struct Sources {
    served: Vec<Certificate>,
    clients: Option<(Source<RootCertStore>, bool)>,
    ticket_key: Option<Source<tickets::Secret>>,
    tickets: Option<OwnTickets>,
    endpoints: Vec<EndpointSource>,
}

/// Tickets with keys of this agimo, and the issuers for which they are made: a ticket stands for a client that they have
/// verified.
struct OwnTickets {
    issuers: Option<Arc<RootCertStore>>,
    tickets: Arc<dyn ProducesTickets>,
}

/// A value, and the files that it is from.
struct Source<T> {
    files: WatchedFiles<T>,
    newest: Arc<T>,
}

struct Certificate {
    paths: CertificatePaths,
    source: Source<CertifiedKey>,
}

struct EndpointSource {
    trust: EndpointTrust,
    issuers: Option<Source<RootCertStore>>,
    certificate: Option<Certificate>,
}

impl Sources {
    /// Reads every file.
    ///
    /// # Errors
    /// Every file that cannot be used.
    pub(super) fn read(wanted: &Wanted) -> Result<Self, Vec<Problem>> {
        let mut problems = Vec::new();
        let mut sources = Self::default();
        for paths in &wanted.clients.certificates {
            sources.served.extend(Certificate::read(paths, &mut problems));
        }
        if let Some(clients) = &wanted.clients.client_certificates {
            let issuers = Source::read(&[&clients.ca], parse_issuers, &mut problems);
            sources.clients = issuers.map(|issuers| (issuers, clients.is_required));
        }
        if let Some(key) = &wanted.clients.ticket_key {
            sources.ticket_key = Source::read(&[key], tickets::parse_secret, &mut problems);
        }
        for trust in &wanted.endpoints {
            let issuers = trust.ca.as_ref().filter(|_| !trust.insecure);
            sources.endpoints.push(EndpointSource {
                trust: trust.clone(),
                issuers: issuers.and_then(|ca| Source::read(&[ca], parse_issuers, &mut problems)),
                certificate: trust
                    .certificate
                    .as_ref()
                    .and_then(|paths| Certificate::read(paths, &mut problems)),
            });
        }
        // A file that several services name is reported once.
        problems.sort_by_key(|problem| problem.span.start);
        problems.dedup();
        if problems.is_empty() { Ok(sources) } else { Err(problems) }
    }

    /// Takes the tickets of the sources before, so that clients can resume their sessions.
    pub(super) fn keep_tickets(&mut self, before: &mut Self) {
        self.tickets = before.tickets.take();
    }

    /// Reads again what has changed. Returns whether anything has.
    pub(super) fn refresh(&mut self) -> bool {
        let mut has_changed = false;
        for certificate in &mut self.served {
            has_changed |= certificate.source.refresh();
        }
        if let Some((issuers, _)) = &mut self.clients {
            has_changed |= issuers.refresh();
        }
        if let Some(key) = &mut self.ticket_key {
            has_changed |= key.refresh();
        }
        for endpoint in &mut self.endpoints {
            has_changed |= endpoint.issuers.as_mut().is_some_and(Source::refresh);
            has_changed |= endpoint.certificate.as_mut().is_some_and(|one| one.source.refresh());
        }
        has_changed
    }

    /// What the request path uses.
    pub(super) fn settings(&mut self) -> Result<TlsSettings, rustls::Error> {
        let mut expiries: Vec<Expiry> =
            self.served.iter().filter_map(Certificate::expiry).collect();
        let server = if self.served.is_empty() {
            None
        } else {
            let settings = ServerSettings {
                certificates: self.served.iter().map(|one| one.source.newest.clone()).collect(),
                clients: self.clients.as_ref().map(|(issuers, is_required)| ClientVerification {
                    issuers: issuers.newest.clone(),
                    is_required: *is_required,
                }),
                tickets: self.tickets()?,
            };
            Some(Arc::new(server_config(settings)?))
        };
        let mut endpoints = Vec::new();
        for endpoint in &self.endpoints {
            let EndpointSource { trust, issuers, certificate } = endpoint;
            let trusted = match issuers {
                _ if trust.insecure => Trust::Anyone,
                Some(issuers) => Trust::Issuers(issuers.newest.clone()),
                None => Trust::Issuers(system_issuers()),
            };
            let identity = certificate.as_ref().map(|one| one.source.newest.clone());
            expiries.extend(certificate.iter().filter_map(Certificate::expiry));
            endpoints.push((trust.clone(), ClientConfigs::new(trusted, identity)?));
        }
        Ok(TlsSettings { server, endpoints, expiries })
    }

    fn tickets(&mut self) -> Result<Arc<dyn ProducesTickets>, rustls::Error> {
        let issuers = self.clients.as_ref().map(|(issuers, _)| issuers.newest.clone());
        if let Some(key) = &self.ticket_key {
            return Ok(tickets::from_secret(&key.newest, issuers.as_deref()));
        }
        let address = |issuers: &Option<Arc<RootCertStore>>| issuers.as_ref().map(Arc::as_ptr);
        if let Some(known) = &self.tickets
            && address(&known.issuers) == address(&issuers)
        {
            return Ok(known.tickets.clone());
        }
        let tickets = rustls::crypto::ring::Ticketer::new()?;
        self.tickets = Some(OwnTickets { issuers, tickets: tickets.clone() });
        Ok(tickets)
    }
}

/// The authorities that the system trusts, read once.
fn system_issuers() -> Arc<RootCertStore> {
    static ISSUERS: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    let read = || {
        let mut issuers = RootCertStore::empty();
        // Where there are none, no certificate is accepted, and each attempt to connect says so.
        issuers.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        Arc::new(issuers)
    };
    ISSUERS.get_or_init(read).clone()
}

// === impl Source ===

impl<T> Source<T> {
    fn read(paths: &[&FilePath], parse: Parse<T>, problems: &mut Vec<Problem>) -> Option<Self> {
        let files = paths.iter().map(|file| file.path.clone()).collect();
        match WatchedFiles::new(files, parse) {
            Ok(files) => Some(Self { newest: files.newest(), files }),
            Err(invalid) => {
                problems.extend(paths.get(invalid.index).map(|file| problem(file, &invalid)));
                None
            }
        }
    }

    fn refresh(&mut self) -> bool {
        let newest = self.files.newest();
        let has_changed = !Arc::ptr_eq(&newest, &self.newest);
        self.newest = newest;
        has_changed
    }
}

fn problem(file: &FilePath, invalid: &InvalidFile) -> Problem {
    Problem {
        span: file.span.clone(),
        message: format!("{}: {}", file.path.display(), invalid.problem),
        help: "write the path of a file that agimo can read, in PEM".to_owned(),
        related: None,
    }
}

// === impl Certificate ===

impl Certificate {
    fn read(paths: &CertificatePaths, problems: &mut Vec<Problem>) -> Option<Self> {
        let files = [&paths.certificate, &paths.key];
        let source = Source::read(&files, parse_certificate, problems)?;
        Some(Self { paths: paths.clone(), source })
    }

    fn expiry(&self) -> Option<Expiry> {
        Expiry::of(self.paths.certificate.path.clone(), &self.source.newest)
    }
}
