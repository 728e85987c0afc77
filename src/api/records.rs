//! `/api/v1/wakes`: the records of the ledger.

use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::ledger::Excerpt;
use crate::ledger::record::{Failure, Record, RecordKind, Wake, WakeCause, WakeOutcome};
use crate::ownership::directive::Directive;

use super::Decision;

/// `/api/v1/wakes`: what has happened to workloads, newest first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LedgerRecords {
    pub records: Vec<LedgerRecord>,
    /// Events that came faster than they could be recorded: something may be missing.
    pub lost_events: u64,
}

/// Something that happened to a workload.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LedgerRecord {
    pub workload: String,
    /// In seconds since 1970-01-01 UTC.
    pub at_unix: f64,
    #[serde(flatten)]
    pub what: What,
}

/// What happened. Times are in milliseconds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum What {
    Wake(Box<WakeRecord>),
    /// Scaled to zero: `by` is `idle`, `pin`, or `elsewhere` for another scaler or a person.
    Sleep {
        by: String,
        idle_ms: Option<f64>,
    },
    /// With `mode = "observe"`: what agimo would have done.
    WakeObserved {
        replicas: u32,
    },
    SleepObserved {
        idle_ms: f64,
    },
    /// `what` is `endpoints-lost`, `sleep-failed`, `process-exited` or `process-unresponsive`.
    Failure {
        what: String,
        detail: String,
    },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WakeRecord {
    pub cause: Cause,
    /// In the order in which they were reached, in milliseconds after the beginning.
    pub phases: Vec<Phase>,
    /// `underway`, `ready`, `answered`, `failed`, `cancelled`, `given-up` or `interrupted`.
    pub outcome: String,
    /// Why it failed.
    pub failure: Option<Decision>,
    /// What last kept the workload from becoming ready.
    pub obstacle: Option<Decision>,
}

/// Who caused a wake.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "by", rename_all = "snake_case")]
pub enum Cause {
    Request {
        /// Host and path prefix.
        service: String,
        /// Absent with `record_requests = false`.
        request: Option<Request>,
    },
    /// A pin or a schedule.
    Directive { directive: String },
    /// Another replica of agimo, another scaler or a person; or it was awake when agimo started.
    Elsewhere,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Request {
    pub method: String,
    pub path: String,
    /// Of the client: /24 for IPv4, /48 for IPv6.
    pub network: Option<String>,
    /// `browser`, `crawler`, `monitor`, `command line`, `program` or `unnamed`.
    pub client_kind: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Phase {
    pub phase: String,
    pub after_ms: f64,
}

// === impl LedgerRecords ===

impl From<&Excerpt> for LedgerRecords {
    fn from(excerpt: &Excerpt) -> Self {
        let records = excerpt.records.iter().map(LedgerRecord::from).collect();
        Self { records, lost_events: excerpt.lost_events }
    }
}

// === impl LedgerRecord ===

impl From<&Record> for LedgerRecord {
    fn from(record: &Record) -> Self {
        let at = record.at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self {
            workload: record.workload.to_string(),
            at_unix: at.as_millis() as f64 / 1e3,
            what: What::from(&record.kind),
        }
    }
}

// === impl What ===

impl From<&RecordKind> for What {
    fn from(kind: &RecordKind) -> Self {
        match kind {
            RecordKind::Wake(wake) => Self::Wake(Box::new(WakeRecord::from(wake))),
            RecordKind::Sleep { idle, by_pin } => {
                let by = if *by_pin { "pin" } else { "idle" };
                Self::Sleep { by: by.to_owned(), idle_ms: Some(millis(*idle)) }
            }
            RecordKind::SleptElsewhere => Self::Sleep { by: "elsewhere".to_owned(), idle_ms: None },
            RecordKind::WakeObserved { replicas } => Self::WakeObserved { replicas: *replicas },
            RecordKind::SleepObserved { idle } => Self::SleepObserved { idle_ms: millis(*idle) },
            RecordKind::Failure(failure) => {
                let (what, detail) = match failure {
                    Failure::EndpointsLost => ("endpoints-lost", ""),
                    Failure::SleepFailed { detail } => ("sleep-failed", &**detail),
                    Failure::ProcessExited { detail } => ("process-exited", &**detail),
                    Failure::ProcessUnresponsive { detail } => ("process-unresponsive", &**detail),
                };
                Self::Failure { what: what.to_owned(), detail: detail.to_owned() }
            }
        }
    }
}

// === impl WakeRecord ===

impl From<&Wake> for WakeRecord {
    fn from(wake: &Wake) -> Self {
        let (outcome, failure) = match &wake.outcome {
            WakeOutcome::Underway => ("underway", None),
            WakeOutcome::Ready => ("ready", None),
            WakeOutcome::Answered => ("answered", None),
            WakeOutcome::Failed { reason, detail } => {
                let (reason, detail) = ((*reason).to_owned(), detail.clone());
                ("failed", Some(Decision { reason, detail }))
            }
            WakeOutcome::Cancelled => ("cancelled", None),
            WakeOutcome::GivenUp => ("given-up", None),
            WakeOutcome::Interrupted => ("interrupted", None),
        };
        let phase = |(phase, after): &(crate::ledger::record::WakePhase, Duration)| Phase {
            phase: phase.as_str().to_owned(),
            after_ms: millis(*after),
        };
        Self {
            cause: Cause::from(&wake.cause),
            phases: wake.phases.iter().map(phase).collect(),
            outcome: outcome.to_owned(),
            failure,
            obstacle: wake.obstacle.as_ref().map(|obstacle| Decision {
                reason: obstacle.cause.token().to_owned(),
                detail: obstacle.detail.clone(),
            }),
        }
    }
}

// === impl Cause ===

impl From<&WakeCause> for Cause {
    fn from(cause: &WakeCause) -> Self {
        match cause {
            WakeCause::Request { service, request } => Self::Request {
                service: service.to_string(),
                request: request.as_ref().map(|request| Request {
                    method: request.method.clone(),
                    path: request.path.clone(),
                    network: request.network.map(|network| network.to_string()),
                    client_kind: request.client_kind.to_owned(),
                }),
            },
            WakeCause::Directive(directive) => {
                Self::Directive { directive: Directive::as_str(*directive).to_owned() }
            }
            WakeCause::Elsewhere => Self::Elsewhere,
        }
    }
}

fn millis(duration: Duration) -> f64 {
    duration.as_micros() as f64 / 1e3
}
