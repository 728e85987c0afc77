//! Gets a connection to an endpoint: an idle one, or a new one. It sends nothing on it.

use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::net::stream::Stream;

use super::client::Client;
use super::core::{Endpoint, FRESH_FOR};

/// A peer that vanished without a word is noticed after this and a few probes.
pub const KEEPALIVE: Duration = Duration::from_secs(60);

/// A connection to an endpoint.
pub struct Upstream {
    pub wire: Stream,
    /// It has served a request before, so the endpoint may be closing it right now.
    pub reused: bool,
}

/// Why there is no connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectError {
    /// The endpoint refused it, or took longer than `connect_timeout`.
    Refused,
    /// The client has gone meanwhile.
    ClientGone,
}

/// An idle connection, if there is one that suits.
pub fn idle(endpoint: &Endpoint, repeatable: bool) -> Option<Upstream> {
    let within = if repeatable { None } else { Some(FRESH_FOR) };
    endpoint.take_idle(within).map(|wire| Upstream { wire, reused: true })
}

/// A new connection.
pub async fn connect(
    client: &mut Client,
    endpoint: &Endpoint,
    limit: Duration,
) -> Result<Upstream, ConnectError> {
    client.timer.set(Instant::now() + limit);
    let mut connecting = pin!(TcpStream::connect(endpoint.address));
    let connected = std::future::poll_fn(|cx| {
        if let Poll::Ready(connected) = connecting.as_mut().poll(cx) {
            return Poll::Ready(connected.map_err(|_| ConnectError::Refused));
        }
        if client.wire.poll_closed(cx).is_ready() {
            return Poll::Ready(Err(ConnectError::ClientGone));
        }
        client.timer.poll(cx).map(|()| Err(ConnectError::Refused))
    })
    .await;
    client.timer.clear();
    let stream = connected?;
    // Where nobody listens any more, a connection to an ephemeral port can meet itself.
    if stream.local_addr().is_ok_and(|own| own == endpoint.address) {
        return Err(ConnectError::Refused);
    }
    // Heads and small bodies go out in one write each; waiting for more would only delay them.
    let _ = stream.set_nodelay(true);
    // A tunnel to a host that vanished without a word must end some day.
    let _ = SockRef::from(&stream).set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE));
    Ok(Upstream { wire: Stream::new(stream), reused: false })
}
