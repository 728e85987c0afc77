//! The trace of a cold start: one span for the wake, and one for each of its phases. Pure: the identities are passed in.

use std::time::{Duration, SystemTime};

use super::messages::{KeyValue, Span, SpanKind, Status, StatusCode};
use crate::ledger::record::{Record, Wake, WakeCause, WakeOutcome, WakePhase};
use crate::telemetry::durations::since_1970;
use crate::workload::WorkloadKind;

/// The spans of a wake that is complete. Nothing where nobody here has caused it, or where the caller has decided that its trace
/// is not recorded. `new_id` makes a random number that is not 0.
pub fn spans(record: &Record, new_id: &mut impl FnMut() -> u64) -> Vec<Span> {
    let Some(wake) = record.wake() else { return Vec::new() };
    // Of several replicas of agimo, the one that has started something tells of a wake that no request has caused.
    let has_started = [WakePhase::ScaleWritten, WakePhase::Started]
        .into_iter()
        .any(|phase| wake.reached(phase).is_some());
    if !has_started && !matches!(wake.cause, WakeCause::Request { .. }) {
        return Vec::new();
    }
    let caller = wake.trace_parent;
    let is_unsampled = caller.is_some_and(|caller| !caller.is_sampled);
    if matches!(wake.cause, WakeCause::Elsewhere) || is_unsampled {
        return Vec::new();
    }
    let trace_id = match caller {
        Some(caller) => caller.trace_id.to_vec(),
        None => [new_id().to_be_bytes(), new_id().to_be_bytes()].concat(),
    };
    let mut span = |name: &str, parent: &[u8], from: Duration, to: Duration| Span {
        trace_id: trace_id.clone(),
        span_id: new_id().to_be_bytes().to_vec(),
        parent_span_id: parent.to_vec(),
        name: name.to_owned(),
        kind: SpanKind::Internal.into(),
        start_time_unix_nano: nanoseconds(record.at, from),
        end_time_unix_nano: nanoseconds(record.at, to),
        ..Span::default()
    };
    let last = wake.phases.iter().map(|(_, after)| *after).max().unwrap_or_default();
    let whole = wake.ended.unwrap_or_default().max(last);
    let parent = caller.map_or(Vec::new(), |caller| caller.span_id.to_vec());
    let mut cold_start = span("cold start", &parent, Duration::ZERO, whole);
    cold_start.attributes = attributes(record, wake);
    cold_start.status = status(wake);
    let own_id = cold_start.span_id.clone();
    let mut spans = vec![cold_start];
    let mut before = Duration::ZERO;
    for (phase, after) in &wake.phases {
        // Phases at different places may be noticed in another order.
        spans.push(span(&phase.as_str().replace('_', " "), &own_id, before.min(*after), *after));
        before = before.max(*after);
    }
    spans
}

/// Names of the semantic conventions of OpenTelemetry where there are any.
fn attributes(record: &Record, wake: &Wake) -> Vec<KeyValue> {
    let id = &record.workload;
    let mut attributes = vec![KeyValue::new("agimo.workload", id.to_string())];
    let name_of = match id.kind {
        WorkloadKind::Deployment => Some("k8s.deployment.name"),
        WorkloadKind::StatefulSet => Some("k8s.statefulset.name"),
        WorkloadKind::Process => None,
    };
    if let Some(name_of) = name_of {
        attributes.push(KeyValue::new("k8s.namespace.name", &*id.namespace));
        attributes.push(KeyValue::new(name_of, &*id.name));
    }
    if let WakeCause::Request { service, request } = &wake.cause {
        attributes.push(KeyValue::new("agimo.service", &**service));
        if let Some(request) = request {
            attributes.push(KeyValue::new("http.request.method", &*request.method));
            attributes.push(KeyValue::new("url.path", &*request.path));
        }
    }
    if let Some(obstacle) = &wake.obstacle {
        attributes.push(KeyValue::new("agimo.obstacle", obstacle.cause.token()));
    }
    attributes
}

fn status(wake: &Wake) -> Option<Status> {
    let message = match &wake.outcome {
        // Its detail quotes what the application wrote.
        WakeOutcome::Failed { reason, .. } => (*reason).to_owned(),
        WakeOutcome::GivenUp => "it never became ready".to_owned(),
        _ => return None,
    };
    Some(Status { message, code: StatusCode::Error.into() })
}

fn nanoseconds(at: SystemTime, after: Duration) -> u64 {
    u64::try_from((since_1970(at) + after).as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::UNIX_EPOCH;

    use super::*;
    use crate::http::trace_context::TraceParent;
    use crate::ledger::record::RecordKind;
    use crate::ledger::recorded_request::RecordedRequest;
    use crate::workload::WorkloadId;

    /// `is_sampled`: the decision of the caller, if there is one.
    fn record(cause: WakeCause, is_sampled: Option<bool>, outcome: WakeOutcome) -> Record {
        let workload = WorkloadId {
            kind: WorkloadKind::Deployment,
            namespace: "shop".to_owned(),
            name: "web".to_owned(),
        };
        let millis = Duration::from_millis;
        let phases =
            [(WakePhase::ScaleWritten, 5), (WakePhase::PodReady, 40), (WakePhase::Ready, 39)];
        let phases = phases.map(|(phase, after)| (phase, millis(after))).to_vec();
        let trace_parent = is_sampled.map(|is_sampled| TraceParent {
            trace_id: [7; 16],
            span_id: [8; 8],
            is_sampled,
        });
        let wake = Wake {
            cause,
            trace_parent,
            phases,
            obstacle: None,
            outcome,
            is_over: true,
            ended: Some(millis(50)),
        };
        let at = UNIX_EPOCH + Duration::from_secs(1);
        let kind = RecordKind::Wake(Box::new(wake));
        Record { number: 1, workload: Arc::new(workload), at, kind }
    }

    fn requested() -> WakeCause {
        let request = RecordedRequest {
            method: "GET".to_owned(),
            path: "/cart".to_owned(),
            network: None,
            client_kind: "browser",
        };
        WakeCause::Request { service: "shop.test".into(), request: Some(request) }
    }

    fn spans_of(record: &Record) -> Vec<Span> {
        let mut last = 0;
        spans(record, &mut || {
            last += 1;
            last
        })
    }

    #[test]
    fn a_cold_start_is_a_span_of_the_callers_trace_with_a_span_for_each_phase() {
        let spans = spans_of(&record(requested(), Some(true), WakeOutcome::Answered));
        assert!(spans.iter().all(|span| span.trace_id == [7; 16]));
        assert_eq!(spans[0].parent_span_id, [8; 8]);
        assert!(spans[1..].iter().all(|span| span.parent_span_id == spans[0].span_id));
        let second = 1_000_000_000;
        let shown: Vec<_> = spans
            .iter()
            .map(|span| {
                let millis = |nanos| (nanos - second) / 1_000_000;
                let (from, to) = (span.start_time_unix_nano, span.end_time_unix_nano);
                (span.name.as_str(), millis(from), millis(to))
            })
            .collect();
        let expected = [
            ("cold start", 0, 50),
            ("scale written", 0, 5),
            ("pod ready", 5, 40),
            ("ready", 39, 39),
        ];
        assert_eq!(shown, expected);
        let path = KeyValue::new("url.path", "/cart");
        assert!(spans[0].attributes.contains(&path) && spans[0].status.is_none());
    }

    #[test]
    fn a_cold_start_without_a_caller_begins_a_trace_and_tells_of_its_failure() {
        let failed = WakeOutcome::Failed { reason: "wake-exited", detail: "exit 7".to_owned() };
        let spans = spans_of(&record(WakeCause::Operator("alice".into()), None, failed));
        assert!(spans[0].parent_span_id.is_empty() && spans[0].trace_id.len() == 16);
        let status = spans[0].status.clone().unwrap();
        assert_eq!((status.message.as_str(), status.code), ("wake-exited", 2));
    }

    #[test]
    fn a_trace_that_its_caller_does_not_record_and_a_wake_by_others_are_left_out() {
        let unrecorded = WakeCause::Request { service: "shop.test".into(), request: None };
        for (cause, is_sampled) in [
            (requested(), Some(false)),
            (unrecorded.clone(), Some(false)),
            (WakeCause::Elsewhere, None),
        ] {
            assert_eq!(spans_of(&record(cause, is_sampled, WakeOutcome::Answered)), []);
        }
        // With `record_requests = false` the cold start still belongs to the trace of its caller.
        let spans = spans_of(&record(unrecorded, Some(true), WakeOutcome::Answered));
        assert_eq!(spans[0].parent_span_id, [8; 8]);
    }
}
