//! Request bodies that are slow, silent, answered early, or left behind by their client.

use std::time::{Duration, Instant};

use crate::support::agimo::Agimo;
use crate::support::application::ScriptedServer;
use crate::support::client::Client;

const HELD: &str = "agimo_held_requests{host=\"a.test\"}";

#[tokio::test]
async fn an_upload_goes_on_after_an_early_successful_response() {
    let (received, mut bodies) = tokio::sync::mpsc::channel(1);
    let server = ScriptedServer::serve(move |mut client, _| {
        let received = received.clone();
        async move {
            client.read_until("\r\n\r\n").await;
            client.send("HTTP/1.1 202 Accepted\r\nContent-Length: 2\r\n\r\nok").await;
            received.send(client.read_exact(8000).await.len()).await.unwrap();
        }
    })
    .await;
    let agimo = Agimo::with(server.service("a.test", "")).start().await;
    let mut client = agimo.connect().await;
    client.send("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 8000\r\n\r\n").await;
    let response = client.response().await;
    assert_eq!((response.status, response.text().as_str()), (202, "ok"));
    // Longer than a connection that is being closed waits in silence, altogether.
    for _ in 0..8 {
        tokio::time::sleep(Duration::from_millis(800)).await;
        client.send([b'x'; 1000]).await;
    }
    assert_eq!(bodies.recv().await, Some(8000));
}

#[tokio::test]
async fn a_client_that_goes_on_sending_after_a_refusal_gets_the_response() {
    let server = ScriptedServer::serve(|mut client, _| async move {
        client.read_until("\r\n\r\n").await;
        client.send("HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno").await;
    })
    .await;
    let agimo = Agimo::with(server.service("a.test", "")).start().await;
    let mut client = agimo.connect().await;
    client.send("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 8000\r\n\r\n").await;
    for _ in 0..8 {
        tokio::time::sleep(Duration::from_millis(800)).await;
        client.send([b'x'; 1000]).await;
    }
    assert_eq!(client.response().await.status, 403);
}

#[tokio::test]
async fn a_silent_upload_is_answered_408_and_a_slow_one_is_not() {
    let server = ScriptedServer::serve(|mut client, _| async move {
        client.read_until("\r\n\r\n").await;
        client.read_exact(6).await;
        // A response may take longer than a pause of the body may.
        tokio::time::sleep(Duration::from_millis(900)).await;
        client.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
    })
    .await;
    let agimo = Agimo::with(server.service("a.test", "body_timeout = '600ms'")).start().await;
    for (pause, status) in [(150, 200), (10_000, 408)] {
        let mut client = agimo.connect().await;
        client.send("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 6\r\n\r\n").await;
        let body = async {
            let mut stream = client.stream;
            for _ in 0..6 {
                let _ = tokio::io::AsyncWriteExt::write_all(&mut stream, b"x").await;
                let readable = stream.readable();
                let _ = tokio::time::timeout(Duration::from_millis(pause), readable).await;
            }
            stream
        };
        let stream = body.await;
        let mut client = Client { stream, received: Vec::new() };
        assert_eq!(client.response().await.status, status);
    }
}

#[tokio::test]
async fn a_client_that_leaves_behind_a_body_that_fills_all_buffers_is_noticed() {
    let service = "[[services]]\nhost = 'a.test'\ntype = 'process'\ncommand = ['sleep', '1000']\nhold_timeout = '1h'\n";
    let agimo = Agimo::with(service).start().await;
    let mut clients = Vec::new();
    for _ in 0..5 {
        let mut client = agimo.connect().await;
        client.send("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 100000000\r\n\r\n").await;
        let full = async {
            loop {
                tokio::io::AsyncWriteExt::write_all(&mut client.stream, &[b'x'; 65536])
                    .await
                    .unwrap();
            }
        };
        let filled = tokio::time::timeout(Duration::from_millis(300), full).await;
        assert!(filled.is_err(), "agimo reads the body of a held request");
        clients.push(client);
    }
    agimo.until_metric(HELD, 5.0).await;
    let stays = clients.pop().unwrap();
    let left = Instant::now();
    drop(clients);
    agimo.until_metric(HELD, 1.0).await;
    assert!(left.elapsed() < Duration::from_secs(15), "{:?}", left.elapsed());
    drop(stays);
}
