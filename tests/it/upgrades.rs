//! Upgraded connections: WebSockets and other protocols, through a cold start, half-closed, and open for a long time.

use std::future::Future;
use std::sync::Arc;

use futures_util::{SinkExt, StreamExt};
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};
use tokio_tungstenite::{WebSocketStream, accept_async, accept_hdr_async, client_async};

use crate::support::agimo::Agimo;
use crate::support::application::{ScriptedServer, reserve, service_at};
use crate::support::client::Client;
use crate::support::within;

const HI: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";
const UPGRADE: &str =
    "GET / HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: foo\r\n\r\n";
const SWITCHING: &str =
    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: foo\r\nConnection: Upgrade\r\n\r\n";
const ACTIVE: &str = "agimo_active_requests{host=\"a.test\"}";

/// An application that accepts every upgrade and passes the connection to `tunnel`.
async fn upgrading_server<F, Fut>(tunnel: F) -> ScriptedServer
where
    F: Fn(Client) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    let tunnel = Arc::new(tunnel);
    ScriptedServer::serve(move |mut client, _| {
        let tunnel = tunnel.clone();
        async move {
            client.read_until("\r\n\r\n").await;
            client.send(SWITCHING).await;
            tunnel(client).await;
        }
    })
    .await
}

/// Returns every byte until the client closes its side.
async fn echo(mut client: Client) {
    loop {
        let received = std::mem::take(&mut client.received);
        client.send(received).await;
        if !client.read().await {
            return;
        }
    }
}

/// A client whose connection was upgraded.
async fn upgraded_client(agimo: &Agimo) -> Client {
    let mut client = agimo.connect().await;
    client.send(UPGRADE).await;
    assert_eq!(client.response().await.status, 101);
    client
}

/// Sends `text` and waits for its echo.
async fn expect_echo(client: &mut Client, text: &str) {
    client.send(text).await;
    assert_eq!(client.read_exact(text.len()).await, text.as_bytes());
}

#[tokio::test]
async fn a_websocket_opens_through_a_cold_start_with_its_header_fields_unchanged() {
    let (address, mut sockets) = reserve(1);
    let agimo = Agimo::with(service_at(address, "a.test", "")).start().await;
    let stream = agimo.connect().await.stream;
    let opening = tokio::spawn(async move {
        let mut request = "ws://a.test/chat?x=1".into_client_request().unwrap();
        let fields = request.headers_mut();
        fields.insert("Sec-WebSocket-Protocol", "v2.chat, v1.chat".parse().unwrap());
        fields.insert("Sec-WebSocket-Extensions", "permessage-deflate; x=1".parse().unwrap());
        client_async(request, stream).await.unwrap()
    });
    agimo.until_metric("agimo_held_requests{host=\"a.test\"}", 1.0).await;

    let listener = sockets.remove(0).listen(16).unwrap();
    let _server = ScriptedServer::serve_on(listener, |client, _| async move {
        // The size of the result is decided by tungstenite.
        #[allow(clippy::result_large_err)]
        let negotiate = |request: &Request, mut response: Response| {
            let field = |name: &str| request.headers()[name].to_str().unwrap().to_owned();
            assert_eq!(request.uri(), "/chat?x=1");
            assert_eq!(field("host"), "a.test");
            assert_eq!(field("sec-websocket-protocol"), "v2.chat, v1.chat");
            assert_eq!(field("sec-websocket-extensions"), "permessage-deflate; x=1");
            assert_eq!(field("sec-websocket-version"), "13");
            response.headers_mut().insert("Sec-WebSocket-Protocol", "v1.chat".parse().unwrap());
            response.headers_mut().insert("X-Odd", "kept".parse().unwrap());
            Ok(response)
        };
        let mut socket = accept_hdr_async(client.stream, negotiate).await.unwrap();
        while let Some(Ok(message)) = socket.next().await {
            if message.is_text() {
                socket.send(message).await.unwrap();
            }
        }
    });
    let (mut socket, response) = within("the WebSocket", opening).await.unwrap();
    assert_eq!(response.headers()["sec-websocket-protocol"], "v1.chat");
    assert_eq!(response.headers()["x-odd"], "kept");
    for text in ["one", "two", "three"] {
        socket.send(Message::text(text)).await.unwrap();
        let echo = within("an echo", socket.next()).await.unwrap().unwrap();
        assert_eq!(echo.to_text().unwrap(), text);
    }
    // The closing handshake passes in both directions and ends both connections.
    socket.close(None).await.unwrap();
    let closed = within("the close frame", socket.next()).await.unwrap().unwrap();
    assert!(closed.is_close(), "{closed}");
    assert!(
        within("the end of the connection", socket.next()).await.is_none_or(|end| end.is_err())
    );
    drop(socket);
    agimo.until_metric(ACTIVE, 0.0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn megabytes_of_messages_pass_in_both_directions_at_once() {
    let server = ScriptedServer::serve(|client, _| async move {
        let socket = accept_async(client.stream).await;
        exchange(socket.unwrap(), 2).await;
    })
    .await;
    let agimo = Agimo::with(server.service("a.test", "")).start().await;
    let stream = agimo.connect().await.stream;
    let (socket, _) = client_async("ws://a.test/", stream).await.unwrap();
    exchange(socket, 1).await;
}

/// Sends 8 MiB in messages of all sizes while receiving as much, and checks every byte.
async fn exchange(socket: WebSocketStream<tokio::net::TcpStream>, own: u8) {
    const TOTAL: usize = 8 << 20;
    let (mut sender, mut receiver) = socket.split();
    let message = |number: usize, of: u8| vec![of ^ number as u8; (number * 7919) % 100_000];
    let send = async {
        let mut sent = 0;
        for number in 0.. {
            let bytes = message(number, own);
            sent += bytes.len();
            sender.send(Message::binary(bytes)).await.unwrap();
            if sent >= TOTAL {
                return;
            }
        }
    };
    let receive = async {
        let mut received = 0;
        for number in 0.. {
            let bytes = receiver.next().await.unwrap().unwrap().into_data();
            received += bytes.len();
            assert!(bytes == message(number, 3 - own), "message {number} differs");
            if received >= TOTAL {
                return;
            }
        }
    };
    within("8 MiB in both directions", async { tokio::join!(send, receive) }).await;
}

#[tokio::test]
async fn bytes_directly_after_the_request_and_after_the_101_response_are_forwarded() {
    let server = ScriptedServer::serve(|mut client, _| async move {
        let head = client.read_until("\r\n\r\n").await;
        assert!(head.contains("\r\nUpgrade: foo/2, bar\r\n"), "{head}");
        assert!(head.ends_with("\r\nConnection: upgrade\r\n\r\n"), "{head}");
        let early = "HTTP/1.1 101 Odd Phrase\r\nUpgrade: foo/2\r\nConnection: Upgrade\r\nX-Y: z\r\n\r\nhello";
        client.send(early).await;
        echo(client).await;
    })
    .await;
    let agimo = Agimo::with(server.service("a.test", "")).start().await;
    // The first request waits for a cold start; the second finds the application awake.
    for _ in 0..2 {
        let mut client = agimo.connect().await;
        let request =
            "GET / HTTP/1.1\r\nHost: a.test\r\nUpgrade: foo/2, bar\r\nConnection: Upgrade\r\n\r\n";
        client.send(format!("{request}early, ")).await;
        let response = client.response().await;
        let head = "HTTP/1.1 101 Odd Phrase\r\nUpgrade: foo/2\r\nX-Y: z\r\nConnection: upgrade";
        assert_eq!(response.head, head);
        assert_eq!(client.read_exact(12).await, b"helloearly, ");
        expect_echo(&mut client, "later").await;
    }
}

#[tokio::test]
async fn either_side_can_close_its_direction_and_still_receive() {
    // The application sends after the client has closed its direction.
    let server = upgrading_server(|mut client| async move {
        let all = client.read_to_end().await;
        client.send(format!("after {}", String::from_utf8(all).unwrap())).await;
    })
    .await;
    let agimo = Agimo::with(server.service("a.test", "")).start().await;
    let mut client = upgraded_client(&agimo).await;
    client.send("the end").await;
    client.shutdown_write().await;
    assert_eq!(client.read_to_end().await, b"after the end");
    agimo.until_metric(ACTIVE, 0.0).await;

    // The client sends after the application has closed its direction.
    let (received, mut receipts) = mpsc::channel(1);
    let server = upgrading_server(move |mut client| {
        let received = received.clone();
        async move {
            client.send("bye").await;
            client.shutdown_write().await;
            received.send(client.read_to_end().await).await.unwrap();
        }
    })
    .await;
    let agimo = Agimo::with(server.service("a.test", "")).start().await;
    let mut client = upgraded_client(&agimo).await;
    assert_eq!(client.read_to_end().await, b"bye");
    assert_eq!(agimo.metric(ACTIVE).await, Some(1.0));
    client.send("still here").await;
    client.shutdown_write().await;
    assert_eq!(within("the last bytes", receipts.recv()).await.unwrap(), b"still here");
    agimo.until_metric(ACTIVE, 0.0).await;
}

#[tokio::test]
async fn a_refused_upgrade_is_forwarded_as_an_ordinary_response() {
    let server = ScriptedServer::answering(HI).await;
    let agimo = Agimo::with(server.service("a.test", "")).start().await;
    let mut client = agimo.connect().await;
    for request in [UPGRADE, "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n", UPGRADE] {
        client.send(request).await;
        assert_eq!(client.response().await.head, "HTTP/1.1 200 OK\r\nContent-Length: 2");
    }
    // After a refused upgrade, some applications take what follows for the other protocol.
    assert_eq!(server.connections(), 2);
}

#[tokio::test]
async fn frames_behind_a_refused_upgrade_are_not_answered_as_a_request() {
    let server = ScriptedServer::answering(HI).await;
    let agimo = Agimo::with(server.service("a.test", "")).start().await;
    let mut client = agimo.connect().await;
    client
        .send([UPGRADE.as_bytes(), b"\x81\x85frame of a client that does not wait"].concat())
        .await;
    assert_eq!(client.response().await.status, 200);
    client.shutdown_write().await;
    assert_eq!(client.read_to_end().await, b"");
}

#[tokio::test]
async fn a_101_response_without_an_upgrade_request_is_refused() {
    let server = ScriptedServer::answering(SWITCHING).await;
    let agimo = Agimo::with(server.service("a.test", "")).start().await;
    for request in [
        "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n",
        // An upgrade needs HTTP/1.1 and both fields (RFC 9110 section 7.8).
        "GET / HTTP/1.1\r\nHost: a.test\r\nUpgrade: foo\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a.test\r\nConnection: upgrade\r\n\r\n",
        "GET / HTTP/1.0\r\nHost: a.test\r\nConnection: upgrade\r\nUpgrade: foo\r\n\r\n",
        // To a protocol that was not asked for.
        "GET / HTTP/1.1\r\nHost: a.test\r\nConnection: upgrade\r\nUpgrade: other\r\n\r\n",
    ] {
        let mut client = agimo.connect().await;
        client.send(request).await;
        let response = client.response().await;
        assert_eq!((response.status, response.reason()), (502, Some("response-malformed")));
    }
}

#[tokio::test]
async fn h2c_upgrades_are_not_forwarded() {
    let (server, record) = ScriptedServer::recording(HI).await;
    let agimo = Agimo::with(server.service("a.test", "")).start().await;
    let mut client = agimo.connect().await;
    for protocols in ["h2c", "H2C", "websocket, h2c"] {
        client
            .send(format!(
                "GET / HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade, HTTP2-Settings\r\n\
                 Upgrade: {protocols}\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n"
            ))
            .await;
        assert_eq!(client.response().await.text(), "hi");
    }
    let record = String::from_utf8(record.lock().unwrap().clone()).unwrap().to_lowercase();
    assert_eq!(record.matches("get / http/1.1\r\n").count(), 3, "{record}");
    assert!(!record.contains("upgrade") && !record.contains("http2-settings"), "{record}");
}

#[tokio::test]
async fn an_open_tunnel_survives_reloads_and_timeouts_and_prevents_sleep() {
    let (ended, mut ends) = mpsc::channel(1);
    let server = upgrading_server(move |client| {
        let ended = ended.clone();
        async move {
            echo(client).await;
            ended.send(()).await.unwrap();
        }
    })
    .await;
    let other = ScriptedServer::answering(HI).await;
    let limits = "sleep_after = \"200ms\"\ntimeout = \"300ms\"\nresponse_timeout = \"300ms\"";
    let service = server.service("a.test", limits);
    // Each sleep cycle of another service takes 200 ms, so that three outlast every limit.
    let other = |host| other.service(host, "sleep_after = \"200ms\"");
    let timeouts = "head_timeout = \"300ms\"\nkeep_alive_timeout = \"300ms\"\n";
    let agimo = Agimo::with(format!("{timeouts}{service}{}", other("b.test"))).start().await;
    let mut client = upgraded_client(&agimo).await;
    expect_echo(&mut client, "before").await;

    agimo.run_sleep_cycles("b.test", 3).await;
    expect_echo(&mut client, "after the timeouts").await;
    assert_eq!(agimo.metric(ACTIVE).await, Some(1.0));

    let changed = server.service("a.test", &limits.replace("200ms", "250ms"));
    agimo.reconfigure(&format!("{timeouts}{changed}{}", other("c.test")));
    let reloaded = "agimo_active_requests{host=\"c.test\"}";
    agimo.until_metric(reloaded, 0.0).await;
    expect_echo(&mut client, "after a reload").await;
    assert_eq!(agimo.metric(ACTIVE).await, Some(1.0));

    agimo.run_sleep_cycles("c.test", 3).await;
    expect_echo(&mut client, "after the timeouts again").await;
    assert_eq!(agimo.sleep_count("a.test"), 0, "{:?}", agimo.log());

    client.shutdown_write().await;
    assert!(client.is_closed().await);
    within("the end of the tunnel", ends.recv()).await.unwrap();
    agimo.until_metric(ACTIVE, 0.0).await;
    agimo.until_sleep_count("a.test", 1).await;
}
