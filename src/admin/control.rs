//! Changing calls of `/api/v1`: wake a workload, put it to sleep, pin it.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hyper::StatusCode;

use super::parameters::Parameters;
use super::response::Refusal;
use super::v1::Own;
use crate::activation::{Activation, Order};
use crate::api::Changed;
use crate::catalog::{Route, Workload};
use crate::ownership::directive::{Directive, Pin, PinnedState};
use crate::ownership::pins::OperatorPin;
use crate::ownership::{Authority, SleepBlocker};
use crate::status::{ActivationStatus, ServiceStatus};
use crate::telemetry::durations::{self, since_1970};
use crate::workload::{WorkloadId, WorkloadKind};

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
    status: ActivationStatus,
    activation: Arc<Activation>,
}

/// A longer pin is a mistake, or should have no end.
const LONGEST_PIN: Duration = Duration::from_secs(366 * 24 * 3600);

/// Whether this path below `/api/v1/` changes something.
pub fn is_change(path: &str) -> bool {
    matches!(path, "wake" | "sleep" | "pin" | "unpin")
}

// === impl Call ===

impl Call {
    /// Reads a path that changes something, and its query, for the workload that is meant.
    ///
    /// # Errors
    /// When the query is wrong, or no workload or several are meant.
    pub fn read(path: &str, query: &str, own: &Own) -> Result<Self, Refusal> {
        let allowed: &[&str] = if path == "pin" { &["host", "state", "for"] } else { &["host"] };
        let parameters = Parameters::read(query, allowed)?;
        Self::new(path, &parameters, &*parameters.workload(&own.snapshot)?)
    }

    /// Reads what another replica of agimo has passed on, and the name of the person who asked.
    ///
    /// # Errors
    /// When this replica does not know the workload, or of a newer agimo.
    pub fn passed_on_by_peer(
        path: &str,
        query: &str,
        own: &Own,
    ) -> Result<(Self, String), Refusal> {
        let names = ["kind", "namespace", "name", "by", "state", "until"];
        let parameters = Parameters::read(query, &names)?;
        let meant = |route: &&Arc<Route>| {
            let WorkloadId { kind, namespace, name } = &*route.workload.id;
            [("kind", kind.as_str()), ("namespace", namespace), ("name", name)]
                .into_iter()
                .all(|(parameter, value)| parameters.get(parameter) == Some(value))
        };
        let route = own.snapshot.routes.iter().find(meant);
        let (Some(route), Some(by)) = (route, parameters.get("by")) else {
            return Err((StatusCode::NOT_FOUND, "the workload is not known here".to_owned()));
        };
        Ok((Self::new(path, &parameters, route)?, by.to_owned()))
    }

    fn new(path: &str, parameters: &Parameters, route: &Route) -> Result<Self, Refusal> {
        let change = match path {
            "wake" => Change::Wake,
            "sleep" => Change::Sleep,
            "unpin" => Change::Unpin,
            _ => Change::Pin(pin(parameters)?),
        };
        let (Some(activation), Some(status)) =
            (&route.workload.activation, ServiceStatus::of(route).activation)
        else {
            let error = "agimo knows no place to run the workload".to_owned();
            return Err((StatusCode::CONFLICT, error));
        };
        let (workload, activation) = (route.workload.clone(), activation.clone());
        Ok(Self { change, workload, status, activation })
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
            Change::Sleep if !self.may_be_put_to_sleep() => {
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
        // Every replica keeps it: whichever is told of the next change knows what there is to change.
        pins.set(id, pin);
    }

    /// The path and query by which other replicas of agimo are told.
    pub fn passed_on(&self, by: &str) -> String {
        let (path, pin) = match self.change {
            Change::Wake => ("wake", None),
            Change::Sleep => ("sleep", None),
            Change::Unpin => ("unpin", None),
            Change::Pin(pin) => ("pin", Some(pin)),
        };
        let WorkloadId { kind, namespace, name } = &*self.workload.id;
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.append_pair("kind", kind.as_str()).append_pair("namespace", namespace);
        query.append_pair("name", name).append_pair("by", by);
        if let Some(Pin { state, until }) = pin {
            query.append_pair("state", state.as_str());
            if let Some(until) = until {
                query.append_pair("until", &since_1970(until).as_secs().to_string());
            }
        }
        format!("{path}?{}", query.finish())
    }

    /// Whether only the replica that leads can do it.
    pub fn needs_leader(&self) -> bool {
        self.change == Change::Sleep && !self.is_process()
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
            Change::Unpin => {
                let removed = match &self.status.pin {
                    Some((_, Some(_))) => "its pin is removed",
                    _ => "agimo had no pin for it",
                };
                let annotated = self.activation.backend_status().scale_facts.pin.is_some();
                let more = if annotated { "; its annotation pins it" } else { "" };
                format!("{removed}{more}")
            }
        };
        let unreachable = Vec::new();
        Changed { workload: self.workload.id.to_string(), detail, unreachable }
    }

    /// Whether it is awake, or is being woken without a process that ends its start by itself.
    fn may_be_put_to_sleep(&self) -> bool {
        self.status.state == "awake" || (self.status.state == "waking" && !self.is_process())
    }

    fn is_process(&self) -> bool {
        self.workload.id.kind == WorkloadKind::Process
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
    // In whole seconds: all replicas of agimo keep the same.
    let end = since_1970(SystemTime::now() + lifetime).as_secs();
    Ok(Pin { state, until: Some(UNIX_EPOCH + Duration::from_secs(end)) })
}
