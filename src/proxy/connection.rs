//! Serves one accepted connection: chooses its codec, and with HTTP/1 serves its requests one after the other. HTTP/2
//! takes over where the client begins with its preface.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};

use tokio::time::Instant;

use crate::config::ClientLimits;
use crate::http::body::BodySink;
use crate::http::codec::{Downstream, Malformation};
use crate::http::forwarded::ClientIdentity;
use crate::http::http1::server::{NoRequest, RejectedHead, ServerConnection};
use crate::http::message::{HeadError, HeadLimits, RequestHead};
use crate::net::stream::Stream;
use crate::net::timer::Timer;

use super::client::Client;
use super::client_connections::ClientConnection;
use super::core::Core;
use super::error_response::{ErrorResponse, LocalError};
use super::serve_request::{RequestOutcome, serve_request};
use super::tunnel;

mod http2;

/// The drain signal of the core, registered once per connection.
struct DrainSignal<'a, F> {
    signal: Pin<&'a mut F>,
    registered: bool,
    core: &'a Core,
}

/// Serves a connection that begins with HTTP/1 or the preface of HTTP/2, until it ends.
pub fn serve(
    stream: Stream,
    mut identity: ClientIdentity,
    core: Rc<Core>,
    connection: Rc<ClientConnection>,
) -> impl Future<Output = ()> {
    // Outside of the future, which then has no room for what is not needed any more.
    let downstream = ServerConnection::new(stream);
    let mut view_number = update_trust(&mut identity, &core);
    let mut client = Client { downstream, timer: Timer::default(), identity, core };
    async move {
        let core = client.core.clone();
        let signal = pin!(core.drain.cancelled());
        let mut drain = DrainSignal { signal, registered: false, core: &core };
        loop {
            let outcome = match next_request(&mut client, &connection, &mut drain).await {
                Ok(head) => {
                    // The proxies that are trusted may have changed while the connection was idle.
                    if core.view().number != view_number {
                        view_number = update_trust(&mut client.identity, &core);
                    }
                    // Boxed: an idle connection, of which there are most, keeps no room for a request.
                    Box::pin(serve_request(&mut client, head)).await
                }
                Err(NoRequest::Closed) => return,
                Err(NoRequest::Http2) => {
                    let Client { downstream, identity, .. } = client;
                    let stream = downstream.into_stream();
                    // Boxed, so that a connection with HTTP/1 has no room for it.
                    let serve =
                        http2::serve(stream, identity, view_number, core.clone(), connection);
                    return Box::pin(serve).await;
                }
                Err(NoRequest::Rejected(rejected)) => {
                    let RejectedHead { malformation, to_head } = rejected;
                    // Boxed, as it is rare.
                    Box::pin(reject(&mut client, malformation, to_head, false)).await;
                    RequestOutcome::Responded
                }
            };
            match outcome {
                RequestOutcome::Responded if client.downstream.is_kept_alive() => {}
                RequestOutcome::Responded => {
                    return client.downstream.linger(&mut client.timer).await;
                }
                RequestOutcome::Broken => return,
                RequestOutcome::Switched(switched) => {
                    connection.begin_tunnel();
                    // A task of its own: a tunnel needs far less memory than a request.
                    core.tasks.spawn_local(tunnel::serve(client.downstream, switched, connection));
                    return;
                }
            }
        }
    }
}

/// Serves a connection on which the client has chosen HTTP/2, until it ends.
pub async fn serve_http2(
    stream: Stream,
    mut identity: ClientIdentity,
    core: Rc<Core>,
    connection: Rc<ClientConnection>,
) {
    let view_number = update_trust(&mut identity, &core);
    // Boxed, so that a connection with HTTP/1 has no room for it.
    Box::pin(http2::serve(stream, identity, view_number, core, connection)).await;
}

/// Decides whether the peer is a trusted proxy. Returns the number of the view that says so.
fn update_trust(identity: &mut ClientIdentity, core: &Core) -> u64 {
    let view = core.view();
    identity.set_trusted(view.snapshot.config.trusts(identity.ip()));
    view.number
}

/// The limits on request heads of this configuration.
fn head_limits(config: &ClientLimits) -> HeadLimits {
    HeadLimits { head: config.max_head, uri: config.max_uri, lines: config.max_headers }
}

/// Responds to a request whose head was rejected.
async fn reject<D: Downstream>(
    client: &mut Client<D>,
    malformation: Malformation,
    is_head: bool,
    is_grpc: bool,
) {
    let error = LocalError::Head(malformation.rule);
    let detail = malformation.line.map(|line| format!("line {line} of the request head"));
    let response = ErrorResponse { detail, ..error.into() };
    client.log_rejected_head(&response);
    let (head, body) =
        if is_grpc { (response.grpc_head(), String::new()) } else { response.message() };
    let body = if is_head { &[] } else { body.as_bytes() };
    let downstream = &mut client.downstream;
    downstream.close_after_response();
    let mut send = |cx: &mut Context<'_>| downstream.send_own_response(cx, &head, body);
    // An error means that the client has disconnected.
    let _ = poll_fn(|cx| Poll::Ready(send(cx))).await;
}

/// The head of the next request, once the last response has been written.
async fn next_request<F: Future<Output = ()>>(
    client: &mut Client<ServerConnection>,
    connection: &ClientConnection,
    drain: &mut DrainSignal<'_, F>,
) -> Result<RequestHead, NoRequest> {
    let config = client.core.view().snapshot.config.client.clone();
    let limits = head_limits(&config);
    let Client { downstream, timer, core, .. } = client;
    let now = Instant::now();
    connection.begin_idle(now);
    timer.set(now + config.keep_alive_timeout);
    let head = poll_fn(|cx| {
        if downstream.poll_flush(cx).map_err(|_| NoRequest::Closed)?.is_pending() {
            return timer.poll(cx).map(|()| Err(NoRequest::Closed));
        }
        if connection.is_shed(cx) {
            let rejected = || RejectedHead::new(HeadError::NoMemory, &[], &limits);
            let has_begun = connection.has_begun();
            let end = if has_begun { NoRequest::Rejected(rejected()) } else { NoRequest::Closed };
            return Poll::Ready(Err(end));
        }
        let length_before = connection.partial().len();
        let head = downstream.poll_request(cx, &limits, &mut connection.partial());
        if head.is_ready() {
            return head;
        }
        let length = connection.partial().len();
        if length == 0 {
            // Nothing of a request is lost when an idle connection is closed.
            if drain.poll(cx).is_ready() {
                return Poll::Ready(Err(NoRequest::Closed));
            }
        } else if length != length_before {
            if length_before == 0 {
                let now = Instant::now();
                connection.begin_head(now);
                timer.set(now + config.head_timeout);
            }
            core.connections.count_partial(connection);
        }
        timer.poll(cx).map(|()| {
            let partial = connection.partial();
            Err(if partial.is_empty() {
                NoRequest::Closed
            } else {
                NoRequest::Rejected(RejectedHead::new(HeadError::Slow, &partial, &limits))
            })
        })
    })
    .await;
    timer.clear();
    connection.begin_request();
    core.connections.count_partial(connection);
    head
}

// === impl DrainSignal ===

impl<F: Future<Output = ()>> DrainSignal<'_, F> {
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
