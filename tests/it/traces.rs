//! Traces of cold starts, as a collector of OpenTelemetry receives them. The collector is a fake that keeps what is sent.

use std::sync::{Arc, Mutex};

use agimo::otlp::messages::{ExportTraceServiceRequest, Span};
use prost::Message;

use crate::support::agimo::{Agimo, AgimoBuilder};
use crate::support::application::ScriptedServer;
use crate::support::client::Request;
use crate::support::eventually;
use crate::support::python::PythonApplication;

const ACCEPTED: &str = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

/// A fake collector, and the requests that it has received.
pub(crate) struct Collector {
    server: ScriptedServer,
    received: Arc<Mutex<Vec<Request>>>,
}

// === impl Collector ===

impl Collector {
    pub(crate) async fn start() -> Self {
        let received = Arc::new(Mutex::new(Vec::new()));
        let log = received.clone();
        let server = ScriptedServer::responding(move |request| {
            log.lock().unwrap().push(request);
            ACCEPTED.to_owned()
        })
        .await;
        Self { server, received }
    }

    /// An agimo that sends its traces here, with an application that sleeps soon.
    pub(crate) fn agimo(&self, key: &str) -> AgimoBuilder {
        let application = PythonApplication::new("a.test").key("sleep_after = '50ms'").key(key);
        let endpoint = format!("http://{}", self.server.address);
        Agimo::with(application.service()).arguments(&["--otlp-endpoint", &endpoint])
    }

    /// The body of each request, once there are so many.
    pub(crate) async fn bodies(&self, count: usize) -> Vec<Vec<u8>> {
        eventually("the traces", || async {
            let received = self.received.lock().unwrap();
            (received.len() >= count).then_some(())
        })
        .await;
        let received = self.received.lock().unwrap();
        assert_eq!(received.len(), count);
        for request in received.iter() {
            assert_eq!(request.line(), "POST /v1/traces HTTP/1.1");
            assert_eq!(request.header("content-type"), Some("application/x-protobuf"));
        }
        received.iter().map(|request| request.body.clone()).collect()
    }

    async fn spans(&self, count: usize) -> Vec<Vec<Span>> {
        let bodies = self.bodies(count).await;
        let read = |body: &Vec<u8>| ExportTraceServiceRequest::decode(body.as_slice()).unwrap();
        let spans = |message: ExportTraceServiceRequest| {
            message.resource_spans[0].scope_spans[0].spans.clone()
        };
        bodies.iter().map(read).map(spans).collect()
    }
}

async fn request_with(agimo: &Agimo, trace_parent: &str) {
    let mut client = agimo.connect().await;
    client
        .send(format!(
            "GET /cart?a=1 HTTP/1.1\r\nHost: a.test\r\ntraceparent: {trace_parent}\r\n\r\n"
        ))
        .await;
    assert_eq!(client.response().await.status, 200);
}

#[tokio::test]
async fn a_cold_start_is_part_of_the_trace_of_the_request_that_caused_it() {
    let collector = Collector::start().await;
    let agimo = collector.agimo("").start().await;
    request_with(&agimo, "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01").await;
    let spans = collector.spans(1).await.remove(0);
    let names: Vec<_> = spans.iter().map(|span| span.name.as_str()).collect();
    assert_eq!(names, ["cold start", "started", "ready", "connected", "forwarded", "answered"]);
    assert_eq!(spans[0].trace_id[..4], [0x4b, 0xf9, 0x2f, 0x35]);
    assert_eq!(spans[0].parent_span_id, [0x00, 0xf0, 0x67, 0xaa, 0x0b, 0xa9, 0x02, 0xb7]);
    assert!(spans[1..].iter().all(|span| span.parent_span_id == spans[0].span_id));
    assert!(spans.iter().all(|span| span.start_time_unix_nano <= span.end_time_unix_nano));
    agimo.until_sleep_count("a.test", 1).await;
    // The caller of the next one records no trace, and the one after that has none.
    request_with(&agimo, "00-5bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00").await;
    agimo.until_sleep_count("a.test", 2).await;
    assert_eq!(agimo.get("a.test", "/").await.status, 200);
    let spans = collector.spans(2).await.remove(1);
    assert!(
        spans[0].parent_span_id.is_empty() && spans[0].trace_id[0..4] != [0x5b, 0xf9, 0x2f, 0x35]
    );
}

#[tokio::test]
async fn a_collector_that_does_not_answer_costs_its_traces_and_nothing_else() {
    let service = PythonApplication::new("a.test").key("sleep_after = '50ms'").service();
    let port = crate::process::free_port();
    let endpoint = format!("http://127.0.0.1:{port}");
    let agimo = Agimo::with(service).arguments(&["--otlp-endpoint", &endpoint]).start().await;
    for count in 1..=2 {
        assert_eq!(agimo.get("a.test", "/").await.status, 200);
        agimo.until_sleep_count("a.test", count).await;
    }
    agimo.until_logged("traces of cold starts are lost").await;
}
