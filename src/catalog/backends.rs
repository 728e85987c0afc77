//! Starts the backend of a workload at the place where it runs; the composition injects the places.

use tokio::sync::watch;
use tracing::warn;

use crate::activation::events::EventPublisher;
use crate::backend::{BackendAndTask, Placement, WorkloadSpec};
use crate::shutdown::Shutdown;

/// What a new backend is given.
pub struct BackendContext {
    /// The specification, and later versions that the running backend can take over.
    pub spec: watch::Receiver<WorkloadSpec>,
    pub events: EventPublisher,
    pub shutdown: Shutdown,
}

/// Makes the backend of one workload; `None` where this place cannot run it.
pub type BackendFactory = Box<dyn Fn(BackendContext) -> Option<BackendAndTask> + Send>;

/// The places where workloads can run.
pub struct Backends {
    pub processes: BackendFactory,
    /// Absent where neither a cluster nor Prometheus is known.
    pub kubernetes: Option<BackendFactory>,
}

// === impl Backends ===

impl Backends {
    /// The backend of a workload; `None` where nothing can run it. `service` is named in the log.
    pub fn start(
        &self,
        spec: watch::Receiver<WorkloadSpec>,
        events: EventPublisher,
        shutdown: &Shutdown,
        service: &str,
    ) -> Option<BackendAndTask> {
        let is_process = matches!(spec.borrow().placement, Placement::Process(_));
        let factory = if is_process { Some(&self.processes) } else { self.kubernetes.as_ref() };
        let Some(factory) = factory else {
            warn!(
                service,
                workload = %events.workload(),
                "no cluster and no Prometheus is known, so requests for this service are answered with 503; \
                 run agimo in the cluster, or set KUBECONFIG or --prometheus-address"
            );
            return None;
        };
        factory(BackendContext { spec, events, shutdown: shutdown.clone() })
    }
}
