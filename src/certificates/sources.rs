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
use crate::net::tls::server::{ClientVerification, ServerSettings, server};
use crate::net::tls::watched_files::{InvalidFile, Parse, WatchedFiles};
use crate::net::tls::{parse_certificate, parse_issuers, tickets};

/// Where everything is read from.
#[derive(Default)]
pub(super) struct CertificateFiles {
    served: Vec<Source<CertifiedKey>>,
    clients: Option<(Source<RootCertStore>, bool)>,
    ticket_key: Option<Source<tickets::Secret>>,
    tickets: Option<OwnTickets>,
    endpoints: Vec<EndpointFiles>,
}

/// Tickets with keys of this agimo, and the certificates of clients for which they are made: a ticket stands for a client that
/// has been verified.
#[derive(Clone)]
struct OwnTickets {
    clients: Option<(Arc<RootCertStore>, bool)>,
    tickets: Arc<dyn ProducesTickets>,
}

/// A value, and the files that it is from.
struct Source<T> {
    files: Arc<WatchedFiles<T>>,
    newest: Arc<T>,
}

struct EndpointFiles {
    trust: EndpointTrust,
    issuers: Option<Source<RootCertStore>>,
    certificate: Option<Source<CertifiedKey>>,
}

/// Reads files, but for those that have been read before: what is known of them stays, even if they cannot be used now.
struct Reader<'a> {
    before: &'a CertificateFiles,
    problems: Vec<Problem>,
}

// === impl CertificateFiles ===

impl CertificateFiles {
    /// Reads every file that was not read before.
    ///
    /// # Errors
    /// Every file that cannot be used.
    pub(super) fn read(wanted: &Wanted, before: &Self) -> Result<Self, Vec<Problem>> {
        let mut reader = Reader { before, problems: Vec::new() };
        let mut files = Self { tickets: before.tickets.clone(), ..Self::default() };
        for paths in &wanted.clients.certificates {
            files.served.extend(reader.certificate(paths));
        }
        if let Some(clients) = &wanted.clients.client_certificates {
            let issuers = reader.issuers(&clients.ca);
            files.clients = issuers.map(|issuers| (issuers, clients.is_required));
        }
        if let Some(key) = &wanted.clients.ticket_key {
            files.ticket_key = reader.ticket_key(key);
        }
        for trust in &wanted.endpoints {
            let ca = trust.ca.as_ref().filter(|_| !trust.insecure);
            files.endpoints.push(EndpointFiles {
                trust: trust.clone(),
                issuers: ca.and_then(|ca| reader.issuers(ca)),
                certificate: trust.certificate.as_ref().and_then(|paths| reader.certificate(paths)),
            });
        }
        // A file that several services name is reported once.
        let mut problems = reader.problems;
        problems.sort_by_key(|problem| problem.span.start);
        problems.dedup();
        if problems.is_empty() { Ok(files) } else { Err(problems) }
    }

    /// Reads again what has changed. Returns whether anything has.
    pub(super) fn refresh(&mut self) -> bool {
        let mut has_changed = false;
        for certificate in &mut self.served {
            has_changed |= certificate.refresh();
        }
        if let Some((issuers, _)) = &mut self.clients {
            has_changed |= issuers.refresh();
        }
        if let Some(key) = &mut self.ticket_key {
            has_changed |= key.refresh();
        }
        for endpoint in &mut self.endpoints {
            has_changed |= endpoint.issuers.as_mut().is_some_and(Source::refresh);
            has_changed |= endpoint.certificate.as_mut().is_some_and(Source::refresh);
        }
        has_changed
    }

    /// What the request path uses.
    pub(super) fn settings(&mut self) -> Result<TlsSettings, rustls::Error> {
        let server = if self.served.is_empty() {
            None
        } else {
            let clients = self.clients.as_ref().map(|(issuers, is_required)| {
                let issuers = issuers.newest.clone();
                ClientVerification { issuers, is_required: *is_required }
            });
            Some(server(ServerSettings {
                certificates: self.served.iter().map(|one| one.newest.clone()).collect(),
                tickets: self.tickets(clients.as_ref())?,
                clients,
            })?)
        };
        let mut endpoints = Vec::new();
        for EndpointFiles { trust, issuers, certificate } in &self.endpoints {
            let trusted = match issuers {
                _ if trust.insecure => Trust::Unverified,
                Some(issuers) => Trust::Issuers(issuers.newest.clone()),
                None => Trust::Issuers(system_issuers()),
            };
            let identity = certificate.as_ref().map(|one| one.newest.clone());
            endpoints.push((trust.clone(), ClientConfigs::new(trusted, identity)?));
        }
        let mut expiries: Vec<Expiry> = self.certificates().filter_map(Source::expiry).collect();
        expiries.sort_by(|one, other| one.file.cmp(&other.file));
        expiries.dedup_by(|one, other| one.file == other.file);
        Ok(TlsSettings { server, endpoints, expiries })
    }

    fn tickets(
        &mut self,
        clients: Option<&ClientVerification>,
    ) -> Result<Arc<dyn ProducesTickets>, rustls::Error> {
        if let Some(key) = &self.ticket_key {
            return Ok(tickets::from_secret(&key.newest, clients));
        }
        let clients = clients.map(|clients| (clients.issuers.clone(), clients.is_required));
        let identity = |clients: &Option<(Arc<RootCertStore>, bool)>| {
            clients.as_ref().map(|(issuers, is_required)| (Arc::as_ptr(issuers), *is_required))
        };
        if let Some(known) = &self.tickets
            && identity(&known.clients) == identity(&clients)
        {
            return Ok(known.tickets.clone());
        }
        let tickets = rustls::crypto::ring::Ticketer::new()?;
        self.tickets = Some(OwnTickets { clients, tickets: tickets.clone() });
        Ok(tickets)
    }

    fn certificates(&self) -> impl Iterator<Item = &Source<CertifiedKey>> {
        self.served.iter().chain(self.endpoints.iter().filter_map(|one| one.certificate.as_ref()))
    }

    fn issuers(&self) -> impl Iterator<Item = &Source<RootCertStore>> {
        let of_clients = self.clients.iter().map(|(issuers, _)| issuers);
        of_clients.chain(self.endpoints.iter().filter_map(|one| one.issuers.as_ref()))
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

// === impl Reader ===

impl Reader<'_> {
    fn certificate(&mut self, paths: &CertificatePaths) -> Option<Source<CertifiedKey>> {
        let files = [&paths.certificate, &paths.key];
        read(&files, self.before.certificates(), parse_certificate, &mut self.problems)
    }

    fn issuers(&mut self, ca: &FilePath) -> Option<Source<RootCertStore>> {
        read(&[ca], self.before.issuers(), parse_issuers, &mut self.problems)
    }

    fn ticket_key(&mut self, key: &FilePath) -> Option<Source<tickets::Secret>> {
        let known = self.before.ticket_key.iter();
        read(&[key], known, tickets::parse_secret, &mut self.problems)
    }
}

fn read<'a, T: 'a>(
    files: &[&FilePath],
    mut known: impl Iterator<Item = &'a Source<T>>,
    parse: Parse<T>,
    problems: &mut Vec<Problem>,
) -> Option<Source<T>> {
    let paths: Vec<_> = files.iter().map(|file| file.path.clone()).collect();
    if let Some(known) = known.find(|known| known.files.paths() == paths) {
        return Some(known.clone());
    }
    match WatchedFiles::new(paths, parse) {
        Ok(files) => Some(Source { newest: files.newest(), files: Arc::new(files) }),
        Err(invalid) => {
            problems.extend(files.get(invalid.index).map(|file| problem(file, &invalid)));
            None
        }
    }
}

fn problem(file: &FilePath, invalid: &InvalidFile) -> Problem {
    Problem {
        span: file.span.clone(),
        message: format!("{}: {}", file.path.display(), invalid.problem),
        help: "write the path of a file that agimo can read".to_owned(),
        related: None,
    }
}

// === impl Source ===

impl<T> Clone for Source<T> {
    fn clone(&self) -> Self {
        Self { files: self.files.clone(), newest: self.newest.clone() }
    }
}

impl<T> Source<T> {
    fn refresh(&mut self) -> bool {
        let newest = self.files.newest();
        let has_changed = !Arc::ptr_eq(&newest, &self.newest);
        self.newest = newest;
        has_changed
    }
}

impl Source<CertifiedKey> {
    fn expiry(&self) -> Option<Expiry> {
        Expiry::of(self.files.paths().first()?, &self.newest)
    }
}
