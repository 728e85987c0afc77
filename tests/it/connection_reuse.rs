//! Which connections to an application serve another request: only those on which nothing of the last one can follow.

use std::time::{Duration, Instant};

use crate::support::agimo::Agimo;
use crate::support::application::ScriptedServer;
use crate::support::python::python_service;

const HI: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";

/// A common slip: HEAD is answered as GET is, with a body, which takes a moment.
const BODY_AFTER_HEAD: &str = r#"
import os, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        body = b"for " + self.headers.get("X-User", "?").encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        time.sleep(0.02)
        self.wfile.write(body)
    do_HEAD = do_GET
    def log_message(self, *a): pass
ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
"#;

/// One thread with keep-alive: it looks at no other connection before the one that it serves is closed.
const ONE_CONNECTION: &str = r#"
import os
from http.server import BaseHTTPRequestHandler, HTTPServer
class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"hi")
    def log_message(self, *a): pass
HTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
"#;

#[tokio::test]
async fn a_server_of_one_connection_is_not_blocked_by_idle_connections() {
    for keep_alive in ["", "keep_alive = 'off'", "keep_alive = 1"] {
        let agimo = Agimo::with(python_service("a.test", keep_alive, ONE_CONNECTION)).start().await;
        assert_eq!(agimo.get("a.test", "/").await.status, 200);
        let began = Instant::now();
        // New connections, so that both cores serve some.
        for _ in 0..60 {
            assert_eq!(agimo.get("a.test", "/").await.text(), "hi");
        }
        // A single idle connection would block the server for a minute.
        assert!(began.elapsed() < Duration::from_secs(10), "{keep_alive}: {:?}", began.elapsed());
    }
}

#[tokio::test]
async fn keep_alive_bounds_the_idle_connections_of_an_endpoint() {
    // Of two rounds of eight requests at once.
    for (keep_alive, connections) in [("'off'", 16), ("2", 12), ("'1m'", 0)] {
        let server = ScriptedServer::serve(|mut client, _| async move {
            while client.request().await.is_some() {
                // Longer than a busy machine takes to send all requests of a round.
                tokio::time::sleep(Duration::from_millis(600)).await;
                client.send(HI).await;
            }
        })
        .await;
        let service = server.service("a.test", &format!("keep_alive = {keep_alive}"));
        let agimo = Agimo::with(service).start().await;
        // The same connections to agimo in each round, and with them the same cores.
        let mut clients = Vec::new();
        for _ in 0..8 {
            clients.push(agimo.connect().await);
        }
        let mut before = 0;
        for round in 0..4 {
            if round == 2 {
                before = server.connections();
            }
            for client in &mut clients {
                client.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n").await;
            }
            for client in &mut clients {
                assert_eq!(client.response().await.text(), "hi");
            }
        }
        assert_eq!(server.connections() - before, connections, "keep_alive = {keep_alive}");
    }
}

#[tokio::test]
async fn a_body_after_the_response_to_head_is_not_given_to_the_next_client() {
    let agimo = Agimo::with(python_service("a.test", "", BODY_AFTER_HEAD))
        .arguments(&["--threads", "1"])
        .start()
        .await;
    for round in 0..8 {
        let mut one = agimo.connect().await;
        one.send("HEAD / HTTP/1.1\r\nHost: a.test\r\nX-User: one\r\n\r\n").await;
        assert_eq!(one.response_to("HEAD").await.status, 200);
        let mut other = agimo.connect().await;
        other.send("GET / HTTP/1.1\r\nHost: a.test\r\nX-User: other\r\n\r\n").await;
        let response = other.response().await;
        assert_eq!(
            (response.status, response.text().as_str()),
            (200, "for other"),
            "round {round}"
        );
    }
}

#[tokio::test]
async fn a_request_that_applications_read_differently_ends_its_connection() {
    let server = ScriptedServer::responding(|_| HI.to_owned()).await;
    let agimo =
        Agimo::with(server.service("a.test", "")).arguments(&["--threads", "1"]).start().await;
    let mut client = agimo.connect().await;
    let mut expected = 0;
    for (request, is_reused) in [
        ("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 1\r\n\r\nx", true),
        ("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n", true),
        ("GET / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 1\r\n\r\nx", false),
        ("DELETE / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 1\r\n\r\nx", false),
        (
            "OPTIONS / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n",
            false,
        ),
        ("GET / HTTP/1.1\r\nHost: a.test\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n", false),
    ] {
        let before = server.connections();
        client.send(request).await;
        assert_eq!(client.response().await.status, 200, "{request}");
        client.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n").await;
        assert_eq!(client.response().await.status, 200);
        expected += usize::from(!is_reused || before == 0);
        assert_eq!(server.connections(), expected, "after {request}");
    }
}

#[tokio::test]
async fn what_an_application_sends_on_an_idle_connection_is_no_response() {
    let server = ScriptedServer::serve(|mut client, _| async move {
        while client.request().await.is_some() {
            client.send(HI).await;
            tokio::time::sleep(Duration::from_millis(20)).await;
            client.send("HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\nsurplus").await;
        }
    })
    .await;
    let agimo =
        Agimo::with(server.service("a.test", "")).arguments(&["--threads", "1"]).start().await;
    for _ in 0..5 {
        assert_eq!(agimo.get("a.test", "/").await.text(), "hi");
        tokio::time::sleep(Duration::from_millis(40)).await;
    }
}

/// `ThreadingHTTPServer` writes head and body separately and does not set TCP_NODELAY.
#[tokio::test]
async fn a_response_in_two_parts_does_not_wait_for_a_delayed_acknowledgement() {
    let program = ONE_CONNECTION.replace("HTTPServer", "ThreadingHTTPServer");
    let agimo = Agimo::with(python_service("a.test", "", &program)).start().await;
    let mut client = agimo.connect().await;
    let mut durations = Vec::new();
    for _ in 0..21 {
        let sent = Instant::now();
        client.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n").await;
        assert_eq!(client.response().await.text(), "hi");
        durations.push(sent.elapsed());
    }
    durations.sort_unstable();
    // The kernel would delay each acknowledgement by 40 ms.
    assert!(durations[10] < Duration::from_millis(30), "{durations:?}");
}
