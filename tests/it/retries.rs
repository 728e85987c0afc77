//! Connections to the application that end at the wrong moment: what is repeated, how often, and what never is. It tests no response that has begun.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use tokio::net::TcpStream;
use tokio::sync::mpsc;

use crate::support::agimo::Agimo;
use crate::support::application::{Script, reserve, service_at};
use crate::support::client::Client;
use crate::support::{eventually, within};

const HI: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";
const GET: &str = "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n";
const POST: &str = "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 3\r\n\r\nabc";
const PUT: &str = "PUT / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 3\r\n\r\nabc";

/// The methods of all requests that have reached an application whole.
type Delivered = Arc<Mutex<Vec<String>>>;

fn count(delivered: &Delivered, method: &str) -> usize {
    delivered.lock().unwrap().iter().filter(|found| *found == method).count()
}

/// An application that answers, except where `ends` says so of the methods that have come so far:
/// then it ends the connection without a word, with a reset or with a clean end.
async fn ending(ends: fn(&[String]) -> bool, reset: bool) -> (Script, Delivered) {
    let delivered = Delivered::default();
    let keep = delivered.clone();
    let script = Script::serve(move |mut client, _| {
        let keep = keep.clone();
        async move {
            while let Some(request) = client.request().await {
                let method = request.line().split(' ').next().unwrap_or_default();
                let end = {
                    let mut keep = keep.lock().unwrap();
                    keep.push(method.to_owned());
                    ends(&keep)
                };
                if end {
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
    (script, delivered)
}

fn retries(reason: &str) -> String {
    format!("agimo_upstream_retries_total{{host=\"a.test\",reason=\"{reason}\"}}")
}

#[tokio::test]
async fn a_connection_that_the_application_closed_while_idle_costs_no_request() {
    let (closed, mut closings) = mpsc::channel(1);
    let script = Script::serve(move |mut client, _| {
        let closed = closed.clone();
        async move {
            client.request().await.unwrap();
            client.send(HI).await;
            drop(client);
            closed.send(()).await.unwrap();
        }
    })
    .await;
    let agimo = Agimo::with(script.service("a.test", "")).start().await;
    let mut client = agimo.connect().await;
    for round in 0..50 {
        for request in [GET, POST] {
            client.send(request).await;
            let response = client.response().await;
            assert_eq!(response.status, 200, "round {round}: {}", response.head);
            within("the application to close", closings.recv()).await.unwrap();
        }
    }
    assert_eq!(script.connections(), 100);
}

#[tokio::test]
async fn a_get_is_repeated_when_a_used_connection_ends_without_an_answer() {
    for reset in [false, true] {
        let (script, delivered) = ending(|all| all.len() == 2, reset).await;
        let agimo = Agimo::with(script.service("a.test", "")).start().await;
        let mut client = agimo.connect().await;
        for _ in 0..2 {
            client.send(GET).await;
            assert_eq!(client.response().await.status, 200);
        }
        assert_eq!((count(&delivered, "GET"), script.connections()), (3, 2));
        assert_eq!(agimo.metric(&retries("idle")).await, Some(1.0));
        assert_eq!(agimo.metric(&retries("reset")).await, Some(0.0));
        assert_eq!(agimo.metric(&retries("connect")).await, Some(0.0));
    }
}

#[tokio::test]
async fn a_post_is_never_delivered_twice() {
    let ends = |all: &[String]| all.last().is_some_and(|method| method == "POST");
    for (used, reset) in [(true, false), (true, true), (false, false), (false, true)] {
        let (script, delivered) = ending(ends, reset).await;
        let agimo = Agimo::with(script.service("a.test", "")).start().await;
        let mut client = agimo.connect().await;
        if used {
            client.send(GET).await;
            assert_eq!(client.response().await.status, 200);
        }
        client.send(POST).await;
        let response = client.response().await;
        assert_eq!((response.status, response.reason()), (502, Some("connection-broken")));
        assert_eq!(count(&delivered, "POST"), 1, "on a used connection: {used}");
        for reason in ["idle", "reset", "connect"] {
            assert_eq!(agimo.metric(&retries(reason)).await, Some(0.0), "{reason}");
        }
    }
}

#[tokio::test]
async fn a_get_is_sent_three_times_at_most_when_every_new_connection_is_reset() {
    for reset in [true, false] {
        let (script, delivered) = ending(|_| true, reset).await;
        let agimo = Agimo::with(script.service("a.test", "")).start().await;
        let response = agimo.get("a.test", "/").await;
        assert_eq!((response.status, response.reason()), (502, Some("connection-broken")));
        assert_eq!(count(&delivered, "GET"), 3);
        assert_eq!(agimo.metric(&retries("reset")).await, Some(3.0));
    }
}

#[tokio::test]
async fn a_put_is_repeated_only_while_its_whole_body_is_in_hand() {
    let first_put = |all: &[String]| all.iter().filter(|method| *method == "PUT").count() == 1;
    let (script, delivered) = ending(first_put, false).await;
    let agimo = Agimo::with(script.service("a.test", "")).start().await;
    let mut client = agimo.connect().await;
    client.send(GET).await;
    assert_eq!(client.response().await.status, 200);
    // The body comes together with the head.
    client.send(PUT).await;
    assert_eq!(client.response().await.status, 200);
    assert_eq!(count(&delivered, "PUT"), 2);

    // The body comes once the head is at the application: it has been read and is gone.
    let (first, mut firsts) = mpsc::channel(1);
    let keep = Delivered::default();
    let seen = keep.clone();
    let script = Script::serve(move |mut client, _| {
        let (first, seen) = (first.clone(), seen.clone());
        async move {
            client.until("\r\n\r\n").await;
            first.send(()).await.unwrap();
            client.bytes(3).await;
            seen.lock().unwrap().push("PUT".to_owned());
        }
    })
    .await;
    let agimo = Agimo::with(script.service("a.test", "")).start().await;
    let mut client = agimo.connect().await;
    let (head, body) = PUT.split_at(PUT.len() - 3);
    client.send(head).await;
    within("the head at the application", firsts.recv()).await.unwrap();
    client.send(body).await;
    let response = client.response().await;
    assert_eq!((response.status, response.reason()), (502, Some("connection-broken")));
    assert_eq!(count(&keep, "PUT"), 1);
}

#[tokio::test]
async fn a_repeated_request_is_the_same_request() {
    let (seen, mut requests) = mpsc::channel(4);
    let script = Script::serve(move |mut client, number| {
        let seen = seen.clone();
        async move {
            let request = client.request().await.unwrap();
            seen.send(request).await.unwrap();
            if number > 0 {
                client.send(HI).await;
            }
        }
    })
    .await;
    let agimo = Agimo::with(script.service("a.test", "")).start().await;
    let mut client = agimo.connect().await;
    let chunked = "PUT /x HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n\
        3\r\nabc\r\n0\r\nX-Sum: 3\r\n\r\n";
    // A next request is waiting behind it and must stay behind it.
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
async fn a_request_waits_while_connections_are_refused_and_is_answered_when_they_are_not() {
    async fn once(mut client: Client, _: usize) {
        client.request().await.unwrap();
        client.send("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nhi").await;
    }
    let (address, mut sockets) = reserve(2);
    let script = Script::serve_on(sockets.remove(0).listen(16).unwrap(), once);
    let agimo = Agimo::with(service_at(address, "a.test", "")).start().await;
    assert_eq!(agimo.get("a.test", "/").await.status, 200);
    drop(script);
    eventually("the port to be closed", || async { TcpStream::connect(address).await.err() }).await;

    let mut clients = Vec::new();
    for request in [GET, POST] {
        let mut client = agimo.connect().await;
        client.send(request).await;
        clients.push(client);
    }
    agimo.until_metric("agimo_held_requests{host=\"a.test\"}", 2.0).await;
    let again = retries("connect");
    eventually("retries", || async { agimo.metric(&again).await.filter(|count| *count >= 2.0) })
        .await;
    let _script = Script::serve_on(sockets.remove(0).listen(16).unwrap(), once);
    for mut client in clients {
        assert_eq!(client.response().await.text(), "hi");
    }
}

#[tokio::test]
async fn a_request_to_an_application_that_refuses_for_good_ends_with_its_hold() {
    let (address, mut sockets) = reserve(2);
    let script =
        Script::serve_on(sockets.remove(0).listen(16).unwrap(), |mut client, _| async move {
            client.request().await.unwrap();
            client.send("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n").await;
        });
    let config = service_at(address, "a.test", "timeout = \"700ms\"");
    let agimo = Agimo::with(config).start().await;
    assert_eq!(agimo.get("a.test", "/").await.status, 200);
    drop(script);
    eventually("the port to be closed", || async { TcpStream::connect(address).await.err() }).await;
    let response = agimo.get("a.test", "/").await;
    assert_eq!((response.status, response.reason()), (504, Some("hold-timeout")));
    agimo.until_metric("agimo_held_requests{host=\"a.test\"}", 0.0).await;
}

/// Says who it is; Python's own server stands for a real application.
const NAMING_ITSELF: &str = "
import http.server, os
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'
    def do_GET(self):
        body = str(os.getpid()).encode()
        self.send_response(200)
        self.send_header('Content-Length', str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *args):
        pass
http.server.ThreadingHTTPServer(('127.0.0.1', int(os.environ['PORT'])), Handler).serve_forever()
";

#[tokio::test]
async fn requests_are_spread_over_all_replicas() {
    let config = format!(
        "[[services]]\nhost = \"a.test\"\ntype = \"process\"\nreplicas = 3\n\
         command = [\"python3\", \"-c\", '''{NAMING_ITSELF}''']\n"
    );
    let agimo = Agimo::with(config).start().await;
    // The last replica may become ready a little after the first, which released the first request.
    // A port is only free when agimo picks it: where another program is quicker, it answers until
    // the replica has been started anew, so here anything may come.
    let mut known = BTreeSet::new();
    within("three replicas", async {
        while known.len() < 3 {
            let mut client = agimo.connect().await;
            client.send("GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n").await;
            let all = String::from_utf8_lossy(&client.rest().await).into_owned();
            known.extend(all.rsplit_once("\r\n\r\n").and_then(|(_, id)| id.parse::<u32>().ok()));
        }
    })
    .await;
    let mut answers = BTreeMap::new();
    for _ in 0..60 {
        let response = agimo.get("a.test", "/").await;
        assert_eq!(response.status, 200);
        *answers.entry(response.text()).or_insert(0) += 1;
    }
    assert_eq!(answers.len(), 3, "{answers:?}");
    assert!(answers.values().all(|count| *count >= 5), "{answers:?}");
}
