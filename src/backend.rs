//! What agimo needs of a place where workloads run: their endpoints, and a way to scale them. It names no such place.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::cause::{Cause, NotReadyReason};
use crate::config::protocol::EndpointProtocol;
use crate::config::scaling::{AutoscalingConfig, Mode, Scaler};
use crate::config::{ProcessConfig, ServicePort, Via};
use crate::ownership::ScaleFacts;
use crate::schedule::Schedule;
use crate::workload::WorkloadId;

/// Runs one workload: local processes, a Deployment, or a StatefulSet.
pub trait Backend: Send + Sync + 'static {
    /// The state of the workload, now and as it changes.
    fn status(&self) -> watch::Receiver<BackendStatus>;

    /// Accepts a command and returns at once; its effect shows in the status.
    fn command(&self, command: ScaleCommand);

    /// An endpoint that the status reports as ready refused a connection. A backend that checks readiness itself checks
    /// it again; elsewhere there is nothing to do.
    fn report_refused(&self, _endpoint: SocketAddr) {}

    /// An endpoint that the status reports as ready did not accept a connection in time: it may be gone.
    fn report_timed_out(&self, _endpoint: SocketAddr) {}
}

/// A backend, and the task that the caller must own and run for it.
pub struct BackendAndTask {
    pub backend: Arc<dyn Backend>,
    pub task: Pin<Box<dyn Future<Output = ()> + Send>>,
}

/// What the engine asks of a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScaleCommand {
    /// A request waits, and an external scaler is expected to scale the workload up. Report readiness as early
    /// as possible and write nothing.
    ExpectReady,
    /// Scale a workload at zero to at least this many replicas, or to as many as it had before it was put to
    /// sleep. A workload that has replicas is left as it is.
    WakeToAtLeast(u32),
    /// Scale to exactly this many replicas.
    SetReplicas(u32),
    /// Scale to zero. No endpoint of the replicas that are running is reported as ready from now on.
    Sleep,
    /// No request waits any more. Replicas are left as they are.
    CancelWake,
}

/// What is known of a workload.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BackendStatus {
    /// One entry for each source of the workload's specification that is known by now.
    pub sources: BTreeMap<EndpointSource, SourceStatus>,
    /// Endpoints of replicas that were told to end: a connection that they close means nothing else.
    pub terminating: Arc<BTreeSet<SocketAddr>>,
    /// A replica that agimo runs is not ready yet, or not any more.
    pub is_starting: bool,
    /// When the first replica of the current wake was started.
    pub started: Option<Instant>,
    /// Why the workload as a whole is not ready; it may still become ready.
    pub not_ready: Option<NotReadyReason>,
    pub lifecycle: Lifecycle,
    pub scale_facts: ScaleFacts,
    /// Replicas that the workload is to have now, where the backend knows.
    pub replicas: Option<u32>,
    /// Replicas that a wake restores, where the backend knows.
    pub replicas_when_awake: u32,
    /// Of one replica.
    pub requests: ResourceRequests,
}

/// What a replica requests of its node; nothing where it is not in a cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ResourceRequests {
    /// Thousandths of a core.
    pub cpu_millis: u64,
    pub memory_bytes: u64,
}

/// What is known of the endpoints of one source.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SourceStatus {
    /// Endpoints that passed their readiness check.
    pub ready: Vec<SocketAddr>,
    /// Which replicas of a StatefulSet answer there.
    pub ordinals: BTreeMap<SocketAddr, u32>,
    /// From `appProtocol` of the port of the Service; `Auto` if unknown.
    pub protocol: EndpointProtocol,
    /// Why this source has no endpoint, where that concerns it alone.
    pub not_ready: Option<NotReadyReason>,
}

/// Who starts and stops replicas.
#[derive(Clone, Debug, PartialEq)]
pub enum Lifecycle {
    /// agimo alone, so a wake can fail for good. Holds the last failure.
    Owned(Option<WakeFailure>),
    /// Controllers outside of agimo, which restart what ends: a wake stays pending until its requests time out.
    Shared,
}

/// A wake that failed for good.
#[derive(Clone, Debug, PartialEq)]
pub struct WakeFailure {
    /// Counts the failures of this workload, so that each is handled once.
    pub sequence: u64,
    /// It had become ready before, so that the wake itself succeeded.
    pub was_ready: bool,
    pub cause: Cause,
    /// For people: for example, the exit status and the last lines of stderr.
    pub detail: String,
}

/// Where the endpoints of a route come from. Routes to one workload may use different ports of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum EndpointSource {
    /// A port of a Kubernetes Service in the workload's namespace.
    Service { name: String, port: ServicePort, via: Via },
    /// The processes of the workload.
    Processes,
}

/// A workload as all of its routes together configure it.
#[derive(Clone, Debug, PartialEq)]
pub struct WorkloadSpec {
    pub id: WorkloadId,
    /// A host that leads to it, for readiness checks.
    pub host: String,
    pub scaler: Scaler,
    pub mode: Mode,
    /// Idle time before the workload is put to sleep: the longest of its routes.
    pub sleep_after: Duration,
    /// When it is kept awake: the schedules of all of its routes.
    pub awake: Vec<Schedule>,
    /// The readiness probes of its pods are run by agimo while it wakes, where any of its routes says so.
    pub early_ready: bool,
    /// Replicas that a wake asks for at least.
    pub wake_replicas: u32,
    /// How its number of replicas is to follow its demand; absent for processes.
    pub autoscaling: Option<AutoscalingConfig>,
    pub placement: Placement,
}

/// Where a workload runs.
#[derive(Clone, Debug, PartialEq)]
pub enum Placement {
    /// In the cluster, with these sources of endpoints, each once.
    Kubernetes { sources: Vec<EndpointSource> },
    /// On this machine.
    Process(Arc<ProcessConfig>),
}

// === impl ResourceRequests ===

impl ResourceRequests {
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            cpu_millis: self.cpu_millis.saturating_add(other.cpu_millis),
            memory_bytes: self.memory_bytes.saturating_add(other.memory_bytes),
        }
    }

    /// The larger of each.
    #[must_use]
    pub fn max(self, other: Self) -> Self {
        Self {
            cpu_millis: self.cpu_millis.max(other.cpu_millis),
            memory_bytes: self.memory_bytes.max(other.memory_bytes),
        }
    }
}

// === impl WorkloadSpec ===

impl WorkloadSpec {
    /// How agimo scales it while it is awake; `None` where it leaves the number alone.
    pub fn own_scaling(&self) -> Option<AutoscalingConfig> {
        self.autoscaling.filter(AutoscalingConfig::has_target)
    }
}

// === impl BackendStatus ===

impl BackendStatus {
    /// Whether any source has a ready endpoint.
    pub fn is_ready(&self) -> bool {
        self.sources.values().any(|source| !source.ready.is_empty())
    }

    /// Why a route with this source has no endpoint.
    pub fn not_ready_reason(&self, source: &EndpointSource) -> Option<&NotReadyReason> {
        let of_source = self.sources.get(source).and_then(|source| source.not_ready.as_ref());
        self.not_ready.as_ref().or(of_source)
    }

    /// Whether agimo alone starts and stops the replicas.
    pub fn owns_lifecycle(&self) -> bool {
        matches!(self.lifecycle, Lifecycle::Owned(_))
    }
}

// === impl Lifecycle ===

impl Default for Lifecycle {
    fn default() -> Self {
        Self::Owned(None)
    }
}

// === impl WorkloadSpec ===

impl WorkloadSpec {
    /// Whether a running backend can take over `new` without a restart of the workload.
    pub fn can_become(&self, new: &Self) -> bool {
        self.id == new.id
            && match (&self.placement, &new.placement) {
                (Placement::Kubernetes { .. }, Placement::Kubernetes { .. }) => true,
                (Placement::Process(old), Placement::Process(new)) => old == new,
                _ => false,
            }
    }
}
