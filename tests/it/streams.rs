//! Responses that stream, break, are late or too large: what the client gets to see of it. It tests no whole body.

use std::io::ErrorKind;
use std::sync::Arc;

use tokio::io::AsyncReadExt;
use tokio::sync::{Mutex, mpsc};

use crate::support::agimo::Agimo;
use crate::support::application::Script;
use crate::support::client::Client;
use crate::support::within;

const HI: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";

/// How an application's connection ends.
#[derive(Clone, Copy)]
enum End {
    Clean,
    Reset,
}

/// All that a client gets, and whether it sees a reset at the end, when the application writes
/// `response`, the client has got `seen` of it, and the application then ends its connection.
async fn received(version: &str, response: &'static str, seen: &str, end: End) -> (String, bool) {
    let (die, may_die) = mpsc::channel::<()>(1);
    let may_die = Arc::new(Mutex::new(may_die));
    let script = Script::serve(move |mut client, _| {
        let may_die = may_die.clone();
        async move {
            client.request().await.unwrap();
            client.send(response).await;
            may_die.lock().await.recv().await;
            if let End::Reset = end {
                client.reset();
            }
        }
    })
    .await;
    let agimo = Agimo::with(script.service("a.test", "")).start().await;
    let mut client = agimo.connect().await;
    client.send(format!("GET / HTTP/{version}\r\nHost: a.test\r\n\r\n")).await;
    let mut all = client.until(seen).await;
    die.send(()).await.unwrap();
    let mut rest = Vec::new();
    let ended = within("the end", client.stream.read_to_end(&mut rest)).await;
    all += &String::from_utf8_lossy(&client.received);
    all += &String::from_utf8_lossy(&rest);
    let reset = ended.is_err_and(|error| error.kind() == ErrorKind::ConnectionReset);
    (all, reset)
}

#[tokio::test]
async fn a_sized_response_that_breaks_stays_short() {
    for end in [End::Clean, End::Reset] {
        let response = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc";
        let (all, _) = received("1.1", response, "abc", end).await;
        assert_eq!(all, response);
    }
}

#[tokio::test]
async fn a_chunked_response_that_breaks_has_no_last_chunk() {
    for end in [End::Clean, End::Reset] {
        for start in ["3\r\nabc\r\n", "5\r\nabc"] {
            let response: &'static str =
                format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{start}").leak();
            let (all, _) = received("1.1", response, "abc", end).await;
            assert!(all.ends_with("\r\n\r\n3\r\nabc\r\n"), "{all:?}");
            // Without chunks only a reset can say it.
            let (all, reset) = received("1.0", response, "abc", end).await;
            assert!(all.ends_with("\r\n\r\nabc") && reset, "{all:?}");
        }
    }
}

#[tokio::test]
async fn a_response_that_lasts_until_the_end_is_whole_only_with_a_clean_end() {
    let response = "HTTP/1.1 200 OK\r\n\r\nabc";
    let script = Script::serve(move |mut client, _| async move {
        client.request().await.unwrap();
        client.send(response).await;
    })
    .await;
    let agimo = Agimo::with(script.service("a.test", "")).start().await;
    let mut client = agimo.connect().await;
    // The end of the application's connection is not the end of the client's.
    for _ in 0..2 {
        client.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n").await;
        let whole = client.response().await;
        assert_eq!(whole.header("transfer-encoding"), Some("chunked"));
        assert_eq!(whole.text(), "abc");
    }
    let (all, reset) = received("1.0", response, "abc", End::Clean).await;
    assert!(all.ends_with("\r\n\r\nabc") && !reset, "{all:?}");

    let (all, _) = received("1.1", response, "abc", End::Reset).await;
    assert!(all.ends_with("\r\n\r\n3\r\nabc\r\n"), "{all:?}");
    let (all, reset) = received("1.0", response, "abc", End::Reset).await;
    assert!(all.ends_with("\r\n\r\nabc") && reset, "{all:?}");
}

#[tokio::test]
async fn a_response_that_breaks_in_its_head_is_a_502() {
    let script = Script::serve(|mut client, _| async move {
        client.request().await.unwrap();
        client.send("HTTP/1.1 200 OK\r\nContent-Le").await;
    })
    .await;
    let agimo = Agimo::with(script.service("a.test", "")).start().await;
    let response = agimo.get("a.test", "/").await;
    assert_eq!((response.status, response.reason()), (502, Some("connection-broken")));
    assert_eq!(script.connections(), 1, "an application that has begun to answer has acted");
}

#[tokio::test]
async fn a_chunked_response_that_breaks_its_framing_is_not_ended_cleanly() {
    let response = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n";
    let (bad, may_be_bad) = mpsc::channel::<()>(1);
    let may_be_bad = Arc::new(Mutex::new(may_be_bad));
    let script = Script::serve(move |mut client, _| {
        let may_be_bad = may_be_bad.clone();
        async move {
            client.request().await.unwrap();
            client.send(response).await;
            may_be_bad.lock().await.recv().await;
            client.send("zz\r\nabc\r\n0\r\n\r\n").await;
            client.rest().await;
        }
    })
    .await;
    let agimo = Agimo::with(script.service("a.test", "")).start().await;
    let mut client = agimo.connect().await;
    client.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n").await;
    client.until("3\r\nabc\r\n").await;
    bad.send(()).await.unwrap();
    assert_eq!(client.rest().await, b"");
}

#[tokio::test]
async fn an_upload_that_breaks_reaches_the_application_as_broken() {
    let (seen, mut ends) = mpsc::channel(1);
    let script = Script::serve(move |mut client, _| {
        let seen = seen.clone();
        async move {
            seen.send(String::new()).await.unwrap();
            let all = client.rest().await;
            seen.send(String::from_utf8(all).unwrap()).await.unwrap();
        }
    })
    .await;
    let agimo = Agimo::with(script.service("a.test", "")).start().await;
    for (framing, body) in
        [("Content-Length: 10", "abc"), ("Transfer-Encoding: chunked", "3\r\nabc\r\n")]
    {
        let mut client = agimo.connect().await;
        client.send(format!("POST / HTTP/1.1\r\nHost: a.test\r\n{framing}\r\n\r\n{body}")).await;
        within("the beginning", ends.recv()).await.unwrap();
        drop(client);
        let all = within("the end", ends.recv()).await.unwrap();
        assert!(all.ends_with(&format!("\r\n\r\n{body}")), "{all:?}");
    }
    agimo.until_metric("agimo_active_requests{host=\"a.test\"}", 0.0).await;
}

/// An application that writes each event only when it is told to.
async fn events(head: &'static str, chunked: bool) -> (Script, mpsc::Sender<&'static str>) {
    let (tell, told) = mpsc::channel::<&'static str>(1);
    let told = Arc::new(Mutex::new(told));
    let script = Script::serve(move |mut client, _| {
        let told = told.clone();
        async move {
            client.request().await.unwrap();
            client.send(head).await;
            while let Some(event) = told.lock().await.recv().await {
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
    (script, tell)
}

const EVENTS: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n";

#[tokio::test]
async fn each_event_reaches_the_client_as_it_is_written() {
    for (framing, chunked) in [("Transfer-Encoding: chunked\r\n\r\n", true), ("\r\n", false)] {
        let head: &'static str = format!("{EVENTS}{framing}").leak();
        let (script, tell) = events(head, chunked).await;
        let agimo = Agimo::with(script.service("a.test", "")).start().await;
        let mut client = agimo.connect().await;
        client.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n").await;
        // The head as well comes before there is anything behind it.
        let head = client.until("\r\n\r\n").await;
        assert!(head.contains("\r\nTransfer-Encoding: chunked\r\n"), "{head}");
        for event in ["data: 1\n\n", "data: 2\n\n", "id: 3\ndata: 3\n\n"] {
            tell.send(event).await.unwrap();
            let chunk = format!("{:x}\r\n{event}\r\n", event.len());
            assert_eq!(client.until(&chunk).await, chunk);
        }
        drop(tell);
        assert_eq!(client.until("0\r\n\r\n").await, "0\r\n\r\n");
    }
}

#[tokio::test]
async fn a_silent_stream_is_cut_only_where_idle_timeout_says_so() {
    let head: &'static str = format!("{EVENTS}Transfer-Encoding: chunked\r\n\r\n").leak();
    let (cut, _tell_cut) = events(head, true).await;
    let (kept, tell_kept) = events(head, true).await;
    let config = cut.service("a.test", "idle_timeout = \"300ms\"") + &kept.service("b.test", "");
    let agimo = Agimo::with(config).start().await;
    let open = async |host: &str| -> Client {
        let mut client = agimo.connect().await;
        client.send(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
        client.until("\r\n\r\n").await;
        client
    };
    let mut patient = open("b.test").await;
    let mut silent = open("a.test").await;
    assert_eq!(silent.rest().await, b"", "no last chunk: it is not whole");
    tell_kept.send("data: 1\n\n").await.unwrap();
    assert_eq!(patient.until("data: 1\n\n").await, "9\r\ndata: 1\n\n");
}

#[tokio::test]
async fn a_body_larger_than_allowed_is_refused() {
    let (script, record) = Script::recording(HI).await;
    let agimo = Agimo::with(script.service("a.test", "max_body = 100")).start().await;
    let head = "POST / HTTP/1.1\r\nHost: a.test\r\n";

    let mut client = agimo.connect().await;
    client.send(format!("{head}Content-Length: 101\r\n\r\n")).await;
    let response = client.response().await;
    assert_eq!((response.status, response.reason()), (413, Some("body-too-large")));
    assert!(client.is_closed().await);
    assert!(record.lock().unwrap().is_empty(), "it is known from the head");

    let chunk = format!("3c\r\n{}\r\n", "x".repeat(60));
    // All at once, and the second chunk only when the first is at the application.
    for step in [usize::MAX, chunk.len()] {
        let seen = script.connections();
        let mut client = agimo.connect().await;
        let body = chunk.repeat(2);
        let (first, second) = body.split_at(step.min(body.len()));
        client.send(format!("{head}Transfer-Encoding: chunked\r\n\r\n{first}")).await;
        if !second.is_empty() {
            crate::support::eventually("the first chunk at the application", || async {
                (script.connections() > seen).then_some(())
            })
            .await;
            client.send(second).await;
        }
        let response = client.response().await;
        assert_eq!((response.status, response.reason()), (413, Some("body-too-large")));
        assert!(client.is_closed().await);
    }
    let record = String::from_utf8(record.lock().unwrap().clone()).unwrap();
    assert!(!record.contains("0\r\n\r\n"), "the application was told of a clean end: {record:?}");

    let mut client = agimo.connect().await;
    client.send(format!("{head}Content-Length: 100\r\n\r\n{}\r\n\r\n", "x".repeat(96))).await;
    assert_eq!(client.response().await.status, 200);
}

#[tokio::test]
async fn an_application_that_does_not_answer_in_time_is_given_up() {
    let (gone, mut goings) = mpsc::channel(1);
    let script = Script::serve(move |mut client, _| {
        let gone = gone.clone();
        async move {
            client.request().await.unwrap();
            gone.send(client.rest().await).await.unwrap();
        }
    })
    .await;
    let config = script.service("a.test", "response_timeout = \"200ms\"");
    let agimo = Agimo::with(config).start().await;
    let mut client = agimo.connect().await;
    client.send("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 3\r\n\r\nabc").await;
    let response = client.response().await;
    assert_eq!((response.status, response.reason()), (504, Some("response-timeout")));
    assert_eq!(within("the end of its connection", goings.recv()).await.unwrap(), b"");
    assert_eq!(script.connections(), 1, "it was not asked twice");
}
