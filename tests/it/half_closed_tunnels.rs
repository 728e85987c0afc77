//! Tunnels of which one side has closed its direction and the other never does.

use std::time::{Duration, Instant};

use crate::support::agimo::Agimo;
use crate::support::application::ScriptedServer;
use crate::support::client::Client;

const ACTIVE: &str = "agimo_active_requests{host=\"a.test\"}";
const UPGRADE: &str =
    "GET / HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: raw\r\n\r\n";
const SWITCHING: &str =
    "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: raw\r\n\r\n";

/// As Node's http module with its default allowHalfOpen: it sends `ticks` bytes, one each 100 ms, and never closes its
/// side.
async fn half_open_server(ticks: usize) -> ScriptedServer {
    ScriptedServer::serve(move |mut client, _| async move {
        client.request().await;
        client.send(SWITCHING).await;
        for _ in 0..ticks {
            tokio::time::sleep(Duration::from_millis(100)).await;
            client.send("x").await;
        }
        std::future::pending::<()>().await;
    })
    .await
}

async fn open(agimo: &Agimo) -> Client {
    let mut client = agimo.connect().await;
    client.send(UPGRADE).await;
    assert_eq!(client.response().await.status, 101);
    client
}

#[tokio::test]
async fn a_tunnel_ends_when_the_side_that_is_left_is_silent_for_too_long() {
    let server = half_open_server(10).await;
    let agimo =
        Agimo::with(server.service("a.test", "half_closed_timeout = '600ms'")).start().await;
    let mut client = open(&agimo).await;
    let closed = Instant::now();
    client.shutdown_write().await;
    // What still comes is passed on, however long it takes.
    assert_eq!(client.read_to_end().await, b"xxxxxxxxxx");
    assert!(closed.elapsed() >= Duration::from_millis(1500), "{:?}", closed.elapsed());
    agimo.until_metric(ACTIVE, 0.0).await;
}

#[tokio::test]
async fn a_client_that_is_gone_ends_its_half_closed_tunnel_at_once() {
    let server = half_open_server(0).await;
    let agimo = Agimo::with(server.service("a.test", "half_closed_timeout = '1h'")).start().await;
    let mut client = open(&agimo).await;
    client.shutdown_write().await;
    agimo.until_metric(ACTIVE, 1.0).await;
    client.reset();
    agimo.until_metric(ACTIVE, 0.0).await;
}

#[tokio::test]
async fn a_tunnel_that_is_open_on_both_sides_is_never_cut() {
    let server = half_open_server(0).await;
    let agimo = Agimo::with(server.service("a.test", "half_closed_timeout = '50ms'")).start().await;
    let client = open(&agimo).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(agimo.metric(ACTIVE).await, Some(1.0));
    assert!(client.has_received_nothing());
}
