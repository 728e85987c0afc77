//! The life of a request: route, count, await an endpoint, forward, reply. It parses nothing.

use std::time::Duration;

use http::Version;

use crate::demand::Retry;
use crate::http::http1::framing::Length;
use crate::http::http1::head::RequestHead;

use super::client::Client;
use super::core::Choice;
use super::forward;
use super::headers::asks_for_upgrade;
use super::hold;
use super::reject::{Reason, Reject};
use super::request::{After, Failed, Open, Request, Switched};

/// A request that has made this many new connections end without an answer is not tried on another.
const MOST_RESETS: u32 = 3;
/// For an endpoint that is going away to be seen to go.
const RESET_PAUSE: Duration = Duration::from_millis(20);

/// Answers one request.
pub async fn answer(client: &mut Client, head: RequestHead) -> After {
    let length = match Length::of_request(&head) {
        Ok(length) => length,
        Err(error) => return refuse(client, error.into()).await,
    };
    let upgrade = asks_for_upgrade(&head);
    let request = Request { head, length, upgrade };
    let mut view = client.core.view();
    loop {
        let Some(route) = client.core.route(&request.head) else {
            return reject(client, &request, Reason::UnknownHost.into()).await;
        };
        // The view holds every route; only this one is kept while the request lasts.
        let seen = view.number;
        drop(view);
        let mut open = Open::begin(route);
        let outcome = until_answered(client, &request, &mut open).await;
        let reject = match outcome {
            Ok(forward::Answered::Switched(upstream, flight)) => {
                open.log(client, &request);
                return After::Switched(Box::new(Switched { upstream, flight, open }));
            }
            Ok(forward::Answered::Response(after)) => {
                open.log(client, &request);
                return after;
            }
            Err(Failed::ClientGone) => {
                open.log(client, &request);
                return After::Drop;
            }
            Err(Failed::RouteRemoved) => {
                view = client.core.view_after(seen).await;
                // Another route leads on from here: the request belongs to that one.
                if view.number != seen && client.core.route(&request.head).is_some() {
                    continue;
                }
                Reason::ServiceRemoved.into()
            }
            Err(Failed::WakeFailed(rejection)) => rejection.into(),
            Err(Failed::Rejected(Reason::HoldTimeout(_))) => {
                let route = &open.route().route;
                let activation = route.workload.activation.as_ref();
                Reject::held_too_long(
                    activation.and_then(|activation| activation.not_ready_reason(&route.source)),
                )
            }
            Err(Failed::Rejected(reason)) => reason.into(),
            Err(Failed::Again(_)) => Reason::ConnectionBroken.into(),
        };
        open.respond(Reject::status(&reject));
        open.log(client, &request);
        drop(open);
        return self::reject(client, &request, reject).await;
    }
}

/// Takes the request to one endpoint after the other until it is answered.
async fn until_answered(
    client: &mut Client,
    request: &Request,
    open: &mut Open,
) -> Result<forward::Answered, Failed> {
    if let (Length::Sized(length), Some(most)) = (request.length, open.route().config().max_body)
        && length > most
    {
        return Err(Reason::BodyTooLarge.into());
    }
    let mut resets = 0;
    let mut reuse = true;
    loop {
        let flight = match open.route().choose() {
            Choice::To(flight) => flight,
            // Boxed: a cold start may cost an allocation, and every connection is spared the room.
            _ => Box::pin(hold::for_endpoint(client, open)).await?,
        };
        let retry = match forward::forward(client, request, flight, open, reuse).await {
            Err(Failed::Again(retry)) => retry,
            outcome => return outcome,
        };
        open.route().counters.count_retry(retry);
        // One idle connection may have been closed by chance; the others are not tried in turn.
        reuse &= retry != Retry::Idle;
        if retry == Retry::Reset {
            resets += 1;
            if resets == MOST_RESETS {
                return Err(Reason::ConnectionBroken.into());
            }
            // It may be this request that breaks the connection: others go on meanwhile.
            tokio::time::sleep(RESET_PAUSE).await;
        }
    }
}

/// Answers in the application's place; the connection goes on where that is unambiguous.
async fn reject(client: &mut Client, request: &Request, reject: Reject) -> After {
    let keep_alive = request.head.keeps_alive()
        && request.length == Length::Empty
        && request.head.version == Version::HTTP_11
        && !client.core.draining.get();
    client.write(reject, request.is_head(), !keep_alive).await;
    if keep_alive { After::KeepAlive } else { After::Close }
}

/// Answers a request that could not be understood, and closes.
pub async fn refuse(client: &mut Client, reject: Reject) -> After {
    client.write(reject, false, true).await;
    After::Close
}
