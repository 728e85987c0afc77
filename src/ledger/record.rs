//! One record of the ledger, and how lifecycle events make it.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::activation::events::{EventKind, LifecycleEvent};
use crate::cause::NotReadyReason;
use crate::http::trace_context::TraceParent;
use crate::ownership::directive::Directive;
use crate::workload::WorkloadId;

use super::recorded_request::{RecordedRequest, cut};

/// Something that happened to a workload.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// Grows with time, in one process of agimo.
    pub number: u64,
    pub workload: Arc<WorkloadId>,
    /// When it began.
    pub at: SystemTime,
    pub kind: RecordKind,
}

#[derive(Clone, Debug, PartialEq)]
pub enum RecordKind {
    Wake(Box<Wake>),
    /// Scaled to zero by agimo, after it was idle for so long.
    Sleep {
        idle: Duration,
        cause: SleepCause,
    },
    /// Scaled to zero by another scaler or a person.
    SleptElsewhere,
    /// With `mode = "observe"`: agimo would have scaled it to so many replicas.
    WakeObserved {
        replicas: u32,
    },
    /// With `mode = "observe"`: agimo would have scaled it to zero.
    SleepObserved {
        idle: Duration,
    },
    /// What went wrong while it was awake or falling asleep.
    Failure(Failure),
}

/// A wake, and how far it has come.
#[derive(Clone, Debug, PartialEq)]
pub struct Wake {
    pub cause: WakeCause,
    /// The trace of the request that caused it.
    pub trace_parent: Option<TraceParent>,
    /// The phases that were reached, in the order in which they were, and how long after the beginning.
    pub phases: Vec<(WakePhase, Duration)>,
    /// What last kept the workload from becoming ready.
    pub obstacle: Option<NotReadyReason>,
    pub outcome: WakeOutcome,
    /// Nothing more will be added.
    pub is_over: bool,
    /// How long it took until then; absent where its request was not waited for any longer.
    pub ended: Option<Duration>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum SleepCause {
    /// It was idle for its whole idle time.
    Idle,
    Pin,
    /// A person asked for it.
    Operator(Arc<str>),
}

#[derive(Clone, Debug, PartialEq)]
pub enum WakeCause {
    /// A request of this service, which this replica of agimo holds; absent where the configuration says that requests are not
    /// recorded.
    Request { service: Arc<str>, request: Option<RecordedRequest> },
    /// A pin or a schedule.
    Directive(Directive),
    /// A person asked for it through agimo.
    Operator(Arc<str>),
    /// Another replica of agimo, another scaler, or a person.
    Elsewhere,
}

/// What a cold start goes through. Some phases are left out, and some may come in another order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WakePhase {
    ScaleWritten,
    PodScheduled,
    /// The last image that was not on the node was pulled.
    ImagePulled,
    ContainerStarted,
    /// The process was started; workloads in Kubernetes have pods.
    Started,
    /// The readiness probes passed when agimo ran them.
    ProbesPassed,
    PodReady,
    SliceReady,
    /// Held requests are released.
    Ready,
    Connected,
    Forwarded,
    /// The first held request was answered.
    Answered,
}

#[derive(Clone, Debug, PartialEq)]
pub enum WakeOutcome {
    Underway,
    Ready,
    Answered,
    Failed {
        reason: &'static str,
        detail: String,
    },
    /// No request waits any more: the clients have left, were answered by agimo, or are those of another replica.
    Cancelled,
    /// It never became ready, and no request waited for it any more.
    GivenUp,
    /// It slept, ended or was removed before it was ready.
    Interrupted,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Failure {
    /// No endpoint was ready any more, although nobody had scaled the workload to zero.
    EndpointsLost,
    SleepFailed {
        detail: String,
    },
    ProcessExited {
        detail: String,
    },
    ProcessUnresponsive {
        detail: String,
    },
}

/// Longer details are shortened: they quote what applications and Kubernetes wrote.
const MOST_DETAIL_BYTES: usize = 500;

// === impl Record ===

impl Record {
    /// Whether it may still change.
    pub fn is_open(&self) -> bool {
        matches!(&self.kind, RecordKind::Wake(wake) if !wake.is_over)
    }

    pub fn wake(&self) -> Option<&Wake> {
        match &self.kind {
            RecordKind::Wake(wake) => Some(wake),
            _ => None,
        }
    }

    /// Whether the workload was scaled to zero.
    pub(super) fn is_sleep(&self) -> bool {
        matches!(self.kind, RecordKind::Sleep { .. } | RecordKind::SleptElsewhere)
    }

    /// Ends a wake whose request is not waited for any more.
    pub(super) fn finish(&mut self) {
        if let RecordKind::Wake(wake) = &mut self.kind {
            wake.is_over = true;
        }
    }

    /// Adds what an event says about a wake that is not over.
    pub(super) fn note(&mut self, event: &LifecycleEvent) {
        let since = event.at.duration_since(self.at).unwrap_or_default();
        if let RecordKind::Wake(wake) = &mut self.kind {
            wake.note(&event.kind, since);
        }
    }
}

// === impl RecordKind ===

impl RecordKind {
    /// The record that begins with this event of a workload, if one does. `was_asleep`: the last record says so.
    pub(super) fn begin(
        event: &EventKind,
        was_asleep: bool,
        directive: Option<Directive>,
    ) -> Option<Self> {
        let of_directive = || {
            let directive = directive.filter(|directive| directive.keeps_awake());
            Wake::new(directive.map_or(WakeCause::Elsewhere, WakeCause::Directive))
        };
        Some(match event {
            EventKind::WakeRequested { service, request } => {
                let service = service.clone();
                let trace_parent = request.trace_parent;
                let request = request.details.as_ref().map(RecordedRequest::of);
                let wake = Wake::new(WakeCause::Request { service, request });
                Self::Wake(Wake { trace_parent, ..wake }.into())
            }
            EventKind::WakeBegun { asked_by } => {
                let wake = match asked_by {
                    Some(name) => Wake::new(WakeCause::Operator(name.clone())),
                    None => of_directive(),
                };
                Self::Wake(wake.into())
            }
            // What is ready at the start of agimo, or again after a failed readiness probe, was not woken.
            EventKind::Ready { .. } if was_asleep => {
                let mut wake = of_directive();
                (wake.outcome, wake.is_over) = (WakeOutcome::Ready, true);
                Self::Wake(wake.into())
            }
            EventKind::Asleep { idle, asked_by } => {
                let cause = match asked_by {
                    Some(name) => SleepCause::Operator(name.clone()),
                    None if directive == Some(Directive::AsleepByPin) => SleepCause::Pin,
                    None => SleepCause::Idle,
                };
                Self::Sleep { idle: *idle, cause }
            }
            EventKind::EndpointsLost { scaled_down: Some(true) } => Self::SleptElsewhere,
            EventKind::EndpointsLost { scaled_down: Some(false) } => {
                Self::Failure(Failure::EndpointsLost)
            }
            EventKind::WakeObserved { replicas } => Self::WakeObserved { replicas: *replicas },
            EventKind::SleepObserved { idle } => Self::SleepObserved { idle: *idle },
            EventKind::SleepFailed { detail } => {
                Self::Failure(Failure::SleepFailed { detail: shortened(detail) })
            }
            EventKind::ProcessExited { detail } => {
                Self::Failure(Failure::ProcessExited { detail: shortened(detail) })
            }
            EventKind::ProcessUnresponsive { detail } => {
                Self::Failure(Failure::ProcessUnresponsive { detail: shortened(detail) })
            }
            _ => return None,
        })
    }

    pub fn name(&self) -> &'static str {
        match self {
            Self::Wake(_) => "wake",
            Self::Sleep { .. } | Self::SleptElsewhere => "sleep",
            Self::WakeObserved { .. } => "wake_observed",
            Self::SleepObserved { .. } => "sleep_observed",
            Self::Failure(_) => "failure",
        }
    }
}

fn shortened(detail: &str) -> String {
    cut(detail, MOST_DETAIL_BYTES)
}

// === impl Wake ===

impl Wake {
    fn new(cause: WakeCause) -> Self {
        Self {
            cause,
            trace_parent: None,
            phases: Vec::new(),
            obstacle: None,
            outcome: WakeOutcome::Underway,
            is_over: false,
            ended: None,
        }
    }

    /// The last image before the workload is ready counts: a pod may have several containers.
    fn note_image(&mut self, since: Duration) {
        if self.reached(WakePhase::Ready).is_none() {
            self.phases.retain(|(phase, _)| *phase != WakePhase::ImagePulled);
            self.phases.push((WakePhase::ImagePulled, since));
        }
    }

    /// When this phase was reached, counted from the beginning of the wake.
    pub fn reached(&self, phase: WakePhase) -> Option<Duration> {
        self.phases.iter().find(|(reached, _)| *reached == phase).map(|(_, after)| *after)
    }

    fn note(&mut self, event: &EventKind, since: Duration) {
        if let EventKind::ImagePulled { .. } = event {
            self.note_image(since);
            return;
        }
        if let Some(phase) = WakePhase::of(event)
            && self.reached(phase).is_none()
            // With pods, the same is seen as the start of a container.
            && !(phase == WakePhase::Started && self.reached(WakePhase::ContainerStarted).is_some())
        {
            self.phases.push((phase, since));
        }
        let outcome = match event {
            EventKind::NotReady(reason) => {
                let (cause, detail) = (reason.cause, shortened(&reason.detail));
                self.obstacle = Some(NotReadyReason { cause, detail });
                return;
            }
            EventKind::Ready { .. } => {
                self.outcome = WakeOutcome::Ready;
                // A request that waits is still to be answered.
                self.is_over = !matches!(self.cause, WakeCause::Request { .. });
                self.ended = self.is_over.then_some(since);
                return;
            }
            EventKind::FirstAnswer { .. } => WakeOutcome::Answered,
            EventKind::WakeFailed { cause, detail, .. } => {
                WakeOutcome::Failed { reason: cause.token(), detail: shortened(detail) }
            }
            EventKind::WakeCancelled => WakeOutcome::Cancelled,
            EventKind::WakeGivenUp => WakeOutcome::GivenUp,
            // Its clients left before the answer, or it was not to be.
            EventKind::Asleep { .. }
            | EventKind::EndpointsLost { .. }
            | EventKind::WakeRequested { .. }
            | EventKind::WakeBegun { .. }
            | EventKind::Removed => match self.outcome {
                WakeOutcome::Underway => WakeOutcome::Interrupted,
                _ => WakeOutcome::Ready,
            },
            _ => return,
        };
        (self.outcome, self.is_over, self.ended) = (outcome, true, Some(since));
    }
}

// === impl WakePhase ===

impl WakePhase {
    fn of(event: &EventKind) -> Option<Self> {
        Some(match event {
            // The write of a zero may still have been under way.
            EventKind::ScaleWritten { replicas } if *replicas > 0 => Self::ScaleWritten,
            EventKind::PodScheduled { .. } => Self::PodScheduled,
            EventKind::ImagePulled { .. } => Self::ImagePulled,
            EventKind::ContainerStarted { .. } => Self::ContainerStarted,
            EventKind::Started { .. } => Self::Started,
            EventKind::PodReadyEarly { .. } => Self::ProbesPassed,
            EventKind::PodReady { .. } => Self::PodReady,
            EventKind::EndpointSliceReady => Self::SliceReady,
            EventKind::Ready { .. } => Self::Ready,
            EventKind::Connected => Self::Connected,
            EventKind::Forwarded => Self::Forwarded,
            EventKind::FirstAnswer { .. } => Self::Answered,
            _ => return None,
        })
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::ScaleWritten => "scale_written",
            Self::PodScheduled => "pod_scheduled",
            Self::ImagePulled => "image_pulled",
            Self::ContainerStarted => "container_started",
            Self::Started => "started",
            Self::ProbesPassed => "probes_passed",
            Self::PodReady => "pod_ready",
            Self::SliceReady => "endpoint_slice_ready",
            Self::Ready => "ready",
            Self::Connected => "connected",
            Self::Forwarded => "forwarded",
            Self::Answered => "answered",
        }
    }
}
