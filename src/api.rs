//! The answers of `/api/v1` on the admin port, as types that the admin port writes and the commands read. Fields are added; none
//! changes its meaning or goes away in this version.

use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::cause::NotReadyReason;
use crate::config::service_name;
use crate::coordination::PeerView;
use crate::ownership::directive::Directive;
use crate::ownership::{SleepBlocker, writers};
use crate::status::{self, ActivationStatus, ServiceStatus, SleepAfter};
use crate::telemetry::durations::since_1970;

use self::records::LedgerRecord;

pub mod explanation;
pub mod records;
pub mod requests;
pub mod savings;

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
    /// When the oldest held request began to be held, in seconds since 1970.
    #[serde(default)]
    pub oldest_held_at_unix: Option<f64>,
    /// WebSockets and other tunnels among the open requests.
    #[serde(default)]
    pub open_tunnels: u64,
    /// What is open over all services of the workload, at all replicas of agimo.
    #[serde(default)]
    pub workload_load: Load,
    /// Who scales the workload, `agimo` or `external`, and why; absent without a backend.
    pub scaler: Option<Decision>,
    /// How much agimo writes: `report`, `wake`, `sleep` or `scale`, each with the ones before.
    #[serde(default)]
    pub authority: Option<String>,
    /// The pin or schedule that applies.
    pub directive: Option<String>,
    /// The pin, where one applies.
    #[serde(default)]
    pub pin: Option<PinReport>,
    /// The idle time after which the workload sleeps, in seconds; absent without a backend.
    pub sleep_after_seconds: Option<f64>,
    /// Where the idle time comes from, if not from the service itself: `another-service` or `prolonged`.
    pub sleep_after_from: Option<String>,
    /// When the workload is put to sleep, unless a request arrives, in seconds since 1970; absent while something keeps it awake.
    #[serde(default)]
    pub sleeps_at_unix: Option<f64>,
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

/// Requests, streams and tunnels that have arrived and not ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Load {
    pub open_requests: u64,
    pub held_requests: u64,
    pub open_tunnels: u64,
}

/// `/api/v1/peers`: the replica that answers, and the others that it knows of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Peers {
    pub replica: String,
    pub version: String,
    /// It scales workloads to zero.
    pub is_leader: bool,
    pub peers: Vec<Peer>,
}

/// Another replica of agimo.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Peer {
    pub address: String,
    /// Its demand is known now. While one is unknown, nothing is put to sleep.
    pub is_known: bool,
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

/// What a changing call has done.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Changed {
    pub workload: String,
    /// For people: what happens now.
    pub detail: String,
    /// Other replicas of agimo that could not be told, and why.
    #[serde(default)]
    pub unreachable: Vec<String>,
}

/// A pin that applies.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PinReport {
    /// When it ends by itself, in seconds since 1970.
    pub until_unix: Option<f64>,
    /// Who set it; absent where it is an annotation.
    pub by: Option<String>,
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
    /// The host, and the path prefix unless that is `/`.
    pub fn name(&self) -> String {
        service_name(&self.host, &self.path_prefix)
    }

    /// `elsewhere`: what the other replicas of agimo report of the workload.
    pub fn new(
        status: &ServiceStatus,
        elsewhere: &PeerView,
        last_wake: Option<LedgerRecord>,
    ) -> Self {
        let service = Self {
            host: status.host.clone(),
            path_prefix: status.path_prefix.clone(),
            workload: status.workload.clone(),
            state: "no-backend".to_owned(),
            ready_endpoints: 0,
            open_requests: status.in_flight,
            held_requests: status.held,
            oldest_held_at_unix: status.oldest_held.map(unix),
            open_tunnels: status.tunnels,
            workload_load: Load::of(status.workload_load, elsewhere),
            scaler: None,
            authority: None,
            directive: None,
            pin: None,
            sleep_after_seconds: None,
            sleep_after_from: None,
            sleeps_at_unix: None,
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
            authority: Some(status.ownership.authority.token().to_owned()),
            directive: status.directive.map(|directive| Directive::as_str(directive).to_owned()),
            pin: status.pin.as_ref().map(|(pin, by)| PinReport {
                until_unix: pin.until.map(|until| since_1970(until).as_secs_f64()),
                by: by.as_deref().map(str::to_owned),
            }),
            sleep_after_seconds: Some(sleep_after.as_secs_f64()),
            sleep_after_from: from.map(str::to_owned),
            sleeps_at_unix: status.sleeps_at.map(unix),
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

// === impl Load ===

impl Load {
    fn of(own: status::Load, elsewhere: &PeerView) -> Self {
        Self {
            open_requests: own.in_flight + elsewhere.in_flight,
            held_requests: own.held + elsewhere.held,
            open_tunnels: own.tunnels + elsewhere.tunnels,
        }
    }
}

/// In seconds since 1970, to a tenth: the same moment is the same number each time it is asked for, or nearly.
fn unix(at: Instant) -> f64 {
    let (now, clock) = (Instant::now(), SystemTime::now());
    let at = match at.checked_duration_since(now) {
        Some(ahead) => clock.checked_add(ahead),
        None => clock.checked_sub(now - at),
    };
    (at.map(since_1970).unwrap_or_default().as_secs_f64() * 10.0).round() / 10.0
}
