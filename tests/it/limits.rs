//! Limits that protect agimo and other clients: connections, incomplete heads, file descriptors, shares of the hold.

use std::time::Duration;

use crate::support::agimo::Agimo;
use crate::support::application::ScriptedServer;
use crate::support::client::Client;
use crate::support::{eventually, within};

const HI: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";
const GET: &str = "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n";

async fn agimo(top: &str, server: &ScriptedServer) -> Agimo {
    Agimo::with(format!("{top}\n{}", server.service("a.test", "")))
        .arguments(&["--threads", "1"])
        .start()
        .await
}

#[tokio::test]
async fn the_connection_that_has_been_idle_for_longest_makes_room_for_a_new_one() {
    let server = ScriptedServer::serve(|mut client, _| async move {
        while let Some(request) = client.request().await {
            if request.line().contains("slow") {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            client.send(HI).await;
        }
    })
    .await;
    let agimo = agimo("max_connections = 3", &server).await;
    let mut busy = agimo.connect().await;
    busy.send(GET.replace("/ ", "/slow ")).await;
    agimo.until_metric("agimo_active_requests{host=\"a.test\"}", 1.0).await;
    let mut idle = Vec::new();
    for _ in 0..2 {
        let mut client = agimo.connect().await;
        client.send(GET).await;
        assert_eq!(client.response().await.text(), "hi");
        idle.push(client);
    }
    assert_eq!(agimo.get("a.test", "/").await.text(), "hi", "a new connection is served");
    assert!(idle.remove(0).is_closed().await, "the oldest idle connection is still open");
    assert_eq!(busy.response().await.text(), "hi", "a request was cut");
}

#[tokio::test]
async fn where_no_connection_is_idle_a_new_one_is_closed() {
    let server = ScriptedServer::serve(|_, _| std::future::pending()).await;
    let agimo = agimo("max_connections = 2", &server).await;
    let mut busy = Vec::new();
    for _ in 0..2 {
        let mut client = agimo.connect().await;
        client.send(GET).await;
        busy.push(client);
    }
    agimo.until_metric("agimo_active_requests{host=\"a.test\"}", 2.0).await;
    assert!(agimo.connect().await.is_closed().await);
    agimo.until_logged("too many connections").await;
    assert_eq!(agimo.metric("agimo_active_requests{host=\"a.test\"}").await, Some(2.0));
}

#[tokio::test]
async fn one_address_has_a_share_of_the_connections_and_a_trusted_proxy_has_all() {
    let server = ScriptedServer::answering(HI).await;
    for (top, is_served) in [
        ("max_connections_per_address = 2", false),
        ("max_connections_per_address = 2\ntrusted_proxies = ['127.0.0.0/8']", true),
    ] {
        let agimo = agimo(top, &server).await;
        let mut open = Vec::new();
        for _ in 0..2 {
            let mut client = agimo.connect().await;
            client.send(GET).await;
            client.response().await;
            open.push(client);
        }
        let mut third = agimo.connect().await;
        third.send(GET).await;
        assert_eq!(third.read().await, is_served, "{top}");
    }
}

#[tokio::test]
async fn one_address_has_a_share_of_the_hold() {
    let service = "[[services]]\nhost = 'a.test'\ntype = 'process'\ncommand = ['sleep', '1000']\nmax_held_per_address = 2\n";
    let agimo = Agimo::with(service).start().await;
    let mut held = Vec::new();
    for _ in 0..2 {
        let mut client = agimo.connect().await;
        client.send(GET).await;
        held.push(client);
    }
    agimo.until_metric("agimo_held_requests{host=\"a.test\"}", 2.0).await;
    let refused = agimo.get("a.test", "/").await;
    assert_eq!((refused.status, refused.reason()), (503, Some("hold-full")));
    drop(held.pop());
    agimo.until_metric("agimo_held_requests{host=\"a.test\"}", 1.0).await;
    let mut again = agimo.connect().await;
    again.send(GET).await;
    agimo.until_metric("agimo_held_requests{host=\"a.test\"}", 2.0).await;
}

#[tokio::test]
async fn incomplete_heads_hold_a_bounded_amount_of_memory() {
    let server = ScriptedServer::answering(HI).await;
    let agimo = agimo("max_head_memory = '1MiB'\nhead_timeout = '1h'", &server).await;
    assert_eq!(agimo.get("a.test", "/").await.status, 200);
    let before = agimo.resident();
    let head = format!("GET / HTTP/1.1\r\nHost: a.test\r\nX: {}", "x".repeat(30_000));
    let mut clients = Vec::new();
    for _ in 0..1000 {
        let mut client = agimo.connect().await;
        client.send(&head).await;
        clients.push(client);
    }
    let refused = clients[0].response().await;
    assert_eq!((refused.status, refused.reason()), (431, Some("head-memory")));
    // The newest are not closed, and other requests are served.
    let mut last = clients.pop().unwrap();
    last.send("\r\n\r\n").await;
    assert_eq!(last.response().await.text(), "hi");
    assert_eq!(agimo.get("a.test", "/").await.text(), "hi");
    let grown = agimo.resident().saturating_sub(before);
    // Without the limit, the heads alone would take 29 MiB.
    assert!(grown < 8 * 1024, "{grown} KiB for 1000 connections");
}

#[tokio::test]
async fn a_service_and_the_admin_port_are_served_when_clients_use_up_the_file_descriptors() {
    let server = ScriptedServer::answering(HI).await;
    let agimo = Agimo::with(server.service("a.test", ""))
        .arguments(&["--threads", "1"])
        .open_files(128)
        .start()
        .await;
    assert_eq!(agimo.get("a.test", "/").await.text(), "hi");
    let mut idle = Vec::new();
    for _ in 0..300 {
        idle.push(agimo.connect().await);
    }
    for _ in 0..10 {
        assert_eq!(agimo.get("a.test", "/").await.text(), "hi");
        assert_eq!(within("/livez", agimo.admin("/livez")).await.status, 200);
    }
    let open = eventually("idle connections to be closed", || async {
        let open = idle.iter().filter(|client| is_open(client)).count();
        (open <= 64).then_some(open)
    })
    .await;
    assert!(open > 30, "{open} of 300 are open");
    assert!(agimo.log().len() < 50, "{} lines", agimo.log().len());
}

fn is_open(client: &Client) -> bool {
    client
        .stream
        .try_read(&mut [0])
        .is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
}
