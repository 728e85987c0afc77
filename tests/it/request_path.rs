//! The request path in this process: HTTP/1 on a listener of the test, and a second codec through the same code.

use agimo::demand::Retry;
use agimo::http::forwarded::ClientIdentity;
use agimo::http::http1::server::ServerConnection;
use agimo::http::message::RequestHead;
use agimo::net::stream::Stream;
use agimo::net::timer::Timer;
use agimo::proxy::client::Client as ProxyClient;
use agimo::proxy::connection;
use agimo::proxy::error_response::LocalError;
use agimo::proxy::exchange::{Exchange, ExchangeOutcome, ResponseStart};
use agimo::proxy::in_flight::InFlightRequest;
use agimo::proxy::request_error::ForwardError;
use agimo::proxy::serve_request::{RequestOutcome, serve_request};
use agimo::proxy::tunnel::{self, TunnelLimits};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::net::{TcpListener, TcpStream};

use self::fixture::RequestPath;
use self::frame_codec::FrameConnection;
use self::frames::{DATA, END, INFORMATIONAL, REQUEST, RESPONSE, read_to, write};
use crate::support::application::ScriptedServer;
use crate::support::within;

mod deadlines;
mod fixture;
mod frame_codec;
mod frames;

const GET: &str = "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n";
const HI: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";

#[tokio::test]
async fn requests_on_one_connection_are_forwarded_to_a_ready_endpoint() {
    let server = ScriptedServer::responding(|request| {
        assert_eq!(request.line(), "GET / HTTP/1.1");
        assert_eq!(request.header("x-forwarded-for"), Some("127.0.0.1"));
        HI.to_owned()
    })
    .await;
    let path = RequestPath::warm(server.address, "").await;
    let mut client = path.connect().await;
    for _ in 0..2 {
        client.send(GET).await;
        assert_eq!(client.response().await.text(), "hi");
    }
    path.wait_for(0, 0).await;
    assert_eq!(path.backend.wakes(), 0);
}

#[tokio::test]
async fn a_chunked_body_and_its_trailers_are_passed_on() {
    let server = ScriptedServer::responding(|request| {
        let body = String::from_utf8(request.body).unwrap();
        assert_eq!((body.as_str(), request.trailers.as_str()), ("hello", "X-Sum: 1\r\n"));
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-End: 2\r\n\r\n"
            .to_owned()
    })
    .await;
    let path = RequestPath::warm(server.address, "").await;
    let mut client = path.connect().await;
    client
        .send("POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n")
        .await;
    let response = client.response().await;
    assert_eq!((response.text().as_str(), response.trailers.as_str()), ("ok", "X-End: 2\r\n"));
}

#[tokio::test]
async fn a_held_request_wakes_its_workload_and_is_forwarded_when_an_endpoint_is_ready() {
    let server = ScriptedServer::responding(|_| HI.to_owned()).await;
    let path = RequestPath::cold("");
    let mut client = path.connect().await;
    client.send(GET).await;
    path.wait_for(1, 1).await;
    within("a wake", async {
        while path.backend.wakes() == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    path.backend.set_ready(&[server.address]);
    assert_eq!(client.response().await.text(), "hi");
    path.wait_for(0, 0).await;
    assert_eq!(path.backend.wakes(), 1);
}

#[tokio::test]
async fn a_client_that_closes_while_it_is_held_is_no_longer_counted() {
    let path = RequestPath::cold("");
    let mut client = path.connect().await;
    client.send("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 9\r\n\r\nunread").await;
    path.wait_for(1, 1).await;
    drop(client);
    path.wait_for(0, 0).await;
}

#[tokio::test]
async fn a_hold_timeout_is_a_504_and_the_connection_stays_open() {
    let path = RequestPath::cold("hold_timeout = \"20ms\"");
    let mut client = path.connect().await;
    for _ in 0..2 {
        client.send(GET).await;
        let response = client.response().await;
        assert_eq!((response.status, response.reason()), (504, Some("hold-timeout")));
    }
}

#[tokio::test]
async fn an_upgraded_connection_is_counted_until_both_sides_have_closed() {
    let server = ScriptedServer::serve(|mut client, _| async move {
        client.request().await.unwrap();
        client
            .send(
                "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n",
            )
            .await;
        let all = client.read_to_end().await;
        client.send(all).await;
    })
    .await;
    let path = RequestPath::warm(server.address, "").await;
    let mut client = path.connect().await;
    client
        .send("GET / HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
        .await;
    assert_eq!(client.response().await.status, 101);
    client.send("hello").await;
    path.wait_for(1, 0).await;
    client.shutdown_write().await;
    assert_eq!(client.read_to_end().await, b"hello");
    path.wait_for(0, 0).await;
}

/// A request of the second codec, and both peers of agimo as the test plays them.
struct FramedRequest {
    client: ProxyClient<FrameConnection>,
    head: RequestHead,
    /// What the client of agimo writes to and reads from.
    outside: DuplexStream,
}

/// A connection of the second codec to an application, which the test plays.
fn application() -> (FrameConnection, DuplexStream) {
    let (outside, inside) = duplex(1 << 20);
    (FrameConnection::new(inside), outside)
}

impl FramedRequest {
    async fn new(path: &RequestPath, frames: &[(u8, &str)]) -> Self {
        let (mut outside, inside) = duplex(1 << 20);
        write(&mut outside, frames).await;
        let (downstream, head) = FrameConnection::accept(inside).await;
        let identity = ClientIdentity::new([127, 0, 0, 1].into(), None);
        let client =
            ProxyClient { downstream, timer: Timer::default(), identity, core: path.core() };
        Self { client, head, outside }
    }

    fn count(&self) -> InFlightRequest {
        InFlightRequest::begin(self.client.core.route(&self.head).expect("a.test is configured"))
    }
}

#[tokio::test]
async fn data_trailers_and_informational_heads_pass_without_http1() {
    let path = RequestPath::cold("");
    let frames = [
        (REQUEST, "POST a.test /x unknown\nzeta: 1\nconnection: own\nown: 2\n"),
        (DATA, "hello"),
        (END, "x-sum: 1\n"),
    ];
    let mut request = FramedRequest::new(&path, &frames).await;
    let mut in_flight = request.count();
    let route = in_flight.route().route.clone();
    let (upstream, mut application) = application();
    let mut exchange = Exchange::new(&mut request.client, &request.head, &route, upstream);
    let peers = async {
        let received = read_to(&mut application, END).await;
        let head = received[0].1.as_str();
        assert!(
            head.starts_with("POST a.test /x unknown\nzeta: 1\nX-Forwarded-For: 127"),
            "{head}"
        );
        assert_eq!(received[1..], [(DATA, "hello".into()), (END, "x-sum: 1\n".into())]);
        write(&mut application, &[(INFORMATIONAL, "103 none\nlink: a\n")]).await;
        let hints = read_to(&mut request.outside, INFORMATIONAL).await;
        assert_eq!(hints, [(INFORMATIONAL, "103 none\nlink: a\n".into())]);
        let response = [(RESPONSE, "200 unknown\nserver: x\n"), (DATA, "hi"), (END, "x-end: 2\n")];
        write(&mut application, &response).await;
    };
    let (started, ()) = tokio::join!(exchange.start(&mut in_flight), peers);
    assert_eq!(started, Ok(ResponseStart::Final));
    let outcome = exchange.finish(&in_flight).await;
    assert!(matches!(outcome, ExchangeOutcome::Complete { is_reusable: true }));
    let received = read_to(&mut request.outside, END).await;
    assert_eq!(received[0], (RESPONSE, "200 unknown\nserver: x\n".into()));
    assert_eq!(received[1..], [(DATA, "hi".into()), (END, "x-end: 2\n".into())]);
}

#[tokio::test]
async fn an_early_response_reaches_the_client_before_its_body_is_complete() {
    let path = RequestPath::cold("");
    let frames = [(REQUEST, "POST a.test / unknown"), (DATA, "first")];
    let mut request = FramedRequest::new(&path, &frames).await;
    let mut in_flight = request.count();
    let route = in_flight.route().route.clone();
    let (upstream, mut application) = application();
    write(&mut application, &[(RESPONSE, "413 2\n"), (DATA, "no"), (END, "")]).await;
    let mut exchange = Exchange::new(&mut request.client, &request.head, &route, upstream);
    assert_eq!(exchange.start(&mut in_flight).await, Ok(ResponseStart::Final));
    let outcome = exchange.finish(&in_flight).await;
    assert!(matches!(outcome, ExchangeOutcome::Complete { .. }));
    assert_eq!(read_to(&mut request.outside, END).await[1], (DATA, "no".into()));
}

#[tokio::test]
async fn a_body_beyond_max_body_is_rejected_while_it_is_forwarded() {
    let path = RequestPath::cold("max_body = 7");
    let frames = [(REQUEST, "POST a.test / unknown"), (DATA, "0123"), (DATA, "4567")];
    let mut request = FramedRequest::new(&path, &frames).await;
    let mut in_flight = request.count();
    let route = in_flight.route().route.clone();
    let (upstream, _application) = application();
    let mut exchange = Exchange::new(&mut request.client, &request.head, &route, upstream);
    let started = exchange.start(&mut in_flight).await;
    assert_eq!(started, Err(LocalError::BodyTooLarge.into()));
}

#[tokio::test]
async fn a_request_without_response_may_be_sent_again_with_its_whole_body_if_it_is_idempotent() {
    let path = RequestPath::cold("");
    for (method, expected) in
        [("PUT", ForwardError::Retry(Retry::Reset)), ("POST", LocalError::ConnectionBroken.into())]
    {
        let head = format!("{method} a.test / 4");
        let frames = [(REQUEST, head.as_str()), (DATA, "body"), (END, "")];
        let mut request = FramedRequest::new(&path, &frames).await;
        let mut in_flight = request.count();
        let route = in_flight.route().route.clone();
        for is_last in [false, true] {
            let (upstream, mut application) = application();
            let mut exchange = Exchange::new(&mut request.client, &request.head, &route, upstream);
            let peer = async move {
                assert_eq!(read_to(&mut application, END).await[1], (DATA, "body".into()));
                if is_last {
                    write(&mut application, &[(RESPONSE, "204 none\n"), (END, "")]).await;
                }
            };
            let (started, ()) = tokio::join!(exchange.start(&mut in_flight), peer);
            if is_last {
                assert_eq!(started, Ok(ResponseStart::Final));
            } else {
                assert_eq!(started, Err(expected), "{method}");
            }
            if !matches!(started, Err(ForwardError::Retry(_))) {
                break;
            }
        }
    }
}

#[tokio::test]
async fn a_response_that_breaks_off_aborts_the_response_to_the_client() {
    let path = RequestPath::cold("");
    let mut request = FramedRequest::new(&path, &[(REQUEST, "GET a.test / none")]).await;
    let mut in_flight = request.count();
    let route = in_flight.route().route.clone();
    let (upstream, mut application) = application();
    write(&mut application, &[(RESPONSE, "200 9\n"), (DATA, "half")]).await;
    let mut exchange = Exchange::new(&mut request.client, &request.head, &route, upstream);
    assert_eq!(exchange.start(&mut in_flight).await, Ok(ResponseStart::Final));
    drop(application);
    assert!(matches!(exchange.finish(&in_flight).await, ExchangeOutcome::Broken(_)));
    assert!(request.client.downstream.aborted);
    assert_eq!(read_to(&mut request.outside, DATA).await[1], (DATA, "half".into()));
}

#[tokio::test]
async fn a_client_of_another_codec_is_served_by_an_http1_application() {
    let server = ScriptedServer::responding(|request| {
        assert_eq!(request.line(), "POST /x HTTP/1.1");
        assert_eq!(request.header("host"), Some("a.test"));
        let body = String::from_utf8(request.body).unwrap();
        assert_eq!((body.as_str(), request.trailers.as_str()), ("hello", "x-sum: 1\r\n"));
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-End: 2\r\n\r\n"
            .to_owned()
    })
    .await;
    let path = RequestPath::cold("");
    let frames = [(REQUEST, "POST a.test /x unknown\n"), (DATA, "hello"), (END, "x-sum: 1\n")];
    let FramedRequest { mut client, head, mut outside } = FramedRequest::new(&path, &frames).await;
    let ready = async {
        path.wait_for(1, 1).await;
        path.backend.set_ready(&[server.address]);
    };
    let (outcome, ()) = tokio::join!(serve_request(&mut client, head), ready);
    assert!(matches!(outcome, RequestOutcome::Responded));
    let expected =
        [(RESPONSE, "200 unknown\n".into()), (DATA, "ok".into()), (END, "X-End: 2\n".into())];
    assert_eq!(read_to(&mut outside, END).await, expected);
    path.wait_for(0, 0).await;
}

#[tokio::test]
async fn a_client_of_another_codec_that_closes_while_it_is_held_is_no_longer_counted() {
    let path = RequestPath::cold("");
    let FramedRequest { mut client, head, outside } =
        FramedRequest::new(&path, &[(REQUEST, "GET a.test / none")]).await;
    let close = async {
        path.wait_for(1, 1).await;
        drop(outside);
    };
    let (outcome, ()) = tokio::join!(serve_request(&mut client, head), close);
    assert!(matches!(outcome, RequestOutcome::Broken));
    path.wait_for(0, 0).await;
}

#[tokio::test]
async fn agimos_own_responses_are_written_by_the_codec_of_the_client() {
    let path = RequestPath::cold("");
    let FramedRequest { mut client, head, mut outside } =
        FramedRequest::new(&path, &[(REQUEST, "GET b.test / none")]).await;
    assert!(matches!(serve_request(&mut client, head).await, RequestOutcome::Responded));
    let received = read_to(&mut outside, END).await;
    assert!(received[0].1.starts_with("404 "), "{received:?}");
    assert!(received[0].1.contains("\nx-agimo-reason: unknown-host\n"), "{received:?}");
    assert!(received[1].1.starts_with("agimo: "), "{received:?}");
}

#[tokio::test]
async fn a_tunnel_joins_any_two_streams_and_passes_on_the_end_of_each() {
    let ((mut client, mut outside), (mut upstream, mut inside)) = (application(), application());
    let peers = async {
        outside.write_all(b"up").await.unwrap();
        outside.shutdown().await.unwrap();
        let mut received = Vec::new();
        inside.read_to_end(&mut received).await.unwrap();
        inside.write_all(b"down").await.unwrap();
        inside.shutdown().await.unwrap();
        outside.read_to_end(&mut received).await.unwrap();
        assert_eq!(received, b"updown");
    };
    within("both sides to close", async {
        tokio::join!(tunnel::join(&mut client, &mut upstream, TunnelLimits::default()), peers);
    })
    .await;
}

/// Memory per connection is mostly these two futures: the first for every connection, the second during a request.
#[tokio::test]
async fn the_futures_of_a_connection_and_of_a_request_are_small() {
    let path = RequestPath::cold("");
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (_client, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
    let (stream, core) = (Stream::new(accepted.unwrap().0), path.core());
    let identity = ClientIdentity::new([127, 0, 0, 1].into(), None);
    let known = core.connections.add(None);
    let connection = size_of_val(&connection::serve(stream, identity, core, known));
    assert!(connection <= 808, "{connection} bytes for a connection");

    let (_client, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
    let downstream = ServerConnection::new(Stream::new(accepted.unwrap().0));
    let identity = ClientIdentity::new([127, 0, 0, 1].into(), None);
    let mut client =
        ProxyClient { downstream, timer: Timer::default(), identity, core: path.core() };
    let FramedRequest { head, .. } =
        FramedRequest::new(&path, &[(REQUEST, "GET a.test / none")]).await;
    let request = size_of_val(&serve_request(&mut client, head));
    assert!(request <= 1536, "{request} bytes for a request");
}
