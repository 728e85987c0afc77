//! Holds a request until its workload has an endpoint. Nothing of its body is read meanwhile.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use tokio::time::Instant;

use crate::activation::Activation;
use crate::http::codec::Downstream;

use super::client::Client;
use super::core::CoreRoute;
use super::endpoints::{EndpointChoice, EndpointLease};
use super::error_response::LocalError;
use super::in_flight::InFlightRequest;
use super::request_error::RequestError;

/// Unreachable endpoints are not tried more often than this.
const SHORTEST_WAIT: Duration = Duration::from_millis(5);

/// An endpoint for the request, as soon as there is one and until `hold_timeout` after its arrival.
pub async fn wait_for_endpoint<D: Downstream>(
    client: &mut Client<D>,
    in_flight: &mut InFlightRequest,
) -> Result<EndpointLease, RequestError> {
    let route = in_flight.route().clone();
    let Some(activation) = &route.route.workload.activation else {
        return Err(LocalError::NoBackend.into());
    };
    let deadline = in_flight.arrived() + route.config().hold_timeout;
    let started = Instant::now();
    let _permit = route.route.acquire_hold().ok_or(LocalError::HoldFull)?;
    route.counters.count_hold();
    let outcome = wait(client, &route, activation, deadline).await;
    route.counters.count_release();
    in_flight.add_held(started);
    outcome
}

async fn wait<D: Downstream>(
    client: &mut Client<D>,
    route: &CoreRoute,
    activation: &Activation,
    deadline: Instant,
) -> Result<EndpointLease, RequestError> {
    let outcome = loop {
        let mut changed = pin!(activation.endpoints_changed());
        // From here on no change is missed, even one that comes before the first poll.
        changed.as_mut().enable();
        if route.route.is_removed() {
            break Err(RequestError::RouteRemoved);
        }
        let retry_at = match route.choose() {
            EndpointChoice::Ready(lease) => break Ok(lease),
            EndpointChoice::Rejected(rejection) if !rejection.has_ended() => {
                break Err(RequestError::WakeFailed(rejection));
            }
            EndpointChoice::Rejected(_) | EndpointChoice::Wait(None) => {
                activation.request_wake(&route.route.requester);
                deadline
            }
            // The endpoints are listed as ready and refuse connections: no event tells when that ends.
            EndpointChoice::Wait(Some(until)) => until.min(deadline),
        };
        client.timer.set(retry_at.max(Instant::now() + SHORTEST_WAIT).min(deadline));
        let waited = poll_fn(|cx| {
            if changed.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Ok(()));
            }
            if client.downstream.poll_closed(cx).is_ready() {
                return Poll::Ready(Err(RequestError::ClientDisconnected));
            }
            client.timer.poll(cx).map(|()| {
                if Instant::now() < deadline { Ok(()) } else { Err(RequestError::HoldTimeout) }
            })
        })
        .await;
        if let Err(error) = waited {
            break Err(error);
        }
    };
    client.timer.clear();
    outcome
}
