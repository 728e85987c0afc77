//! Wakes a workload once, however many requests wait, and puts it to sleep again. It speaks no protocol.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::futures::Notified;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use crate::backend::{Backend, BackendStatus, EndpointSource, ResourceRequests};
use crate::cause::{Cause, NotReadyReason};
use crate::http::trace_context::TraceParent;
use crate::ownership::directive::{Directive, Pin};
use crate::ownership::{Authority, OwnerReason, Ownership, SleepBlocker};

use self::cold_start::ColdStartMetrics;
use self::endpoint::ReadyEndpoint;
use self::events::{EventKind, EventPublisher, LifecycleEvent};
use self::state::State;

pub mod cold_start;
pub mod endpoint;
pub mod event_log;
pub mod events;
pub mod hold_quota;
pub mod idleness;
pub mod ramp;
pub mod runner;
pub mod state;
#[cfg(test)]
mod tests;

/// One workload between asleep and awake, as requests see it. Its `Runner` alone decides; everyone else reads
/// and waits.
pub struct Activation {
    backend: Arc<dyn Backend>,
    events: EventPublisher,
    /// Changes with every publication, so that reading it tells whether to look again.
    generation: AtomicU64,
    published: Mutex<Published>,
    status: Mutex<WorkloadStatus>,
    endpoints_changed: Notify,
    /// A request waits, a person asks for something, or a pin has changed.
    asked: Notify,
    /// Counts how often a request was seen that waits for the workload, here or at another replica of agimo.
    demand_seen: watch::Sender<u64>,
    /// What a person asked for last, until the runner follows it.
    order: Mutex<Option<Order>>,
    /// Who requested the next wake first, and with which request.
    requester: Mutex<Option<(WakeRequester, WakingRequest)>>,
    /// Phases that the first held request of the current wake has not reached yet.
    pending_phases: AtomicU8,
    /// Counts the wakes.
    wakes: AtomicU64,
    /// Another workload of the same name is started in its place.
    is_replaced: AtomicBool,
}

/// What requests go by.
#[derive(Clone, Debug, Default)]
pub struct Published {
    /// The ready endpoints of each source that has any.
    pub endpoints: Arc<BTreeMap<EndpointSource, Arc<[ReadyEndpoint]>>>,
    /// Endpoints of replicas that were told to end.
    pub terminating: Arc<BTreeSet<SocketAddr>>,
    pub rejection: Option<Rejection>,
}

/// The last wake failed: requests are rejected until the next one may begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rejection {
    pub cause: Cause,
    pub until: Instant,
}

/// The state of a workload for people, and for the answer to a request that was held too long.
#[derive(Clone, Debug, PartialEq)]
pub struct WorkloadStatus {
    pub state: State,
    pub ownership: Ownership,
    pub directive: Option<Directive>,
    /// The pin that applies, and who set it, where that is known.
    pub pin: Option<(Pin, Option<Arc<str>>)>,
    /// Who undoes what agimo writes, where somebody does.
    pub reverted_by: Option<Arc<[String]>>,
    pub sleep_blocker: Option<SleepBlocker>,
    /// The longest idle time that a service of the workload configures.
    pub configured_sleep_after: Duration,
    /// The idle time before sleep that is in force.
    pub sleep_after: Duration,
}

/// Names the service whose request wakes a workload, for the log and the metrics.
#[derive(Clone, Debug)]
pub struct WakeRequester {
    /// Host and path prefix.
    pub service: Arc<str>,
    pub cold_start: Arc<ColdStartMetrics>,
}

/// The request that wakes a workload.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WakingRequest {
    /// Absent where the configuration says that requests are not recorded.
    pub details: Option<RequestDetails>,
    /// The trace that it belongs to.
    pub trace_parent: Option<TraceParent>,
}

/// A request as the log names it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestDetails {
    pub method: String,
    /// Without the query, which may hold secrets.
    pub path: String,
    pub client: String,
    /// What kind of program the client is, from a closed set.
    pub client_kind: &'static str,
}

/// What a person asks for now, beside what requests do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// As if a request had arrived.
    Wake { by: Arc<str> },
    /// As if it had been idle for its whole idle time. Nothing in flight is cut.
    Sleep { by: Arc<str> },
}

/// What the first held request of a wake reaches, each once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Phase {
    Connected = 1,
    Forwarded = 2,
    Answered = 4,
}

const ALL_PHASES: u8 = Phase::Connected as u8 | Phase::Forwarded as u8 | Phase::Answered as u8;

// === impl Activation ===

impl Activation {
    pub fn new(backend: Arc<dyn Backend>, events: EventPublisher) -> Self {
        Self {
            backend,
            events,
            generation: AtomicU64::new(0),
            published: Mutex::default(),
            status: Mutex::default(),
            endpoints_changed: Notify::new(),
            asked: Notify::new(),
            demand_seen: watch::Sender::new(0),
            order: Mutex::default(),
            requester: Mutex::default(),
            pending_phases: AtomicU8::new(0),
            wakes: AtomicU64::new(0),
            is_replaced: AtomicBool::new(false),
        }
    }

    /// Changes whenever `published` does. One load; sequentially consistent with `CoreCounters::count_arrival`.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::SeqCst)
    }

    pub fn published(&self) -> Published {
        self.published.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn status(&self) -> WorkloadStatus {
        self.status.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What the backend knows of the workload.
    pub fn backend_status(&self) -> BackendStatus {
        self.backend.status().borrow().clone()
    }

    /// Of a workload that is known to be asleep: the replicas that a wake restores, and what each of them requests.
    pub fn sleeping(&self) -> Option<(u32, ResourceRequests)> {
        let status = self.backend.status();
        let backend = status.borrow();
        let has_none = backend.owns_lifecycle() || backend.replicas == Some(0);
        let published = self.status.lock().unwrap_or_else(PoisonError::into_inner);
        let is_asleep = published.state == State::Asleep && has_none && !backend.is_ready();
        is_asleep.then(|| (backend.replicas_when_awake.max(1), backend.requests))
    }

    /// Why a route with this source has no endpoint, as far as the backend knows.
    pub fn not_ready_reason(&self, source: &EndpointSource) -> Option<NotReadyReason> {
        self.backend.status().borrow().not_ready_reason(source).cloned()
    }

    /// Changes when a request waits for the workload, here or at another replica of agimo.
    pub fn demand_seen(&self) -> watch::Receiver<u64> {
        self.demand_seen.subscribe()
    }

    fn note_demand(&self) {
        self.demand_seen.send_modify(|seen| *seen += 1);
    }

    /// The event that was published last.
    pub fn latest_event(&self) -> Option<LifecycleEvent> {
        self.events.latest()
    }

    /// Requests a wake, if there is none; it outlives the caller.
    pub fn request_wake(&self, requester: &WakeRequester, request: impl FnOnce() -> WakingRequest) {
        let mut first = self.requester.lock().unwrap_or_else(PoisonError::into_inner);
        first.get_or_insert_with(|| (requester.clone(), request()));
        drop(first);
        self.asked.notify_one();
    }

    /// Has the runner follow what a person asks for.
    pub fn order(&self, order: Order) {
        *self.order.lock().unwrap_or_else(PoisonError::into_inner) = Some(order);
        self.asked.notify_one();
    }

    /// Has the runner look at the pin of the workload, which may have changed.
    pub fn look_at_pin(&self) {
        self.asked.notify_one();
    }

    /// Waits for the next publication. Waiters are woken in the order in which they came.
    pub fn endpoints_changed(&self) -> Notified<'_> {
        self.endpoints_changed.notified()
    }

    /// Has every waiter look again: its route may have been removed.
    pub fn wake_waiters(&self) {
        self.endpoints_changed.notify_waiters();
    }

    /// A held request has a connection to an endpoint.
    pub fn note_connected(&self) {
        if self.reach(Phase::Connected) {
            self.events.publish(EventKind::Connected);
        }
    }

    /// A held request was sent to an endpoint.
    pub fn note_forwarded(&self) {
        if self.reach(Phase::Forwarded) {
            self.events.publish(EventKind::Forwarded);
        }
    }

    /// The application has answered a request; `held_since` is the arrival of one that was held.
    pub fn note_answered(&self, held_since: Option<Instant>) {
        if self.reach(Phase::Answered)
            && let Some(arrived) = held_since
        {
            self.events.publish(EventKind::FirstAnswer { after: arrived.elapsed() });
        }
    }

    /// True for the first caller of each wake. Warm, this is one load.
    fn reach(&self, phase: Phase) -> bool {
        let bit = phase as u8;
        self.pending_phases.load(Ordering::Relaxed) & bit != 0
            && self.pending_phases.fetch_and(!bit, Ordering::Relaxed) & bit != 0
    }

    /// Notes that another workload of the same name is started in its place.
    pub fn note_replaced(&self) {
        self.is_replaced.store(true, Ordering::Relaxed);
    }

    /// The number of the current wake, or of the last one.
    pub fn wake_number(&self) -> u64 {
        self.wakes.load(Ordering::Relaxed)
    }

    /// Tells the backend that this endpoint refused a connection, although it is published as ready.
    pub fn report_refused(&self, endpoint: SocketAddr) {
        self.backend.report_refused(endpoint);
    }

    /// Tells the backend that this endpoint did not accept a connection in time, although it is published as ready.
    pub fn report_timed_out(&self, endpoint: SocketAddr) {
        self.backend.report_timed_out(endpoint);
    }

    /// Whether the workload has answered a request since its last wake.
    pub fn has_answered(&self) -> bool {
        self.pending_phases.load(Ordering::Relaxed) & Phase::Answered as u8 == 0
    }

    fn publish(&self, published: Published) {
        *self.published.lock().unwrap_or_else(PoisonError::into_inner) = published;
        self.generation.fetch_add(1, Ordering::SeqCst);
        self.endpoints_changed.notify_waiters();
    }

    fn take_order(&self) -> Option<Order> {
        self.order.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn has_requester(&self) -> bool {
        self.requester.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    fn take_requester(&self) -> Option<(WakeRequester, WakingRequest)> {
        self.requester.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

// === impl Published ===

impl Published {
    /// The ready endpoints of a backend; those that were ready before keep their state.
    fn ready(status: &BackendStatus, before: &Self) -> Self {
        let with_endpoints = status.sources.iter().filter(|(_, source)| !source.ready.is_empty());
        let endpoints = with_endpoints
            .map(|(source, status)| {
                let known = before.endpoints.get(source);
                let endpoint = |address: &SocketAddr| {
                    let ordinal = status.ordinals.get(address).copied();
                    let is_known = |known: &&ReadyEndpoint| {
                        (known.address, known.ordinal, known.protocol)
                            == (*address, ordinal, status.protocol)
                    };
                    let known = known.and_then(|known| known.iter().find(is_known)).cloned();
                    known.unwrap_or_else(|| ReadyEndpoint::new(*address, ordinal, status.protocol))
                };
                (source.clone(), status.ready.iter().map(endpoint).collect())
            })
            .collect();
        Self {
            endpoints: Arc::new(endpoints),
            terminating: status.terminating.clone(),
            rejection: None,
        }
    }

    fn endpoint_count(&self) -> usize {
        self.endpoints.values().map(|endpoints| endpoints.len()).sum()
    }
}

// === impl Rejection ===

impl Rejection {
    /// Whether the next wake may begin.
    pub fn has_ended(self) -> bool {
        Instant::now() >= self.until
    }
}

// === impl WorkloadStatus ===

impl Default for WorkloadStatus {
    fn default() -> Self {
        Self {
            state: State::Asleep,
            ownership: Ownership {
                authority: Authority::Report,
                observed: None,
                reason: OwnerReason::NotRead,
            },
            directive: None,
            pin: None,
            reverted_by: None,
            sleep_blocker: None,
            configured_sleep_after: Duration::ZERO,
            sleep_after: Duration::ZERO,
        }
    }
}
