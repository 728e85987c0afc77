//! Forwards a request to one endpoint, on an idle connection or a new one, and its response to the client.

use std::time::Duration;

use tokio::time::Instant;

use crate::config::protocol::SpokenProtocol;
use crate::demand::Retry;
use crate::http::codec::{Downstream, Upstream};
use crate::http::message::RequestHead;

use super::access_log::ResponseEnd;
use super::client::Client;
use super::core::{Core, CoreRoute};
use super::endpoints::{Endpoint, EndpointLease};
use super::error_response::LocalError;
use super::exchange::{Exchange, ExchangeOutcome, ResponseStart};
use super::in_flight::{InFlightRequest, Obstacle};
use super::new_connection::observe_start;
use super::request_error::{ForwardError, RequestError};
use super::upstream::multiplexed::{self, StreamRequirements};
use super::upstream::{
    self, ConnectError, ExclusiveConnection, MultiplexedStream, Target, UpstreamStream,
};

/// The endpoint has answered.
pub enum Forwarded {
    /// The response is complete.
    Responded,
    /// The response is not complete.
    Broken(ResponseEnd),
    Switched(UpstreamStream, EndpointLease),
}

/// Pause before a connection is tried again when no file descriptor was left.
const NO_FILES_PAUSE: Duration = Duration::from_millis(10);

/// Sends the request to the endpoint of the lease and the response to the client. A connection that has served others is
/// used only if `reuse` allows it.
pub async fn forward<D: Downstream>(
    client: &mut Client<D>,
    request: &RequestHead,
    mut lease: EndpointLease,
    in_flight: &mut InFlightRequest,
    reuse: bool,
) -> Result<Forwarded, ForwardError> {
    let configured = in_flight.route().config().protocol;
    let spoken = lease.endpoint().spoken_protocol(configured, request);
    if spoken.is_http2 {
        // Boxed, so that all other requests have no room for it.
        let opened =
            Box::pin(open_stream(client, request, &mut lease, in_flight, spoken, reuse)).await?;
        if let Some(upstream) = opened {
            return Box::pin(forward_multiplexed(client, request, lease, in_flight, upstream))
                .await;
        }
    }
    let upstream = connection(client, request, &mut lease, in_flight, spoken, reuse).await?;
    let (route, core) = (in_flight.route().clone(), client.core.clone());
    let mut exchange = Exchange::new(client, request, &route.route, upstream);
    let outcome = run(&core, &mut exchange, &mut lease, in_flight).await?;
    Ok(conclude(&core, exchange, outcome, lease, in_flight))
}

/// The same on a stream of a connection that serves others at the same time.
async fn forward_multiplexed<D: Downstream>(
    client: &mut Client<D>,
    request: &RequestHead,
    mut lease: EndpointLease,
    in_flight: &mut InFlightRequest,
    upstream: MultiplexedStream,
) -> Result<Forwarded, ForwardError> {
    let (route, core) = (in_flight.route().clone(), client.core.clone());
    let mut exchange = Exchange::new(client, request, &route.route, upstream);
    let outcome = run(&core, &mut exchange, &mut lease, in_flight).await?;
    Ok(conclude(&core, exchange, outcome, lease, in_flight))
}

/// What has become of the request. Keeps the connection where it can serve another one.
fn conclude<D: Downstream, U: Upstream<Stream: Into<UpstreamStream>>>(
    core: &Core,
    exchange: Exchange<'_, D, U>,
    outcome: ExchangeOutcome,
    lease: EndpointLease,
    in_flight: &InFlightRequest,
) -> Forwarded {
    match outcome {
        ExchangeOutcome::Switched => Forwarded::Switched(exchange.into_stream().into(), lease),
        ExchangeOutcome::Broken(end) => Forwarded::Broken(end),
        ExchangeOutcome::Complete { is_reusable } => {
            if is_reusable && let UpstreamStream::Exclusive(stream) = exchange.into_stream().into()
            {
                let (keep_alive, now) = (in_flight.route().config().keep_alive, Instant::now());
                lease.endpoint().note_duration(in_flight.duration_since_sent(now));
                core.keep_idle(lease.endpoint(), stream, keep_alive, now);
            }
            Forwarded::Responded
        }
    }
}

/// Runs an exchange to its end, or until it switches protocols.
async fn run<D: Downstream, U: Upstream>(
    core: &Core,
    exchange: &mut Exchange<'_, D, U>,
    lease: &mut EndpointLease,
    in_flight: &mut InFlightRequest,
) -> Result<ExchangeOutcome, ForwardError> {
    // The clock is read for the access log and for spans only.
    let sent = (core.access_log || in_flight.span().is_some()).then(Instant::now);
    let route = in_flight.route();
    if let Some(cookie) = in_flight.preference().new_cookie(route.config(), lease.endpoint()) {
        in_flight.set_new_cookie(cookie);
    }
    let started = if exchange.is_reused() {
        lease.release_permit();
        exchange.start(in_flight).await
    } else {
        // Boxed: most requests find an idle connection.
        Box::pin(observe_start(core, lease, exchange, in_flight)).await
    };
    if let Some(sent) = sent {
        in_flight.add_waiting(sent);
    }
    Ok(match started? {
        ResponseStart::Switched => ExchangeOutcome::Switched,
        ResponseStart::Final => exchange.finish(in_flight).await,
    })
}

/// An idle connection to the endpoint of the lease, or a new one.
async fn connection<D: Downstream>(
    client: &mut Client<D>,
    request: &RequestHead,
    lease: &mut EndpointLease,
    in_flight: &mut InFlightRequest,
    spoken: SpokenProtocol,
    reuse: bool,
) -> Result<ExclusiveConnection, ForwardError> {
    let endpoint = lease.endpoint().clone();
    let reuse = reuse && in_flight.route().config().keep_alive.idle_for.is_some();
    let idle = reuse.then(|| upstream::idle(&endpoint, request.is_repeatable())).flatten();
    if let Some(connection) = idle {
        return Ok(connection);
    }
    let started = Instant::now();
    let deadline = connect_deadline(in_flight, started);
    // Boxed: most requests find an idle connection.
    let route = in_flight.route().clone();
    let target = target(&endpoint, &route, spoken);
    let connected = Box::pin(upstream::connect(client, target, deadline)).await;
    match connected {
        Ok(connection) => {
            in_flight.note_connected(started);
            endpoint.mark_reachable();
            Ok(connection)
        }
        Err(error) => Err(Box::pin(not_connected(client, lease, in_flight, started, error)).await),
    }
}

/// A stream on a connection that serves many requests; `None` where the endpoint does not accept such a request there.
async fn open_stream<D: Downstream>(
    client: &mut Client<D>,
    request: &RequestHead,
    lease: &mut EndpointLease,
    in_flight: &mut InFlightRequest,
    spoken: SpokenProtocol,
    reuse: bool,
) -> Result<Option<MultiplexedStream>, ForwardError> {
    let endpoint = lease.endpoint().clone();
    let started = Instant::now();
    let keep_for = in_flight.route().config().keep_alive.idle_for;
    let requirements = StreamRequirements {
        reuse: reuse && keep_for.is_some(),
        keep_for,
        upgrade: request.upgrade,
    };
    let deadline = connect_deadline(in_flight, started);
    let route = in_flight.route().clone();
    let target = target(&endpoint, &route, spoken);
    match multiplexed::open_stream(client, target, deadline, requirements).await {
        Ok(stream) => {
            if stream.as_ref().is_some_and(|stream| !stream.is_reused()) {
                in_flight.note_connected(started);
            }
            endpoint.mark_reachable();
            Ok(stream)
        }
        Err(error) => Err(not_connected(client, lease, in_flight, started, error).await),
    }
}

fn target<'a>(endpoint: &'a Endpoint, route: &'a CoreRoute, spoken: SpokenProtocol) -> Target<'a> {
    Target { endpoint, tls: spoken.is_tls.then(|| route.config()) }
}

fn connect_deadline(in_flight: &InFlightRequest, started: Instant) -> Instant {
    in_flight.deadline().min(started + in_flight.route().config().connect_timeout)
}

/// Notes that the endpoint could not be reached.
async fn not_connected<D: Downstream>(
    client: &mut Client<D>,
    lease: &mut EndpointLease,
    in_flight: &mut InFlightRequest,
    started: Instant,
    error: ConnectError,
) -> ForwardError {
    let endpoint = lease.endpoint().clone();
    in_flight.add_connecting(started);
    if error == ConnectError::TimedOut && in_flight.has_shorter_client_deadline() {
        // The client gave it less time than `connect_timeout`, which says nothing about the endpoint.
        return ForwardError::Retry(Retry::Connect);
    }
    // A refusal says nothing about how much the endpoint can take.
    if error == ConnectError::TimedOut
        && let Some(permit) = lease.take_permit()
    {
        permit.failed();
    }
    match error {
        ConnectError::ClientDisconnected => {
            return ForwardError::Failed(RequestError::ClientDisconnected);
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
        ConnectError::Tls(problem) => {
            in_flight.note_detail(format!("{}: {problem}", endpoint.address));
            if !in_flight.route().has_other_endpoint(endpoint.address) {
                return LocalError::EndpointTls.into();
            }
            // This replica alone may have the wrong certificate.
            endpoint.mark_refused();
        }
    }
    ForwardError::Retry(Retry::Connect)
}
