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
use crate::http::http2::server::{ServerConnection, ServerStream};
use crate::http::message::{HeadError, RequestHead};
use crate::net::stream::Stream;
use crate::net::timer::Timer;

use super::{DrainSignal, head_limits, identity, reject};
use crate::proxy::client::Client;
use crate::proxy::client_connections::ClientConnection;
use crate::proxy::core::Core;
use crate::proxy::serve_request::{RequestOutcome, serve_request};
use crate::proxy::tunnel;

/// How long a client may take to acknowledge that a connection without requests ends (RFC 9113 section 6.8).
const GOODBYE: Duration = Duration::from_secs(5);

/// Why a connection ends, apart from the client's own will.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Closing {
    /// Open requests go on.
    Drain,
    /// There are none.
    Idle,
}

/// Serves the connection until it ends. `known` is what is known of the client, and the number of that view.
pub(super) async fn serve(
    stream: Stream,
    known: (ClientIdentity, u64),
    core: Rc<Core>,
    connection: Rc<ClientConnection>,
) {
    let (mut identity, mut view_number) = known;
    let config = core.view().snapshot.config.client.clone();
    let handshake = ServerConnection::handshake(stream, head_limits(&config));
    let Ok(Ok(mut http2)) = timeout(config.head_timeout, handshake).await else { return };
    let signal = pin!(core.drain.cancelled());
    let mut drain = DrainSignal { signal, registered: false, core: &core };
    let mut timer = Timer::default();
    let (mut is_idle, mut closing) = (false, None);
    loop {
        let accepted = poll_fn(|cx| {
            loop {
                let before = closing;
                if drain.poll(cx).is_ready() {
                    closing.get_or_insert(Closing::Drain);
                }
                if let Poll::Ready(accepted) = http2.poll_accept(cx) {
                    return Poll::Ready(accepted);
                }
                if http2.has_streams() {
                    is_idle = false;
                    timer.clear();
                } else if !std::mem::replace(&mut is_idle, true) {
                    let now = Instant::now();
                    connection.begin_idle(now);
                    timer.set(
                        now + if closing.is_none() { config.keep_alive_timeout } else { GOODBYE },
                    );
                }
                if is_idle && connection.is_shed(cx) {
                    return Poll::Ready(None);
                }
                if timer.poll(cx).is_ready() {
                    if closing == Some(Closing::Idle) {
                        return Poll::Ready(None);
                    }
                    closing = Some(Closing::Idle);
                    timer.set(Instant::now() + GOODBYE);
                }
                if closing == before {
                    return Poll::Pending;
                }
                // Polled again, so that the client is told.
                http2.close_gracefully();
            }
        })
        .await;
        let Some((head, downstream)) = accepted else { return };
        is_idle = false;
        timer.clear();
        connection.begin_request();
        // The proxies that are trusted may have changed since the last request.
        if core.view().number != view_number {
            (identity, view_number) = self::identity(&core, identity.ip());
        }
        let timer = Timer::default();
        let client = Client { downstream, timer, identity: identity.clone(), core: core.clone() };
        core.tasks.spawn_local(serve_stream(client, head, connection.clone()));
    }
}

/// Serves one stream.
async fn serve_stream(
    mut client: Client<ServerStream>,
    head: Result<RequestHead, HeadError>,
    connection: Rc<ClientConnection>,
) {
    let outcome = match head {
        Ok(head) => serve_request(&mut client, head).await,
        Err(rule) => {
            // Boxed, as it is rare.
            Box::pin(reject(&mut client, Malformation { rule, line: None }, false)).await;
            RequestOutcome::Responded
        }
    };
    match outcome {
        RequestOutcome::Responded => {
            let patience = client.core.view().snapshot.config.client.keep_alive_timeout;
            let Client { downstream, timer, .. } = &mut client;
            timer.set(Instant::now() + patience);
            // What the client does not take within that time is lost; dropping the stream tells it so.
            poll_fn(|cx| match downstream.poll_flush(cx) {
                Poll::Ready(_) => Poll::Ready(()),
                Poll::Pending => timer.poll(cx),
            })
            .await;
        }
        RequestOutcome::Broken => {}
        RequestOutcome::Switched(switched) => {
            let Client { downstream, .. } = client;
            tunnel::serve(downstream, switched, connection).await;
        }
    }
}
