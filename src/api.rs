//! The answers of `/api/v1` on the admin port, as types that the admin port writes and the commands read. Fields are added; none
//! changes its meaning or goes away in this version.

use serde::{Deserialize, Serialize};

use crate::cause::NotReadyReason;
use crate::ownership::directive::Directive;
use crate::ownership::{SleepBlocker, writers};
use crate::status::{ActivationStatus, ServiceStatus, SleepAfter};

use self::records::LedgerRecord;

pub mod records;

/// `/api/v1/services`: in the order of the configuration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Services {
    pub services: Vec<Service>,
}

/// One service: a host, a path prefix, and the workload behind them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Service {
    pub host: String,
    pub path_prefix: String,
    /// Kind, namespace and name.
    pub workload: String,
    /// `asleep`, `waking`, `awake`, `failing`, or `no-backend` where agimo knows no place to run the workload.
    pub state: String,
    pub ready_endpoints: usize,
    /// Requests, streams and tunnels that have arrived and not ended, of which some are held.
    pub open_requests: u64,
    pub held_requests: u32,
    /// How much agimo writes, and why; absent without a backend.
    pub scaler: Option<Decision>,
    /// The pin or schedule that applies.
    pub directive: Option<String>,
    /// The idle time after which the workload sleeps, in seconds; absent without a backend.
    pub sleep_after_seconds: Option<f64>,
    /// Where the idle time comes from, if not from the service itself: `another-service` or `prolonged`.
    pub sleep_after_from: Option<String>,
    /// What keeps the workload from sleeping, whether or not it is idle.
    pub kept_awake_by: Option<String>,
    /// Why it has no endpoint.
    pub not_ready: Option<Decision>,
    /// Why its last wake failed, while no later one has succeeded.
    pub last_failure: Option<Decision>,
    /// Who undoes what agimo writes, and how to stop that.
    pub reverted_by: Option<Reverted>,
    /// The last wake that this replica of agimo has seen.
    pub last_wake: Option<LedgerRecord>,
}

/// A decision or a state with its reason.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Decision {
    /// From a closed set.
    pub reason: String,
    /// For people.
    pub detail: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reverted {
    pub writers: Vec<String>,
    pub fix: String,
}

/// Any answer that is no success.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Problem {
    pub error: String,
}

// === impl Decision ===

impl From<&NotReadyReason> for Decision {
    fn from(reason: &NotReadyReason) -> Self {
        Self { reason: reason.cause.token().to_owned(), detail: reason.detail.clone() }
    }
}

// === impl Service ===

impl Service {
    pub fn new(status: &ServiceStatus, last_wake: Option<LedgerRecord>) -> Self {
        let service = Self {
            host: status.host.clone(),
            path_prefix: status.path_prefix.clone(),
            workload: status.workload.clone(),
            state: "no-backend".to_owned(),
            ready_endpoints: 0,
            open_requests: status.in_flight,
            held_requests: status.held,
            scaler: None,
            directive: None,
            sleep_after_seconds: None,
            sleep_after_from: None,
            kept_awake_by: None,
            not_ready: None,
            last_failure: None,
            reverted_by: None,
            last_wake,
        };
        match &status.activation {
            Some(activation) => service.with(activation),
            None => service,
        }
    }

    fn with(self, status: &ActivationStatus) -> Self {
        let (sleep_after, from) = match status.sleep_after {
            SleepAfter::Own(time) => (time, None),
            SleepAfter::OfAnotherService(time) => (time, Some("another-service")),
            SleepAfter::Prolonged(time) => (time, Some("prolonged")),
        };
        Self {
            state: status.state.to_owned(),
            ready_endpoints: status.ready_endpoints,
            scaler: Some(Decision {
                reason: status.ownership.authority.as_str().to_owned(),
                detail: status.ownership.description(),
            }),
            directive: status.directive.map(|directive| Directive::as_str(directive).to_owned()),
            sleep_after_seconds: Some(sleep_after.as_secs_f64()),
            sleep_after_from: from.map(str::to_owned),
            kept_awake_by: status.sleep_blocker.map(|by| SleepBlocker::as_str(by).to_owned()),
            not_ready: status.not_ready.as_ref().map(Decision::from),
            last_failure: status.last_failure.as_ref().map(Decision::from),
            reverted_by: status.reverted_by.as_ref().map(|names| Reverted {
                writers: names.to_vec(),
                fix: writers::fix(names, status.kind),
            }),
            ..self
        }
    }
}
