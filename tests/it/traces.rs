//! Traces of cold starts and spans of requests, as a collector of OpenTelemetry receives them. The collector is a fake that keeps what is sent.

use std::sync::{Arc, Mutex};

use agimo::otlp::messages::{AnyValue, ExportTraceServiceRequest, Span};
use prost::Message;
use rustix::process::Signal;

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

    /// The body of each request so far.
    pub(crate) fn bodies(&self) -> Vec<Vec<u8>> {
        let received = self.received.lock().unwrap();
        for request in received.iter() {
            assert_eq!(request.line(), "POST /v1/traces HTTP/1.1");
            assert_eq!(request.header("content-type"), Some("application/x-protobuf"));
        }
        received.iter().map(|request| request.body.clone()).collect()
    }

    /// Every span so far, in order.
    fn spans_so_far(&self) -> Vec<Span> {
        let read = |body: Vec<u8>| ExportTraceServiceRequest::decode(body.as_slice()).unwrap();
        let messages = self.bodies().into_iter().map(read);
        messages
            .flat_map(|message| message.resource_spans[0].scope_spans[0].spans.clone())
            .collect()
    }

    /// The spans, once there are so many with this name.
    pub(crate) async fn spans(&self, name: &str, count: usize) -> Vec<Span> {
        eventually("the spans", || async {
            let spans = self.spans_so_far();
            let named = spans.iter().filter(|span| span.name == name).count();
            (named >= count).then_some(spans)
        })
        .await
    }
}

/// The value of an attribute.
fn attribute<'a>(span: &'a Span, key: &str) -> Option<&'a AnyValue> {
    span.attributes.iter().find(|attribute| attribute.key == key)?.value.as_ref()
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
    let spans = collector.spans("answered", 1).await;
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
    let spans = collector.spans("cold start", 2).await;
    let second = spans.iter().filter(|span| span.name == "cold start").nth(1).unwrap();
    assert!(second.parent_span_id.is_empty());
    assert!(spans.iter().all(|span| span.trace_id[..4] != [0x5b, 0xf9, 0x2f, 0x35]));
}

#[tokio::test]
async fn requests_do_not_wait_for_a_collector_and_lost_spans_are_counted() {
    let not_found = "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n";
    let server = ScriptedServer::responding(move |_| not_found.to_owned()).await;
    let refusing = format!("http://{}", server.address);
    let later =
        "HTTP/1.1 503 Later\r\nRetry-After: 18446744073709551615\r\nContent-Length: 0\r\n\r\n";
    let server = ScriptedServer::responding(move |_| later.to_owned()).await;
    let never_again = format!("http://{}", server.address);
    let unreachable = format!("http://127.0.0.1:{}", crate::process::free_port());
    for endpoint in [&unreachable, &refusing, &never_again] {
        let service = PythonApplication::new("a.test").key("sleep_after = '50ms'").service();
        let agimo = Agimo::with(service).arguments(&["--otlp-endpoint", endpoint]).start().await;
        for count in 1..=2 {
            assert_eq!(agimo.get("a.test", "/").await.status, 200);
            agimo.until_sleep_count("a.test", count).await;
        }
        // The unreachable collector is tried again, for some seconds.
        if endpoint != &unreachable {
            let line = agimo.until_logged("spans are lost").await;
            let status = if endpoint == &refusing { "404" } else { "503" };
            assert!(line.contains(status), "{line}");
            let lost = agimo.metric("agimo_spans_total{result=\"lost\"}").await.unwrap();
            assert!(lost >= 6.0, "{lost}");
        }
    }
}

#[tokio::test]
async fn spans_are_sent_again_to_a_collector_that_was_unavailable() {
    let attempts = Arc::new(Mutex::new(Vec::new()));
    let log = attempts.clone();
    let server = ScriptedServer::responding(move |request| {
        let mut attempts = log.lock().unwrap();
        attempts.push(request.body.clone());
        let unavailable = "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n";
        if attempts.len() == 1 { unavailable.to_owned() } else { ACCEPTED.to_owned() }
    })
    .await;
    let endpoint = format!("http://{}", server.address);
    let service = PythonApplication::new("a.test").service();
    let agimo = Agimo::with(service).arguments(&["--otlp-endpoint", &endpoint]).start().await;
    assert_eq!(agimo.get("a.test", "/").await.status, 200);
    eventually("spans that were sent", || async {
        let sent = agimo.metric("agimo_spans_total{result=\"sent\"}").await;
        sent.filter(|sent| *sent >= 5.0)
    })
    .await;
    assert_eq!(agimo.metric("agimo_spans_total{result=\"lost\"}").await, Some(0.0));
    let attempts = attempts.lock().unwrap();
    assert_eq!(attempts[0], attempts[1], "the same spans");
}

#[tokio::test]
async fn a_client_that_leaves_a_held_request_has_a_span_without_a_status() {
    let collector = Collector::start().await;
    let endpoint = format!("http://{}", collector.server.address);
    let arguments = ["--otlp-endpoint", &endpoint, "--otlp-sample-ratio", "1"];
    let service = PythonApplication::new("a.test").env("START_DELAY", "30").service();
    let config = format!("record_requests = false\n{service}");
    let agimo = Agimo::with(config).arguments(&arguments).start().await;
    let mut client = agimo.connect().await;
    client.send("GET /secret HTTP/1.1\r\nHost: a.test\r\n\r\n").await;
    agimo.until_metric("agimo_held_requests{host=\"a.test\"}", 1.0).await;
    drop(client);
    let spans = collector.spans("GET /", 1).await;
    let request = spans.iter().find(|span| span.name == "GET /").unwrap();
    assert_eq!(attribute(request, "http.response.status_code"), None);
    let end = attribute(request, "agimo.end").unwrap();
    assert_eq!(end.string_value.as_deref(), Some("client-disconnected"));
    assert!(!format!("{spans:?}").contains("secret"), "requests are not recorded");
}

#[tokio::test]
async fn a_sampled_request_has_a_span_between_its_caller_and_the_application() {
    let (seen, mut requests) = tokio::sync::mpsc::channel(8);
    let application = ScriptedServer::responding(move |request| {
        seen.try_send(request).unwrap();
        "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n".to_owned()
    })
    .await;
    let collector = Collector::start().await;
    let endpoint = format!("http://{}", collector.server.address);
    let arguments = ["--otlp-endpoint", &endpoint, "--otlp-sample-ratio", "1"];
    let agimo = Agimo::with(application.service("a.test", "")).arguments(&arguments).start().await;
    let mut client = agimo.connect().await;
    let caller = "4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7";
    for lines in [
        format!("TraceParent: 00-{caller}-01\r\ntracestate: a=b"),
        format!("traceparent: 00-{caller}-00\r\ntracestate: a=b"),
        // Two are none.
        format!("traceparent: 00-{caller}-01\r\ntraceparent: 00-{caller}-00\r\ntracestate: a=b"),
    ] {
        client.send(format!("GET /cart?a=1 HTTP/1.1\r\nHost: a.test\r\n{lines}\r\n\r\n")).await;
        assert_eq!(client.response().await.status, 503);
    }
    let spans = collector.spans("GET /", 2).await;
    let spans: Vec<_> = spans.iter().filter(|span| span.name == "GET /").collect();
    assert_eq!(spans.len(), 2, "the caller of the second request does not record its trace");
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    assert_eq!(format!("{}-{}", hex(&spans[0].trace_id), hex(&spans[0].parent_span_id)), caller);
    assert!(spans[1].parent_span_id.is_empty());

    // Each request reached the application with the span that it is to continue.
    let own = |span: &Span| format!("00-{}-{}-01", hex(&span.trace_id), hex(&span.span_id));
    for (trace_parent, trace_state) in [
        (own(spans[0]), Some("a=b")),
        (format!("00-{caller}-00"), Some("a=b")),
        (own(spans[1]), None),
    ] {
        let request = requests.recv().await.unwrap();
        assert_eq!(request.header("traceparent"), Some(trace_parent.as_str()), "{}", request.head);
        assert_eq!(request.header("tracestate"), trace_state, "{}", request.head);
        assert_eq!(request.head.to_lowercase().matches("traceparent").count(), 1);
    }
    for (key, text, number) in [
        ("http.request.method", Some("GET"), None),
        ("url.path", Some("/cart"), None),
        ("server.address", Some("a.test"), None),
        ("http.response.status_code", None, Some(503)),
        ("error.type", Some("503"), None),
    ] {
        let value = attribute(spans[0], key).unwrap_or_else(|| panic!("{key} in {:?}", spans[0]));
        assert_eq!((value.string_value.as_deref(), value.int_value), (text, number), "{key}");
    }
    assert!(attribute(spans[0], "agimo.waiting").unwrap().double_value > Some(0.0));
    eventually("the count of spans", || async {
        let sent = agimo.metric("agimo_spans_total{result=\"sent\"}").await;
        sent.filter(|sent| *sent >= spans.len() as f64)
    })
    .await;
}

#[tokio::test]
async fn a_cold_start_is_a_child_of_the_sampled_request_that_caused_it() {
    let collector = Collector::start().await;
    let mut agimo = collector.agimo("").arguments(&["--otlp-sample-ratio", "1"]).start().await;
    assert_eq!(agimo.get("a.test", "/").await.status, 200);
    // What is queued when agimo ends is sent before.
    agimo.signal(Signal::TERM);
    assert!(agimo.wait_for_exit().await.success());
    let spans = collector.spans("answered", 1).await;
    let named = |name: &str| spans.iter().find(|span| span.name == name).unwrap();
    let (request, cold_start) = (named("GET /"), named("cold start"));
    assert_eq!(cold_start.trace_id, request.trace_id);
    assert_eq!(cold_start.parent_span_id, request.span_id);
    assert!(attribute(request, "agimo.held").unwrap().double_value > Some(0.0));
}
