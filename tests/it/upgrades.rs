//! Connections that leave HTTP: WebSockets and any other protocol, through a cold start, half-closed, and kept open. It looks inside no frame.

use std::future::Future;
use std::sync::Arc;

use futures_util::{SinkExt, StreamExt};
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};
use tokio_tungstenite::{WebSocketStream, accept_async, accept_hdr_async, client_async};

use crate::support::agimo::Agimo;
use crate::support::application::{Script, reserve, service_at};
use crate::support::client::Client;
use crate::support::{eventually, within};

const HI: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";
const ASK: &str = "GET / HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: foo\r\n\r\n";
const SWITCH: &str =
    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: foo\r\nConnection: Upgrade\r\n\r\n";
const ACTIVE: &str = "agimo_active_requests{host=\"a.test\"}";

/// An application that switches every connection and hands it on.
async fn switching<F, Fut>(tunnel: F) -> Script
where
    F: Fn(Client) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    let tunnel = Arc::new(tunnel);
    Script::serve(move |mut client, _| {
        let tunnel = tunnel.clone();
        async move {
            client.until("\r\n\r\n").await;
            client.send(SWITCH).await;
            tunnel(client).await;
        }
    })
    .await
}

/// Sends back what comes until that ends.
async fn echo(mut client: Client) {
    loop {
        let received = std::mem::take(&mut client.received);
        client.send(received).await;
        if !client.read().await {
            return;
        }
    }
}

/// A client whose connection has switched.
async fn switched(agimo: &Agimo) -> Client {
    let mut client = agimo.connect().await;
    client.send(ASK).await;
    assert_eq!(client.response().await.status, 101);
    client
}

fn has_slept(agimo: &Agimo, host: &str) -> bool {
    agimo.log().iter().any(|line| line.contains("\"asleep\"") && line.contains(host))
}

async fn until_asleep(agimo: &Agimo, host: &str) {
    eventually("sleep", || async { has_slept(agimo, host).then_some(()) }).await;
}

/// Sends `word` and waits until it has come back.
async fn echoes(client: &mut Client, word: &str) {
    client.send(word).await;
    assert_eq!(client.bytes(word.len()).await, word.as_bytes());
}

#[tokio::test]
async fn a_websocket_opens_through_a_cold_start_with_its_headers_untouched() {
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
    let _script = Script::serve_on(listener, |client, _| async move {
        // The size of the answer is the library's own.
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
    for word in ["one", "two", "three"] {
        socket.send(Message::text(word)).await.unwrap();
        let echo = within("an echo", socket.next()).await.unwrap().unwrap();
        assert_eq!(echo.to_text().unwrap(), word);
    }
    // The closing handshake goes both ways and ends both connections.
    socket.close(None).await.unwrap();
    let closed = within("the close frame", socket.next()).await.unwrap().unwrap();
    assert!(closed.is_close(), "{closed}");
    assert!(within("the end", socket.next()).await.is_none_or(|end| end.is_err()));
    drop(socket);
    agimo.until_metric(ACTIVE, 0.0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn megabytes_of_messages_cross_both_ways_at_once() {
    let script = Script::serve(|client, _| async move {
        let socket = accept_async(client.stream).await;
        exchange(socket.unwrap(), 2).await;
    })
    .await;
    let agimo = Agimo::with(script.service("a.test", "")).start().await;
    let stream = agimo.connect().await.stream;
    let (socket, _) = client_async("ws://a.test/", stream).await.unwrap();
    exchange(socket, 1).await;
}

/// Sends 8 MiB in messages of all sizes while receiving as much, and checks every byte.
async fn exchange(socket: WebSocketStream<tokio::net::TcpStream>, own: u8) {
    const ALL: usize = 8 << 20;
    let (mut sender, mut receiver) = socket.split();
    let message = |number: usize, of: u8| vec![of ^ number as u8; (number * 7919) % 100_000];
    let send = async {
        let mut sent = 0;
        for number in 0.. {
            let bytes = message(number, own);
            sent += bytes.len();
            sender.send(Message::binary(bytes)).await.unwrap();
            if sent >= ALL {
                return;
            }
        }
    };
    let receive = async {
        let mut received = 0;
        for number in 0.. {
            let bytes = receiver.next().await.unwrap().unwrap().into_data();
            received += bytes.len();
            assert!(bytes == message(number, 3 - own), "message {number} is another");
            if received >= ALL {
                return;
            }
        }
    };
    within("8 MiB both ways", async { tokio::join!(send, receive) }).await;
}

#[tokio::test]
async fn bytes_right_behind_the_request_and_right_behind_the_switch_are_not_lost() {
    let script = Script::serve(|mut client, _| async move {
        let head = client.until("\r\n\r\n").await;
        assert!(head.contains("\r\nUpgrade: foo/2, bar\r\n"), "{head}");
        assert!(head.ends_with("\r\nConnection: upgrade\r\n\r\n"), "{head}");
        let early = "HTTP/1.1 101 Odd Phrase\r\nUpgrade: foo/2\r\nConnection: Upgrade\r\nX-Y: z\r\n\r\nhello";
        client.send(early).await;
        echo(client).await;
    })
    .await;
    let agimo = Agimo::with(script.service("a.test", "")).start().await;
    // The first goes through a cold start, the second finds the application awake.
    for _ in 0..2 {
        let mut client = agimo.connect().await;
        let ask =
            "GET / HTTP/1.1\r\nHost: a.test\r\nUpgrade: foo/2, bar\r\nConnection: Upgrade\r\n\r\n";
        client.send(format!("{ask}early, ")).await;
        let response = client.response().await;
        let head = "HTTP/1.1 101 Odd Phrase\r\nUpgrade: foo/2\r\nX-Y: z\r\nConnection: upgrade";
        assert_eq!(response.head, head);
        assert_eq!(client.bytes(12).await, b"helloearly, ");
        echoes(&mut client, "later").await;
    }
}

#[tokio::test]
async fn either_side_may_end_its_direction_and_still_be_spoken_to() {
    // The application speaks on after the client has ended its side.
    let script = switching(|mut client| async move {
        let all = client.rest().await;
        client.send(format!("after {}", String::from_utf8(all).unwrap())).await;
    })
    .await;
    let agimo = Agimo::with(script.service("a.test", "")).start().await;
    let mut client = switched(&agimo).await;
    client.send("the end").await;
    client.shut_down().await;
    assert_eq!(client.rest().await, b"after the end");
    agimo.until_metric(ACTIVE, 0.0).await;

    // And the other way round.
    let (heard, mut words) = mpsc::channel(1);
    let script = switching(move |mut client| {
        let heard = heard.clone();
        async move {
            client.send("bye").await;
            client.shut_down().await;
            heard.send(client.rest().await).await.unwrap();
        }
    })
    .await;
    let agimo = Agimo::with(script.service("a.test", "")).start().await;
    let mut client = switched(&agimo).await;
    assert_eq!(client.rest().await, b"bye");
    assert_eq!(agimo.metric(ACTIVE).await, Some(1.0));
    client.send("still here").await;
    client.shut_down().await;
    assert_eq!(within("the last words", words.recv()).await.unwrap(), b"still here");
    agimo.until_metric(ACTIVE, 0.0).await;
}

#[tokio::test]
async fn a_refused_upgrade_is_an_answer_like_any_other() {
    let script = Script::answering(HI).await;
    let agimo = Agimo::with(script.service("a.test", "")).start().await;
    let mut client = agimo.connect().await;
    for request in [ASK, "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n", ASK] {
        client.send(request).await;
        assert_eq!(client.response().await.head, "HTTP/1.1 200 OK\r\nContent-Length: 2");
    }
    assert_eq!(script.connections(), 1);
}

#[tokio::test]
async fn a_switch_that_nobody_asked_for_is_refused() {
    let script = Script::answering(SWITCH).await;
    let agimo = Agimo::with(script.service("a.test", "")).start().await;
    for request in [
        "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n",
        // Each half of the question alone is none.
        "GET / HTTP/1.1\r\nHost: a.test\r\nUpgrade: foo\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a.test\r\nConnection: upgrade\r\n\r\n",
        "GET / HTTP/1.0\r\nHost: a.test\r\nConnection: upgrade\r\nUpgrade: foo\r\n\r\n",
    ] {
        let mut client = agimo.connect().await;
        client.send(request).await;
        let response = client.response().await;
        assert_eq!((response.status, response.reason()), (502, Some("response-malformed")));
    }
}

#[tokio::test]
async fn http_2_in_clear_text_is_not_passed_on() {
    let (script, record) = Script::recording(HI).await;
    let agimo = Agimo::with(script.service("a.test", "")).start().await;
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
async fn an_open_tunnel_survives_reload_and_every_timeout_and_keeps_its_application_awake() {
    let (ended, mut ends) = mpsc::channel(1);
    let script = switching(move |client| {
        let ended = ended.clone();
        async move {
            echo(client).await;
            ended.send(()).await.unwrap();
        }
    })
    .await;
    let other = Script::answering(HI).await;
    let limits = "sleep_after = \"200ms\"\ntimeout = \"300ms\"\nresponse_timeout = \"300ms\"";
    let service = script.service("a.test", limits);
    // Another service that falls asleep later tells when that time has passed.
    let clock = |host| other.service(host, "sleep_after = \"1s\"");
    let agimo = Agimo::with(service.clone() + &clock("b.test")).start().await;
    let mut client = switched(&agimo).await;
    echoes(&mut client, "before").await;

    assert_eq!(agimo.get("b.test", "/").await.status, 200);
    until_asleep(&agimo, "b.test").await;
    echoes(&mut client, "after the sleep of another").await;
    assert_eq!(agimo.metric(ACTIVE).await, Some(1.0));

    let changed = script.service("a.test", &limits.replace("200ms", "250ms"));
    agimo.reconfigure(&(changed + &clock("c.test")));
    let reloaded = "agimo_active_requests{host=\"c.test\"}";
    agimo.until_metric(reloaded, 0.0).await;
    echoes(&mut client, "after a reload").await;
    assert_eq!(agimo.metric(ACTIVE).await, Some(1.0));

    assert_eq!(agimo.get("c.test", "/").await.status, 200);
    until_asleep(&agimo, "c.test").await;
    echoes(&mut client, "after another sleep").await;
    assert!(!has_slept(&agimo, "a.test"), "{:?}", agimo.log());

    client.shut_down().await;
    assert!(client.is_closed().await);
    within("the end of the tunnel", ends.recv()).await.unwrap();
    agimo.until_metric(ACTIVE, 0.0).await;
    until_asleep(&agimo, "a.test").await;
}
