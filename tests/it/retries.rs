//! Retries after a connection to the application was closed, reset or refused before a response: which requests are
//! repeated and how often.

use std::sync::{Arc, Mutex};

use tokio::net::TcpStream;
use tokio::sync::mpsc;

use crate::support::agimo::Agimo;
use crate::support::application::{ScriptedServer, reserve, service_at};
use crate::support::client::Client;
use crate::support::{eventually, within};

const HI: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";
const GET: &str = "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n";
const POST: &str = "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 3\r\n\r\nabc";
const PUT: &str = "PUT / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 3\r\n\r\nabc";

/// The methods of all requests that an application has received completely.
type Delivered = Arc<Mutex<Vec<String>>>;

fn count(delivered: &Delivered, method: &str) -> usize {
    delivered.lock().unwrap().iter().filter(|found| *found == method).count()
}

/// An application that answers every request unless `closes` returns true for the methods received so far: then it
/// closes the connection without an answer, with a reset or cleanly.
async fn closing_server(closes: fn(&[String]) -> bool, reset: bool) -> (ScriptedServer, Delivered) {
    let delivered = Delivered::default();
    let recorder = delivered.clone();
    let server = ScriptedServer::serve(move |mut client, _| {
        let recorder = recorder.clone();
        async move {
            while let Some(request) = client.request().await {
                let method = request.line().split(' ').next().unwrap_or_default();
                let close = {
                    let mut methods = recorder.lock().unwrap();
                    methods.push(method.to_owned());
                    closes(&methods)
                };
                if close {
                    break;
                }
                client.send(HI).await;
            }
            if reset {
                client.reset();
            }
        }
    })
    .await;
    (server, delivered)
}

fn retries(reason: &str) -> String {
    format!("agimo_upstream_retries_total{{host=\"a.test\",reason=\"{reason}\"}}")
}

#[tokio::test]
async fn no_request_fails_when_the_application_closes_idle_connections() {
    let (closed, mut closes) = mpsc::channel(1);
    let server = ScriptedServer::serve(move |mut client, _| {
        let closed = closed.clone();
        async move {
            client.request().await.unwrap();
            client.send(HI).await;
            drop(client);
            closed.send(()).await.unwrap();
        }
    })
    .await;
    let agimo = Agimo::with(server.service("a.test", "")).start().await;
    let mut client = agimo.connect().await;
    for round in 0..50 {
        for request in [GET, POST] {
            client.send(request).await;
            let response = client.response().await;
            assert_eq!(response.status, 200, "round {round}: {}", response.head);
            within("the application to close the connection", closes.recv()).await.unwrap();
        }
    }
    assert_eq!(server.connections(), 100);
}

#[tokio::test]
async fn a_get_is_repeated_when_a_reused_connection_closes_without_an_answer() {
    for reset in [false, true] {
        let (server, delivered) = closing_server(|all| all.len() == 2, reset).await;
        let agimo = Agimo::with(server.service("a.test", "")).start().await;
        let mut client = agimo.connect().await;
        for _ in 0..2 {
            client.send(GET).await;
            assert_eq!(client.response().await.status, 200);
        }
        assert_eq!((count(&delivered, "GET"), server.connections()), (3, 2));
        assert_eq!(agimo.metric(&retries("idle")).await, Some(1.0));
        assert_eq!(agimo.metric(&retries("reset")).await, Some(0.0));
        assert_eq!(agimo.metric(&retries("connect")).await, Some(0.0));
    }
}

#[tokio::test]
async fn a_post_is_never_delivered_twice() {
    let closes = |all: &[String]| all.last().is_some_and(|method| method == "POST");
    for (reused, reset) in [(true, false), (true, true), (false, false), (false, true)] {
        let (server, delivered) = closing_server(closes, reset).await;
        let agimo = Agimo::with(server.service("a.test", "")).start().await;
        let mut client = agimo.connect().await;
        if reused {
            client.send(GET).await;
            assert_eq!(client.response().await.status, 200);
        }
        client.send(POST).await;
        let response = client.response().await;
        assert_eq!((response.status, response.reason()), (502, Some("connection-broken")));
        assert_eq!(count(&delivered, "POST"), 1, "on a reused connection: {reused}");
        for reason in ["idle", "reset", "connect"] {
            assert_eq!(agimo.metric(&retries(reason)).await, Some(0.0), "{reason}");
        }
    }
}

#[tokio::test]
async fn a_get_is_sent_twice_on_new_connections_that_close_without_an_answer() {
    for reset in [true, false] {
        let (server, delivered) = closing_server(|all| all.len() > 1, reset).await;
        let agimo =
            Agimo::with(server.service("a.test", "")).arguments(&["--threads", "1"]).start().await;
        let mut client = agimo.connect().await;
        client.send(GET).await;
        // The application has answered, so it is not starting any more.
        assert_eq!(client.response().await.status, 200);
        client.send(GET).await;
        let response = client.response().await;
        assert_eq!((response.status, response.reason()), (502, Some("connection-broken")));
        assert_eq!(count(&delivered, "GET"), 1 + 1 + 2, "the first, one on an idle connection");
    }
}

#[tokio::test]
async fn a_get_survives_a_process_that_ends_between_an_idle_connection_and_a_new_one() {
    // The idle connection breaks, then the new one that the listener of the process had not accepted yet.
    let (server, delivered) = closing_server(|all| (2..4).contains(&all.len()), true).await;
    let agimo = Agimo::with(server.service("a.test", "")).start().await;
    let mut client = agimo.connect().await;
    for _ in 0..2 {
        client.send(GET).await;
        assert_eq!(client.response().await.status, 200);
    }
    assert_eq!(count(&delivered, "GET"), 4);
}

#[tokio::test]
async fn an_application_that_closes_connections_before_its_first_answer_is_still_starting() {
    for reset in [true, false] {
        let (server, delivered) = closing_server(|all| all.len() < 5, reset).await;
        let agimo = Agimo::with(server.service("a.test", "")).start().await;
        assert_eq!(agimo.get("a.test", "/").await.status, 200);
        assert_eq!(count(&delivered, "GET"), 5);
    }
    let (server, _) = closing_server(|_| true, false).await;
    let agimo = Agimo::with(server.service("a.test", "hold_timeout = '500ms'")).start().await;
    let response = agimo.get("a.test", "/").await;
    assert_eq!((response.status, response.reason()), (504, Some("hold-timeout")));
    let detail = response.header("x-agimo-detail").unwrap();
    assert!(detail.contains("without a response") && detail.contains("`readiness`"), "{detail}");
    assert!(response.header("retry-after").is_some());
}

#[tokio::test]
async fn a_put_is_repeated_only_if_agimo_still_has_its_complete_body() {
    let first_put = |all: &[String]| all.iter().filter(|method| *method == "PUT").count() == 1;
    let (server, delivered) = closing_server(first_put, false).await;
    let agimo = Agimo::with(server.service("a.test", "")).start().await;
    let mut client = agimo.connect().await;
    client.send(GET).await;
    assert_eq!(client.response().await.status, 200);
    // The body is received together with the head.
    client.send(PUT).await;
    assert_eq!(client.response().await.status, 200);
    assert_eq!(count(&delivered, "PUT"), 2);

    // The body is received after the head was forwarded: it was streamed, and agimo no longer has it.
    let (head_received, mut heads_received) = mpsc::channel(1);
    let delivered = Delivered::default();
    let recorder = delivered.clone();
    let server = ScriptedServer::serve(move |mut client, _| {
        let (head_received, recorder) = (head_received.clone(), recorder.clone());
        async move {
            client.read_until("\r\n\r\n").await;
            head_received.send(()).await.unwrap();
            client.read_exact(3).await;
            recorder.lock().unwrap().push("PUT".to_owned());
        }
    })
    .await;
    let agimo = Agimo::with(server.service("a.test", "")).start().await;
    let mut client = agimo.connect().await;
    let (head, body) = PUT.split_at(PUT.len() - 3);
    client.send(head).await;
    within("the application to receive the head", heads_received.recv()).await.unwrap();
    client.send(body).await;
    let response = client.response().await;
    assert_eq!((response.status, response.reason()), (502, Some("connection-broken")));
    assert_eq!(count(&delivered, "PUT"), 1);
}

#[tokio::test]
async fn a_repeated_request_has_the_same_head_body_and_trailers() {
    let (received, mut requests) = mpsc::channel(4);
    let server = ScriptedServer::serve(move |mut client, number| {
        let received = received.clone();
        async move {
            let request = client.request().await.unwrap();
            received.send(request).await.unwrap();
            if number > 0 {
                client.send(HI).await;
            }
        }
    })
    .await;
    let agimo = Agimo::with(server.service("a.test", "")).start().await;
    let mut client = agimo.connect().await;
    let chunked = "PUT /x HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n\
        3\r\nabc\r\n0\r\nX-Sum: 3\r\n\r\n";
    // A pipelined request follows, which must be sent after the repeated one.
    client.send(format!("{chunked}{GET}")).await;
    assert_eq!(client.response().await.status, 200);
    let first = requests.recv().await.unwrap();
    let again = requests.recv().await.unwrap();
    assert_eq!((&again.head, &again.body), (&first.head, &first.body));
    assert_eq!((again.body.as_slice(), again.trailers.as_str()), (&b"abc"[..], "X-Sum: 3\r\n"));
    assert_eq!(client.response().await.status, 200);
    assert_eq!(requests.recv().await.unwrap().line(), "GET / HTTP/1.1");
}

#[tokio::test]
async fn requests_are_held_while_connections_are_refused_and_answered_afterwards() {
    async fn respond_and_close(mut client: Client, _: usize) {
        client.request().await.unwrap();
        client.send("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nhi").await;
    }
    let (address, mut sockets) = reserve(2);
    let server = ScriptedServer::serve_on(sockets.remove(0).listen(16).unwrap(), respond_and_close);
    let agimo = Agimo::with(service_at(address, "a.test", "")).start().await;
    assert_eq!(agimo.get("a.test", "/").await.status, 200);
    drop(server);
    eventually("the port to be closed", || async { TcpStream::connect(address).await.err() }).await;

    let mut clients = Vec::new();
    for request in [GET, POST] {
        let mut client = agimo.connect().await;
        client.send(request).await;
        clients.push(client);
    }
    agimo.until_metric("agimo_held_requests{host=\"a.test\"}", 2.0).await;
    let again = retries("connect");
    eventually("a retry", || async { agimo.metric(&again).await.filter(|count| *count >= 1.0) })
        .await;
    let _server =
        ScriptedServer::serve_on(sockets.remove(0).listen(16).unwrap(), respond_and_close);
    for mut client in clients {
        assert_eq!(client.response().await.text(), "hi");
    }
}

#[tokio::test]
async fn a_request_to_an_application_that_keeps_refusing_connections_gets_504_at_the_hold_timeout()
{
    let (address, mut sockets) = reserve(2);
    let server = ScriptedServer::serve_on(
        sockets.remove(0).listen(16).unwrap(),
        |mut client, _| async move {
            client.request().await.unwrap();
            client.send("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n").await;
        },
    );
    let config = service_at(address, "a.test", "timeout = \"700ms\"");
    let agimo = Agimo::with(config).start().await;
    assert_eq!(agimo.get("a.test", "/").await.status, 200);
    drop(server);
    eventually("the port to be closed", || async { TcpStream::connect(address).await.err() }).await;
    let response = agimo.get("a.test", "/").await;
    assert_eq!((response.status, response.reason()), (504, Some("hold-timeout")));
    agimo.until_metric("agimo_held_requests{host=\"a.test\"}", 0.0).await;
}
