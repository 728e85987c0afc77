//! Bodies on their way: whole, streaming, with backpressure and trailers, or absent. It tests no body that breaks.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::support::agimo::Agimo;
use crate::support::application::{Script, reserve, service_at};
use crate::support::client::Client;
use crate::support::within;

const HI: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";
const GIBIBYTE: usize = 1 << 30;
const BLOCK: usize = 256 * 1024;
/// The bytes of long bodies repeat after this many: a lost or doubled block would show.
const PERIOD: usize = 251;
/// KiB of agimo's memory that streaming may cost, however much is streamed.
const MOST_GROWTH: u64 = 16 * 1024;

fn pattern() -> Vec<u8> {
    (0..BLOCK + PERIOD).map(|at| (at % PERIOD) as u8).collect()
}

async fn write_pattern(stream: &mut TcpStream, total: usize) {
    let block = pattern();
    let mut written = 0;
    while written < total {
        let part = &block[written % PERIOD..][..BLOCK.min(total - written)];
        written += within("room for bytes", stream.write(part)).await.unwrap();
    }
}

/// Reads a body of the pattern, calling `look` about every 32 MiB.
async fn check_pattern(client: &mut Client, total: usize, mut look: impl FnMut()) {
    let block = pattern();
    let mut buffer = std::mem::take(&mut client.received);
    let mut length = buffer.len();
    buffer.resize(BLOCK.max(length), 0);
    let (mut read, mut looked) = (0, 0);
    loop {
        assert!(buffer[..length] == block[read % PERIOD..][..length], "wrong bytes after {read}");
        read += length;
        if read - looked > 32 << 20 {
            looked = read;
            look();
        }
        if read == total {
            return;
        }
        let most = BLOCK.min(total - read);
        length = within("bytes", client.stream.read(&mut buffer[..most])).await.unwrap();
        assert!(length > 0, "closed after {read} of {total} bytes");
    }
}

/// Writes until nothing has gone for a while; returns how much went.
async fn write_until_stuck(stream: &mut TcpStream, most: usize) -> usize {
    let block = pattern();
    let mut written = 0;
    while written < most {
        let part = &block[written % PERIOD..][..BLOCK.min(most - written)];
        match timeout(Duration::from_millis(500), stream.write(part)).await {
            Ok(length) => written += length.unwrap(),
            Err(_) => break,
        }
    }
    written
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gibibyte_up_and_a_gibibyte_down_cost_no_memory() {
    let script = Script::serve(|mut client, _| async move {
        let head = client.until("\r\n\r\n").await;
        if head.starts_with("POST") {
            check_pattern(&mut client, GIBIBYTE, || ()).await;
            client.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {GIBIBYTE}\r\n\r\n")).await;
            write_pattern(&mut client.stream, GIBIBYTE).await;
        } else {
            // Said before it is done: the POST, which is never repeated, would otherwise meet the close.
            client.send(HI.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n")).await;
        }
    })
    .await;
    let agimo = Agimo::with(script.service("a.test", "")).start().await;
    assert_eq!(agimo.get("a.test", "/").await.status, 200);
    let before = agimo.resident();
    let mut most = before;

    let mut client = agimo.connect().await;
    client
        .send(format!("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: {GIBIBYTE}\r\n\r\n"))
        .await;
    write_pattern(&mut client.stream, GIBIBYTE).await;
    most = most.max(agimo.resident());
    let head = client.until("\r\n\r\n").await;
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    check_pattern(&mut client, GIBIBYTE, || most = most.max(agimo.resident())).await;
    assert!(most - before < MOST_GROWTH, "{} KiB more", most - before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_reader_holds_the_sender_back() {
    const ALL: usize = GIBIBYTE / 4;
    let (stuck, mut stuck_at) = mpsc::channel(1);
    let (read_on, on) = mpsc::channel::<()>(1);
    let on = std::sync::Arc::new(tokio::sync::Mutex::new(on));
    let script = Script::serve(move |mut client, _| {
        let (stuck, on) = (stuck.clone(), on.clone());
        async move {
            let head = client.until("\r\n\r\n").await;
            if head.starts_with("POST") {
                // Does not read before it is told to.
                on.lock().await.recv().await;
                check_pattern(&mut client, ALL, || ()).await;
                client.send(HI).await;
            } else {
                client.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {ALL}\r\n\r\n")).await;
                let written = write_until_stuck(&mut client.stream, ALL).await;
                stuck.send(written).await.unwrap();
                // What is left, from where the pattern is.
                let rest: Vec<u8> = (written..ALL).map(|at| (at % PERIOD) as u8).collect();
                client.stream.write_all(&rest).await.unwrap();
            }
        }
    })
    .await;
    let agimo = Agimo::with(script.service("a.test", "")).start().await;

    let mut client = agimo.connect().await;
    client.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n").await;
    client.until("\r\n\r\n").await;
    let before = agimo.resident();
    let written = within("a stuck application", stuck_at.recv()).await.unwrap();
    assert!(written < ALL / 2, "{written} bytes went nowhere");
    let growth = agimo.resident().saturating_sub(before);
    assert!(growth < MOST_GROWTH, "{growth} KiB more");
    check_pattern(&mut client, ALL, || ()).await;

    let mut client = agimo.connect().await;
    client.send(format!("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: {ALL}\r\n\r\n")).await;
    let written = write_until_stuck(&mut client.stream, ALL).await;
    assert!(written < ALL / 2, "{written} bytes went nowhere");
    let growth = agimo.resident().saturating_sub(before);
    assert!(growth < MOST_GROWTH, "{growth} KiB more");
    read_on.send(()).await.unwrap();
    let rest: Vec<u8> = (written..ALL).map(|at| (at % PERIOD) as u8).collect();
    client.stream.write_all(&rest).await.unwrap();
    assert_eq!(client.response().await.text(), "hi");
}

#[tokio::test]
async fn chunks_and_trailers_pass_both_ways() {
    let script = Script::replying(|request| {
        assert_eq!(request.header("transfer-encoding"), Some("chunked"));
        assert_eq!(request.header("trailer"), Some("X-Sum"));
        let body = String::from_utf8(request.body).unwrap();
        // A trailer section must not reframe the message: that line is dropped.
        assert_eq!(request.trailers, "X-Sum: 7\r\n");
        format!(
            "HTTP/1.1 200 OK\r\nTrailer: X-Back\r\nTransfer-Encoding: chunked\r\n\r\n\
             {:x}\r\n{body}\r\n0\r\nX-Back: {}\r\nX-Two: 2\r\n\r\n",
            body.len(),
            body.len(),
        )
    })
    .await;
    let agimo = Agimo::with(script.service("a.test", "")).start().await;
    let mut client = agimo.connect().await;
    let body = "5;ext=\"a\"\r\nhello\r\n1\r\n,\r\n00006\r\n world\r\n\
        0;last\r\nX-Sum: 7\r\nContent-Length: 3\r\n\r\n";
    let request = format!(
        "POST / HTTP/1.1\r\nHost: a.test\r\nTrailer: X-Sum\r\nTransfer-Encoding: Chunked\r\n\r\n{body}"
    );
    // However the bytes are cut.
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
async fn only_the_application_says_100_continue() {
    let (address, mut sockets) = reserve(1);
    let agimo = Agimo::with(service_at(address, "a.test", "")).start().await;
    let head =
        "POST / HTTP/1.1\r\nHost: a.test\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n";
    let mut held = agimo.connect().await;
    held.send(head).await;
    agimo.until_metric("agimo_held_requests{host=\"a.test\"}", 1.0).await;
    assert!(held.is_silent(), "a word while held");

    let (arrived, mut arrivals) = mpsc::channel(1);
    let (go, may_go) = mpsc::channel::<&'static str>(1);
    let may_go = std::sync::Arc::new(tokio::sync::Mutex::new(may_go));
    let listener = sockets.remove(0).listen(16).unwrap();
    let _script = Script::serve_on(listener, move |mut client, _| {
        let (arrived, may_go) = (arrived.clone(), may_go.clone());
        async move {
            let head = client.until("\r\n\r\n").await;
            assert!(head.contains("Expect: 100-continue\r\n"), "{head}");
            arrived.send(()).await.unwrap();
            let answer = may_go.lock().await.recv().await.unwrap();
            client.send(answer).await;
            if answer.starts_with("HTTP/1.1 100 ") {
                assert_eq!(client.bytes(3).await, b"abc");
                client.send(HI).await;
            }
        }
    });
    within("the request at the application", arrivals.recv()).await.unwrap();
    assert!(held.is_silent(), "a word before the application's");
    go.send("HTTP/1.1 100 Continue\r\n\r\n").await.unwrap();
    assert_eq!(held.response().await.head, "HTTP/1.1 100 Continue");
    held.send("abc").await;
    assert_eq!(held.response().await.text(), "hi");

    // It may also refuse; what the client does with its body then is unknown, so the connection ends.
    let mut refused = agimo.connect().await;
    refused.send(head).await;
    within("the request at the application", arrivals.recv()).await.unwrap();
    go.send("HTTP/1.1 417 Expectation Failed\r\nContent-Length: 0\r\n\r\n").await.unwrap();
    let response = refused.response().await;
    assert_eq!((response.status, response.header("connection")), (417, Some("close")));
    assert!(refused.is_closed().await);
}

#[tokio::test]
async fn early_hints_arrive_before_the_answer() {
    let (seen, may_go) = mpsc::channel::<()>(1);
    let may_go = std::sync::Arc::new(tokio::sync::Mutex::new(may_go));
    let script = Script::serve(move |mut client, _| {
        let may_go = may_go.clone();
        async move {
            while client.request().await.is_some() {
                client.send("HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n").await;
                may_go.lock().await.recv().await;
                client.send(HI).await;
            }
        }
    })
    .await;
    let agimo = Agimo::with(script.service("a.test", "")).start().await;
    let mut client = agimo.connect().await;
    for _ in 0..2 {
        client.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n").await;
        let hints = client.response().await;
        assert_eq!(hints.head, "HTTP/1.1 103 Early Hints\r\nLink: </a.css>");
        seen.send(()).await.unwrap();
        assert_eq!(client.response().await.text(), "hi");
    }
    // HTTP/1.0 has no informational responses.
    seen.send(()).await.unwrap();
    let mut old = agimo.connect().await;
    old.send("GET / HTTP/1.0\r\nHost: a.test\r\n\r\n").await;
    assert_eq!(old.response().await.status, 200);
}

#[tokio::test]
async fn responses_without_a_body_end_with_their_head() {
    let script = Script::replying(|request| {
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
    let agimo = Agimo::with(script.service("a.test", "")).start().await;
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
    assert!(client.is_silent());
    assert_eq!(script.connections(), 1, "each left the connection to the application usable");
}

#[tokio::test]
async fn an_early_answer_reaches_a_client_that_is_still_sending() {
    let script = Script::serve(|mut client, number| async move {
        client.until("\r\n\r\n").await;
        if number == 0 {
            client.send("HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno").await;
            client.rest().await;
        } else {
            client.send(HI).await;
        }
    })
    .await;
    let agimo = Agimo::with(script.service("a.test", "")).start().await;
    let mut client = agimo.connect().await;
    client
        .send("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 1000000\r\n\r\nbeginning")
        .await;
    let response = client.response().await;
    assert_eq!((response.status, response.text().as_str()), (403, "no"));
    assert_eq!(response.header("connection"), Some("close"));
    assert!(client.is_closed().await);
    // The application still expects the rest there: the next request goes elsewhere.
    assert_eq!(agimo.get("a.test", "/").await.status, 200);
    assert_eq!(script.connections(), 2);
}

#[tokio::test]
async fn an_answer_survives_an_application_that_slams_the_door_on_the_body() {
    let script = Script::serve(|mut client, _| async move {
        client.until("\r\n\r\n").await;
        client.send("HTTP/1.1 413 Content Too Large\r\nContent-Length: 2\r\n\r\nno").await;
        // What is unread makes the end of this connection a reset.
    })
    .await;
    let agimo = Agimo::with(script.service("a.test", "")).start().await;
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
        // It may end in a reset: the client never stopped sending.
        let _ = within("the end", reader.read_to_end(&mut all)).await;
        let all = String::from_utf8_lossy(&all);
        assert!(
            all.starts_with("HTTP/1.1 413 ") && all.ends_with("\r\n\r\nno"),
            "{round}: {all:?}"
        );
        sending.await.unwrap();
    }
}

#[tokio::test]
async fn a_head_and_the_first_bytes_of_its_body_go_out_in_one_write() {
    // One write arrives as one read here: more than one would show within a few rounds.
    let script = Script::serve(|mut client, _| async move {
        while client.read().await {
            let received = String::from_utf8_lossy(&client.received).into_owned();
            assert!(received.starts_with("POST / "), "{received}");
            let whole = received.ends_with("\r\n\r\nhello");
            client.received.clear();
            let status = if whole { "200 OK" } else { "400 In Parts" };
            let head = format!("HTTP/1.1 {status}\r\nTransfer-Encoding: chunked\r\n\r\n");
            client.send(format!("{head}5\r\nworld\r\n0\r\n\r\n")).await;
        }
    })
    .await;
    let agimo = Agimo::with(script.service("a.test", "")).start().await;
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
