//! Waits with a request until its workload has an endpoint. It reads nothing of the request meanwhile.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use tokio::time::Instant;

use crate::activation::Activation;

use super::client::Client;
use super::core::{Choice, Flight};
use super::reject::Reason;
use super::request::{Failed, Open};

/// An endpoint for the request, as soon as there is one and until `timeout` after its arrival.
pub async fn for_endpoint(client: &mut Client, open: &mut Open) -> Result<Flight, Failed> {
    let service = open.service().clone();
    let Some(activation) = &service.service.activation else {
        return Err(Reason::NoBackend.into());
    };
    let deadline = open.arrived() + service.service.config.hold_timeout;
    let began = Instant::now();
    let _place = service.service.hold().ok_or(Reason::HoldFull)?;
    service.traffic.hold();
    let outcome = wait(client, &service, activation, deadline).await;
    service.traffic.release();
    open.held_since(began);
    outcome
}

async fn wait(
    client: &mut Client,
    service: &super::core::CoreService,
    activation: &Activation,
    deadline: Instant,
) -> Result<Flight, Failed> {
    let outcome = loop {
        let mut released = pin!(activation.released());
        // From here on no release is missed, even one that comes before the first poll.
        released.as_mut().enable();
        let again_at = match service.choose() {
            Choice::To(flight) => break Ok(flight),
            Choice::Refused(refusal) if !refusal.has_passed() => {
                break Err(Failed::Refused(refusal));
            }
            Choice::Refused(_) | Choice::Wait(None) => {
                activation.want();
                deadline
            }
            // Ready and yet refusing connections: look again on our own account.
            Choice::Wait(Some(until)) => until.min(deadline),
        };
        client.timer.set(again_at.max(Instant::now() + SHORTEST_WAIT).min(deadline));
        let waited = poll_fn(|cx| {
            if released.as_mut().poll(cx).is_ready() {
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
