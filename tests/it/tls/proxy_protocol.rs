//! The PROXY protocol, in cleartext and before TLS.

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{HI, serving};
use crate::support::agimo::Agimo;
use crate::support::application::ScriptedServer;
use crate::support::tls::Authority;
use crate::support::{eventually, within};

const V1: &[u8] = b"PROXY TCP4 192.0.2.7 10.0.0.1 4096 443\r\n";
/// The same in version 2.
const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x07\x0a\0\0\x01\x10\0\x01\xbb";
const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n";

#[tokio::test]
async fn the_client_is_the_one_that_the_load_balancer_names() {
    let authority = Authority::new();
    let (server, record) = ScriptedServer::recording(HI).await;
    let services = "proxy_protocol = ['127.0.0.0/8']\n".to_owned() + &server.service("a.test", "");
    let agimo = serving(&authority, &services).start().await;
    for header in [V1, V2] {
        for at in [header.len(), 5] {
            let mut client = TcpStream::connect(agimo.address).await.unwrap();
            client.set_nodelay(true).unwrap();
            let bytes = [header, REQUEST].concat();
            let (first, second) = bytes.split_at(at);
            client.write_all(first).await.unwrap();
            client.write_all(second).await.unwrap();
            let mut response = String::new();
            within("the response", client.read_to_string(&mut response)).await.unwrap();
            assert!(response.starts_with("HTTP/1.1 200"), "{response}");
        }
    }
    let script = "
        const socket = require('net').connect(port, '127.0.0.1');
        await new Promise((resolve) => socket.once('connect', resolve));
        socket.write('PROXY TCP6 2001:db8::7 ::1 4096 443\\r\\n');
        print((await request({ agent: undefined, createConnection: () => tls.connect({ socket, ca, servername: 'a.test' }) })).body);";
    let printed = authority.run_client(agimo.tls_address(), script).await;
    assert_eq!(printed, [json!("hi")]);
    let record = String::from_utf8(record.lock().unwrap().clone()).unwrap();
    let clients: Vec<_> =
        record.lines().filter_map(|line| line.strip_prefix("X-Forwarded-For: ")).collect();
    assert_eq!(clients, ["192.0.2.7", "192.0.2.7", "192.0.2.7", "192.0.2.7", "2001:db8::7"]);
}

#[tokio::test]
async fn a_connection_without_the_header_is_closed_and_others_are_not_asked_for_one() {
    let (server, _) = ScriptedServer::recording(HI).await;
    let service = server.service("a.test", "");
    for (networks, is_served) in [("127.0.0.0/8", false), ("192.0.2.0/24", true)] {
        let agimo =
            Agimo::with(format!("proxy_protocol = ['{networks}']\n{service}")).start().await;
        let mut client = TcpStream::connect(agimo.address).await.unwrap();
        client.write_all(REQUEST).await.unwrap();
        let mut response = Vec::new();
        let _ = within("the end", client.read_to_end(&mut response)).await;
        assert_eq!(response.starts_with(b"HTTP/1.1 200"), is_served, "{networks}");
        if !is_served {
            assert_eq!(response, b"");
            agimo.until_logged("the header of the PROXY protocol is missing").await;
        }
    }
}

#[tokio::test]
async fn connections_are_limited_by_the_address_that_the_header_names() {
    let (server, _) = ScriptedServer::recording(HI).await;
    let keys = "proxy_protocol = ['127.0.0.1']\nmax_connections_per_address = 1\n";
    let agimo = Agimo::with(keys.to_owned() + &server.service("a.test", "")).start().await;
    let mut open = TcpStream::connect(agimo.address).await.unwrap();
    open.write_all(&[V1, b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n"].concat()).await.unwrap();
    let mut begin = [0; 12];
    within("the response", open.read_exact(&mut begin)).await.unwrap();
    let attempt = |header: &'static [u8]| {
        let address = agimo.address;
        async move {
            let mut client = TcpStream::connect(address).await.unwrap();
            client.write_all(&[header, REQUEST].concat()).await.unwrap();
            let mut response = Vec::new();
            let _ = within("the end", client.read_to_end(&mut response)).await;
            response.starts_with(b"HTTP/1.1 200")
        }
    };
    assert!(!attempt(V2).await, "the same client");
    assert!(attempt(b"PROXY TCP4 192.0.2.8 10.0.0.1 4096 443\r\n").await, "another client");
    drop(open);
    eventually("the place of the client", || async { attempt(V2).await.then_some(()) }).await;
}

#[tokio::test]
async fn a_tunnel_counts_for_the_client_that_the_header_names() {
    let keys = "proxy_protocol = ['127.0.0.1']\nmax_connections_per_address = 1\n";
    let service = crate::support::node::web_socket_application("a.test", "");
    let agimo = Agimo::with(keys.to_owned() + &service).start().await;
    let upgrade =
        b"GET / HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    let mut tunnel = TcpStream::connect(agimo.address).await.unwrap();
    tunnel.write_all(&[V1, upgrade].concat()).await.unwrap();
    let mut begin = [0; 12];
    within("the response", tunnel.read_exact(&mut begin)).await.unwrap();
    assert_eq!(&begin, b"HTTP/1.1 101");
    agimo.until_metric("agimo_active_requests{host=\"a.test\"}", 1.0).await;
    let mut second = TcpStream::connect(agimo.address).await.unwrap();
    second.write_all(&[V1, REQUEST].concat()).await.unwrap();
    let mut response = Vec::new();
    let _ = within("the end", second.read_to_end(&mut response)).await;
    assert_eq!(response, b"", "the client has a connection");
}
