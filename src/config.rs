//! The checked configuration that the rest of agimo works with.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use crate::schedule::Schedule;
use crate::workload::{WorkloadId, WorkloadKind};

use self::annotations::AnnotationsConfig;
use self::protocol::EndpointProtocol;
use self::scaling::{AutoscalingConfig, Mode, Scaler};
use self::tls::{ClientTls, EndpointTls};

pub mod annotations;
pub mod effective;
pub mod file_path;
pub mod keys;
pub mod parse;
pub mod protocol;
pub mod report;
pub mod scaling;
pub mod schema;
pub mod tls;

/// A configuration in which every value has been checked and every default filled in.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Maximum number of requests held at once over all services (`max_held_total`).
    pub max_held_total: u32,
    /// Client addresses whose `X-Forwarded-*` and `Forwarded` fields are trusted (`trusted_proxies`).
    pub trusted_proxies: Vec<IpNet>,
    /// Maximum number of idle connections to applications (`max_idle_upstream`).
    pub max_idle_upstream: usize,
    /// Limits that apply before the route of a request is known.
    pub client: ClientLimits,
    /// How clients are served over TLS.
    pub tls: ClientTls,
    /// Addresses of which each connection begins with a header of the PROXY protocol (`proxy_protocol`).
    pub proxy_protocol: Vec<IpNet>,
    /// Whether records of wakes name the request (`record_requests`).
    pub record_requests: bool,
    /// Absent where annotations of workloads are not read.
    pub annotations: Option<AnnotationsConfig>,
    /// In the order of the file, then those of annotated workloads.
    pub services: Vec<ServiceConfig>,
}

/// Limits on client connections and request heads. They apply before the host is known.
#[derive(Clone, Debug, PartialEq)]
pub struct ClientLimits {
    /// Maximum size of a request head in bytes, including the request line (`max_head`); beyond it 431.
    pub max_head: usize,
    /// Maximum length of a request target in bytes (`max_uri`); beyond it 414.
    pub max_uri: usize,
    /// Maximum number of field lines in a head (`max_headers`); beyond it 431.
    pub max_headers: usize,
    /// Maximum time from the first byte of a head to its last (`head_timeout`); beyond it 408.
    pub head_timeout: Duration,
    /// How long an idle connection is kept open between requests (`keep_alive_timeout`).
    pub keep_alive_timeout: Duration,
    /// Maximum memory for incomplete heads in bytes (`max_head_memory`).
    pub max_head_memory: usize,
    /// Maximum number of open connections (`max_connections`).
    pub max_connections: Option<usize>,
    /// Maximum number of open connections of one address (`max_connections_per_address`).
    pub max_connections_per_address: Option<u32>,
}

/// One service: a host (and path prefix) and the workload behind it.
#[derive(Clone, Debug, PartialEq)]
pub struct ServiceConfig {
    /// In lower case, without port and trailing dot. In `*.example.com` the `*` stands for exactly one label.
    pub host: String,
    /// Begins with `/` and has no trailing slash, except `/` itself, which matches every path.
    pub path_prefix: String,
    /// The application sees the path without `path_prefix` (`strip_prefix`).
    pub strip_prefix: bool,
    pub workload: WorkloadConfig,
    /// Maximum time a request is held (`hold_timeout`).
    pub hold_timeout: Duration,
    /// Maximum number of requests of this service held at once (`max_held`).
    pub max_held: u32,
    /// Idle time after which the workload is scaled to zero (`sleep_after`).
    pub sleep_after: Duration,
    /// When the workload is kept awake (`awake`).
    pub awake: Vec<Schedule>,
    /// Maximum time to establish a connection to an endpoint (`connect_timeout`).
    pub connect_timeout: Duration,
    /// Maximum time from the end of sending the request to the head of the response (`response_timeout`).
    pub response_timeout: Option<Duration>,
    /// Maximum time without a byte in either direction on a tunnel or a body (`idle_timeout`).
    pub idle_timeout: Option<Duration>,
    /// Maximum time without a byte in a tunnel of which one direction has ended (`half_closed_timeout`).
    pub half_closed_timeout: Option<Duration>,
    /// Maximum time without a byte of the request body before the response (`body_timeout`); beyond it 408.
    pub body_timeout: Option<Duration>,
    /// What is spoken to endpoints (`protocol`).
    pub protocol: EndpointProtocol,
    /// How it is encrypted, where the protocol says so.
    pub tls: Arc<EndpointTls>,
    /// The port to which requests in cleartext are redirected (`redirect_to_https`).
    pub redirect_to_https: Option<u16>,
    /// Which connections to endpoints are kept for further requests (`keep_alive`).
    pub keep_alive: KeepAlive,
    /// Which of the ready endpoints a request goes to (`affinity`).
    pub affinity: Affinity,
    /// Maximum number of requests of one client address held at once (`max_held_per_address`).
    pub max_held_per_address: Option<u32>,
    /// Maximum size of a request body in bytes (`max_body`); beyond it 413.
    pub max_body: Option<u64>,
}

/// Which of the ready endpoints a request goes to (`affinity`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Affinity {
    /// The less loaded of two.
    Off,
    /// The one that served the client before, as a cookie names it.
    Cookie,
    /// The pod of a StatefulSet that the first label of the host names.
    Host,
}

/// Which idle connections to an endpoint are kept (`keep_alive`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeepAlive {
    /// How long a connection may be idle; absent where none is kept.
    pub idle_for: Option<Duration>,
    /// How many may be idle for each endpoint over all cores; absent where `max_idle_upstream` is the only limit.
    pub most_idle: Option<u32>,
}

/// What is shown in place of a value that may be a secret.
pub const MASK: &str = "***";

/// The largest number that `keep_alive` may name.
pub const MOST_IDLE: u64 = 100_000;
/// How long connections are kept where `keep_alive` names their number only.
const DEFAULT_IDLE_FOR: Duration = Duration::from_secs(60);

/// The workload behind a service.
#[derive(Clone, Debug, PartialEq)]
pub enum WorkloadConfig {
    Kubernetes(KubernetesConfig),
    /// Shared by all that run the process.
    Process(Arc<ProcessConfig>),
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
    pub mode: Mode,
    pub via: Via,
    /// agimo runs the readiness probes of pods that start (`early_ready`).
    pub early_ready: bool,
    /// The names of the Service in the cluster lead to the service, too (`cluster_names`).
    pub cluster_names: bool,
    /// How agimo scales it while it is awake.
    pub autoscaling: AutoscalingConfig,
}

/// A port of a Kubernetes Service (`service_port`).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ServicePort {
    Number(u16),
    Name(String),
}

/// Where requests are sent (`via`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Via {
    /// To the address of a pod that agimo chooses.
    Pod,
    /// To the address of the Service.
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
    /// The `name` key, by default the host: the prefix of the log lines for the output of the processes.
    pub name: String,
    /// Program and arguments; never empty.
    pub command: Vec<String>,
    pub env: BTreeMap<String, Masked>,
    pub workdir: Option<PathBuf>,
    /// By default agimo chooses a free port. The process gets the port in the variable `PORT`.
    pub port: Option<u16>,
    pub readiness: ReadinessCheck,
    /// Maximum time from the start of a process until it is ready (`start_timeout`).
    pub start_timeout: Duration,
    /// Time from SIGTERM to SIGKILL (`stop_grace`).
    pub stop_grace: Duration,
    /// Number of processes while the service is awake (`replicas`).
    pub replicas: u32,
}

/// When a process counts as ready (`readiness`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReadinessCheck {
    /// The port accepts a connection.
    Tcp,
    /// `GET` of this path is answered with a status from 200 to 399, the rule of the kubelet's HTTP probes.
    Http(String),
}

/// A value that may be a secret. Its `Debug` form is `***`.
#[derive(Clone, PartialEq, Eq)]
pub struct Masked(pub String);

// === impl Config ===

impl Config {
    /// Whether what this address says of earlier hops is trusted.
    pub fn trusts(&self, address: IpAddr) -> bool {
        self.trusted_proxies.iter().any(|network| network.contains(&address))
    }

    /// How many connections an address may have open; absent where that is not limited.
    pub fn most_connections_of(&self, address: IpAddr) -> Option<u32> {
        self.client.max_connections_per_address.filter(|_| !self.trusts(address))
    }
}

/// The host, and the path prefix unless that is `/`.
pub(crate) fn service_name(host: &str, path_prefix: &str) -> String {
    if path_prefix == "/" { host.to_owned() } else { format!("{host}{path_prefix}") }
}

// === impl ServiceConfig ===

impl ServiceConfig {
    /// Maximum time without a byte of the request body.
    pub fn upload_timeout(&self) -> Option<Duration> {
        self.idle_timeout.into_iter().chain(self.body_timeout).min()
    }

    /// The name of the service in logs: its host, and its path prefix unless that is `/`.
    pub fn name(&self) -> String {
        service_name(&self.host, &self.path_prefix)
    }

    /// The names of the Service in the cluster, where they lead to this service as well (Kubernetes, DNS for Services and
    /// Pods).
    pub fn names_in_cluster(&self) -> Vec<String> {
        match &self.workload {
            WorkloadConfig::Kubernetes(config) if config.cluster_names => {
                let KubernetesConfig { service_name, namespace, .. } = config;
                let full = format!("{service_name}.{namespace}");
                vec![
                    service_name.clone(),
                    full.clone(),
                    format!("{full}.svc"),
                    format!("{full}.svc.cluster.local"),
                ]
            }
            _ => Vec::new(),
        }
    }

    /// What the certificate of the application must be for.
    pub fn server_name(&self) -> String {
        match (&self.tls.server_name, &self.workload) {
            (Some(name), _) => name.clone(),
            (
                None,
                WorkloadConfig::Kubernetes(KubernetesConfig { service_name, namespace, .. }),
            ) => {
                format!("{service_name}.{namespace}.svc")
            }
            (None, WorkloadConfig::Process(_)) => "localhost".to_owned(),
        }
    }

    /// The workload that the service leads to. Processes are told apart by their `name`.
    pub fn workload_id(&self) -> WorkloadId {
        match &self.workload {
            WorkloadConfig::Kubernetes(KubernetesConfig { kind, namespace, name, .. }) => {
                WorkloadId {
                    kind: (*kind).into(),
                    namespace: namespace.clone(),
                    name: name.clone(),
                }
            }
            WorkloadConfig::Process(process) => WorkloadId {
                kind: WorkloadKind::Process,
                namespace: String::new(),
                name: process.name.clone(),
            },
        }
    }
}

// === impl KeepAlive ===

impl KeepAlive {
    /// No connection is used for a second request.
    pub const OFF: Self = Self { idle_for: None, most_idle: None };

    pub const fn lasting(idle_for: Duration) -> Self {
        Self { idle_for: Some(idle_for), most_idle: None }
    }

    pub const fn at_most(most_idle: u32) -> Self {
        Self { idle_for: Some(DEFAULT_IDLE_FOR), most_idle: Some(most_idle) }
    }
}

// === impl Masked ===

impl fmt::Debug for Masked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
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

// === impl Affinity ===

impl Affinity {
    /// Every spelling of `affinity`.
    pub const SPELLINGS: &[&str] = &["off", "cookie", "host"];

    pub fn as_str(self) -> &'static str {
        Self::SPELLINGS[self as usize]
    }

    pub(crate) fn from_spelling(written: &str) -> Option<Self> {
        [Self::Off, Self::Cookie, Self::Host]
            .into_iter()
            .find(|affinity| affinity.as_str() == written)
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
