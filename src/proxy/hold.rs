//! Waits with a request until its workload has an endpoint. It reads nothing of the request meanwhile.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use tokio::time::Instant;

use crate::activation::Activation;

use super::client::Client;
use super::core::{Choice, CoreRoute, Flight};
use super::reject::Reason;
use super::request::{Failed, Open};

/// An endpoint for the request, as soon as there is one and until `timeout` after its arrival.
pub async fn for_endpoint(client: &mut Client, open: &mut Open) -> Result<Flight, Failed> {
    let route = open.route().clone();
    let Some(activation) = &route.route.workload.activation else {
        return Err(Reason::NoBackend.into());
    };
    let deadline = open.arrived() + route.config().hold_timeout;
    let began = Instant::now();
    let _permit = route.route.acquire_hold().ok_or(Reason::HoldFull)?;
    route.counters.count_hold();
    let outcome = wait(client, &route, activation, deadline).await;
    route.counters.count_release();
    open.held_since(began);
    outcome
}

async fn wait(
    client: &mut Client,
    route: &CoreRoute,
    activation: &Activation,
    deadline: Instant,
) -> Result<Flight, Failed> {
    let outcome = loop {
        let mut changed = pin!(activation.endpoints_changed());
        // From here on no change is missed, even one that comes before the first poll.
        changed.as_mut().enable();
        if route.route.is_removed() {
            break Err(Failed::RouteRemoved);
        }
        let again_at = match route.choose() {
            Choice::To(flight) => break Ok(flight),
            Choice::Rejected(rejection) if !rejection.has_ended() => {
                break Err(Failed::WakeFailed(rejection));
            }
            Choice::Rejected(_) | Choice::Wait(None) => {
                activation.request_wake(&route.route.requester);
                deadline
            }
            // Listed as ready, and refusing connections: no event will tell when that ends.
            Choice::Wait(Some(until)) => until.min(deadline),
        };
        client.timer.set(again_at.max(Instant::now() + SHORTEST_WAIT).min(deadline));
        let waited = poll_fn(|cx| {
            if changed.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Ok(()));
            }
            if client.wire.poll_closed(cx).is_ready() {
                return Poll::Ready(Err(Failed::ClientGone));
            }
            client.timer.poll(cx).map(|()| {
                if Instant::now() < deadline {
                    Ok(())
                } else {
                    Err(Reason::HoldTimeout(None).into())
                }
            })
        })
        .await;
        if let Err(failed) = waited {
            break Err(failed);
        }
    };
    client.timer.clear();
    outcome
}

/// Endpoints that are gone for the moment are not asked more often than this.
const SHORTEST_WAIT: Duration = Duration::from_millis(5);
