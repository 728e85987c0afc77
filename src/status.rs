//! The state of every service, with its explanation: typed here, serialised by the edges that show it.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::activation::Activation;
use crate::activation::events::LifecycleEvent;
use crate::activation::state::State;
use crate::backend::{BackendStatus, Lifecycle};
use crate::catalog::{Route, Snapshot};
use crate::cause::NotReadyReason;
use crate::ownership::directive::{Directive, Pin};
use crate::ownership::{Ownership, SleepBlocker};
use crate::workload::WorkloadKind;

/// One service of the configuration.
#[derive(Clone, Debug)]
pub struct ServiceStatus {
    pub host: String,
    pub path_prefix: String,
    /// Kind, namespace and name of the workload.
    pub workload: String,
    /// Requests, streams and tunnels of this service that have arrived and not ended.
    pub in_flight: u64,
    /// Those of them that are held.
    pub held: u32,
    /// When the oldest of those began to be held.
    pub oldest_held: Option<Instant>,
    /// Those of them that are WebSockets or other tunnels.
    pub tunnels: u64,
    /// All services of the workload together.
    pub workload_load: Load,
    /// Absent where agimo knows no place to run the workload.
    pub activation: Option<ActivationStatus>,
}

/// What is open at one or more replicas of agimo.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    pub in_flight: u64,
    pub held: u64,
    pub tunnels: u64,
}

/// What agimo knows of the workload behind a service.
#[derive(Clone, Debug)]
pub struct ActivationStatus {
    /// `asleep`, `waking`, `awake` or `failing`.
    pub state: &'static str,
    /// Ready endpoints that this service may use.
    pub ready_endpoints: usize,
    pub ownership: Ownership,
    /// The pin or schedule that applies.
    pub directive: Option<Directive>,
    /// The pin that applies, and who set it through agimo.
    pub pin: Option<(Pin, Option<Arc<str>>)>,
    /// Who undoes what agimo writes, where somebody does.
    pub reverted_by: Option<Arc<[String]>>,
    pub kind: WorkloadKind,
    pub sleep_blocker: Option<SleepBlocker>,
    pub sleep_after: SleepAfter,
    /// When the workload is put to sleep, unless a request arrives; absent while something keeps it awake.
    pub sleeps_at: Option<Instant>,
    /// Why the service has no endpoint.
    pub not_ready: Option<NotReadyReason>,
    /// Why the last wake failed, while no later one has succeeded.
    pub last_failure: Option<NotReadyReason>,
    /// What happened to the workload last.
    pub latest_event: Option<LifecycleEvent>,
}

/// The idle time after which the workload is put to sleep, and where it comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SleepAfter {
    /// The value of this service.
    Own(Duration),
    /// The longer value of another service that leads to the same workload.
    OfAnotherService(Duration),
    /// It was prolonged, because another writer scales the workload up again and again.
    Prolonged(Duration),
}

/// The status of every service, in the order of the configuration.
pub fn services(snapshot: &Snapshot) -> Vec<ServiceStatus> {
    snapshot.routes.iter().map(|route| ServiceStatus::of(route)).collect()
}

// === impl ServiceStatus ===

impl ServiceStatus {
    pub fn of(route: &Route) -> Self {
        let activation = route.workload.activation.as_ref();
        let demand = route.workload.demand();
        Self {
            host: route.config.host.clone(),
            path_prefix: route.config.path_prefix.clone(),
            workload: route.workload.id.to_string(),
            in_flight: route.counters.in_flight(),
            held: route.held(),
            oldest_held: route.oldest_held(),
            tunnels: route.counters.tunnels(),
            workload_load: Load {
                in_flight: demand.in_flight(),
                held: demand.held(),
                tunnels: demand.tunnels(),
            },
            activation: activation.map(|activation| ActivationStatus::of(route, activation)),
        }
    }
}

// === impl ActivationStatus ===

impl ActivationStatus {
    fn of(route: &Route, activation: &Activation) -> Self {
        let (status, backend) = (activation.status(), activation.backend_status());
        let source = backend.sources.get(&route.source);
        let idle_since = match status.state {
            State::Awake { idleness } => idleness.since(),
            State::Asleep | State::Waking { .. } | State::Failing { .. } => None,
        };
        Self {
            state: status.state.as_str(),
            ready_endpoints: source.map_or(0, |source| source.ready.len()),
            ownership: status.ownership,
            directive: status.directive,
            pin: status.pin,
            reverted_by: status.reverted_by,
            kind: route.workload.id.kind,
            sleep_blocker: status.sleep_blocker,
            sleep_after: if status.sleep_after > status.configured_sleep_after {
                SleepAfter::Prolonged(status.sleep_after)
            } else if status.sleep_after > route.config.sleep_after {
                SleepAfter::OfAnotherService(status.sleep_after)
            } else {
                SleepAfter::Own(route.config.sleep_after)
            },
            sleeps_at: idle_since
                .filter(|_| status.sleep_blocker.is_none())
                .and_then(|since| since.checked_add(status.sleep_after)),
            not_ready: backend.not_ready_reason(&route.source).cloned(),
            last_failure: last_failure(&backend),
            latest_event: activation.latest_event(),
        }
    }
}

fn last_failure(backend: &BackendStatus) -> Option<NotReadyReason> {
    match &backend.lifecycle {
        Lifecycle::Owned(Some(failure)) if !backend.is_ready() => {
            Some(NotReadyReason { cause: failure.cause, detail: failure.detail.clone() })
        }
        _ => None,
    }
}
