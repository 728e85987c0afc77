//! The life of workloads as typed events: what happened, when, and why. Log, metrics, status and the admin port consume
//! them; none of them reads another's text.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::sync::broadcast;

use crate::autoscaler::Reason;
use crate::cause::{Cause, NotReadyReason};
use crate::ownership::directive::Directive;
use crate::ownership::{Ownership, SleepBlocker};
use crate::workload::WorkloadId;

use super::WakingRequest;

/// One thing that happened to a workload.
#[derive(Clone, Debug, PartialEq)]
pub struct LifecycleEvent {
    pub workload: Arc<WorkloadId>,
    pub at: SystemTime,
    pub kind: EventKind,
}

/// What happened. Durations count from the moment the wake was requested, unless said otherwise.
#[derive(Clone, Debug, PartialEq)]
pub enum EventKind {
    /// A request of this service is held and nothing was waking the workload yet.
    WakeRequested { service: Arc<str>, request: WakingRequest },
    /// A wake that no request of this replica of agimo has caused: a person who asked for it, a pin, a schedule, or a request
    /// that another replica holds.
    WakeBegun { asked_by: Option<Arc<str>> },
    /// The API server accepted a write of `replicas`.
    ScaleWritten { replicas: u32 },
    /// A pod of the wake was assigned to a node.
    PodScheduled { pod: String },
    /// The kubelet has pulled an image for a pod of the wake, which took so long.
    ImagePulled { pod: String, image: String, took: Duration },
    /// A container of the wake runs.
    ContainerStarted { pod: String },
    /// A pod of the wake reports that it is ready.
    PodReady { pod: String },
    /// The readiness probes of a pod of the wake have passed when agimo ran them.
    PodReadyEarly { pod: String },
    /// The EndpointSlices list a ready endpoint of the wake.
    EndpointSliceReady,
    /// The first replica of the wake was started.
    Started { after: Duration },
    /// The workload has a ready endpoint; `after` is absent where agimo did not wake it.
    Ready { after: Option<Duration>, endpoints: usize },
    /// The first held request of the wake has a connection to an endpoint.
    Connected,
    /// The first held request of the wake was sent to an endpoint.
    Forwarded,
    /// The first held request of the wake was answered; counted from its arrival.
    FirstAnswer { after: Duration },
    /// The workload is waking and this keeps it from becoming ready.
    NotReady(NotReadyReason),
    /// The wake failed; the next one may begin after `retry_after`.
    WakeFailed { cause: Cause, detail: String, retry_after: Duration },
    /// No request waits any more for a workload that an external scaler wakes.
    WakeCancelled,
    /// The workload never became ready, and no request has waited for it for the idle time: it is scaled to zero.
    WakeGivenUp,
    /// No endpoint is ready any more. `scaled_down`: whether the workload has been scaled to zero, as far as that is known.
    EndpointsLost { scaled_down: Option<bool> },
    /// Another scaler has appeared, changed or gone, or the configuration has changed.
    OwnerDecided(Ownership),
    /// A pin or a schedule begins to apply, or none does any more.
    DirectiveChanged(Option<Directive>),
    /// The annotations of the workload are wrong; what they ask for does not apply.
    AnnotationRejected { problem: Arc<str> },
    /// Another writer has undone what agimo wrote, so many times in a row.
    WritesReverted { reverted: Reverted, rounds: u32, writers: Arc<[String]> },
    /// With `mode = "observe"`: a request waits, and agimo would scale to so many replicas at least.
    WakeObserved { replicas: u32 },
    /// With `mode = "observe"`: the workload was idle for so long that agimo would scale it to zero.
    SleepObserved { idle: Duration },
    /// The workload stays awake for this reason from now on, or is free to sleep.
    SleepBlocked(Option<SleepBlocker>),
    /// Another writer has scaled the workload up again after agimo had put it to sleep, so many times in a row. It is put
    /// to sleep after a longer idle time.
    SleepProlonged { foreign_wakes: u32, sleep_after: Duration },
    /// The demand asks for another number of replicas, which is not written with `mode = "observe"`.
    ScaleDecided { from: u32, to: u32, reason: Reason, is_observed: bool },
    /// Somebody else has changed the number of replicas, which agimo leaves alone until the workload sleeps.
    ScaleOverridden { replicas: u32, writers: Arc<[String]> },
    /// The workload was idle for so long and is being scaled to zero, maybe because a person asked for it.
    Asleep { idle: Duration, asked_by: Option<Arc<str>> },
    /// The workload could not be scaled to zero and stays awake.
    SleepFailed { detail: String },
    /// A process ended by itself after it had been ready.
    ProcessExited { detail: String },
    /// A process that was ready refused connections and did not recover; it is restarted.
    ProcessUnresponsive { detail: String },
    /// A process was stopped by agimo.
    ProcessStopped,
    /// The configuration of the workload has changed, and another one is started in its place.
    Replaced,
    /// No route leads to the workload any more, and its last request has ended.
    Removed,
}

/// What another writer has undone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reverted {
    Wake,
    Sleep,
}

/// Distributes events to whoever subscribes; clones share the subscribers.
#[derive(Clone, Debug)]
pub struct EventBus {
    sender: broadcast::Sender<LifecycleEvent>,
}

/// Publishes the events of one workload; clones share what was published last.
#[derive(Clone, Debug)]
pub struct EventPublisher {
    workload: Arc<WorkloadId>,
    bus: EventBus,
    latest: Arc<Mutex<Option<LifecycleEvent>>>,
}

/// Events that a slow subscriber may fall behind before it loses the oldest.
const CAPACITY: usize = 4096;

// === impl EventKind ===

impl EventKind {
    /// The name of the event in `/events`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::WakeRequested { .. } => "wake_requested",
            Self::WakeBegun { .. } => "wake_begun",
            Self::ScaleWritten { .. } => "scale_written",
            Self::PodScheduled { .. } => "pod_scheduled",
            Self::ImagePulled { .. } => "image_pulled",
            Self::ContainerStarted { .. } => "container_started",
            Self::PodReady { .. } => "pod_ready",
            Self::PodReadyEarly { .. } => "pod_ready_early",
            Self::EndpointSliceReady => "endpoint_slice_ready",
            Self::Started { .. } => "started",
            Self::Ready { .. } => "ready",
            Self::Connected => "connected",
            Self::Forwarded => "forwarded",
            Self::FirstAnswer { .. } => "first_answer",
            Self::NotReady(_) => "not_ready",
            Self::WakeFailed { .. } => "wake_failed",
            Self::WakeCancelled => "wake_cancelled",
            Self::WakeGivenUp => "wake_given_up",
            Self::EndpointsLost { .. } => "endpoints_lost",
            Self::OwnerDecided(_) => "owner_decided",
            Self::DirectiveChanged(_) => "directive_changed",
            Self::AnnotationRejected { .. } => "annotation_rejected",
            Self::WritesReverted { .. } => "writes_reverted",
            Self::WakeObserved { .. } => "wake_observed",
            Self::SleepObserved { .. } => "sleep_observed",
            Self::SleepBlocked(_) => "sleep_blocked",
            Self::SleepProlonged { .. } => "sleep_prolonged",
            Self::ScaleDecided { .. } => "scale_decided",
            Self::ScaleOverridden { .. } => "scale_overridden",
            Self::Asleep { .. } => "asleep",
            Self::SleepFailed { .. } => "sleep_failed",
            Self::ProcessExited { .. } => "process_exited",
            Self::ProcessUnresponsive { .. } => "process_unresponsive",
            Self::ProcessStopped => "process_stopped",
            Self::Replaced => "replaced",
            Self::Removed => "removed",
        }
    }
}

// === impl Reverted ===

impl Reverted {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Wake => "wake",
            Self::Sleep => "sleep",
        }
    }
}

// === impl EventBus ===

impl Default for EventBus {
    fn default() -> Self {
        Self { sender: broadcast::Sender::new(CAPACITY) }
    }
}

impl EventBus {
    /// Receives every event from now on.
    pub fn subscribe(&self) -> broadcast::Receiver<LifecycleEvent> {
        self.sender.subscribe()
    }

    pub fn publisher(&self, workload: Arc<WorkloadId>) -> EventPublisher {
        EventPublisher { workload, bus: self.clone(), latest: Arc::default() }
    }
}

// === impl EventPublisher ===

impl EventPublisher {
    pub fn publish(&self, kind: EventKind) {
        let event = LifecycleEvent { workload: self.workload.clone(), at: SystemTime::now(), kind };
        *self.latest.lock().unwrap_or_else(PoisonError::into_inner) = Some(event.clone());
        // Without subscribers there is nobody to tell.
        let _ = self.bus.sender.send(event);
    }

    /// The event that was published last.
    pub fn latest(&self) -> Option<LifecycleEvent> {
        self.latest.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn workload(&self) -> &Arc<WorkloadId> {
        &self.workload
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::WorkloadKind;

    #[tokio::test]
    async fn subscribers_receive_events_in_order() {
        let bus = EventBus::default();
        let id = WorkloadId {
            kind: WorkloadKind::Process,
            namespace: String::new(),
            name: "a".to_owned(),
        };
        let publisher = bus.publisher(Arc::new(id));
        publisher.publish(EventKind::ProcessStopped);
        let mut received = bus.subscribe();
        assert_eq!(publisher.latest().unwrap().kind, EventKind::ProcessStopped);
        publisher.publish(EventKind::Connected);
        publisher.clone().publish(EventKind::Forwarded);
        assert_eq!(received.recv().await.unwrap().kind, EventKind::Connected);
        assert_eq!(received.recv().await.unwrap().kind, EventKind::Forwarded);
        assert_eq!(publisher.latest().unwrap().kind, EventKind::Forwarded);
        assert!(received.is_empty());
    }
}
