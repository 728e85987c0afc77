//! The span of a sampled request, by the semantic conventions of OpenTelemetry for HTTP servers. Pure.

use super::messages::{KeyValue, Span, SpanKind, Status, StatusCode};
use crate::api::requests::EndedRequest;
use crate::request_spans::RequestSpan;

/// The methods that a span is named after; a client may send any other (semantic conventions, `http.request.method`).
const METHODS: [&str; 9] =
    ["CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE"];
const OTHER_METHOD: &str = "_OTHER";

/// The span of one request.
pub fn span(ended: &RequestSpan) -> Span {
    let RequestSpan { context, request, workload, path_prefix, is_tls, connecting, waiting } =
        ended;
    let method = METHODS.into_iter().find(|method| *method == request.method);
    let shown_method = method.unwrap_or("HTTP");
    let end = (request.at_unix * 1e9) as u64;
    let start = end.saturating_sub((request.total_ms * 1e6) as u64);
    let mut attributes = vec![
        KeyValue::new("http.request.method", method.unwrap_or(OTHER_METHOD)),
        KeyValue::new("http.route", &**path_prefix),
        KeyValue::integer("http.response.status_code", request.status.into()),
        KeyValue::new("url.scheme", if *is_tls { "https" } else { "http" }),
        KeyValue::new("server.address", &*request.host),
        KeyValue::new("agimo.workload", workload.to_string()),
        KeyValue::new("agimo.service", &*request.service),
        KeyValue::new("agimo.end", &*request.end),
        KeyValue::number("agimo.held", request.held_ms / 1e3),
        KeyValue::number("agimo.connecting", connecting.as_secs_f64()),
        KeyValue::number("agimo.waiting", waiting.as_secs_f64()),
    ];
    if method.is_none() {
        attributes.push(KeyValue::new("http.request.method_original", &*request.method));
    }
    for (key, value) in [("url.path", &request.path), ("agimo.client.kind", &request.client_kind)] {
        // Nothing is recorded of requests with `record_requests = false`.
        if !value.is_empty() {
            attributes.push(KeyValue::new(key, &**value));
        }
    }
    attributes.extend(
        request.network.iter().map(|network| KeyValue::new("agimo.client.network", &**network)),
    );
    attributes.extend(request.reason.iter().map(|reason| KeyValue::new("agimo.reason", &**reason)));
    let error = error(request);
    attributes.extend(error.iter().map(|error| KeyValue::new("error.type", &**error)));
    Span {
        trace_id: context.trace_id.to_vec(),
        span_id: context.span_id.to_vec(),
        parent_span_id: context.parent_id.map_or_else(Vec::new, |parent| parent.to_vec()),
        name: format!("{shown_method} {path_prefix}"),
        kind: SpanKind::Server.into(),
        start_time_unix_nano: start,
        end_time_unix_nano: end,
        attributes,
        status: error.map(|message| Status { message, code: StatusCode::Error.into() }),
    }
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
    use std::time::Duration;

    use super::*;
    use crate::request_spans::SpanContext;
    use crate::workload::{WorkloadId, WorkloadKind};

    fn ended(method: &str, status: u16, reason: Option<&str>, end: &str) -> RequestSpan {
        let request = EndedRequest {
            at_unix: 100.0,
            method: method.to_owned(),
            host: "shop.test".to_owned(),
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
            workload: Arc::new(workload),
            path_prefix: "/".to_owned(),
            is_tls: true,
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
            (98_500_000_000, 100_000_000_000)
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
            ("agimo.client.network", "203.0.113.0/24"),
        ] {
            let found = super::span(&ended("GET", 200, None, "complete"));
            assert_eq!(attribute(&found, key).as_deref(), Some(value), "{key}");
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
        let other = span(&ended("BREW", 200, None, "complete"));
        assert_eq!(other.name, "HTTP /");
        assert_eq!(attribute(&other, "http.request.method").as_deref(), Some("_OTHER"));
        assert_eq!(attribute(&other, "http.request.method_original").as_deref(), Some("BREW"));
    }
}
