//! A record in one sentence, for Events and logs.

use std::fmt::Display;

use super::record::{Failure, Record, RecordKind, SleepCause, Wake, WakeCause, WakeOutcome};
use super::recorded_request::RecordedRequest;
use crate::ownership::directive::Directive;
use crate::telemetry::durations::{short, whole};

// === impl Record ===

impl Record {
    /// What happened, without the name of the workload.
    pub fn summary(&self) -> String {
        match &self.kind {
            RecordKind::Wake(wake) => wake.summary(),
            RecordKind::Sleep { cause: SleepCause::Operator(name), .. } => {
                format!("scaled to zero, as {name} asked for")
            }
            RecordKind::Sleep { idle, cause } => {
                let by = if *cause == SleepCause::Pin { " by a pin" } else { "" };
                format!("scaled to zero{by}, after {} without a request", whole(*idle))
            }
            RecordKind::SleptElsewhere => "scaled to zero by another scaler or a person".to_owned(),
            RecordKind::WakeObserved { replicas } => format!("agimo would scale to {replicas}"),
            RecordKind::SleepObserved { idle } => {
                format!("idle for {}: agimo would scale to zero", whole(*idle))
            }
            RecordKind::Failure(failure) => failure.summary(),
        }
    }
}

// === impl Failure ===

impl Failure {
    fn summary(&self) -> String {
        match self {
            Self::EndpointsLost => "no endpoint is ready any more".to_owned(),
            Self::SleepFailed { detail } => format!("could not be scaled to zero: {detail}"),
            Self::ProcessExited { detail } => format!("a process ended: {detail}"),
            Self::ProcessUnresponsive { detail } => format!("a process does not answer: {detail}"),
        }
    }
}

// === impl Wake ===

impl Wake {
    fn summary(&self) -> String {
        let cause = match &self.cause {
            WakeCause::Request { service, request: Some(request) } => {
                format!("woken by {} for {service}", request.summary())
            }
            WakeCause::Request { service, request: None } => {
                format!("woken by a request for {service}")
            }
            WakeCause::Directive(Directive::AwakeBySchedule) => "woken by a schedule".to_owned(),
            WakeCause::Directive(_) => "woken by a pin".to_owned(),
            WakeCause::Operator(name) => format!("woken, as {name} asked for"),
            WakeCause::Elsewhere => "scaled up by another scaler or a person".to_owned(),
        };
        let outcome = match &self.outcome {
            WakeOutcome::Underway => "not ready yet".to_owned(),
            WakeOutcome::Ready | WakeOutcome::Answered => String::new(),
            WakeOutcome::Failed { reason, detail } => format!("failed ({reason}): {detail}"),
            WakeOutcome::Cancelled => "no request waits any more".to_owned(),
            WakeOutcome::GivenUp => "given up, as it never became ready".to_owned(),
            WakeOutcome::Interrupted => "interrupted before it was ready".to_owned(),
        };
        let phases = self.phases.iter().map(|(phase, after)| {
            format!("{} after {}", phase.as_str().replace('_', " "), short(*after))
        });
        let obstacle = self.obstacle.iter().map(|obstacle| {
            format!("not ready because of {}: {}", obstacle.cause.token(), obstacle.detail)
        });
        let details = std::iter::once(outcome).chain(phases).chain(obstacle);
        let details: Vec<String> = details.filter(|detail| !detail.is_empty()).collect();
        if details.is_empty() { cause } else { format!("{cause}; {}", details.join(", ")) }
    }
}

// === impl RecordedRequest ===

impl RecordedRequest {
    fn summary(&self) -> String {
        request(&self.method, &self.path, self.network.as_ref(), self.client_kind)
    }
}

/// A request with what is known of its client.
pub fn request(
    method: &str,
    path: &str,
    network: Option<&impl Display>,
    client_kind: &str,
) -> String {
    let from = network.map_or(String::new(), |network| format!(" from {network}"));
    format!("{method} {path}{from} ({client_kind})")
}
