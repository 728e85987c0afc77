//! `/api/v1/wakes`: the records of the ledger.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::ledger::Excerpt;
use crate::ledger::record::{
    Failure, Record, RecordKind, SleepCause, Wake, WakeCause, WakeOutcome,
};
use crate::ownership::directive::Directive;
use crate::telemetry::durations::{millis, since_1970};

use super::Decision;

/// `/api/v1/wakes`: what has happened to workloads, newest first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LedgerRecords {
    /// The replica of agimo that answers.
    pub replica: String,
    pub records: Vec<LedgerRecord>,
    /// Events that came faster than they could be recorded: something may be missing.
    pub lost_events: u64,
    /// Other replicas of agimo that did not answer, and why: what they know is missing.
    #[serde(default)]
    pub unreachable: Vec<String>,
}

/// Something that happened to a workload.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LedgerRecord {
    /// The replica of agimo that has recorded it.
    pub replica: String,
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
    /// Scaled to zero: `by` is `idle`, `pin`, `operator` for a person who asked agimo, or `elsewhere` for another scaler or
    /// person.
    Sleep {
        by: String,
        /// Of the operator.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        name: Option<String>,
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
    /// Of a newer agimo.
    #[serde(other)]
    Unknown,
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
    /// A person who asked agimo.
    Operator { name: String },
    /// Another replica of agimo, another scaler or a person; or of a kind that only a newer agimo knows.
    #[serde(other)]
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

/// Who has scaled a workload to zero, where agimo has not.
const ELSEWHERE: &str = "elsewhere";
/// In seconds: replicas of agimo learn of an endpoint within this time, and their clocks differ by less.
const SAME_TIME: f64 = 2.0;
/// Records of one workload with which another one is compared: replicas record the same at nearly the same time.
const NEIGHBOURS: usize = 8;

// === impl LedgerRecords ===

impl LedgerRecords {
    /// `with_requests`: whether they say which request caused a wake.
    pub fn new(excerpt: &Excerpt, replica: &str, with_requests: bool) -> Self {
        let shown = |record: &Arc<Record>| LedgerRecord::new(record, replica, with_requests);
        Self {
            replica: replica.to_owned(),
            records: excerpt.records.iter().map(shown).collect(),
            lost_events: excerpt.lost_events,
            unreachable: Vec::new(),
        }
    }

    /// Adds what other replicas have recorded, each wake and sleep once, and keeps the newest.
    pub fn merge(&mut self, others: Vec<Self>, most: usize) {
        let mut all = std::mem::take(&mut self.records);
        for other in others.into_iter().filter(|other| other.replica != self.replica) {
            all.extend(other.records);
            self.lost_events += other.lost_events;
        }
        all.sort_by(|one, other| other.at_unix.total_cmp(&one.at_unix));
        let mut of_workload: HashMap<String, Vec<usize>> = HashMap::new();
        for record in all {
            let known = of_workload.entry(record.workload.clone()).or_default();
            let near = known.iter().rev().take(NEIGHBOURS).copied();
            let same = near.into_iter().find(|at| self.records[*at].is_same(&record));
            match same {
                // Whoever caused it knows most; of several, the first one.
                Some(at) if record.rank() >= self.records[at].rank() => self.records[at] = record,
                Some(_) => {}
                None => {
                    known.push(self.records.len());
                    self.records.push(record);
                }
            }
        }
        self.records.sort_by(|one, other| other.at_unix.total_cmp(&one.at_unix));
        self.records.truncate(most);
    }
}

// === impl LedgerRecord ===

impl LedgerRecord {
    /// `with_requests`: whether it says which request caused a wake.
    pub fn new(record: &Record, replica: &str, with_requests: bool) -> Self {
        let at = since_1970(record.at);
        Self {
            replica: replica.to_owned(),
            workload: record.workload.to_string(),
            at_unix: at.as_millis() as f64 / 1e3,
            what: What::new(&record.kind, with_requests),
        }
    }

    /// How much the replica that has recorded it knows of its cause.
    fn rank(&self) -> u8 {
        match &self.what {
            What::Wake(wake) => match wake.cause {
                Cause::Request { .. } => 2,
                Cause::Operator { .. } | Cause::Directive { .. } => 1,
                Cause::Elsewhere => 0,
            },
            What::Sleep { by, .. } => u8::from(by != ELSEWHERE),
            _ => 0,
        }
    }

    /// Whether two replicas have recorded the same wake, sleep or failure of a workload.
    fn is_same(&self, other: &Self) -> bool {
        let is_same_kind = match (&self.what, &other.what) {
            (What::Wake(_), What::Wake(_)) | (What::Sleep { .. }, What::Sleep { .. }) => true,
            (What::Failure { what, .. }, What::Failure { what: other, .. }) => what == other,
            _ => false,
        };
        let end = |record: &Self| {
            let last = match &record.what {
                What::Wake(wake) => wake.phases.last().map_or(0.0, |phase| phase.after_ms / 1e3),
                _ => 0.0,
            };
            record.at_unix + last + SAME_TIME
        };
        is_same_kind
            && self.replica != other.replica
            && self.at_unix <= end(other)
            && other.at_unix <= end(self)
    }
}

// === impl What ===

impl What {
    fn new(kind: &RecordKind, with_requests: bool) -> Self {
        match kind {
            RecordKind::Wake(wake) => Self::Wake(Box::new(WakeRecord::new(wake, with_requests))),
            RecordKind::Sleep { idle, cause } => {
                let (by, name) = match cause {
                    SleepCause::Idle => ("idle", None),
                    SleepCause::Pin => ("pin", None),
                    SleepCause::Operator(name) => ("operator", Some(name.to_string())),
                };
                Self::Sleep { by: by.to_owned(), name, idle_ms: Some(millis(*idle)) }
            }
            RecordKind::SleptElsewhere => {
                Self::Sleep { by: ELSEWHERE.to_owned(), name: None, idle_ms: None }
            }
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

impl WakeRecord {
    fn new(wake: &Wake, with_requests: bool) -> Self {
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
            cause: Cause::new(&wake.cause, with_requests),
            phases: wake.phases.iter().map(phase).collect(),
            outcome: outcome.to_owned(),
            failure,
            obstacle: wake.obstacle.as_ref().map(Decision::from),
        }
    }
}

// === impl Cause ===

impl Cause {
    fn new(cause: &WakeCause, with_requests: bool) -> Self {
        match cause {
            WakeCause::Request { service, request } => Self::Request {
                service: service.to_string(),
                request: request.as_ref().filter(|_| with_requests).map(|request| Request {
                    method: request.method.clone(),
                    path: request.path.clone(),
                    network: request.network.map(|network| network.to_string()),
                    client_kind: request.client_kind.to_owned(),
                }),
            },
            WakeCause::Directive(directive) => {
                Self::Directive { directive: Directive::as_str(*directive).to_owned() }
            }
            WakeCause::Operator(name) => Self::Operator { name: name.to_string() },
            WakeCause::Elsewhere => Self::Elsewhere,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wake(replica: &str, at_unix: f64, cause: Cause) -> LedgerRecord {
        let wake = WakeRecord {
            cause,
            phases: vec![Phase { phase: "ready".to_owned(), after_ms: 3_000.0 }],
            outcome: "ready".to_owned(),
            failure: None,
            obstacle: None,
        };
        let what = What::Wake(Box::new(wake));
        LedgerRecord { replica: replica.to_owned(), workload: "web".to_owned(), at_unix, what }
    }

    fn records(replica: &str, records: Vec<LedgerRecord>) -> LedgerRecords {
        let replica = replica.to_owned();
        LedgerRecords { replica, records, lost_events: 1, unreachable: Vec::new() }
    }

    #[test]
    fn records_of_several_replicas_are_ordered_and_one_wake_is_shown_once() {
        let requested = || Cause::Request { service: "a.test".to_owned(), request: None };
        let sleep = |replica: &str, at_unix, by: &str| LedgerRecord {
            what: What::Sleep { by: by.to_owned(), name: None, idle_ms: None },
            ..wake(replica, at_unix, Cause::Elsewhere)
        };
        let mut own = records(
            "a",
            vec![
                wake("a", 500.0, Cause::Elsewhere),
                sleep("a", 300.0, ELSEWHERE),
                sleep("a", 110.0, "idle"),
                wake("a", 103.1, Cause::Elsewhere),
                wake("a", 50.0, requested()),
            ],
        );
        let other = records(
            "b",
            vec![
                wake("b", 500.2, Cause::Elsewhere),
                sleep("b", 110.1, ELSEWHERE),
                wake("b", 100.0, requested()),
                // Its request came a moment later.
                wake("b", 51.0, requested()),
            ],
        );
        // A replica may ask itself before it knows its own address.
        own.merge(vec![other, own.clone()], 5);
        let shown: Vec<_> =
            own.records.iter().map(|record| (&*record.replica, record.at_unix)).collect();
        assert_eq!(shown, [("a", 500.0), ("a", 300.0), ("a", 110.0), ("b", 100.0), ("a", 50.0)]);
        assert_eq!(own.lost_events, 2);
        own.merge(Vec::new(), 1);
        assert_eq!(own.records.len(), 1);
    }

    #[test]
    fn an_answer_is_read_as_it_was_written() {
        let kinds = [
            What::Sleep { by: "idle".to_owned(), name: None, idle_ms: Some(5.0) },
            What::WakeObserved { replicas: 2 },
            What::Failure { what: "endpoints-lost".to_owned(), detail: String::new() },
        ];
        let of_kind = |what| LedgerRecord { what, ..wake("a", 1.5, Cause::Elsewhere) };
        let mut all: Vec<_> = kinds.into_iter().map(of_kind).collect();
        all.push(wake("b", 2.5, Cause::Directive { directive: "pinned-awake".to_owned() }));
        let written = serde_json::to_string(&records("a", all.clone())).unwrap();
        assert!(written.contains(r#""kind":"sleep","by":"idle""#), "{written}");
        assert_eq!(serde_json::from_str::<LedgerRecords>(&written).unwrap().records, all);
        let newer = written.replace("\"directive\"", "\"moon\"").replace("wake_observed", "dream");
        let read = serde_json::from_str::<LedgerRecords>(&newer).unwrap().records;
        assert_eq!((read.len(), &read[1].what), (4, &What::Unknown));
    }
}
