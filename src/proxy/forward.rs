//! Forwards a request to one endpoint, on an idle connection or a new one, and its response to the client.

use std::time::Duration;

use tokio::time::Instant;

use crate::demand::Retry;
use crate::http::codec::Downstream;
use crate::http::message::RequestHead;
use crate::net::stream::Stream;

use super::access_log::ResponseEnd;
use super::client::Client;
use super::endpoints::EndpointLease;
use super::exchange::{Exchange, ExchangeOutcome, ResponseStart};
use super::in_flight::{InFlightRequest, Obstacle};
use super::new_connection::observe_start;
use super::request_error::{ForwardError, RequestError};
use super::upstream::{self, ConnectError, Connection};

/// The endpoint has answered.
pub enum Forwarded {
    /// The response is complete.
    Responded,
    /// The response is not complete.
    Broken(ResponseEnd),
    Switched(Stream, EndpointLease),
}

/// Pause before a connection is tried again when no file descriptor was left.
const NO_FILES_PAUSE: Duration = Duration::from_millis(10);

/// Sends the request to the endpoint of the lease and the response to the client. An idle connection is used only if
/// `reuse` allows it.
pub async fn forward<D: Downstream>(
    client: &mut Client<D>,
    request: &RequestHead,
    mut lease: EndpointLease,
    in_flight: &mut InFlightRequest,
    reuse: bool,
) -> Result<Forwarded, ForwardError> {
    let (route, core) = (in_flight.route().clone(), client.core.clone());
    let upstream = connection(client, request, &mut lease, in_flight, reuse).await?;
    // The clock is read for the access log only.
    let sent = core.access_log.then(Instant::now);
    if let Some(cookie) = in_flight.preference().new_cookie(route.config(), lease.endpoint()) {
        in_flight.set_new_cookie(cookie);
    }
    let mut exchange = Exchange::new(client, request, &route.route, upstream);
    let started = if exchange.is_reused() {
        lease.release_permit();
        exchange.start(in_flight).await
    } else {
        // Boxed: most requests find an idle connection.
        Box::pin(observe_start(&core, &mut lease, &mut exchange, in_flight)).await
    };
    if let Some(sent) = sent {
        in_flight.add_waiting(sent);
    }
    match started? {
        ResponseStart::Switched => Ok(Forwarded::Switched(exchange.into_stream(), lease)),
        ResponseStart::Final => Ok(match exchange.finish(in_flight).await {
            ExchangeOutcome::Broken(end) => Forwarded::Broken(end),
            ExchangeOutcome::Complete { reusable } => {
                if let Some(stream) = reusable {
                    let (keep_alive, now) = (route.route.config.keep_alive, Instant::now());
                    lease.endpoint().note_duration(in_flight.duration_since_sent(now));
                    core.keep_idle(lease.endpoint(), stream, keep_alive, now);
                }
                Forwarded::Responded
            }
        }),
    }
}

/// An idle connection to the endpoint of the lease, or a new one.
async fn connection<D: Downstream>(
    client: &mut Client<D>,
    request: &RequestHead,
    lease: &mut EndpointLease,
    in_flight: &mut InFlightRequest,
    reuse: bool,
) -> Result<Connection, ForwardError> {
    let endpoint = lease.endpoint().clone();
    let reuse = reuse && in_flight.route().config().keep_alive.idle_for.is_some();
    let idle = reuse.then(|| upstream::idle(&endpoint, request.is_repeatable())).flatten();
    if let Some(connection) = idle {
        return Ok(connection);
    }
    let started = Instant::now();
    let left = in_flight.deadline().saturating_duration_since(started);
    let timeout = in_flight.route().config().connect_timeout.min(left);
    // Boxed: most requests find an idle connection.
    let connected = Box::pin(upstream::connect(client, &endpoint, timeout)).await;
    let error = match connected {
        Ok(connection) => {
            in_flight.note_connected(started);
            endpoint.mark_reachable();
            return Ok(connection);
        }
        Err(error) => error,
    };
    in_flight.add_connecting(started);
    // A refusal says nothing about how much the endpoint can take.
    if error == ConnectError::TimedOut
        && let Some(permit) = lease.take_permit()
    {
        permit.failed();
    }
    match error {
        ConnectError::ClientDisconnected => {
            return Err(ForwardError::Failed(RequestError::ClientDisconnected));
        }
        ConnectError::NoFiles => {
            client.core.close_all_idle();
            client.core.connections.shed_idle();
            in_flight.note_obstacle(Obstacle::NoFiles, endpoint.address);
            Box::pin(tokio::time::sleep(NO_FILES_PAUSE)).await;
        }
        ConnectError::Refused => {
            endpoint.mark_refused();
            in_flight.note_obstacle(Obstacle::Refused, endpoint.address);
        }
        ConnectError::TimedOut => {
            endpoint.mark_timed_out();
            in_flight.note_obstacle(Obstacle::TimedOut, endpoint.address);
        }
    }
    Err(ForwardError::Retry(Retry::Connect))
}
