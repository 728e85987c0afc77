//! Readiness without the Kubernetes API: asks Prometheus how many replicas kube-state-metrics reports as ready. It scales
//! nothing.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tracing::{debug, info, warn};

use crate::backend::{
    Backend, BackendAndTask, BackendStatus, EndpointSource, Lifecycle, Placement, ScaleCommand,
    SourceStatus, WorkloadSpec,
};
use crate::cause::{Cause, NotReadyReason};
use crate::config::ServicePort;
use crate::config::scaling::Scaler;
use crate::net::dns::Resolver;
use crate::ownership::ScaleFacts;
use crate::workload::WorkloadId;

use self::api::{QueryApi, QueryError};
use self::response::Sample;

pub mod api;
pub mod response;

/// Prometheus as a source of readiness; clones share what is known.
#[derive(Clone)]
pub struct Prometheus {
    api: Arc<QueryApi>,
    resolver: Resolver,
    workloads: Arc<Mutex<Vec<Arc<PolledWorkload>>>>,
    /// A request waits for a workload.
    requested: Arc<Notify>,
}

/// A workload whose ready replicas are polled.
struct PolledWorkload {
    spec: watch::Receiver<WorkloadSpec>,
    /// A request waits for it.
    is_awaited: watch::Sender<bool>,
    status: watch::Sender<BackendStatus>,
}

/// The backend's handle on one workload.
struct Handle {
    workload: Arc<PolledWorkload>,
    /// While this receiver lives the workload is polled.
    status: watch::Receiver<BackendStatus>,
    requested: Arc<Notify>,
    /// When an endpoint was last reported as unreachable.
    reported: Mutex<Option<Instant>>,
}

/// While a request is held.
const HELD_INTERVAL: Duration = Duration::from_secs(1);
/// While none is held: only to notice what others have scaled.
const IDLE_INTERVAL: Duration = Duration::from_secs(15);

// === impl Prometheus ===

impl Prometheus {
    /// Nothing is asked before a workload is to be polled.
    ///
    /// # Errors
    /// When the address is not an http or https URL.
    pub fn new(address: &str, resolver: Resolver) -> Result<Self, QueryError> {
        Ok(Self {
            api: Arc::new(QueryApi::new(address, resolver.clone())?),
            resolver,
            workloads: Arc::default(),
            requested: Arc::default(),
        })
    }

    /// A workload as a backend.
    pub fn backend(&self, spec: watch::Receiver<WorkloadSpec>) -> BackendAndTask {
        if spec.borrow().scaler == Scaler::Agimo {
            let workload = spec.borrow().id.to_string();
            warn!(
                workload,
                "scaler = \"agimo\" needs the Kubernetes API; with Prometheus alone agimo only reports"
            );
        }
        let initial = BackendStatus {
            lifecycle: Lifecycle::Shared,
            scale_facts: ScaleFacts { can_write_replicas: false, ..ScaleFacts::default() },
            ..BackendStatus::default()
        };
        let workload = Arc::new(PolledWorkload {
            spec,
            is_awaited: watch::Sender::new(false),
            status: watch::Sender::new(initial),
        });
        self.lock().push(workload.clone());
        self.requested.notify_one();
        let handle = Handle {
            workload: workload.clone(),
            status: workload.status.subscribe(),
            requested: self.requested.clone(),
            reported: Mutex::default(),
        };
        let workloads = self.workloads.clone();
        // When nobody reads the status any more it is not polled.
        let until_unused = async move {
            workload.status.closed().await;
            let mut workloads = workloads.lock().unwrap_or_else(PoisonError::into_inner);
            workloads.retain(|other| !Arc::ptr_eq(other, &workload));
        };
        BackendAndTask { backend: Arc::new(handle), task: Box::pin(until_unused) }
    }

    /// Polls for ever: every second while a request is held, rarely otherwise.
    pub async fn run(self) {
        let mut last_error = None;
        loop {
            let asked = Instant::now();
            let workloads = self.lock().clone();
            if !workloads.is_empty() {
                let ids: Vec<WorkloadId> =
                    workloads.iter().map(|workload| workload.spec.borrow().id.clone()).collect();
                let outcome = self.api.query(&query(&ids)).await;
                log(&outcome, &mut last_error);
                for workload in &workloads {
                    self.publish(workload, &outcome).await;
                }
            }
            self.pause(asked).await;
        }
    }

    /// Until it is time to ask again.
    async fn pause(&self, asked: Instant) {
        let is_awaited = self.lock().iter().any(|workload| *workload.is_awaited.borrow());
        let interval = if is_awaited { HELD_INTERVAL } else { IDLE_INTERVAL };
        tokio::select! {
            () = tokio::time::sleep_until(asked + interval) => {}
            // The first request is not kept waiting; others join the next poll.
            () = self.requested.notified() => {}
        }
    }

    async fn publish(&self, workload: &PolledWorkload, outcome: &Result<Vec<Sample>, QueryError>) {
        let spec = workload.spec.borrow().clone();
        let before = workload.status.borrow().sources.clone();
        let (sources, not_ready) = match outcome {
            // The endpoints that were ready last are kept: warm requests go on.
            Err(error) => (before, Some(reason(Cause::Unknown, error.to_string()))),
            Ok(samples) => match response::ready_replicas(samples, &spec.id) {
                Some(1..) => (self.sources(&spec).await, None),
                Some(_) => (BTreeMap::new(), None),
                None => (BTreeMap::new(), Some(missing(&spec.id))),
            },
        };
        workload.status.send_if_modified(|known| {
            let status = BackendStatus { sources, not_ready, ..known.clone() };
            let changes = *known != status;
            *known = status;
            changes
        });
        if workload.status.borrow().is_ready() {
            workload.is_awaited.send_replace(false);
        }
    }

    /// The addresses of the Services of a workload that has ready replicas.
    async fn sources(&self, spec: &WorkloadSpec) -> BTreeMap<EndpointSource, SourceStatus> {
        let Placement::Kubernetes { sources } = &spec.placement else { return BTreeMap::new() };
        let mut found = BTreeMap::new();
        for source in sources {
            let EndpointSource::Service { name, port, .. } = source else { continue };
            let status = match self.addresses(&spec.id.namespace, name, port).await {
                Ok(ready) => SourceStatus { ready, ..SourceStatus::default() },
                Err(reason) => SourceStatus { not_ready: Some(reason), ..SourceStatus::default() },
            };
            found.insert(source.clone(), status);
        }
        found
    }

    async fn addresses(
        &self,
        namespace: &str,
        service: &str,
        port: &ServicePort,
    ) -> Result<Vec<SocketAddr>, NotReadyReason> {
        let ServicePort::Number(port) = port else {
            let detail = "with Prometheus alone `service_port` must be a number".to_owned();
            return Err(reason(Cause::PortMissing, detail));
        };
        let found = self.resolver.service_addresses(namespace, service).await;
        let found = found.map_err(|error| reason(Cause::ServiceMissing, error.to_string()))?;
        Ok(found.into_iter().map(|address| SocketAddr::new(address, *port)).collect())
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<PolledWorkload>>> {
        self.workloads.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Handle ===

impl Handle {
    /// Asks at once, and not more often than for a held request.
    fn ask_again(&self) {
        let now = Instant::now();
        let mut reported = self.reported.lock().unwrap_or_else(PoisonError::into_inner);
        if reported.is_none_or(|at| now >= at + HELD_INTERVAL) {
            *reported = Some(now);
            self.requested.notify_one();
        }
    }
}

impl Backend for Handle {
    fn status(&self) -> watch::Receiver<BackendStatus> {
        self.status.clone()
    }

    fn command(&self, command: ScaleCommand) {
        let is_awaited =
            matches!(command, ScaleCommand::ExpectReady | ScaleCommand::WakeToAtLeast(_));
        self.workload.is_awaited.send_replace(is_awaited);
        if is_awaited {
            // The workload may be ready already, so that no poll would change its status.
            self.workload.status.send_modify(|_| ());
            self.requested.notify_one();
        }
    }

    /// What Prometheus said last may be old: it is asked again.
    fn report_refused(&self, _: SocketAddr) {
        self.ask_again();
    }

    fn report_timed_out(&self, _: SocketAddr) {
        self.ask_again();
    }
}

/// One query for all: the ready replicas of all workloads in their namespaces.
fn query(workloads: &[WorkloadId]) -> String {
    let namespaces: BTreeSet<&str> = workloads.iter().map(|id| id.namespace.as_str()).collect();
    // Names of namespaces hold letters, digits and hyphens only, so none needs to be escaped.
    let namespaces = namespaces.into_iter().collect::<Vec<_>>().join("|");
    let select = |label: &str| {
        let of = |kind| format!("kube_{kind}_status_replicas_ready{{{label}=~\"{namespaces}\"}}");
        format!("{} or {}", of("deployment"), of("statefulset"))
    };
    format!("{} or {}", select(response::NAMESPACE), select(response::EXPORTED_NAMESPACE))
}

/// Logs what is new.
fn log(outcome: &Result<Vec<Sample>, QueryError>, last: &mut Option<String>) {
    let error = outcome.as_ref().err().map(ToString::to_string);
    match (&error, &last) {
        (Some(error), before) if Some(error) != before.as_ref() => {
            warn!("readiness is unknown: {error}");
        }
        (None, Some(_)) => info!("Prometheus answers again"),
        _ => debug!(samples = outcome.as_ref().map_or(0, Vec::len), "asked Prometheus"),
    }
    *last = error;
}

fn reason(cause: Cause, detail: String) -> NotReadyReason {
    NotReadyReason { cause, detail }
}

fn missing(id: &WorkloadId) -> NotReadyReason {
    let detail =
        format!("Prometheus has no ready replicas of {id}; does it scrape kube-state-metrics?");
    reason(Cause::WorkloadMissing, detail)
}
