//! One client's connection: reads its requests one after the other and closes it well. It routes nothing.

use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::config::ClientLimits;
use crate::http::http1::head::{HeadError, Limits, RequestHead};
use crate::net::scratch;
use crate::net::stream::Stream;
use crate::net::timer::Timer;

use super::answer;
use super::client::Client;
use super::core::Core;
use super::headers::ClientIdentity;
use super::request::{After, Switched};
use super::tunnel;

/// Why there is no next request.
enum NoRequest {
    /// The connection has ended, has idled too long, or agimo drains.
    Ended,
    Refused(HeadError),
}

/// Read at a time while a head is expected: what follows it of a body is kept while the request is
/// held, so it must not be much.
const HEAD_READ: usize = 8 * 1024;
/// How long, and for how many bytes, a client may go on sending after its response has ended the
/// connection; closing at once would reset it and could lose the response.
const LINGER: Duration = Duration::from_secs(5);
const LINGER_BYTES: usize = 64 * 1024 * 1024;

/// Serves a connection to its end.
pub async fn serve(stream: TcpStream, peer: SocketAddr, core: Rc<Core>) {
    let identity = ClientIdentity::new(peer.ip(), &core.view().snapshot.config.trusted_proxies);
    let mut client = Client { wire: Stream::new(stream), timer: Timer::default(), identity, core };
    let core = client.core.clone();
    let mut drain = Drain { signal: pin!(core.drain.cancelled()), registered: false, core: &core };
    loop {
        let after = match client.next_head(&mut drain).await {
            // Boxed: an idle connection, of which there are most, keeps no room for a request.
            Ok(head) => Box::pin(answer::answer(&mut client, head)).await,
            Err(NoRequest::Ended) => return,
            Err(NoRequest::Refused(error)) => answer::refuse(&mut client, error.into()).await,
        };
        match after {
            After::KeepAlive => {}
            After::Drop => return,
            After::Close => return client.linger().await,
            After::Switched(switched) => {
                // A task of its own: a tunnel needs far less room than a request.
                core.tunnels.spawn_local(async move {
                    let Switched { upstream, flight, open } = *switched;
                    let idle_timeout = open.route().config().idle_timeout;
                    tunnel::run(client.wire, upstream, idle_timeout).await;
                    drop((flight, open));
                });
                return;
            }
        }
    }
}

/// The drain signal, registered once a connection.
struct Drain<'a, F> {
    signal: Pin<&'a mut F>,
    registered: bool,
    core: &'a Core,
}

// === impl Client ===

impl Client {
    /// The next request's head, once the last response has gone out.
    async fn next_head<F: Future<Output = ()>>(
        &mut self,
        drain: &mut Drain<'_, F>,
    ) -> Result<RequestHead, NoRequest> {
        let limits = self.core.view().snapshot.config.client.clone();
        self.timer.set(Instant::now() + limits.keep_alive_timeout);
        let mut partial = Vec::new();
        let head = poll_fn(|cx| {
            if self.wire.poll_flush(cx).map_err(|_| NoRequest::Ended)?.is_pending() {
                return self.timer.poll(cx).map(|()| Err(NoRequest::Ended));
            }
            match self.poll_head(cx, &limits, &mut partial) {
                Poll::Ready(head) => return Poll::Ready(head),
                Poll::Pending if partial.is_empty() => ready_if(drain.poll(cx))?,
                Poll::Pending => {}
            }
            self.timer.poll(cx).map(|()| {
                Err(if partial.is_empty() {
                    NoRequest::Ended
                } else {
                    NoRequest::Refused(HeadError::Slow)
                })
            })
        })
        .await;
        self.timer.clear();
        head
    }

    fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        limits: &ClientLimits,
        partial: &mut Vec<u8>,
    ) -> Poll<Result<RequestHead, NoRequest>> {
        let bounds =
            Limits { head: limits.max_head, uri: limits.max_uri, lines: limits.max_headers };
        loop {
            let parsed = ready!(scratch::lend(|scratch| {
                let read = ready!(self.wire.poll_read(cx, &mut scratch.input[..HEAD_READ]));
                let Ok(length @ 1..) = read else { return Poll::Ready(Err(NoRequest::Ended)) };
                let mut received = &scratch.input[..length];
                let begun = !partial.is_empty();
                // RFC 9112 section 2.2: empty lines before a request are no request yet.
                while let (false, Some(rest)) = (begun, received.strip_prefix(b"\r\n")) {
                    received = rest;
                }
                if received.is_empty() {
                    return Poll::Ready(Ok(None));
                }
                if begun {
                    partial.extend_from_slice(received);
                }
                let input = if begun { partial.as_slice() } else { received };
                // Without a line's end nothing has changed but the length.
                if begun && !received.contains(&b'\n') && input.len() < limits.max_uri {
                    return Poll::Ready(Ok(None));
                }
                match RequestHead::parse(input, &bounds).map_err(NoRequest::Refused)? {
                    Some((head, length)) => {
                        self.wire.unread(&input[length..]);
                        Poll::Ready(Ok(Some(head)))
                    }
                    None => {
                        if !begun {
                            partial.extend_from_slice(received);
                            self.timer.set(Instant::now() + limits.head_timeout);
                        }
                        Poll::Ready(Ok(None))
                    }
                }
            }))?;
            if let Some(head) = parsed {
                return Poll::Ready(Ok(head));
            }
        }
    }

    /// Sends what is left, ends our side, and gives the client time to read it (RFC 9112 section 9.6).
    async fn linger(mut self) {
        self.timer.set(Instant::now() + LINGER);
        let mut left = LINGER_BYTES;
        let mut ended = false;
        poll_fn(|cx| {
            if self.timer.poll(cx).is_ready() {
                return Poll::Ready(());
            }
            if !ended {
                if ready!(self.wire.poll_flush(cx)).is_err()
                    || ready!(self.wire.poll_shutdown(cx)).is_err()
                {
                    return Poll::Ready(());
                }
                ended = true;
            }
            while left > 0 {
                match ready!(scratch::lend(|scratch| self.wire.poll_read(cx, &mut scratch.input))) {
                    Ok(length @ 1..) => left = left.saturating_sub(length),
                    _ => break,
                }
            }
            Poll::Ready(())
        })
        .await;
    }
}

// === impl Drain ===

impl<F: Future<Output = ()>> Drain<'_, F> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.core.draining.get() {
            return Poll::Ready(());
        }
        if self.registered {
            return Poll::Pending;
        }
        self.registered = true;
        self.signal.as_mut().poll(cx)
    }
}

fn ready_if(drained: Poll<()>) -> Result<(), NoRequest> {
    if drained.is_ready() { Err(NoRequest::Ended) } else { Ok(()) }
}
