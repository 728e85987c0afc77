//! What agimo needs of the place where workloads run: see their endpoints, scale them. It knows no such place.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use tokio::sync::watch;
use tokio::time::Instant;

/// Runs one workload: local processes, a Deployment, or a StatefulSet.
pub trait Backend: Send + Sync + 'static {
    /// The workload's condition, now and as it changes.
    fn observe(&self) -> watch::Receiver<Observed>;

    /// Asks for this many replicas and returns at once; what becomes of it is observed.
    fn scale(&self, replicas: u32);

    /// Whether the workload is agimo's alone: what is left of a failed wake or of a removed service is
    /// then stopped. Otherwise it has other owners, who restart what ends by itself, and whose it stays.
    fn is_ours(&self) -> bool;
}

/// A workload's backend, and what must run for it.
pub type Running = (Arc<dyn Backend>, Pin<Box<dyn Future<Output = ()> + Send>>);

/// What is known of a workload.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Observed {
    /// The endpoints that passed their readiness check.
    pub ready: Vec<SocketAddr>,
    /// When the first replica of the present wake was started.
    pub started: Option<Instant>,
    /// The last failure to become ready: the wake has ended.
    pub failure: Option<Failure>,
    /// What the wake waits for, as far as can be told; it may still succeed.
    pub trouble: Option<Trouble>,
    /// Why agimo must not put the workload to sleep.
    pub kept: Option<Kept>,
}

/// A wake that came to nothing.
#[derive(Clone, Debug, PartialEq)]
pub struct Failure {
    /// Counts this workload's failures, so that each is seen once.
    pub sequence: u64,
    pub cause: Cause,
    /// For the log: the exit status and the last lines of stderr, say.
    pub detail: String,
}

/// Something that keeps a workload from becoming ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    pub cause: Cause,
    /// One line for people: names, and the words of the place where the workload runs.
    pub detail: String,
}

/// Causes of a wake that failed or lasts, a closed set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The program could not be started at all.
    NotStarted,
    /// It ended before it was ready.
    Exited,
    /// It was not ready in time.
    NotReady,
    /// Its image cannot be had.
    ImageUnavailable,
    /// It ends again and again.
    CrashLoop,
    /// No node has room for it.
    Unschedulable,
    /// A quota or an admission rule forbids its pods.
    PodsRefused,
    /// Its container cannot be made: a ConfigMap or Secret is missing, say.
    ContainerRefused,
    WorkloadMissing,
    ServiceMissing,
    /// The Service has no such port.
    PortMissing,
    /// It lies in a namespace that this agimo does not watch.
    NamespaceUnwatched,
    /// The place where it runs cannot be asked, so that nothing is known.
    Unknown,
    /// Its `replicas` could not be written.
    ScaleRefused,
}

/// Why agimo leaves a workload awake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// Another scaler puts it to sleep.
    External,
    /// Other replicas of agimo may have work open for it.
    Peers,
    /// Other services of this agimo lead to it, and may have work open.
    Services,
}

// === impl Cause ===

impl Cause {
    /// The word for it in `x-agimo-reason` and in `/services`.
    pub fn token(self) -> &'static str {
        match self {
            Self::NotStarted => "wake-not-started",
            Self::Exited => "wake-exited",
            Self::NotReady => "wake-not-ready",
            Self::ImageUnavailable => "image-unavailable",
            Self::CrashLoop => "crash-loop",
            Self::Unschedulable => "unschedulable",
            Self::PodsRefused => "pods-refused",
            Self::ContainerRefused => "container-refused",
            Self::WorkloadMissing => "workload-missing",
            Self::ServiceMissing => "service-missing",
            Self::PortMissing => "port-missing",
            Self::NamespaceUnwatched => "namespace-unwatched",
            Self::Unknown => "readiness-unknown",
            Self::ScaleRefused => "scale-refused",
        }
    }

    /// The same for a person.
    pub fn words(self) -> &'static str {
        match self {
            Self::NotStarted => "the application could not be started",
            Self::Exited => "the application ended before it was ready",
            Self::NotReady => "the application was not ready in time",
            Self::ImageUnavailable => "the application's image cannot be had",
            Self::CrashLoop => "the application ends again and again",
            Self::Unschedulable => "no node has room for the application",
            Self::PodsRefused => "the application's pods are refused",
            Self::ContainerRefused => "the application's container cannot be made",
            Self::WorkloadMissing => "the application's workload does not exist",
            Self::ServiceMissing => "the application's Service does not exist",
            Self::PortMissing => "the application's Service has no such port",
            Self::NamespaceUnwatched => "the application's namespace is not watched",
            Self::Unknown => "whether the application is ready is not known",
            Self::ScaleRefused => "the application could not be scaled",
        }
    }
}

// === impl Kept ===

impl Kept {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::External => "external",
            Self::Peers => "peers",
            Self::Services => "services",
        }
    }
}
