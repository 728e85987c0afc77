//! Endpoints that do not respond at all, as on a node that died: the deadline holds, and other endpoints serve.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

use super::fixture::RequestPath;
use super::{GET, HI};
use crate::support::application::ScriptedServer;

/// A listener whose queue is full, so that the kernel answers no further connection.
struct SilentEndpoint {
    address: SocketAddr,
    _sockets: Vec<Socket>,
}

impl SilentEndpoint {
    fn new() -> Self {
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        listener.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        listener.listen(0).unwrap();
        let address = listener.local_addr().unwrap();
        let mut sockets = vec![listener];
        for _ in 0..4 {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
            socket.set_nonblocking(true).unwrap();
            let _ = socket.connect(&address);
            sockets.push(socket);
        }
        Self { address: address.as_socket().unwrap(), _sockets: sockets }
    }
}

#[tokio::test]
async fn a_request_that_no_endpoint_accepts_is_answered_504_at_the_hold_timeout() {
    let (one, other) = (SilentEndpoint::new(), SilentEndpoint::new());
    let keys = "hold_timeout = '600ms'\nconnect_timeout = '100ms'";
    let path = RequestPath::warm(one.address, keys).await;
    path.backend.set_ready(&[one.address, other.address]);
    let mut client = path.connect().await;
    for _ in 0..2 {
        let sent = Instant::now();
        client.send(GET).await;
        let response = client.response().await;
        assert_eq!((response.status, response.reason()), (504, Some("hold-timeout")));
        let detail = response.header("x-agimo-detail").unwrap();
        assert!(detail.contains("did not accept a connection"), "{detail}");
        assert!(sent.elapsed() >= Duration::from_millis(600));
        assert!(sent.elapsed() < Duration::from_secs(5), "{:?}", sent.elapsed());
    }
}

#[tokio::test]
async fn a_connect_timeout_longer_than_the_hold_timeout_does_not_outlast_it() {
    let silent = SilentEndpoint::new();
    let keys = "hold_timeout = '300ms'\nconnect_timeout = '1m'";
    let path = RequestPath::warm(silent.address, keys).await;
    let mut client = path.connect().await;
    client.send(GET).await;
    assert_eq!(client.response().await.status, 504);
}

#[tokio::test]
async fn an_endpoint_that_timed_out_is_left_alone_while_another_one_serves() {
    let silent = SilentEndpoint::new();
    let server = ScriptedServer::responding(|_| HI.to_owned()).await;
    let path = RequestPath::warm(server.address, "connect_timeout = '200ms'").await;
    path.backend.set_ready(&[silent.address, server.address]);
    let mut client = path.connect().await;
    let mut slow = 0;
    for _ in 0..200 {
        let sent = Instant::now();
        client.send(GET).await;
        assert_eq!(client.response().await.text(), "hi");
        slow += usize::from(sent.elapsed() >= Duration::from_millis(200));
    }
    // With a pause of 100 ms after each timeout, half of the requests after each pause would be slow.
    assert!(slow <= 2, "{slow} requests waited for the endpoint that does not respond");
}
