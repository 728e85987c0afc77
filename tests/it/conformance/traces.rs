//! Traces of cold starts, as the messages that OpenTelemetry publishes for Python read them.

use std::process::Stdio;

use serde_json::Value;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use super::installed;
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
    let body = collector.bodies(1).await.remove(0);
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
