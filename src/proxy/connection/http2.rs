//! Serves a connection that speaks HTTP/2: each stream is a request of its own, in a task of its own.

use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use tokio::time::{Instant, timeout};

use crate::http::body::BodySink;
use crate::http::codec::Malformation;
use crate::http::forwarded::ClientIdentity;
use crate::http::http2::server::{DownstreamConnection, DownstreamRequest, RejectedRequest};
use crate::http::message::RequestHead;
use crate::net::stream::Stream;
use crate::net::timer::Timer;

use super::{DrainSignal, head_limits, reject, update_trust};
use crate::proxy::client::Client;
use crate::proxy::client_connections::ClientConnection;
use crate::proxy::core::Core;
use crate::proxy::serve_request::{RequestOutcome, serve_request};
use crate::proxy::tunnel;

/// How long a client may take to acknowledge that a connection without requests ends (RFC 9113 section 6.8).
const GOAWAY_TIMEOUT: Duration = Duration::from_secs(5);

/// A request on a connection; the task of the connection learns when it ends.
struct RequestGuard(Rc<ClientConnection>);

/// Serves the connection until it ends. The identity of the client was computed from the view with this number.
pub(super) async fn serve(
    stream: Stream,
    mut identity: ClientIdentity,
    mut view_number: u64,
    core: Rc<Core>,
    connection: Rc<ClientConnection>,
) {
    let config = core.view().snapshot.config.client.clone();
    let handshake = DownstreamConnection::handshake(stream, head_limits(&config));
    let Ok(Ok(mut http2)) = timeout(config.head_timeout, handshake).await else { return };
    let signal = pin!(core.drain.cancelled());
    let mut drain = DrainSignal { signal, registered: false, core: &core };
    let mut timer = Timer::default();
    let (mut is_idle, mut is_closing) = (false, false);
    loop {
        let accepted = poll_fn(|cx| {
            loop {
                if !is_closing && drain.poll(cx).is_ready() {
                    is_closing = true;
                    http2.close_gracefully();
                    // The time to acknowledge that begins now.
                    is_idle = false;
                }
                if let Poll::Ready(accepted) = http2.poll_accept(cx) {
                    return Poll::Ready(accepted);
                }
                // Registers the task, which is also woken when a request ends.
                let is_shed = connection.is_shed(cx);
                if Rc::strong_count(&connection) > 1 {
                    is_idle = false;
                    timer.clear();
                    return Poll::Pending;
                }
                if !std::mem::replace(&mut is_idle, true) {
                    let now = Instant::now();
                    connection.begin_idle(now);
                    let limit = if is_closing { GOAWAY_TIMEOUT } else { config.keep_alive_timeout };
                    timer.set(now + limit);
                }
                if is_shed {
                    return Poll::Ready(None);
                }
                if timer.poll(cx).is_pending() {
                    return Poll::Pending;
                }
                if is_closing {
                    return Poll::Ready(None);
                }
                // The next poll sends GOAWAY.
                is_closing = true;
                http2.close_gracefully();
                timer.set(Instant::now() + GOAWAY_TIMEOUT);
            }
        })
        .await;
        let Some((head, downstream)) = accepted else { return };
        is_idle = false;
        timer.clear();
        connection.begin_request();
        // The proxies that are trusted may have changed since the last request.
        if core.view().number != view_number {
            view_number = update_trust(&mut identity, &core);
        }
        let timer = Timer::default();
        let client = Client { downstream, timer, identity: identity.clone(), core: core.clone() };
        core.tasks.spawn_local(serve_stream(client, head, RequestGuard(connection.clone())));
    }
}

/// Serves one stream.
async fn serve_stream(
    mut client: Client<DownstreamRequest>,
    head: Result<RequestHead, RejectedRequest>,
    guard: RequestGuard,
) {
    let outcome = match head {
        Ok(head) => serve_request(&mut client, head).await,
        Err(RejectedRequest { error, is_head, is_grpc }) => {
            let malformation = Malformation { rule: error, line: None };
            // Boxed, as it is rare.
            Box::pin(reject(&mut client, malformation, is_head, is_grpc)).await;
            RequestOutcome::Responded
        }
    };
    match outcome {
        RequestOutcome::Responded => {
            let flush_timeout = client.core.view().snapshot.config.client.keep_alive_timeout;
            let Client { downstream, timer, .. } = &mut client;
            timer.set(Instant::now() + flush_timeout);
            // A client that leaves no room for the rest within that time loses it; dropping the stream tells it so.
            poll_fn(|cx| match downstream.poll_flush(cx) {
                Poll::Ready(_) => Poll::Ready(()),
                Poll::Pending => timer.poll(cx),
            })
            .await;
        }
        RequestOutcome::Broken => {}
        RequestOutcome::Switched(switched) => {
            let Client { downstream, .. } = client;
            tunnel::serve(downstream, switched, guard.0.clone()).await;
        }
    }
}

impl Drop for RequestGuard {
    fn drop(&mut self) {
        self.0.wake();
    }
}
