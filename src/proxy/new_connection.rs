//! The first response on a new connection: what it tells about a fresh endpoint, and about an endpoint that serves one
//! connection at a time.
//!
//! Such an endpoint (a server of one thread with keep-alive) does not look at a new connection while an idle one is open,
//! and each core keeps idle connections of its own. So when a new connection is not answered as soon as usual, all cores
//! close their idle connections to the endpoint. If that was what it waited for, none is kept from then on.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use tokio::time::Instant;

use crate::activation::ramp::ANSWER_WAIT;
use crate::backoff::Backoff;
use crate::http::codec::{Downstream, Upstream};
use crate::pending_operation::sleep_until;

use super::core::Core;
use super::endpoints::{Endpoint, EndpointLease};
use super::exchange::{Exchange, ResponseStart};
use super::in_flight::InFlightRequest;
use super::request_error::ForwardError;

/// How long a new connection waits for its first response before idle connections are closed: at first, and at most.
const PROBE_AFTER: Backoff =
    Backoff { first: Duration::from_millis(20), longest: Duration::from_secs(10) };
/// Where the usual time to a response is known, so many times as long.
const USUAL_TIMES: u32 = 4;
/// An endpoint that was blocked answers as soon as the idle connections are closed, plus its usual time.
const SERVED_WITHIN: Duration = Duration::from_millis(10);

/// Awaits the start of an exchange on a new connection. The permit of a fresh endpoint is returned when the endpoint has
/// answered, or lets the client wait.
pub async fn observe_start<D: Downstream, U: Upstream>(
    core: &Core,
    lease: &mut EndpointLease,
    exchange: &mut Exchange<'_, D, U>,
    in_flight: &mut InFlightRequest,
) -> Result<ResponseStart, ForwardError> {
    let mut permit = lease.take_permit();
    let has_answered = in_flight.route().has_answered();
    let endpoint = lease.endpoint();
    let began = Instant::now();
    let usual = endpoint.usual_duration().unwrap_or_default();
    let mut start = pin!(exchange.start(in_flight));
    let mut permit_ends = pin!(sleep_until(permit.as_ref().map(|_| began + ANSWER_WAIT)));
    let mut probe_at = pin!(sleep_until(probe_delay(endpoint).map(|delay| began + delay)));
    let mut is_pending = (true, true);
    let mut probed = None;
    let started = poll_fn(|cx| {
        if let Poll::Ready(started) = start.as_mut().poll(cx) {
            return Poll::Ready(started);
        }
        if is_pending.0 && permit_ends.as_mut().poll(cx).is_ready() {
            is_pending.0 = false;
            if let Some(permit) = permit.take() {
                permit.served(Instant::now());
            }
        }
        if is_pending.1 && probe_at.as_mut().poll(cx).is_ready() {
            is_pending.1 = false;
            if let Some(probe) = endpoint.shared.begin_probe() {
                core.close_idle_on_all_cores(endpoint.address);
                probed = Some((Instant::now(), probe));
            }
        }
        Poll::Pending
    })
    .await;
    if let Some(permit) = permit {
        match started {
            Ok(_) => permit.served(Instant::now()),
            // An application that is starting closes connections, whatever their number.
            Err(ForwardError::Retry(_)) if has_answered => permit.failed(),
            Err(_) => drop(permit),
        }
    }
    if let Some((probed, probe)) = probed {
        let is_served = started.is_ok() && probed.elapsed() < SERVED_WITHIN + usual;
        endpoint.shared.end_probe(probe, is_served);
    }
    started
}

/// How long to wait before idle connections are closed; absent where none is kept anyway.
fn probe_delay(endpoint: &Endpoint) -> Option<Duration> {
    if endpoint.shared.serves_one_connection() {
        return None;
    }
    let usual = endpoint.usual_duration().unwrap_or_default() * USUAL_TIMES;
    Some(PROBE_AFTER.delay(endpoint.shared.probes() + 1).max(usual))
}
