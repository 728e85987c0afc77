//! Holds a request until its workload has an endpoint. Nothing of its body is read meanwhile.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use tokio::time::Instant;

use crate::activation::Activation;
use crate::http::codec::Downstream;
use crate::http::message::RequestHead;

use super::client::Client;
use super::core::CoreRoute;
use super::endpoints::{EndpointChoice, EndpointLease};
use super::error_response::LocalError;
use super::in_flight::InFlightRequest;
use super::request_error::RequestError;

/// A request that was sent to an endpoint and got no answer. The application may have ended because of it, so it is sent
/// again only to replicas that run already: it neither causes a wake nor waits for one.
#[derive(Clone, Copy, Debug)]
pub struct Unanswered {
    endpoint: SocketAddr,
    /// The wake in which it was sent.
    wake: u64,
    /// Until then it turns out whether the endpoint terminates as asked, or has ended.
    known_by: Instant,
    /// It has refused a connection since: what listens there later is another process.
    is_down: bool,
    /// It was sent on a connection that had carried other requests before.
    was_reused: bool,
}

/// A pod that terminates is reported as such within this time.
const TERMINATION_REPORT: Duration = Duration::from_secs(1);
/// The connections of a process that ends break within this time.
const SAME_END: Duration = Duration::from_millis(100);
/// A held request whose body has not arrived completely: how often to look whether its client is still there.
const PROBE_INTERVAL: Duration = Duration::from_secs(2);
/// Unreachable endpoints are not tried more often than this.
const SHORTEST_WAIT: Duration = Duration::from_millis(5);

// === impl Unanswered ===

impl Unanswered {
    /// A request on this route was sent to this endpoint.
    pub fn new(route: &CoreRoute, endpoint: SocketAddr, was_reused: bool) -> Self {
        let activation = route.route.workload.activation.as_ref();
        let wake = activation.map_or(0, |activation| activation.wake_number());
        let known_by = Instant::now() + TERMINATION_REPORT;
        Self { endpoint, wake, known_by, is_down: false, was_reused }
    }

    /// Whether it is likely that one process which ended is the reason that the request was not answered, neither then nor now:
    /// the connection that was open breaks first, and at once a new one that waits to be accepted.
    pub fn is_same_end(&self, endpoint: SocketAddr) -> bool {
        let passed = Instant::now() + TERMINATION_REPORT - self.known_by;
        self.was_reused && self.endpoint == endpoint && passed < SAME_END
    }

    /// The endpoint has refused a connection.
    pub fn note_refused(&mut self, endpoint: SocketAddr) {
        self.is_down |= endpoint == self.endpoint;
    }

    /// Whether the request may be sent there again.
    fn accepts(&self, lease: &EndpointLease) -> bool {
        !(self.is_down && lease.endpoint().address == self.endpoint)
    }

    /// The replica was told to end, so it is not the request that ended it.
    fn terminates(&self, activation: &Activation) -> bool {
        activation.published().terminating.contains(&self.endpoint)
    }

    /// Whether the replica has ended, and no other of its wake is left.
    fn has_ended(
        &self,
        choice: &EndpointChoice,
        route: &CoreRoute,
        activation: &Activation,
    ) -> bool {
        if activation.wake_number() != self.wake {
            return true;
        }
        match choice {
            EndpointChoice::Ready(lease) if self.accepts(lease) => false,
            EndpointChoice::Rejected(_) | EndpointChoice::Wait(None) => true,
            // Before its first answer an application that refuses connections is still starting.
            EndpointChoice::Full(_) => false,
            EndpointChoice::Ready(_) | EndpointChoice::Wait(Some(_)) => {
                route.has_answered() && Instant::now() >= self.known_by
            }
        }
    }
}

/// An endpoint for the request, as soon as there is one and until `hold_timeout` after its arrival.
pub async fn wait_for_endpoint<D: Downstream>(
    client: &mut Client<D>,
    request: &RequestHead,
    in_flight: &mut InFlightRequest,
    unanswered: Option<&Unanswered>,
) -> Result<EndpointLease, RequestError> {
    let route = in_flight.route().clone();
    let preference = in_flight.preference();
    let Some(activation) = &route.route.workload.activation else {
        return Err(LocalError::NoBackend.into());
    };
    if let (Some(unanswered), EndpointChoice::Ready(lease)) = (unanswered, route.choose(preference))
        && unanswered.wake == activation.wake_number()
        && unanswered.accepts(&lease)
    {
        return Ok(lease);
    }
    let started = Instant::now();
    let limit = route.config().max_held_per_address;
    let share = client.identity.untrusted_address().zip(limit);
    let _permit = route.route.acquire_hold(share).ok_or(LocalError::HoldFull)?;
    route.counters.count_hold();
    let outcome = wait(client, request, in_flight, activation, unanswered).await;
    route.counters.count_release();
    in_flight.add_held(started);
    outcome
}

async fn wait<D: Downstream>(
    client: &mut Client<D>,
    request: &RequestHead,
    in_flight: &InFlightRequest,
    activation: &Activation,
    mut unanswered: Option<&Unanswered>,
) -> Result<EndpointLease, RequestError> {
    let route = in_flight.route();
    let (preference, deadline) = (in_flight.preference(), in_flight.deadline());
    let outcome = loop {
        let mut changed = pin!(activation.endpoints_changed());
        // From here on no change is missed, even one that comes before the first poll.
        changed.as_mut().enable();
        if route.route.is_removed() {
            break Err(RequestError::RouteRemoved);
        }
        let choice = route.choose(preference);
        unanswered = unanswered.filter(|unanswered| !unanswered.terminates(activation));
        if let Some(unanswered) = unanswered
            && unanswered.has_ended(&choice, route, activation)
        {
            break Err(LocalError::ConnectionBroken.into());
        }
        let mut permit = None;
        let retry_at = match choice {
            EndpointChoice::Ready(lease) => match unanswered {
                Some(unanswered) if !unanswered.accepts(&lease) => unanswered.known_by,
                _ => break Ok(lease),
            },
            EndpointChoice::Rejected(rejection) if !rejection.has_ended() => {
                break Err(RequestError::WakeFailed(rejection));
            }
            EndpointChoice::Rejected(_) | EndpointChoice::Wait(None) => {
                let request = || client.waking_request(request, in_flight.span());
                activation.request_wake(&route.route.requester, request);
                deadline
            }
            // The endpoints are listed as ready and refuse connections: no event tells when that ends.
            EndpointChoice::Wait(Some(until)) => until.min(deadline),
            EndpointChoice::Full(endpoint) => {
                let ramp = endpoint.shared.ramp.clone();
                // Boxed: most held requests find a free place.
                permit = Some(Box::pin(async move {
                    let place = ramp.enter().await;
                    // While it waited for this endpoint, others may have found that it does not answer.
                    (!endpoint.is_avoided()).then(|| EndpointLease::new(endpoint, Some(place)))
                }));
                deadline
            }
        };
        let now = Instant::now();
        let wait_until = retry_at.max(now + SHORTEST_WAIT).min(deadline);
        let is_uploading = !client.downstream.is_complete();
        let next_timer = |now: Instant| {
            if is_uploading { wait_until.min(now + PROBE_INTERVAL) } else { wait_until }
        };
        client.timer.set(next_timer(now));
        let waited = poll_fn(|cx| {
            // In the order of arrival: the permit is asked for before the endpoints are looked at again.
            if let Some(permit) = &mut permit
                && let Poll::Ready(lease) = permit.as_mut().poll(cx)
            {
                return Poll::Ready(Ok(lease));
            }
            if changed.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Ok(None));
            }
            if client.downstream.poll_closed(cx).is_ready() {
                return Poll::Ready(Err(RequestError::ClientDisconnected));
            }
            while client.timer.poll(cx).is_ready() {
                let now = Instant::now();
                if now >= deadline {
                    return Poll::Ready(Err(RequestError::HoldTimeout));
                }
                if now >= wait_until {
                    return Poll::Ready(Ok(None));
                }
                if client.downstream.probe_client(cx).is_err() {
                    return Poll::Ready(Err(RequestError::ClientDisconnected));
                }
                client.timer.set(next_timer(now));
            }
            Poll::Pending
        })
        .await;
        match waited {
            Ok(None) => {}
            Ok(Some(lease)) => break Ok(lease),
            Err(error) => break Err(error),
        }
    };
    client.timer.clear();
    outcome
}
