//! `/api/v1/explain`: which service a request would reach, why its workload is awake or asleep, and what would happen to the
//! request now.

use std::fmt::Write as _;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::activation::Activation;
use crate::catalog::Route;
use crate::ownership::SleepBlocker;
use crate::ownership::directive::Directive;
use crate::status::{ActivationStatus, ServiceStatus};
use crate::telemetry::durations;

use super::{Decision, Service};

/// One service, explained.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Explanation {
    pub service: Service,
    /// Which host and path prefix of the configuration a request has matched.
    pub matched_by: String,
    /// Other services that lead to the same workload: host and path prefix.
    pub same_workload: Vec<String>,
    /// Why the workload is in its state.
    pub why: String,
    /// `forwarded`, `held` or `rejected`, and how.
    pub request_now: Decision,
}

// === impl Explanation ===

impl Explanation {
    pub fn new(route: &Route, service: Service, status: &ServiceStatus, same: Vec<String>) -> Self {
        let host = &route.config.host;
        let kind = if host.starts_with('*') { "wildcard host" } else { "host" };
        Self {
            matched_by: format!("{kind} {host}, path prefix {}", route.config.path_prefix),
            same_workload: same,
            why: why(&service, status),
            request_now: request_now(route, status),
            service,
        }
    }
}

fn why(service: &Service, status: &ServiceStatus) -> String {
    let Some(activation) = &status.activation else {
        return "agimo knows no place to run the workload".to_owned();
    };
    let mut text = match activation.state {
        "awake" => why_awake(service, activation),
        "waking" => {
            let held = count(service.workload_load.held_requests, "request waits", "requests wait");
            format!("it was woken and has no ready endpoint yet; {held} for it")
        }
        "failing" => "its last wake failed, and the next one may not begin yet".to_owned(),
        _ => match activation.directive {
            Some(Directive::AsleepByPin) => format!("a pin{} keeps it asleep", of_pin(service)),
            _ => "no request waits for it".to_owned(),
        },
    };
    // Writing to a String cannot fail.
    if let Some(reason) = &activation.not_ready {
        let _ = write!(text, "; not ready because {}", reason.cause.description());
        if !reason.detail.is_empty() {
            let _ = write!(text, ": {}", reason.detail);
        }
    }
    if let Some(failure) = &activation.last_failure {
        let _ = write!(text, "; {}", failure.cause.description());
        if !failure.detail.is_empty() {
            let _ = write!(text, ": {}", failure.detail);
        }
    }
    text
}

fn why_awake(service: &Service, status: &ActivationStatus) -> String {
    match status.sleep_blocker {
        Some(SleepBlocker::External) => {
            return format!("agimo does not scale it to zero: {}", status.ownership.description());
        }
        Some(SleepBlocker::Peers) => {
            return "another replica of agimo does not report, and may have requests for it".into();
        }
        Some(SleepBlocker::Rollout) => return "a rollout has not finished".to_owned(),
        Some(SleepBlocker::Pin) => return format!("a pin{} keeps it awake", of_pin(service)),
        Some(SleepBlocker::Schedule) => return "a schedule keeps it awake".to_owned(),
        None => {}
    }
    let super::Load { open_requests, open_tunnels, .. } = service.workload_load;
    if open_requests > 0 {
        let open = count(open_requests, "request is open", "requests are open");
        return match open_tunnels {
            0 => open,
            tunnels => format!("{open}, of them {}", count(tunnels, "tunnel", "tunnels")),
        };
    }
    match status.sleeps_at.map(|at| at.saturating_duration_since(Instant::now())) {
        Some(left) => {
            format!("it is idle, and is scaled to zero in {}", durations::whole(left))
        }
        None => "a request has just ended".to_owned(),
    }
}

/// Who set the pin.
fn of_pin(service: &Service) -> String {
    match service.pin.as_ref().and_then(|pin| pin.by.as_deref()) {
        Some(name) => format!(" of {name}"),
        None => String::new(),
    }
}

fn request_now(route: &Route, status: &ServiceStatus) -> Decision {
    let decide = |reason: &str, detail: String| Decision { reason: reason.to_owned(), detail };
    let (Some(activation), Some(state)) = (&route.workload.activation, &status.activation) else {
        let why = "because agimo knows no place to run the workload";
        return decide("rejected", why.to_owned());
    };
    if let Some(rejection) = rejection(activation) {
        return decide("rejected", format!("because {rejection}"));
    }
    if state.ready_endpoints > 0 {
        let to = match state.ready_endpoints {
            1 => "to the only ready endpoint".to_owned(),
            several => format!("to one of {several} ready endpoints"),
        };
        return decide("forwarded", format!("at once, {to}"));
    }
    if status.held >= route.config.max_held {
        let held = route.config.max_held;
        return decide("rejected", format!("because {held} requests are held already (max_held)"));
    }
    let limit = durations::whole(route.config.hold_timeout);
    let until = format!("until an endpoint is ready, for {limit} at most (hold_timeout)");
    let authority = state.ownership.authority;
    decide(
        "held",
        match state.state {
            "waking" => format!("{until}; the workload is waking"),
            "awake" => format!("{until}; none of the workload is ready for this service"),
            _ if authority.wakes() => format!("{until}; agimo wakes the workload"),
            _ => format!("{until}; another scaler must wake it: {}", state.ownership.description()),
        },
    )
}

/// Why a request is rejected now.
fn rejection(activation: &Activation) -> Option<String> {
    let rejection = activation.published().rejection.filter(|rejection| !rejection.has_ended())?;
    let left = rejection.until.saturating_duration_since(Instant::now());
    let cause = rejection.cause;
    // A pin without an end rejects for a year.
    let is_long = left > Duration::from_secs(30 * 24 * 3600);
    let until = if is_long { String::new() } else { format!(", for {}", durations::whole(left)) };
    Some(format!("{}{until} (503, {})", cause.description(), cause.token()))
}

fn count(number: u64, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}
