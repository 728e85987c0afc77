//! Traces, as the messages and the gRPC service that OpenTelemetry publishes for Python read them.

use std::path::Path;
use std::process::Stdio;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::Command;

use super::installed;
use crate::support::agimo::Agimo;
use crate::support::python::PythonApplication;
use crate::support::within;
use crate::traces::Collector;

/// Reads one request to a collector, and prints what it says.
const READER: &str = r#"
import json, sys
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2
from google.protobuf import json_format
message = trace_service_pb2.ExportTraceServiceRequest()
message.ParseFromString(sys.stdin.buffer.read())
print(json.dumps(json_format.MessageToDict(message)))
"#;

#[tokio::test]
#[ignore = "needs programs of others: cargo xtask test"]
async fn a_trace_is_read_by_the_messages_of_opentelemetry() {
    let collector = Collector::start().await;
    let agimo = collector.agimo("").start().await;
    assert_eq!(agimo.get("a.test", "/cart").await.status, 200);
    collector.spans("answered", 1).await;
    let body = collector.bodies().remove(0);
    let mut reader = Command::new("python3");
    reader.args(["-c", READER]).env("PYTHONPATH", installed("PYTHON_CLIENTS"));
    let mut reader = reader.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    reader.stdin.take().unwrap().write_all(&body).await.unwrap();
    let output = within("the reader", reader.wait_with_output()).await.unwrap();
    let message: Value = serde_json::from_slice(&output.stdout).unwrap();
    let resource = &message["resourceSpans"][0]["resource"]["attributes"][0];
    assert_eq!(
        (&resource["key"], &resource["value"]["stringValue"]),
        (&"service.name".into(), &"agimo".into())
    );
    let spans = message["resourceSpans"][0]["scopeSpans"][0]["spans"].as_array().unwrap();
    assert_eq!(
        (&spans[0]["name"], &spans[0]["kind"]),
        (&"cold start".into(), &"SPAN_KIND_INTERNAL".into())
    );
    assert_eq!(spans[1]["name"], "started");
    let nanoseconds = |name: &str| spans[0][name].as_str().unwrap().parse::<u64>().unwrap();
    let took = nanoseconds("endTimeUnixNano") - nanoseconds("startTimeUnixNano");
    assert!((1_000_000..60_000_000_000).contains(&took), "{took} ns");
    let attributes = spans[0]["attributes"].as_array().unwrap();
    let path = attributes.iter().find(|attribute| attribute["key"] == "url.path").unwrap();
    assert_eq!(path["value"]["stringValue"], "/cart");
}

/// A collector with the gRPC library of Python. It is unavailable for the first message, and prints its port and what it receives
/// after that.
const GRPC_COLLECTOR: &str = r#"
import json, grpc
from concurrent import futures
from google.protobuf import json_format
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    calls = 0
    def Export(self, request, context):
        self.calls += 1
        if self.calls == 1:
            context.abort(grpc.StatusCode.UNAVAILABLE, "starting")
        tenant = dict(context.invocation_metadata())["x-tenant"]
        print(json.dumps([tenant, json_format.MessageToDict(request)]), flush=True)
        return trace_service_pb2.ExportTraceServiceResponse()
server = grpc.server(futures.ThreadPoolExecutor(max_workers=2))
trace_service_pb2_grpc.add_TraceServiceServicer_to_server(Collector(), server)
print(server.add_insecure_port("127.0.0.1:0"), flush=True)
server.start()
server.wait_for_termination()
"#;

#[tokio::test]
#[ignore = "needs programs of others: cargo xtask test"]
async fn spans_reach_a_collector_over_grpc_after_it_was_unavailable() {
    let mut collector = Command::new("python3");
    collector.args(["-c", GRPC_COLLECTOR]).env("PYTHONPATH", installed("PYTHON_CLIENTS"));
    let mut collector = collector.stdout(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
    let mut lines = BufReader::new(collector.stdout.take().unwrap()).lines();
    let port = within("the port", lines.next_line()).await.unwrap().unwrap();
    let endpoint = format!("http://127.0.0.1:{port}");
    let arguments =
        ["--otlp-endpoint", &endpoint, "--otlp-protocol", "grpc", "--otlp-sample-ratio", "1"];
    let service = PythonApplication::new("a.test").service();
    let agimo = Agimo::with(service).arguments(&arguments);
    let agimo = agimo.environment("AGIMO_OTLP_HEADERS", Path::new("x-tenant=a")).start().await;
    assert_eq!(agimo.get("a.test", "/cart").await.status, 200);
    let line = within("the spans", lines.next_line()).await.unwrap().unwrap();
    let received: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(received[0], "a");
    let spans = received[1]["resourceSpans"][0]["scopeSpans"][0]["spans"].as_array().unwrap();
    let names: Vec<_> = spans.iter().map(|span| span["name"].as_str().unwrap()).collect();
    assert!(names.contains(&"GET /") && names.contains(&"cold start"), "{names:?}");
    let request = spans.iter().find(|span| span["name"] == "GET /").unwrap();
    assert_eq!(request["kind"], "SPAN_KIND_SERVER");
}
