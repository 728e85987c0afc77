//! The checked configuration: what the rest of agimo may rely on. It knows no file, no clock and no socket.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

use crate::workload::WorkloadKind;

pub mod effective;
pub mod keys;
pub mod parse;
pub mod report;
pub mod schema;

/// A whole configuration in which every value has been checked and every default filled in.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Most requests held at once over all services (`max_held_total`).
    pub max_held_total: u32,
    /// Peers whose `X-Forwarded-*` and `Forwarded` are believed (`trusted_proxies`).
    pub trusted_proxies: Vec<IpNet>,
    /// What a client may send before a service has been chosen.
    pub client: ClientLimits,
    /// In the order of the file.
    pub services: Vec<ServiceConfig>,
}

/// Limits on a client's connection and request heads; they apply before the host is known.
#[derive(Clone, Debug, PartialEq)]
pub struct ClientLimits {
    /// Largest request head in bytes, request line included (`max_head`); beyond it 431.
    pub max_head: usize,
    /// Longest request target in bytes (`max_uri`); beyond it 414.
    pub max_uri: usize,
    /// Most field lines in a head (`max_headers`); beyond it 431.
    pub max_headers: usize,
    /// Time from the first byte of a head to its last (`head_timeout`); beyond it 408.
    pub head_timeout: Duration,
    /// How long an idle connection is kept open between requests (`keep_alive_timeout`).
    pub keep_alive_timeout: Duration,
}

/// One service: a host (and path prefix) and the workload behind it.
#[derive(Clone, Debug, PartialEq)]
pub struct ServiceConfig {
    /// Lower case, without port and trailing dot; `*.example.com` stands for one label.
    pub host: String,
    /// Begins with `/` and has no trailing slash unless it is `/`, which means every path.
    pub path_prefix: String,
    pub workload: WorkloadConfig,
    /// How long a request may be held (`timeout`).
    pub hold_timeout: Duration,
    /// Most requests of this service held at once (`max_held`).
    pub max_held: u32,
    /// Idle time after which the workload is put to sleep (`sleep_after`).
    pub sleep_after: Duration,
    /// Time to establish a connection to an endpoint (`connect_timeout`).
    pub connect_timeout: Duration,
    /// Time from the request sent to the head of the response (`response_timeout`).
    pub response_timeout: Option<Duration>,
    /// Time without a byte in either direction on a tunnel or a body (`idle_timeout`).
    pub idle_timeout: Option<Duration>,
    /// Largest request body in bytes (`max_body`); beyond it 413.
    pub max_body: Option<u64>,
}

/// What answers for a service.
#[derive(Clone, Debug, PartialEq)]
pub enum WorkloadConfig {
    Kubernetes(KubernetesConfig),
    Process(ProcessConfig),
}

/// A workload in a cluster (`type = "deployment"` or `"statefulset"`).
#[derive(Clone, Debug, PartialEq)]
pub struct KubernetesConfig {
    pub kind: KubernetesKind,
    pub namespace: String,
    pub name: String,
    pub service_name: String,
    pub service_port: ServicePort,
    pub scaler: Scaler,
    pub via: Via,
}

/// A port of a Service, as `service_port` names it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ServicePort {
    Number(u16),
    Name(String),
}

/// Who writes the workload's `replicas` (`scaler`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scaler {
    /// Another reads agimo's numbers and scales; agimo only reports.
    External,
    Agimo,
}

/// What a request is sent to (`via`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Via {
    /// The address of a pod, which agimo chooses.
    Pod,
    /// The Service, which chooses a pod.
    Service,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KubernetesKind {
    Deployment,
    StatefulSet,
}

/// Local processes (`type = "process"`).
#[derive(Clone, Debug, PartialEq)]
pub struct ProcessConfig {
    /// The `name` key, or the host where it is absent: stands before the output's lines.
    pub name: String,
    /// Program and arguments; never empty.
    pub command: Vec<String>,
    pub env: BTreeMap<String, Masked>,
    pub workdir: Option<PathBuf>,
    /// Absent: agimo picks a free one. Either way the process is told in `PORT`.
    pub port: Option<u16>,
    pub readiness: Readiness,
    /// Time from the start to ready (`start_timeout`).
    pub start_timeout: Duration,
    /// Time from SIGTERM to SIGKILL (`stop_grace`).
    pub stop_grace: Duration,
    /// How many processes when awake (`replicas`).
    pub replicas: u32,
}

/// When a process counts as ready (`readiness`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// The port accepts a connection.
    Tcp,
    /// `GET` of this path answers with a status from 200 to 399, as the kubelet has it.
    Http(String),
}

/// A value that may be a secret: shown as `***` wherever it is printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Masked(pub String);

// === impl Masked ===

impl fmt::Debug for Masked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

// === impl ServicePort ===

impl fmt::Display for ServicePort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Name(name) => name.fmt(f),
        }
    }
}

// === impl Scaler ===

impl Scaler {
    /// Every spelling of `scaler`.
    pub const SPELLINGS: &[&str] = &["external", "agimo"];

    pub fn as_str(self) -> &'static str {
        Self::SPELLINGS[self as usize]
    }

    pub(crate) fn from_spelling(written: &str) -> Option<Self> {
        [Self::External, Self::Agimo].into_iter().find(|scaler| scaler.as_str() == written)
    }
}

// === impl Via ===

impl Via {
    /// Every spelling of `via`.
    pub const SPELLINGS: &[&str] = &["pod", "service"];

    pub fn as_str(self) -> &'static str {
        Self::SPELLINGS[self as usize]
    }

    pub(crate) fn from_spelling(written: &str) -> Option<Self> {
        [Self::Pod, Self::Service].into_iter().find(|via| via.as_str() == written)
    }
}

// === impl KubernetesKind ===

impl From<KubernetesKind> for WorkloadKind {
    fn from(kind: KubernetesKind) -> Self {
        match kind {
            KubernetesKind::Deployment => Self::Deployment,
            KubernetesKind::StatefulSet => Self::StatefulSet,
        }
    }
}

impl KubernetesKind {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Deployment => "deployment",
            Self::StatefulSet => "statefulset",
        }
    }
}
