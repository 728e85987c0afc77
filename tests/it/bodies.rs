//! Request and response bodies: large, streaming, with backpressure and trailers, or absent.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use crate::support::agimo::Agimo;
use crate::support::application::{ScriptedServer, reserve, service_at};
use crate::support::client::Client;
use crate::support::within;

const HI: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";
const GIBIBYTE: usize = 1 << 30;
const BLOCK: usize = 256 * 1024;
/// Long bodies repeat a pattern of this length, which is prime, so that a lost or repeated block is noticed.
const PERIOD: usize = 251;
/// By how many KiB agimo's memory may grow while it streams, however much it streams.
const MAX_GROWTH: u64 = 16 * 1024;

fn pattern() -> Vec<u8> {
    (0..BLOCK + PERIOD).map(|at| (at % PERIOD) as u8).collect()
}

/// Writes a body of the pattern and counts its bytes in `written`.
async fn write_pattern(stream: &mut TcpStream, total: usize, written: &AtomicUsize) {
    let block = pattern();
    let mut at = 0;
    while at < total {
        let part = &block[at % PERIOD..][..BLOCK.min(total - at)];
        at += within("the socket to accept bytes", stream.write(part)).await.unwrap();
        written.store(at, Ordering::SeqCst);
    }
}

/// Reads and checks a body of the pattern; calls `on_progress` about every 32 MiB.
async fn check_pattern(client: &mut Client, total: usize, mut on_progress: impl FnMut()) {
    let block = pattern();
    let mut buffer = std::mem::take(&mut client.received);
    let mut length = buffer.len();
    buffer.resize(BLOCK.max(length), 0);
    let (mut read, mut reported) = (0, 0);
    loop {
        assert!(buffer[..length] == block[read % PERIOD..][..length], "wrong bytes after {read}");
        read += length;
        if read - reported > 32 << 20 {
            reported = read;
            on_progress();
        }
        if read == total {
            return;
        }
        let limit = BLOCK.min(total - read);
        length =
            within("bytes to be received", client.stream.read(&mut buffer[..limit])).await.unwrap();
        assert!(length > 0, "closed after {read} of {total} bytes");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gibibyte_in_each_direction_does_not_grow_memory_beyond_the_bound() {
    let server = ScriptedServer::serve(|mut client, _| async move {
        let head = client.read_until("\r\n\r\n").await;
        if head.starts_with("POST") {
            check_pattern(&mut client, GIBIBYTE, || ()).await;
            client.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {GIBIBYTE}\r\n\r\n")).await;
            write_pattern(&mut client.stream, GIBIBYTE, &AtomicUsize::default()).await;
        } else {
            // Announce the close: agimo could otherwise send the POST, which it never repeats, on this connection.
            client.send(HI.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n")).await;
        }
    })
    .await;
    let agimo = Agimo::with(server.service("a.test", "")).start().await;
    assert_eq!(agimo.get("a.test", "/").await.status, 200);
    let before = agimo.resident();
    let mut peak = before;

    let mut client = agimo.connect().await;
    client
        .send(format!("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: {GIBIBYTE}\r\n\r\n"))
        .await;
    write_pattern(&mut client.stream, GIBIBYTE, &AtomicUsize::default()).await;
    peak = peak.max(agimo.resident());
    let head = client.read_until("\r\n\r\n").await;
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    check_pattern(&mut client, GIBIBYTE, || peak = peak.max(agimo.resident())).await;
    assert!(peak - before < MAX_GROWTH, "memory grew by {} KiB", peak - before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sender_is_blocked_while_the_receiver_does_not_read() {
    const TOTAL: usize = GIBIBYTE / 4;
    let (read_body, reads_body) = mpsc::channel::<()>(1);
    let reads_body = Arc::new(tokio::sync::Mutex::new(reads_body));
    let response_bytes = Arc::new(AtomicUsize::new(0));
    let written = response_bytes.clone();
    let server = ScriptedServer::serve(move |mut client, _| {
        let (written, reads_body) = (written.clone(), reads_body.clone());
        async move {
            let head = client.read_until("\r\n\r\n").await;
            if head.starts_with("POST") {
                reads_body.lock().await.recv().await;
                check_pattern(&mut client, TOTAL, || ()).await;
                client.send(HI).await;
            } else {
                let fields = format!("Connection: close\r\nContent-Length: {TOTAL}");
                client.send(format!("HTTP/1.1 200 OK\r\n{fields}\r\n\r\n")).await;
                write_pattern(&mut client.stream, TOTAL, &written).await;
            }
        }
    })
    .await;
    let other = ScriptedServer::answering(HI).await;
    let config = server.service("a.test", "") + &other.service("b.test", "");
    let agimo = Agimo::with(config).arguments(&["--threads", "1"]).start().await;
    assert_eq!(agimo.get("b.test", "/").await.status, 200);
    let before = agimo.resident();
    let check_stalled = async |progress: &AtomicUsize| {
        let sent = agimo.until_stalled(progress, "b.test").await;
        assert!(sent < TOTAL / 2, "{sent} bytes were sent to a receiver that does not read");
        let growth = agimo.resident().saturating_sub(before);
        assert!(growth < MAX_GROWTH, "memory grew by {growth} KiB");
    };

    let mut client = agimo.connect().await;
    client.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n").await;
    client.read_until("\r\n\r\n").await;
    check_stalled(&response_bytes).await;
    check_pattern(&mut client, TOTAL, || ()).await;

    let request_bytes = Arc::new(AtomicUsize::new(0));
    let written = request_bytes.clone();
    let mut client = agimo.connect().await;
    let sending = tokio::spawn(async move {
        let fields = format!("Host: a.test\r\nContent-Length: {TOTAL}");
        client.send(format!("POST / HTTP/1.1\r\n{fields}\r\n\r\n")).await;
        write_pattern(&mut client.stream, TOTAL, &written).await;
        client
    });
    check_stalled(&request_bytes).await;
    read_body.send(()).await.unwrap();
    let mut client = within("the request to be sent", sending).await.unwrap();
    assert_eq!(client.response().await.text(), "hi");
}

#[tokio::test]
async fn chunks_and_trailers_are_forwarded_in_both_directions() {
    let server = ScriptedServer::responding(|request| {
        assert_eq!(request.header("transfer-encoding"), Some("chunked"));
        assert_eq!(request.header("trailer"), Some("X-Sum"));
        let body = String::from_utf8(request.body).unwrap();
        // Content-Length is dropped: a trailer must not change the framing (RFC 9110 section 6.5.1).
        assert_eq!(request.trailers, "X-Sum: 7\r\n");
        format!(
            "HTTP/1.1 200 OK\r\nTrailer: X-Back\r\nTransfer-Encoding: chunked\r\n\r\n\
             {:x}\r\n{body}\r\n0\r\nX-Back: {}\r\nX-Two: 2\r\n\r\n",
            body.len(),
            body.len(),
        )
    })
    .await;
    let agimo = Agimo::with(server.service("a.test", "")).start().await;
    let mut client = agimo.connect().await;
    let body = "5;ext=\"a\"\r\nhello\r\n1\r\n,\r\n00006\r\n world\r\n\
        0;last\r\nX-Sum: 7\r\nContent-Length: 3\r\n\r\n";
    let request = format!(
        "POST / HTTP/1.1\r\nHost: a.test\r\nTrailer: X-Sum\r\nTransfer-Encoding: Chunked\r\n\r\n{body}"
    );
    // In writes of different sizes.
    for step in [1, 7, 50, 10_000] {
        for part in request.as_bytes().chunks(step) {
            client.send(part).await;
            tokio::task::yield_now().await;
        }
        let response = client.response().await;
        assert_eq!(response.text(), "hello, world");
        assert_eq!(response.trailers, "X-Back: 12\r\nX-Two: 2\r\n");
    }
}

#[tokio::test]
async fn only_the_application_sends_100_continue() {
    let (address, mut sockets) = reserve(1);
    let agimo = Agimo::with(service_at(address, "a.test", "")).start().await;
    let head =
        "POST / HTTP/1.1\r\nHost: a.test\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n";
    let mut held = agimo.connect().await;
    held.send(head).await;
    agimo.until_metric("agimo_held_requests{host=\"a.test\"}", 1.0).await;
    assert!(held.has_received_nothing(), "bytes were received while the request was held");

    let (arrived, mut arrivals) = mpsc::channel(1);
    let (send_answer, answers) = mpsc::channel::<&'static str>(1);
    let answers = Arc::new(tokio::sync::Mutex::new(answers));
    let listener = sockets.remove(0).listen(16).unwrap();
    let _server = ScriptedServer::serve_on(listener, move |mut client, _| {
        let (arrived, answers) = (arrived.clone(), answers.clone());
        async move {
            let head = client.read_until("\r\n\r\n").await;
            assert!(head.contains("Expect: 100-continue\r\n"), "{head}");
            arrived.send(()).await.unwrap();
            let answer = answers.lock().await.recv().await.unwrap();
            client.send(answer).await;
            if answer.starts_with("HTTP/1.1 100 ") {
                assert_eq!(client.read_exact(3).await, b"abc");
                client.send(HI).await;
            }
        }
    });
    within("the application to receive the request", arrivals.recv()).await.unwrap();
    assert!(held.has_received_nothing(), "bytes were received before the application sent any");
    send_answer.send("HTTP/1.1 100 Continue\r\n\r\n").await.unwrap();
    assert_eq!(held.response().await.head, "HTTP/1.1 100 Continue");
    held.send("abc").await;
    assert_eq!(held.response().await.text(), "hi");

    // A refusal ends the connection, because agimo cannot know whether the client still sends its body.
    let mut refused = agimo.connect().await;
    refused.send(head).await;
    within("the application to receive the request", arrivals.recv()).await.unwrap();
    send_answer.send("HTTP/1.1 417 Expectation Failed\r\nContent-Length: 0\r\n\r\n").await.unwrap();
    let response = refused.response().await;
    assert_eq!((response.status, response.header("connection")), (417, Some("close")));
    assert!(refused.is_closed().await);
}

#[tokio::test]
async fn early_hints_are_forwarded_before_the_final_response() {
    let (allow, allowed) = mpsc::channel::<()>(1);
    let allowed = Arc::new(tokio::sync::Mutex::new(allowed));
    let server = ScriptedServer::serve(move |mut client, _| {
        let allowed = allowed.clone();
        async move {
            while client.request().await.is_some() {
                client.send("HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n").await;
                allowed.lock().await.recv().await;
                client.send(HI).await;
            }
        }
    })
    .await;
    let agimo = Agimo::with(server.service("a.test", "")).start().await;
    let mut client = agimo.connect().await;
    for _ in 0..2 {
        client.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n").await;
        let hints = client.response().await;
        assert_eq!(hints.head, "HTTP/1.1 103 Early Hints\r\nLink: </a.css>");
        allow.send(()).await.unwrap();
        assert_eq!(client.response().await.text(), "hi");
    }
    // HTTP/1.0 has no informational responses.
    allow.send(()).await.unwrap();
    let mut old = agimo.connect().await;
    old.send("GET / HTTP/1.0\r\nHost: a.test\r\n\r\n").await;
    assert_eq!(old.response().await.status, 200);
}

#[tokio::test]
async fn responses_without_a_body_leave_the_connection_of_the_client_usable() {
    let server = ScriptedServer::responding(|request| {
        match request.line() {
            "HEAD /sized HTTP/1.1" => "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",
            "HEAD /chunked HTTP/1.1" => "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            "HEAD /open HTTP/1.1" => "HTTP/1.1 200 OK\r\n\r\n",
            "GET /204 HTTP/1.1" => "HTTP/1.1 204 No Content\r\n\r\n",
            "GET /304 HTTP/1.1" => {
                "HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\nContent-Length: 5\r\n\r\n"
            }
            _ => HI,
        }
        .to_owned()
    })
    .await;
    let agimo = Agimo::with(server.service("a.test", "")).start().await;
    let mut client = agimo.connect().await;
    for (method, path, status, length) in [
        ("HEAD", "/sized", 200, Some("5")),
        ("HEAD", "/chunked", 200, None),
        ("HEAD", "/open", 200, None),
        ("GET", "/204", 204, None),
        ("GET", "/304", 304, Some("5")),
        ("GET", "/", 200, Some("2")),
    ] {
        client.send(format!("{method} {path} HTTP/1.1\r\nHost: a.test\r\n\r\n")).await;
        let response = client.response_to(method).await;
        assert_eq!(
            (response.status, response.header("content-length")),
            (status, length),
            "{path}"
        );
    }
    assert!(client.has_received_nothing());
    // After each of the three heads that announce a body, a body may come nevertheless.
    assert_eq!(server.connections(), 4);
}

#[tokio::test]
async fn a_response_sent_before_the_request_body_has_ended_reaches_the_client() {
    let server = ScriptedServer::serve(|mut client, number| async move {
        client.read_until("\r\n\r\n").await;
        if number == 0 {
            client.send("HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno").await;
            client.read_to_end().await;
        } else {
            client.send(HI).await;
        }
    })
    .await;
    let agimo = Agimo::with(server.service("a.test", "")).start().await;
    let mut client = agimo.connect().await;
    client
        .send("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 1000000\r\n\r\nbeginning")
        .await;
    let response = client.response().await;
    assert_eq!((response.status, response.text().as_str()), (403, "no"));
    assert_eq!(response.header("connection"), Some("close"));
    assert!(client.is_closed().await);
    // The application still expects the rest of the body, so the next request uses a new connection.
    assert_eq!(agimo.get("a.test", "/").await.status, 200);
    assert_eq!(server.connections(), 2);
}

#[tokio::test]
async fn a_response_reaches_the_client_when_the_application_closes_without_reading_the_body() {
    let server = ScriptedServer::serve(|mut client, _| async move {
        client.read_until("\r\n\r\n").await;
        client.send("HTTP/1.1 413 Content Too Large\r\nContent-Length: 2\r\n\r\nno").await;
        // The connection closes with unread bytes, which makes the kernel send a reset.
    })
    .await;
    let agimo = Agimo::with(server.service("a.test", "")).start().await;
    for round in 0..20 {
        let client = agimo.connect().await;
        let (mut reader, mut writer) = client.stream.into_split();
        let sending = tokio::spawn(async move {
            let head =
                format!("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: {GIBIBYTE}\r\n\r\n");
            let mut sent = writer.write_all(head.as_bytes()).await;
            let block = pattern();
            while sent.is_ok() {
                sent = writer.write_all(&block).await;
            }
        });
        let mut all = Vec::new();
        // The connection may end with a reset, because the client did not stop sending.
        let _ = within("the end of the response", reader.read_to_end(&mut all)).await;
        let all = String::from_utf8_lossy(&all);
        assert!(
            all.starts_with("HTTP/1.1 413 ") && all.ends_with("\r\n\r\nno"),
            "round {round}: {all:?}"
        );
        sending.await.unwrap();
    }
}

#[tokio::test]
async fn a_head_and_the_start_of_its_body_are_sent_in_one_write() {
    // On loopback one write is received by one read; two writes would be noticed within a few rounds.
    let server = ScriptedServer::serve(|mut client, _| async move {
        while client.read().await {
            let received = String::from_utf8_lossy(&client.received).into_owned();
            assert!(received.starts_with("POST / "), "{received}");
            let whole = received.ends_with("\r\n\r\nhello");
            client.received.clear();
            let status = if whole { "200 OK" } else { "400 Several Writes" };
            let head = format!("HTTP/1.1 {status}\r\nTransfer-Encoding: chunked\r\n\r\n");
            client.send(format!("{head}5\r\nworld\r\n0\r\n\r\n")).await;
        }
    })
    .await;
    let agimo = Agimo::with(server.service("a.test", "")).start().await;
    let mut client = agimo.connect().await;
    for round in 0..50 {
        client.send("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 5\r\n\r\nhello").await;
        assert!(client.read().await);
        let received = String::from_utf8_lossy(&client.received).into_owned();
        assert!(received.starts_with("HTTP/1.1 200 OK\r\n"), "round {round}: {received}");
        assert!(received.ends_with("5\r\nworld\r\n0\r\n\r\n"), "round {round}: {received}");
        client.received.clear();
    }
}
