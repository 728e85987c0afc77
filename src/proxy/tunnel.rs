//! A connection that has switched protocols: bytes both ways until both sides have closed.

use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::Instant;

use crate::http::codec::Downstream;
use crate::net::lent_buffers::with_read_buffer;
use crate::net::stream::ByteStream;
use crate::net::timer::{Idleness, Timer};

use super::access_log::LoggedRequest;
use super::client_connections::ClientConnection;
use super::serve_request::SwitchedRequest;
use super::upstream::UpstreamStream;

/// What is logged of a tunnel at its end.
pub struct LoggedTunnel {
    request: LoggedRequest,
    since: Instant,
}

/// How long nothing may move in a tunnel.
#[derive(Clone, Copy, Debug, Default)]
pub struct TunnelLimits {
    pub idle: Option<Duration>,
    /// After one direction has ended.
    pub half_closed: Option<Duration>,
}

/// The two directions of a tunnel.
struct Directions {
    up: Direction,
    down: Direction,
}

/// How often a tunnel of which one direction has ended is checked for a reset of that side.
const DEAD_CHECK_INTERVAL: Duration = Duration::from_secs(1);

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
    connection: Rc<ClientConnection>,
) -> impl Future<Output = ()> {
    // Outside of the future, which then has no room for what is not needed any more.
    let mut client = downstream.into_stream();
    async move {
        // It counts among the open connections until the tunnel ends.
        let _connection = connection;
        let mut switched = switched;
        let config = switched.in_flight.route().config();
        let limits =
            TunnelLimits { idle: config.idle_timeout, half_closed: config.half_closed_timeout };
        let received_before = client.written();
        let sent = match &mut switched.upstream {
            UpstreamStream::Exclusive(upstream) => relay(&mut client, upstream, limits).await,
            // Boxed: it is larger than the other, of which there are most.
            UpstreamStream::Multiplexed(upstream) => {
                Box::pin(relay(&mut client, &mut **upstream, limits)).await
            }
        };
        if let Some(LoggedTunnel { request, since }) = switched.logged.as_deref() {
            let received = client.written() - received_before;
            request.log_tunnel_end(since.elapsed(), sent, received);
        }
    }
}

/// Joins the two sides. Returns the bytes that were sent upstream.
async fn relay<A: ByteStream, B: ByteStream>(
    client: &mut A,
    upstream: &mut B,
    limits: TunnelLimits,
) -> u64 {
    let before = upstream.written();
    join(client, upstream, limits).await;
    upstream.written() - before
}

/// Copies both ways and passes on the end of each side, until both have ended, one has failed, or nothing has moved for
/// as long as the limits say. An idle tunnel holds no buffer.
pub async fn join<A: ByteStream, B: ByteStream>(
    client: &mut A,
    upstream: &mut B,
    limits: TunnelLimits,
) {
    let mut directions = Directions { up: Direction::Open, down: Direction::Open };
    let mut timer = Timer::default();
    let mut idleness = Idleness::new(limits.idle);
    let is_half_closed = poll_fn(|cx| {
        if directions.poll(cx, client, upstream).is_ready() {
            return Poll::Ready(false);
        }
        if directions.is_half_closed() {
            return Poll::Ready(true);
        }
        idleness.poll(cx, &mut timer, client.written() + upstream.written()).map(|()| false)
    })
    .await;
    if is_half_closed {
        // Boxed: few tunnels come to this state and stay in it.
        Box::pin(join_half_closed(client, upstream, directions, limits)).await;
    }
}

/// Copies in the direction that is left. Some applications never close their side, and nothing tells when such a
/// connection is reset.
async fn join_half_closed<A: ByteStream, B: ByteStream>(
    client: &mut A,
    upstream: &mut B,
    mut directions: Directions,
    limits: TunnelLimits,
) {
    let (mut timer, mut check) = (Timer::default(), Timer::default());
    let limit = limits.idle.into_iter().chain(limits.half_closed).min();
    let mut idleness = Idleness::new(limit);
    check.set_after(Some(DEAD_CHECK_INTERVAL));
    poll_fn(|cx| {
        if directions.poll(cx, client, upstream).is_ready() {
            return Poll::Ready(());
        }
        while check.poll(cx).is_ready() {
            // Only of the side that is not read any more: the other one may have closed behind bytes that still come.
            let is_dead = match directions.up {
                Direction::Closed => client.is_dead(),
                _ => upstream.is_dead(),
            };
            if is_dead {
                return Poll::Ready(());
            }
            check.set_after(Some(DEAD_CHECK_INTERVAL));
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

// === impl Directions ===

impl Directions {
    /// Moves what can be moved; ready when both directions have ended or one has failed.
    fn poll<A: ByteStream, B: ByteStream>(
        &mut self,
        cx: &mut Context<'_>,
        client: &mut A,
        upstream: &mut B,
    ) -> Poll<()> {
        let one = self.up.poll(cx, client, upstream);
        let other = self.down.poll(cx, upstream, client);
        match (one, other) {
            (Poll::Ready(Err(_)), _) | (_, Poll::Ready(Err(_))) => Poll::Ready(()),
            (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => Poll::Ready(()),
            _ => Poll::Pending,
        }
    }

    fn is_half_closed(&self) -> bool {
        self.up == Direction::Closed || self.down == Direction::Closed
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
