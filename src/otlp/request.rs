//! The span of a sampled request, by the semantic conventions of OpenTelemetry for HTTP servers. Pure.

use std::time::Duration;

use super::messages::{KeyValue, Span, SpanKind, Status, StatusCode};
use crate::api::requests::EndedRequest;
use crate::request_spans::RequestSpan;
use crate::telemetry::durations::since_1970;

/// The methods that a span is named after; a client may send any other (semantic conventions, `http.request.method`).
const METHODS: [&str; 9] =
    ["CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE"];
const OTHER_METHOD: &str = "_OTHER";

/// The span of one request.
pub fn span(ended: &RequestSpan) -> Span {
    let RequestSpan { context, request, path_prefix, connecting, waiting, .. } = ended;
    let method = METHODS.into_iter().find(|method| *method == request.method);
    let end = since_1970(ended.ended);
    let (host, port) = host_and_port(&request.host);
    let mut attributes = vec![
        KeyValue::new("http.request.method", method.unwrap_or(OTHER_METHOD)),
        KeyValue::new("http.route", &**path_prefix),
        KeyValue::new("url.scheme", if ended.is_tls { "https" } else { "http" }),
        KeyValue::new("server.address", host),
        KeyValue::new("agimo.workload", ended.workload.to_string()),
        KeyValue::new("agimo.service", &*request.service),
        KeyValue::new("agimo.end", &*request.end),
        KeyValue::number("agimo.held", ended.held.as_secs_f64()),
        KeyValue::number("agimo.connecting", connecting.as_secs_f64()),
        KeyValue::number("agimo.waiting", waiting.as_secs_f64()),
    ];
    attributes.extend(port.map(|port| KeyValue::integer("server.port", port.into())));
    // A client may leave before there is a status.
    if request.status != 0 {
        let is_own_answer_to_grpc = ended.is_grpc && request.reason.is_some();
        let status = if is_own_answer_to_grpc { 200 } else { request.status };
        attributes.push(KeyValue::integer("http.response.status_code", status.into()));
    }
    let network = request.network.as_deref().unwrap_or_default();
    let reason = request.reason.as_deref().unwrap_or_default();
    let error = error(request);
    for (key, value) in [
        // Nothing is recorded of requests with `record_requests = false`.
        ("url.path", &*request.path),
        ("agimo.client.kind", &request.client_kind),
        ("agimo.client.network", network),
        ("agimo.reason", reason),
        ("error.type", error.as_deref().unwrap_or_default()),
    ] {
        if !value.is_empty() {
            attributes.push(KeyValue::new(key, value));
        }
    }
    Span {
        trace_id: context.trace_id.to_vec(),
        span_id: context.span_id.to_vec(),
        parent_span_id: context.parent_id.map_or_else(Vec::new, |parent| parent.to_vec()),
        name: format!("{} {path_prefix}", method.unwrap_or("HTTP")),
        kind: SpanKind::Server.into(),
        start_time_unix_nano: nanoseconds(end.saturating_sub(ended.total)),
        end_time_unix_nano: nanoseconds(end),
        attributes,
        status: error.map(|message| Status { message, code: StatusCode::Error.into() }),
    }
}

/// The host of a `Host` field, and its port if it has one (RFC 3986 section 3.2).
fn host_and_port(authority: &str) -> (&str, Option<u16>) {
    match authority.rsplit_once(':') {
        Some((host, port)) if !host.is_empty() && !port.contains(']') => (host, port.parse().ok()),
        _ => (authority, None),
    }
}

fn nanoseconds(since_1970: Duration) -> u64 {
    u64::try_from(since_1970.as_nanos()).unwrap_or(u64::MAX)
}

/// Why the request failed: a status of the server, or a response that broke off. Errors of the client are none of the server
/// (semantic conventions, "HTTP server").
fn error(request: &EndedRequest) -> Option<String> {
    match (&request.reason, request.status, request.end.as_str()) {
        (Some(reason), 500.., _) => Some(reason.clone()),
        (None, status @ 500.., _) => Some(status.to_string()),
        (_, _, end @ ("broken-off" | "idle-timeout")) => Some(end.to_owned()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::{Duration, SystemTime};

    use super::*;
    use crate::request_spans::SpanContext;
    use crate::workload::{WorkloadId, WorkloadKind};

    fn ended(method: &str, status: u16, reason: Option<&str>, end: &str) -> RequestSpan {
        let request = EndedRequest {
            at_unix: 100.0,
            method: method.to_owned(),
            host: "shop.test:8443".to_owned(),
            path: "/cart".to_owned(),
            service: "shop.test".to_owned(),
            network: Some("203.0.113.0/24".to_owned()),
            client_kind: "browser".to_owned(),
            status,
            reason: reason.map(str::to_owned),
            end: end.to_owned(),
            held_ms: 500.0,
            total_ms: 1_500.0,
        };
        let workload = WorkloadId {
            kind: WorkloadKind::Deployment,
            namespace: "shop".to_owned(),
            name: "web".to_owned(),
        };
        RequestSpan {
            context: SpanContext { trace_id: [1; 16], span_id: [2; 8], parent_id: Some([3; 8]) },
            request,
            ended: SystemTime::UNIX_EPOCH + Duration::from_micros(100_000_321),
            total: Duration::from_micros(200),
            held: Duration::from_millis(500),
            workload: Arc::new(workload),
            path_prefix: "/".to_owned(),
            is_tls: true,
            is_grpc: false,
            connecting: Duration::ZERO,
            waiting: Duration::from_millis(900),
        }
    }

    fn attribute(span: &Span, key: &str) -> Option<String> {
        let found = span.attributes.iter().find(|attribute| attribute.key == key)?;
        let value = found.value.clone()?;
        value
            .string_value
            .or(value.int_value.map(|int| int.to_string()))
            .or(value.double_value.map(|double| double.to_string()))
    }

    #[test]
    fn a_request_is_a_span_of_a_server() {
        let span = span(&ended("GET", 200, None, "complete"));
        assert_eq!((span.name.as_str(), span.kind), ("GET /", 2));
        assert_eq!(
            (span.start_time_unix_nano, span.end_time_unix_nano),
            (100_000_121_000, 100_000_321_000)
        );
        assert_eq!(
            (span.trace_id, span.span_id, span.parent_span_id),
            (vec![1; 16], vec![2; 8], vec![3; 8])
        );
        assert_eq!(span.status, None);
        for (key, value) in [
            ("http.response.status_code", "200"),
            ("url.path", "/cart"),
            ("agimo.held", "0.5"),
            ("agimo.waiting", "0.9"),
            ("server.address", "shop.test"),
            ("server.port", "8443"),
            ("agimo.client.network", "203.0.113.0/24"),
        ] {
            let found = super::span(&ended("GET", 200, None, "complete"));
            assert_eq!(attribute(&found, key).as_deref(), Some(value), "{key}");
        }
    }

    #[test]
    fn hosts_are_told_from_ports() {
        for (authority, host, port) in [
            ("shop.test", "shop.test", None),
            ("shop.test:80", "shop.test", Some(80)),
            ("[::1]", "[::1]", None),
            ("[::1]:80", "[::1]", Some(80)),
        ] {
            assert_eq!(host_and_port(authority), (host, port));
        }
    }

    #[test]
    fn failures_of_the_server_are_errors_and_unknown_methods_name_no_span() {
        for (status, reason, end, error) in [
            (404, None, "complete", None),
            (404, Some("unknown-host"), "complete", None),
            (500, None, "complete", Some("500")),
            (504, Some("hold-timeout"), "complete", Some("hold-timeout")),
            (200, None, "broken-off", Some("broken-off")),
            (200, None, "client-disconnected", None),
        ] {
            let span = span(&ended("GET", status, reason, end));
            assert_eq!(
                span.status.map(|status| status.message).as_deref(),
                error,
                "{status} {end}"
            );
        }
        let own =
            RequestSpan { is_grpc: true, ..ended("POST", 504, Some("hold-timeout"), "complete") };
        assert_eq!(attribute(&span(&own), "http.response.status_code").as_deref(), Some("200"));
        let left = span(&ended("GET", 0, None, "client-disconnected"));
        assert_eq!(attribute(&left, "http.response.status_code"), None);
        let other = span(&ended("BREW", 200, None, "complete"));
        assert_eq!(other.name, "HTTP /");
        assert_eq!(attribute(&other, "http.request.method").as_deref(), Some("_OTHER"));
        assert!(!format!("{other:?}").contains("BREW"), "the client chose it");
    }
}
