//! A connection that has switched protocols: bytes both ways until both sides have closed.

use std::future::poll_fn;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::Instant;

use crate::http::codec::Downstream;
use crate::net::lent_buffers::with_read_buffer;
use crate::net::stream::ByteStream;
use crate::net::timer::{Idleness, Timer};

use super::access_log::LoggedRequest;
use super::serve_request::SwitchedRequest;

/// What is logged of a tunnel at its end.
pub struct LoggedTunnel {
    request: LoggedRequest,
    since: Instant,
}

/// How far one direction of a tunnel has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Direction {
    Open,
    /// The sender has closed its side; what it sent may still wait for room.
    Ended,
    /// The end has been passed on.
    Closed,
}

/// Serves a request that has switched protocols until both sides have closed. It is counted as long.
pub fn serve<D: Downstream>(
    downstream: D,
    switched: Box<SwitchedRequest>,
) -> impl Future<Output = ()> {
    // Outside of the future, which then has no room for what is not needed any more.
    let mut client = downstream.into_stream();
    async move {
        let mut switched = switched;
        let idle_timeout = switched.in_flight.route().config().idle_timeout;
        let (sent, received) = (switched.upstream.written(), client.written());
        join(&mut client, &mut switched.upstream, idle_timeout).await;
        if let Some(LoggedTunnel { request, since }) = switched.logged.as_deref() {
            let (sent, received) =
                (switched.upstream.written() - sent, client.written() - received);
            request.log_tunnel_end(since.elapsed(), sent, received);
        }
    }
}

/// Copies both ways and passes on the end of each side, until both have ended, one has failed, or nothing has moved for
/// `idle_timeout`. An idle tunnel holds no buffer.
pub async fn join<A: ByteStream, B: ByteStream>(
    client: &mut A,
    upstream: &mut B,
    idle_timeout: Option<Duration>,
) {
    let mut up = Direction::Open;
    let mut down = Direction::Open;
    let mut timer = Timer::default();
    let mut idleness = Idleness::new(idle_timeout);
    poll_fn(|cx| {
        let one = up.poll(cx, client, upstream);
        let other = down.poll(cx, upstream, client);
        match (one, other) {
            (Poll::Ready(Err(_)), _) | (_, Poll::Ready(Err(_))) => return Poll::Ready(()),
            (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => return Poll::Ready(()),
            _ => {}
        }
        idleness.poll(cx, &mut timer, client.written() + upstream.written())
    })
    .await;
}

// === impl LoggedTunnel ===

impl LoggedTunnel {
    /// A tunnel that begins now.
    pub fn new(request: LoggedRequest) -> Self {
        Self { request, since: Instant::now() }
    }
}

// === impl Direction ===

impl Direction {
    fn poll<A: ByteStream, B: ByteStream>(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut A,
        to: &mut B,
    ) -> Poll<std::io::Result<()>> {
        while *self != Self::Closed {
            ready!(to.poll_flush(cx))?;
            if *self == Self::Ended {
                ready!(to.poll_shutdown(cx))?;
                *self = Self::Closed;
                break;
            }
            ready!(with_read_buffer(|buffer| {
                match ready!(from.poll_read(cx, buffer))? {
                    0 => *self = Self::Ended,
                    length => to.send(cx, &buffer[..length])?,
                }
                Poll::Ready(Ok::<_, std::io::Error>(()))
            }))?;
        }
        Poll::Ready(Ok(()))
    }
}
