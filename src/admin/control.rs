//! Changing calls of `/api/v1`: wake a workload, put it to sleep, pin it.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hyper::StatusCode;

use super::parameters::Parameters;
use super::v1::Own;
use crate::activation::{Activation, Order};
use crate::api::Changed;
use crate::catalog::Workload;
use crate::ownership::directive::{Directive, Pin, PinnedState};
use crate::ownership::pins::OperatorPin;
use crate::ownership::{Authority, SleepBlocker};
use crate::status::{ActivationStatus, ServiceStatus};
use crate::telemetry::durations;

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    Wake,
    Sleep,
    Pin(Pin),
    Unpin,
}

/// A call that can be carried out.
pub struct Call {
    change: Change,
    pub workload: Arc<Workload>,
    /// The service as it was named.
    host: String,
    /// The name of the person, where another replica of agimo has passed the call on.
    by: Option<String>,
    status: ActivationStatus,
    activation: Arc<Activation>,
}

/// Why a call cannot be carried out.
type Refusal = (StatusCode, String);

/// A longer pin is a mistake, or should have no end.
const LONGEST_PIN: Duration = Duration::from_secs(366 * 24 * 3600);

// === impl Call ===

impl Call {
    /// Reads a path below `/api/v1/` and its query; `None` where the path changes nothing. A call that another replica of agimo
    /// has passed on says more.
    pub fn read(
        path: &str,
        query: &str,
        own: &Own,
        is_passed_on: bool,
    ) -> Option<Result<Self, Refusal>> {
        let allowed: &[&str] = match (path, is_passed_on) {
            ("wake" | "sleep" | "unpin", false) => &["host"],
            ("pin", false) => &["host", "state", "for"],
            ("wake" | "sleep" | "unpin", true) => &["host", "by"],
            ("pin", true) => &["host", "state", "until", "by"],
            _ => return None,
        };
        Some(Parameters::read(query, allowed).and_then(|parameters| {
            let change = match path {
                "wake" => Change::Wake,
                "sleep" => Change::Sleep,
                "unpin" => Change::Unpin,
                _ => Change::Pin(pin(&parameters)?),
            };
            let route = parameters.workload(&own.snapshot)?;
            let (Some(activation), Some(status)) =
                (&route.workload.activation, ServiceStatus::of(&route).activation)
            else {
                let error = "agimo knows no place to run the workload".to_owned();
                return Err((StatusCode::CONFLICT, error));
            };
            Ok(Self {
                change,
                workload: route.workload.clone(),
                host: parameters.get("host").unwrap_or_default().to_owned(),
                by: parameters.get("by").map(str::to_owned),
                status,
                activation: activation.clone(),
            })
        }))
    }

    /// Why it would have no effect now, for the replica that was called.
    pub fn check(&self, own: &Own) -> Result<(), Refusal> {
        let conflict = |error: String| Err((StatusCode::CONFLICT, error));
        let ownership = &self.status.ownership;
        let needed = match self.change {
            Change::Unpin => return Ok(()),
            Change::Wake | Change::Pin(Pin { state: PinnedState::Awake, .. }) => Authority::Wake,
            Change::Sleep | Change::Pin(Pin { state: PinnedState::Asleep, .. }) => Authority::Sleep,
        };
        if ownership.authority < needed {
            return conflict(ownership.description());
        }
        match self.change {
            Change::Wake if self.status.directive == Some(Directive::AsleepByPin) => conflict(
                "a pin keeps the workload asleep: remove it first (agimo unpin)".to_owned(),
            ),
            Change::Wake if self.status.state == "failing" => {
                conflict("the last wake failed, and the next one may not begin yet".to_owned())
            }
            Change::Sleep if self.status.state != "awake" => {
                conflict(format!("the workload is {}", self.status.state))
            }
            Change::Sleep => match self.status.sleep_blocker {
                Some(SleepBlocker::Pin) => conflict(
                    "a pin keeps the workload awake: remove it first (agimo unpin)".to_owned(),
                ),
                Some(blocker) => conflict(format!("it is kept awake by: {}", blocker.as_str())),
                None => match self.open_requests(own) {
                    0 => Ok(()),
                    1 => conflict("a request is open, and is not cut".to_owned()),
                    open => conflict(format!("{open} requests are open, and are not cut")),
                },
            },
            Change::Wake | Change::Pin(_) | Change::Unpin => Ok(()),
        }
    }

    /// Carries it out at this replica, on behalf of a person.
    pub fn perform(&self, own: &Own, by: &str) {
        let (id, pins) = (&self.workload.id, own.coordination.pins());
        let by: Arc<str> = by.into();
        let pin = match self.change {
            Change::Wake => return self.activation.order(Order::Wake { by }),
            Change::Sleep => return self.activation.order(Order::Sleep { by }),
            Change::Pin(pin) => Some(OperatorPin { pin, by }),
            Change::Unpin => None,
        };
        // The replica that was called keeps it.
        if self.by.is_some() { pins.note(id, pin) } else { pins.set(id, pin) }
    }

    /// Carries out what another replica of agimo has passed on.
    pub fn perform_passed_on(&self, own: &Own) {
        self.perform(own, self.by.as_deref().unwrap_or_default());
    }

    /// The path and query by which other replicas of agimo are told.
    pub fn passed_on(&self, by: &str) -> String {
        let (path, pin) = match self.change {
            Change::Wake => ("wake", None),
            Change::Sleep => ("sleep", None),
            Change::Unpin => ("unpin", None),
            Change::Pin(pin) => ("pin", Some(pin)),
        };
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.append_pair("host", &self.host).append_pair("by", by);
        if let Some(Pin { state, until }) = pin {
            query.append_pair("state", state.as_str());
            let until = until.and_then(|until| until.duration_since(UNIX_EPOCH).ok());
            if let Some(until) = until {
                query.append_pair("until", &until.as_secs().to_string());
            }
        }
        format!("{path}?{}", query.finish())
    }

    /// What happens now.
    pub fn outcome(&self) -> Changed {
        let detail = match self.change {
            Change::Wake => match self.status.state {
                state @ ("awake" | "waking") => format!("it is {state} already"),
                _ => "it is being woken".to_owned(),
            },
            Change::Sleep => "it sleeps as soon as every replica of agimo agrees".to_owned(),
            Change::Pin(Pin { state, until }) => {
                let state = state.as_str();
                match until.and_then(|until| until.duration_since(SystemTime::now()).ok()) {
                    Some(left) => format!("it is pinned {state} for {}", durations::whole(left)),
                    None => format!("it is pinned {state} until it is unpinned"),
                }
            }
            Change::Unpin => match &self.status.pin {
                Some((_, None)) => "its annotation still pins it".to_owned(),
                Some((_, Some(_))) => "its pin is removed".to_owned(),
                None => "it was not pinned".to_owned(),
            },
        };
        let unreachable = Vec::new();
        Changed { workload: self.workload.id.to_string(), detail, unreachable }
    }

    fn open_requests(&self, own: &Own) -> u64 {
        self.workload.demand().in_flight() + own.coordination.view(&self.workload.id).in_flight
    }
}

fn pin(parameters: &Parameters) -> Result<Pin, Refusal> {
    let bad = |error: String| (StatusCode::BAD_REQUEST, error);
    let state = match parameters.get("state") {
        None | Some("awake") => PinnedState::Awake,
        Some("asleep") => PinnedState::Asleep,
        Some(other) => return Err(bad(format!("`state` is awake or asleep, not `{other}`"))),
    };
    if let Some(until) = parameters.get("until") {
        let until =
            until.parse().map_err(|_| bad("`until` is in seconds since 1970".to_owned()))?;
        let until = UNIX_EPOCH.checked_add(Duration::from_secs(until));
        return Ok(Pin { state, until });
    }
    let Some(text) = parameters.get("for") else { return Ok(Pin { state, until: None }) };
    let lifetime = humantime::parse_duration(text).ok();
    let lifetime = lifetime.filter(|time| (Duration::from_secs(1)..=LONGEST_PIN).contains(time));
    let lifetime = lifetime.ok_or_else(|| {
        bad(format!("`for` is a time such as 2h or 30m, from a second to a year, not `{text}`"))
    })?;
    Ok(Pin { state, until: Some(SystemTime::now() + lifetime) })
}
