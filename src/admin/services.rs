//! The status of services and lifecycle events as JSON, for people and programs.

use serde_json::{Value, json};

use crate::activation::events::{EventKind, LifecycleEvent};
use crate::ownership::directive::Directive;
use crate::ownership::{SleepBlocker, writers};
use crate::status::{ActivationStatus, ServiceStatus, SleepAfter};
use crate::telemetry::durations::{millis, since_1970};

/// The answer to `/services`.
pub fn services(services: &[ServiceStatus]) -> Value {
    services.iter().map(service).collect()
}

/// One event of `/events`: the workload, the name of the event, its time in microseconds since 1970, and what belongs
/// to the kind of event.
pub fn event(event: &LifecycleEvent) -> Value {
    let at = since_1970(event.at);
    let mut shown = json!({
        "workload": event.workload.to_string(),
        "event": event.kind.name(),
        "at_unix_us": at.as_micros() as u64,
    });
    let details = match &event.kind {
        EventKind::WakeRequested { service, request } => json!({
            "service": &**service,
            "method": request.details.as_ref().map(|details| &details.method),
            "path": request.details.as_ref().map(|details| &details.path),
            "client": request.details.as_ref().map(|details| &details.client),
        }),
        EventKind::ScaleWritten { replicas } | EventKind::WakeObserved { replicas } => {
            json!({ "replicas": replicas })
        }
        EventKind::ScaleOverridden { replicas, writers } => {
            json!({ "replicas": replicas, "writers": &**writers })
        }
        EventKind::OwnerDecided(ownership) => json!({
            "scaler": ownership.authority.as_str(),
            "reason": ownership.reason.token(),
            "detail": ownership.description(),
        }),
        EventKind::DirectiveChanged(directive) => {
            json!({ "directive": directive.map(Directive::as_str) })
        }
        EventKind::AnnotationRejected { problem } => json!({ "detail": &**problem }),
        EventKind::WritesReverted { reverted, rounds, writers } => json!({
            "reverted": reverted.as_str(),
            "rounds": rounds,
            "writers": &**writers,
            "fix": writers::fix(writers, event.workload.kind),
        }),
        EventKind::PodScheduled { pod }
        | EventKind::ContainerStarted { pod }
        | EventKind::PodReady { pod }
        | EventKind::PodReadyEarly { pod } => json!({ "pod": pod }),
        EventKind::ImagePulled { pod, image, took } => {
            json!({ "pod": pod, "image": image, "took_ms": millis(*took) })
        }
        EventKind::Started { after } | EventKind::FirstAnswer { after } => {
            json!({ "after_ms": millis(*after) })
        }
        EventKind::Ready { after, endpoints } => {
            json!({ "after_ms": after.map(millis), "endpoints": endpoints })
        }
        EventKind::NotReady(reason) => {
            json!({ "reason": reason.cause.token(), "detail": reason.detail })
        }
        EventKind::WakeFailed { cause, detail, retry_after } => json!({
            "reason": cause.token(),
            "detail": detail,
            "retry_after_ms": millis(*retry_after),
        }),
        EventKind::EndpointsLost { scaled_down } => json!({ "scaled_down": scaled_down }),
        EventKind::SleepBlocked(blocker) => json!({ "by": blocker.map(SleepBlocker::as_str) }),
        EventKind::SleepProlonged { foreign_wakes, sleep_after } => {
            json!({ "foreign_wakes": foreign_wakes, "sleep_after_ms": millis(*sleep_after) })
        }
        EventKind::ScaleDecided { from, to, reason, is_observed } => {
            json!({ "from": from, "to": to, "reason": reason.as_str(), "observed": is_observed })
        }
        EventKind::Asleep { idle, asked_by } => {
            json!({ "idle_ms": millis(*idle), "asked_by": asked_by.as_deref() })
        }
        EventKind::SleepObserved { idle } => json!({ "idle_ms": millis(*idle) }),
        EventKind::WakeBegun { asked_by } => json!({ "asked_by": asked_by.as_deref() }),
        EventKind::SleepFailed { detail }
        | EventKind::ProcessExited { detail }
        | EventKind::ProcessUnresponsive { detail } => {
            json!({ "detail": detail })
        }
        EventKind::EndpointSliceReady
        | EventKind::Connected
        | EventKind::Forwarded
        | EventKind::WakeCancelled
        | EventKind::WakeGivenUp
        | EventKind::ProcessStopped
        | EventKind::Replaced
        | EventKind::Removed => json!({}),
    };
    if let (Value::Object(shown), Value::Object(details)) = (&mut shown, details) {
        shown.extend(details);
    }
    shown
}

fn service(service: &ServiceStatus) -> Value {
    let mut shown = json!({
        "host": service.host,
        "path_prefix": service.path_prefix,
        "workload": service.workload,
        "open_requests": service.in_flight,
        "held_requests": service.held,
    });
    let state =
        service.activation.as_ref().map_or_else(|| json!({ "state": "no-backend" }), activation);
    if let (Value::Object(shown), Value::Object(state)) = (&mut shown, state) {
        shown.extend(state);
    }
    shown
}

fn activation(status: &ActivationStatus) -> Value {
    let (SleepAfter::Own(sleep_after)
    | SleepAfter::OfAnotherService(sleep_after)
    | SleepAfter::Prolonged(sleep_after)) = status.sleep_after;
    json!({
        "state": status.state,
        "ready_endpoints": status.ready_endpoints,
        "scaler": status.ownership.authority.as_str(),
        "scaler_reason": status.ownership.reason.token(),
        "scaler_detail": status.ownership.description(),
        "directive": status.directive.map(Directive::as_str),
        "reverted_by": status.reverted_by.as_ref().map(|writers| {
            json!({ "writers": &**writers, "fix": writers::fix(writers, status.kind) })
        }),
        "sleep_after": humantime::format_duration(sleep_after).to_string(),
        "sleep_after_of_another_service": matches!(status.sleep_after, SleepAfter::OfAnotherService(_)),
        "sleep_after_prolonged": matches!(status.sleep_after, SleepAfter::Prolonged(_)),
        "kept_awake_by": status.sleep_blocker.map(SleepBlocker::as_str),
        "reason": status.not_ready.as_ref().map(|reason| reason.cause.token()),
        "detail": status.not_ready.as_ref().map(|reason| &reason.detail),
        "last_failure": status.last_failure.as_ref().map(|failure| {
            json!({ "reason": failure.cause.token(), "detail": failure.detail })
        }),
        "latest_event": status.latest_event.as_ref().map(event),
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;
    use crate::cause::Cause;
    use crate::workload::{WorkloadId, WorkloadKind};

    #[test]
    fn an_event_shows_its_workload_its_time_and_its_details() {
        let id = WorkloadId {
            kind: WorkloadKind::Deployment,
            namespace: "default".to_owned(),
            name: "web".to_owned(),
        };
        let kind = EventKind::WakeFailed {
            cause: Cause::Exited,
            detail: "exit status: 1".to_owned(),
            retry_after: Duration::from_secs(2),
        };
        let at = UNIX_EPOCH + Duration::from_micros(7);
        let shown = event(&LifecycleEvent { workload: Arc::new(id), at, kind });
        let expected = json!({
            "workload": "deployment default/web",
            "event": "wake_failed",
            "at_unix_us": 7,
            "reason": "wake-exited",
            "detail": "exit status: 1",
            "retry_after_ms": 2000.0,
        });
        assert_eq!(shown, expected);
    }
}
