//! Streaming and interrupted transfers: events, broken connections, timeouts and bodies beyond the limit.

use std::io::ErrorKind;
use std::sync::Arc;

use tokio::io::AsyncReadExt;
use tokio::sync::{Mutex, mpsc};

use crate::support::agimo::Agimo;
use crate::support::application::ScriptedServer;
use crate::support::client::Client;
use crate::support::within;

const HI: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";

/// How an application's connection ends.
#[derive(Clone, Copy)]
enum End {
    Clean,
    Reset,
}

/// What a client receives, and whether its connection ends with a reset, when the application writes `response` and
/// closes its connection after the client has received `awaited`.
async fn received(
    version: &str,
    response: &'static str,
    awaited: &str,
    end: End,
) -> (String, bool) {
    let (close, closes) = mpsc::channel::<()>(1);
    let closes = Arc::new(Mutex::new(closes));
    let server = ScriptedServer::serve(move |mut client, _| {
        let closes = closes.clone();
        async move {
            client.request().await.unwrap();
            client.send(response).await;
            closes.lock().await.recv().await;
            if let End::Reset = end {
                client.reset();
            }
        }
    })
    .await;
    let agimo = Agimo::with(server.service("a.test", "")).start().await;
    let mut client = agimo.connect().await;
    client.send(format!("GET / HTTP/{version}\r\nHost: a.test\r\n\r\n")).await;
    let mut all = client.read_until(awaited).await;
    close.send(()).await.unwrap();
    let mut rest = Vec::new();
    let ended = within("the end of the connection", client.stream.read_to_end(&mut rest)).await;
    all += &String::from_utf8_lossy(&client.received);
    all += &String::from_utf8_lossy(&rest);
    let reset = ended.is_err_and(|error| error.kind() == ErrorKind::ConnectionReset);
    (all, reset)
}

#[tokio::test]
async fn an_interrupted_response_with_content_length_stays_incomplete() {
    for end in [End::Clean, End::Reset] {
        let response = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc";
        let (all, _) = received("1.1", response, "abc", end).await;
        assert_eq!(all, response);
    }
}

#[tokio::test]
async fn an_interrupted_chunked_response_has_no_last_chunk() {
    for end in [End::Clean, End::Reset] {
        for start in ["3\r\nabc\r\n", "5\r\nabc"] {
            let response: &'static str =
                format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{start}").leak();
            let (all, _) = received("1.1", response, "abc", end).await;
            assert!(all.ends_with("\r\n\r\n3\r\nabc\r\n"), "{all:?}");
            // Without chunks only a reset can tell the client that the body is incomplete.
            let (all, reset) = received("1.0", response, "abc", end).await;
            assert!(all.ends_with("\r\n\r\nabc") && reset, "{all:?}");
        }
    }
}

#[tokio::test]
async fn a_response_delimited_by_close_is_complete_only_after_a_clean_close() {
    let response = "HTTP/1.1 200 OK\r\n\r\nabc";
    let server = ScriptedServer::serve(move |mut client, _| async move {
        client.request().await.unwrap();
        client.send(response).await;
    })
    .await;
    let agimo = Agimo::with(server.service("a.test", "")).start().await;
    let mut client = agimo.connect().await;
    // The client's connection stays open after the application's has ended.
    for _ in 0..2 {
        client.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n").await;
        let complete = client.response().await;
        assert_eq!(complete.header("transfer-encoding"), Some("chunked"));
        assert_eq!(complete.text(), "abc");
    }
    let (all, reset) = received("1.0", response, "abc", End::Clean).await;
    assert!(all.ends_with("\r\n\r\nabc") && !reset, "{all:?}");

    let (all, _) = received("1.1", response, "abc", End::Reset).await;
    assert!(all.ends_with("\r\n\r\n3\r\nabc\r\n"), "{all:?}");
    let (all, reset) = received("1.0", response, "abc", End::Reset).await;
    assert!(all.ends_with("\r\n\r\nabc") && reset, "{all:?}");
}

#[tokio::test]
async fn a_response_interrupted_in_its_head_is_answered_502_and_not_retried() {
    let server = ScriptedServer::serve(|mut client, _| async move {
        client.request().await.unwrap();
        client.send("HTTP/1.1 200 OK\r\nContent-Le").await;
    })
    .await;
    let agimo = Agimo::with(server.service("a.test", "")).start().await;
    let response = agimo.get("a.test", "/").await;
    assert_eq!((response.status, response.reason()), (502, Some("connection-broken")));
    assert_eq!(server.connections(), 1, "the request was repeated although a response had begun");
}

#[tokio::test]
async fn a_response_with_a_malformed_chunk_has_no_last_chunk() {
    let response = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n";
    let (go_on, goes_on) = mpsc::channel::<()>(1);
    let goes_on = Arc::new(Mutex::new(goes_on));
    let server = ScriptedServer::serve(move |mut client, _| {
        let goes_on = goes_on.clone();
        async move {
            client.request().await.unwrap();
            client.send(response).await;
            goes_on.lock().await.recv().await;
            client.send("zz\r\nabc\r\n0\r\n\r\n").await;
            client.read_to_end().await;
        }
    })
    .await;
    let agimo = Agimo::with(server.service("a.test", "")).start().await;
    let mut client = agimo.connect().await;
    client.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n").await;
    client.read_until("3\r\nabc\r\n").await;
    go_on.send(()).await.unwrap();
    assert_eq!(client.read_to_end().await, b"");
}

#[tokio::test]
async fn an_interrupted_upload_is_interrupted_at_the_application_too() {
    let (report, mut reports) = mpsc::channel(1);
    let server = ScriptedServer::serve(move |mut client, _| {
        let report = report.clone();
        async move {
            report.send(String::new()).await.unwrap();
            let all = client.read_to_end().await;
            report.send(String::from_utf8(all).unwrap()).await.unwrap();
        }
    })
    .await;
    let agimo = Agimo::with(server.service("a.test", "")).start().await;
    for (framing, body) in
        [("Content-Length: 10", "abc"), ("Transfer-Encoding: chunked", "3\r\nabc\r\n")]
    {
        let mut client = agimo.connect().await;
        client.send(format!("POST / HTTP/1.1\r\nHost: a.test\r\n{framing}\r\n\r\n{body}")).await;
        within("the start of the request", reports.recv()).await.unwrap();
        drop(client);
        let all = within("the end of the request", reports.recv()).await.unwrap();
        assert!(all.ends_with(&format!("\r\n\r\n{body}")), "{all:?}");
    }
    agimo.until_metric("agimo_active_requests{host=\"a.test\"}", 0.0).await;
}

/// An application that writes an event when the test sends it through the channel.
async fn event_server(
    head: &'static str,
    chunked: bool,
) -> (ScriptedServer, mpsc::Sender<&'static str>) {
    let (sender, events) = mpsc::channel::<&'static str>(1);
    let events = Arc::new(Mutex::new(events));
    let server = ScriptedServer::serve(move |mut client, _| {
        let events = events.clone();
        async move {
            client.request().await.unwrap();
            client.send(head).await;
            while let Some(event) = events.lock().await.recv().await {
                let event = match chunked {
                    true => format!("{:x}\r\n{event}\r\n", event.len()),
                    false => event.to_owned(),
                };
                client.send(event).await;
            }
            client.send(if chunked { "0\r\n\r\n" } else { "" }).await;
        }
    })
    .await;
    (server, sender)
}

const EVENT_STREAM: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n";

#[tokio::test]
async fn each_event_is_forwarded_as_soon_as_it_is_written() {
    for (framing, chunked) in [("Transfer-Encoding: chunked\r\n\r\n", true), ("\r\n", false)] {
        let head: &'static str = format!("{EVENT_STREAM}{framing}").leak();
        let (server, events) = event_server(head, chunked).await;
        let agimo = Agimo::with(server.service("a.test", "")).start().await;
        let mut client = agimo.connect().await;
        client.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n").await;
        // The head is forwarded before the first event is written.
        let head = client.read_until("\r\n\r\n").await;
        assert!(head.contains("\r\nTransfer-Encoding: chunked\r\n"), "{head}");
        for event in ["data: 1\n\n", "data: 2\n\n", "id: 3\ndata: 3\n\n"] {
            events.send(event).await.unwrap();
            let chunk = format!("{:x}\r\n{event}\r\n", event.len());
            assert_eq!(client.read_until(&chunk).await, chunk);
        }
        drop(events);
        assert_eq!(client.read_until("0\r\n\r\n").await, "0\r\n\r\n");
    }
}

#[tokio::test]
async fn an_idle_stream_is_closed_only_where_idle_timeout_is_set() {
    let head: &'static str = format!("{EVENT_STREAM}Transfer-Encoding: chunked\r\n\r\n").leak();
    let (limited, _limited_events) = event_server(head, true).await;
    let (unlimited, unlimited_events) = event_server(head, true).await;
    let config =
        limited.service("a.test", "idle_timeout = \"300ms\"") + &unlimited.service("b.test", "");
    let agimo = Agimo::with(config).start().await;
    let open = async |host: &str| -> Client {
        let mut client = agimo.connect().await;
        client.send(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
        client.read_until("\r\n\r\n").await;
        client
    };
    let mut kept = open("b.test").await;
    let mut closed = open("a.test").await;
    assert_eq!(closed.read_to_end().await, b"", "a last chunk would mark the body as complete");
    unlimited_events.send("data: 1\n\n").await.unwrap();
    assert_eq!(kept.read_until("data: 1\n\n").await, "9\r\ndata: 1\n\n");
}

#[tokio::test]
async fn a_body_larger_than_max_body_is_refused() {
    let (server, record) = ScriptedServer::recording(HI).await;
    let agimo = Agimo::with(server.service("a.test", "max_body = 100")).start().await;
    let head = "POST / HTTP/1.1\r\nHost: a.test\r\n";

    let mut client = agimo.connect().await;
    client.send(format!("{head}Content-Length: 101\r\n\r\n")).await;
    let response = client.response().await;
    assert_eq!((response.status, response.reason()), (413, Some("body-too-large")));
    assert!(client.is_closed().await);
    assert!(record.lock().unwrap().is_empty(), "Content-Length is enough to refuse the request");

    let chunk = format!("3c\r\n{}\r\n", "x".repeat(60));
    // In one write, and with the second chunk sent after the application has received the first.
    for step in [usize::MAX, chunk.len()] {
        let before = server.connections();
        let mut client = agimo.connect().await;
        let body = chunk.repeat(2);
        let (first, second) = body.split_at(step.min(body.len()));
        client.send(format!("{head}Transfer-Encoding: chunked\r\n\r\n{first}")).await;
        if !second.is_empty() {
            crate::support::eventually("the application to receive the first chunk", || async {
                (server.connections() > before).then_some(())
            })
            .await;
            client.send(second).await;
        }
        let response = client.response().await;
        assert_eq!((response.status, response.reason()), (413, Some("body-too-large")));
        assert!(client.is_closed().await);
    }
    let record = String::from_utf8(record.lock().unwrap().clone()).unwrap();
    assert!(!record.contains("0\r\n\r\n"), "the application received a last chunk: {record:?}");

    let mut client = agimo.connect().await;
    client.send(format!("{head}Content-Length: 100\r\n\r\n{}\r\n\r\n", "x".repeat(96))).await;
    assert_eq!(client.response().await.status, 200);
}

#[tokio::test]
async fn a_request_without_a_response_within_response_timeout_gets_504() {
    let (ended, mut ends) = mpsc::channel(1);
    let server = ScriptedServer::serve(move |mut client, _| {
        let ended = ended.clone();
        async move {
            client.request().await.unwrap();
            ended.send(client.read_to_end().await).await.unwrap();
        }
    })
    .await;
    let config = server.service("a.test", "response_timeout = \"200ms\"");
    let agimo = Agimo::with(config).start().await;
    let mut client = agimo.connect().await;
    client.send("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 3\r\n\r\nabc").await;
    let response = client.response().await;
    assert_eq!((response.status, response.reason()), (504, Some("response-timeout")));
    assert_eq!(within("the end of the application's connection", ends.recv()).await.unwrap(), b"");
    assert_eq!(server.connections(), 1, "the request was repeated");
}
