//! agimo's own responses to gRPC calls, which are gRPC statuses.

use serde_json::json;

use super::{never_ready, with_http2_application};
use crate::support::agimo::Agimo;
use crate::support::node::run_client;

/// A call to `host`; it prints the HTTP status, the gRPC status and the reason of agimo.
fn call(host: &str, more: &str) -> String {
    format!(
        "const response = await call({{ ':authority': '{host}', 'content-type': 'application/grpc', te: 'trailers', {more} }}, '');
         print([response.status, response.head['grpc-status'], response.head['x-agimo-reason'], response.body]);
         print([response.head['content-type'], response.head['grpc-retry-pushback-ms'] || null]);"
    )
}

#[tokio::test]
async fn an_unknown_host_is_unimplemented() {
    let agimo = with_http2_application("").await;
    let printed = run_client(agimo.address, &call("b.test", "")).await;
    let expected = [json!([200, "12", "unknown-host", ""]), json!(["application/grpc", null])];
    assert_eq!(printed, expected);
}

#[tokio::test]
async fn a_call_whose_head_is_rejected_gets_a_status() {
    let agimo = with_http2_application("").await;
    let script = call("a.test", "':path': '/' + 'x'.repeat(9000)");
    let printed = run_client(agimo.address, &script).await;
    assert_eq!(printed[0], json!([200, "8", "uri-too-long", ""]));
}

#[tokio::test]
async fn a_held_call_ends_with_unavailable_or_deadline_exceeded() {
    let agimo = never_ready("hold_timeout = \"300ms\"").await;
    let printed = run_client(agimo.address, &call("a.test", "")).await;
    let expected = [json!([200, "14", "hold-timeout", ""]), json!(["application/grpc", "5000"])];
    assert_eq!(printed, expected);
    let printed = run_client(agimo.address, &call("a.test", "'grpc-timeout': '50m'")).await;
    assert_eq!(printed[0][1], json!("4"), "{printed:?}");
}

#[tokio::test]
async fn a_call_uses_http2_without_configuration() {
    let service = crate::support::node::http2_application("a.test", "");
    let agimo = Agimo::with(service.replace("protocol = \"h2c\"\n", "")).start().await;
    let script = "
        const head = { ':path': '/echo', 'content-type': 'application/grpc+proto', te: 'trailers' };
        const response = await call(head, 'message');
        print([response.body, response.trailers['x-length']]);";
    assert_eq!(run_client(agimo.address, script).await, [json!(["message", "7"])]);
}
