//! Misbehaving applications and clients: other requests are not affected, retries and restarts are limited, and memory
//! stays bounded.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::AsyncWriteExt;
use tokio::time::{Duration, Instant};

use crate::support::agimo::Agimo;
use crate::support::application::ScriptedServer;
use crate::support::client::Client;
use crate::support::{eventually, within};

const HI: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";

/// Answers `/ok` and closes the connection without an answer on every other path; counts the requests to these.
async fn server_that_closes_connections() -> (ScriptedServer, Arc<AtomicUsize>) {
    let unanswered = Arc::new(AtomicUsize::new(0));
    let count = unanswered.clone();
    let server = ScriptedServer::serve(move |mut client, _| {
        let count = count.clone();
        async move {
            while let Some(request) = client.request().await {
                if request.line().starts_with("GET /ok ") {
                    client.send(HI).await;
                } else {
                    count.fetch_add(1, Ordering::SeqCst);
                    return;
                }
            }
        }
    })
    .await;
    (server, unanswered)
}

async fn send_get(client: &mut Client, path: &str) {
    client.send(format!("GET {path} HTTP/1.1\r\nHost: a.test\r\n\r\n")).await;
}

#[tokio::test]
async fn a_request_whose_connections_all_close_is_retried_a_limited_number_of_times() {
    let (server, unanswered) = server_that_closes_connections().await;
    let agimo =
        Agimo::with(server.service("a.test", "")).arguments(&["--threads", "1"]).start().await;
    // Many idle connections, on each of which agimo could try the request.
    let mut clients = Vec::new();
    for _ in 0..20 {
        let mut client = agimo.connect().await;
        send_get(&mut client, "/ok").await;
        clients.push(client);
    }
    for client in &mut clients {
        assert_eq!(client.response().await.status, 200);
    }
    let response = agimo.get("a.test", "/close").await;
    assert_eq!((response.status, response.reason()), (502, Some("connection-broken")));
    let delivered = unanswered.load(Ordering::SeqCst);
    assert!((2..=4).contains(&delivered), "delivered {delivered} times");
    // Other requests are not affected: the endpoint is not marked as unreachable.
    let mut other = agimo.connect().await;
    for _ in 0..20 {
        let mut broken = agimo.connect().await;
        send_get(&mut broken, "/close").await;
        send_get(&mut other, "/ok").await;
        assert_eq!(other.response().await.status, 200);
    }
    assert_eq!(
        agimo.metric("agimo_wakes_total{host=\"a.test\",result=\"ready\"}").await,
        Some(1.0)
    );
}

#[tokio::test]
async fn a_request_is_not_repeated_once_an_informational_response_has_come() {
    let server = ScriptedServer::serve(|mut client, _| async move {
        if client.request().await.is_some() {
            client.send("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n").await;
        }
    })
    .await;
    let agimo = Agimo::with(server.service("a.test", "")).start().await;
    let mut client = agimo.connect().await;
    send_get(&mut client, "/").await;
    assert_eq!(client.response().await.status, 103);
    assert_eq!(client.response().await.status, 502);
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn informational_responses_are_not_buffered_for_a_client_that_does_not_read() {
    const LIMIT: usize = 256 << 20;
    let written = Arc::new(AtomicUsize::new(0));
    let count = written.clone();
    let server = ScriptedServer::serve(move |mut client, _| {
        let count = count.clone();
        async move {
            client.request().await;
            let hints = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n".repeat(1000);
            while count.load(Ordering::SeqCst) < LIMIT {
                // Pending when agimo stops reading and all sockets on the way are full.
                if client.stream.write_all(hints.as_bytes()).await.is_err() {
                    return;
                }
                count.fetch_add(hints.len(), Ordering::SeqCst);
            }
            std::future::pending::<()>().await;
        }
    })
    .await;
    let other = ScriptedServer::answering(HI).await;
    let config = server.service("a.test", "") + &other.service("b.test", "");
    let agimo = Agimo::with(config).arguments(&["--threads", "1"]).start().await;
    assert_eq!(agimo.get("b.test", "/").await.status, 200);
    let before = agimo.resident();
    let mut client = agimo.connect().await;
    send_get(&mut client, "/").await;
    let sent = agimo.until_stalled(&written, "b.test").await;
    assert!(sent < LIMIT, "agimo read all {sent} bytes");
    let growth = agimo.resident().saturating_sub(before);
    assert!(growth < 16 * 1024, "memory grew by {growth} KiB");
}

#[tokio::test]
async fn idle_timeout_ends_a_stream_that_stalls_after_a_fast_start() {
    let server = ScriptedServer::serve(|mut client, _| async move {
        client.request().await;
        client.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await;
        let chunk = format!("10000\r\n{}\r\n", "x".repeat(0x10000));
        let until = Instant::now() + Duration::from_millis(700);
        while Instant::now() < until {
            client.send(&chunk).await;
        }
        std::future::pending::<()>().await;
    })
    .await;
    let agimo = Agimo::with(server.service("a.test", "idle_timeout = \"300ms\"")).start().await;
    for _ in 0..4 {
        let mut client = agimo.connect().await;
        send_get(&mut client, "/").await;
        within("the stalled stream to be closed", async {
            while client.read().await {
                client.received.clear();
            }
        })
        .await;
    }
}

#[tokio::test]
async fn a_process_that_becomes_ready_and_exits_is_started_once_for_each_request_and_no_wake_fails()
{
    let folder = tempfile::tempdir().unwrap();
    let starts = folder.path().join("starts");
    let service = format!(
        "[[services]]\nhost = \"a.test\"\ntype = \"process\"\ncommand = [\"python3\", \"-c\", '''\n\
         import os, socket, time\n\
         open(\"{}\", \"a\").write(\"x\")\n\
         listener = socket.create_server((\"127.0.0.1\", int(os.environ[\"PORT\"])))\n\
         time.sleep(0.2)\n''']\n",
        starts.display()
    );
    let agimo = Agimo::with(service).start().await;
    for _ in 0..6 {
        // It has received the request and may have acted on it: the request is not sent to another process.
        let response = agimo.get("a.test", "/").await;
        assert_eq!((response.status, response.reason()), (502, Some("connection-broken")));
    }
    let started = std::fs::read_to_string(starts).unwrap().len();
    assert_eq!(started, 6);
    let failed = agimo.metric("agimo_wakes_total{host=\"a.test\",result=\"failed\"}").await;
    assert_eq!(failed, Some(0.0));
}

#[tokio::test]
async fn a_process_started_by_a_shell_gets_stop_grace() {
    let folder = tempfile::tempdir().unwrap();
    let clean = folder.path().join("clean");
    let program = folder.path().join("program.py");
    let text = format!(
        "import os, signal, socket, sys, time\n\
         def stop(*_):\n    time.sleep(0.3)\n    open(\"{}\", \"w\").write(\"clean\")\n    sys.exit(0)\n\
         signal.signal(signal.SIGTERM, stop)\n\
         listener = socket.create_server((\"127.0.0.1\", int(os.environ[\"PORT\"])))\n\
         while True:\n    connection, _ = listener.accept()\n    if connection.recv(4096):\n\
         \x20       connection.sendall(b\"HTTP/1.1 204 No Content\\r\\nConnection: close\\r\\n\\r\\n\")\n\
         \x20   connection.close()\n",
        clean.display()
    );
    std::fs::write(&program, text).unwrap();
    let service = format!(
        "[[services]]\nhost = \"a.test\"\ntype = \"process\"\nsleep_after = \"100ms\"\n\
         command = [\"sh\", \"-c\", \"python3 {}; true\"]\n",
        program.display()
    );
    let agimo = Agimo::with(service).start().await;
    assert_eq!(agimo.get("a.test", "/").await.status, 204);
    agimo.until_sleep_count("a.test", 1).await;
    eventually("the process to end cleanly", || async { clean.exists().then_some(()) }).await;
}
