//! The life of a request: route, count, await an endpoint, forward, respond.

use std::time::Duration;

use tokio::time::Instant;

use crate::backoff::Backoff;
use crate::demand::Retry;
use crate::http::codec::Downstream;
use crate::http::fields::{FieldKind, list_members};
use crate::http::message::{BodyLength, RequestHead};

use super::access_log::ResponseEnd;
use super::affinity::Preference;
use super::client::{Client, trace_parent_of};
use super::endpoints::{EndpointChoice, EndpointLease};
use super::error_response::{ErrorResponse, LocalError};
use super::forward::{self, Forwarded};
use super::hold::{self, Unanswered};
use super::in_flight::{InFlightRequest, Obstacle};
use super::max_forwards;
use super::redirect;
use super::request_error::{ForwardError, RequestError};
use super::tunnel::LoggedTunnel;
use super::upstream::UpstreamStream;

/// How a request ended.
pub enum RequestOutcome {
    /// The response is complete.
    Responded,
    /// The client disconnected, or the response broke off.
    Broken,
    /// The connection speaks another protocol from now on.
    Switched(Box<SwitchedRequest>),
}

/// What a request that switched protocols holds until its tunnel ends.
pub struct SwitchedRequest {
    pub upstream: UpstreamStream,
    pub lease: EndpointLease,
    pub in_flight: InFlightRequest,
    /// Only where the access log is on.
    pub logged: Option<Box<LoggedTunnel>>,
}

/// Pause before a request is sent again after a reset. An endpoint that terminates or has ended is withdrawn in that time.
const RESET_PAUSE: Duration = Duration::from_millis(20);

/// Pauses before a request is sent again that an endpoint did not process.
const NOT_PROCESSED_PAUSE: Backoff =
    Backoff { first: Duration::from_millis(5), longest: Duration::from_millis(500) };

/// Serves one request.
pub async fn serve_request<D: Downstream>(
    client: &mut Client<D>,
    request: RequestHead,
) -> RequestOutcome {
    let request = &request;
    let mut view = client.core.view();
    let sampler = client.core.sampler.as_ref();
    let span = sampler.and_then(|sampler| sampler.sample(trace_parent_of(request)));
    loop {
        let Some(route) = client.core.route(request) else {
            client.reject(request, LocalError::UnknownHost.into()).await;
            return RequestOutcome::Responded;
        };
        if let Some(location) = redirect::location(route.config(), &client.identity, request) {
            client.reject(request, ErrorResponse::redirect(location)).await;
            return RequestOutcome::Responded;
        }
        // The view holds every route; only this one is kept while the request lasts.
        let view_number = view.number;
        drop(view);
        let mut in_flight = InFlightRequest::begin(route);
        if let Some(span) = span {
            in_flight.set_span(span);
        }
        if let Some((head, body)) = max_forwards::final_response(request) {
            in_flight.note_response(head.status);
            client.log(request, &in_flight, None, ResponseEnd::Complete);
            client.send_own(request, &head, &body).await;
            return RequestOutcome::Responded;
        }
        let error = match forward_until_answered(client, request, &mut in_flight).await {
            Ok(Forwarded::Responded) => {
                client.log(request, &in_flight, None, ResponseEnd::Complete);
                return RequestOutcome::Responded;
            }
            Ok(Forwarded::Broken(end)) => {
                client.log(request, &in_flight, None, end);
                return RequestOutcome::Broken;
            }
            Ok(Forwarded::Switched(upstream, lease)) => {
                in_flight.begin_tunnel();
                client.log(request, &in_flight, None, ResponseEnd::Complete);
                let logged = client.logged_tunnel(request, &in_flight);
                let switched = SwitchedRequest { upstream, lease, in_flight, logged };
                return RequestOutcome::Switched(Box::new(switched));
            }
            Err(error) => error,
        };
        let mut response: ErrorResponse = match error {
            RequestError::ClientDisconnected => {
                client.log(request, &in_flight, None, ResponseEnd::ClientDisconnected);
                return RequestOutcome::Broken;
            }
            RequestError::RouteRemoved => {
                view = client.core.view_after(view_number).await;
                // Another route may match the request now.
                if view.number != view_number && client.core.route(request).is_some() {
                    continue;
                }
                LocalError::ServiceRemoved.into()
            }
            RequestError::WakeFailed(rejection) => rejection.into(),
            RequestError::HoldTimeout if in_flight.has_shorter_client_deadline() => {
                let reason = in_flight.not_ready_reason();
                ErrorResponse::client_deadline(reason, in_flight.obstacle())
            }
            RequestError::HoldTimeout => {
                ErrorResponse::hold_timeout(in_flight.not_ready_reason(), in_flight.obstacle())
            }
            RequestError::Local(error) => error.into(),
        };
        response.detail = response.detail.or(in_flight.take_detail());
        in_flight.note_response(response.status());
        client.log_error(request, &in_flight, &response);
        drop(in_flight);
        client.send_error(request, &response).await;
        return RequestOutcome::Responded;
    }
}

/// Forwards the request to one endpoint after the other until one answers.
async fn forward_until_answered<D: Downstream>(
    client: &mut Client<D>,
    request: &RequestHead,
    in_flight: &mut InFlightRequest,
) -> Result<Forwarded, RequestError> {
    if request.fields.has(FieldKind::Via) && has_passed(request, in_flight) {
        return Err(LocalError::Loop.into());
    }
    if let (BodyLength::Known(length), Some(limit)) =
        (request.body, in_flight.route().config().max_body)
        && length > limit
    {
        return Err(LocalError::BodyTooLarge.into());
    }
    if let Some(timeout) = request.grpc_timeout() {
        in_flight.set_client_deadline(timeout);
    }
    in_flight.set_preference(Preference::of(in_flight.route().config(), request));
    if in_flight.preference() == Preference::Nowhere {
        in_flight.note_detail("the first label of the host is not the name of a pod".to_owned());
        return Err(LocalError::UnknownHost.into());
    }
    // Boxed: few requests need it.
    let mut unanswered: Option<Box<Unanswered>> = None;
    let mut reuse = true;
    let mut not_processed = 0;
    loop {
        let lease = match ready_endpoint(in_flight, unanswered.is_none()) {
            Some(lease) => lease,
            None => {
                // Boxed: a cold start may cost an allocation, and the future of every other request stays small.
                let unanswered = unanswered.as_deref();
                Box::pin(hold::wait_for_endpoint(client, request, in_flight, unanswered)).await?
            }
        };
        let endpoint = lease.endpoint().address;
        let retry = match forward::forward(client, request, lease, in_flight, reuse).await {
            Ok(forwarded) => return Ok(forwarded),
            Err(ForwardError::Failed(error)) => return Err(error),
            Err(ForwardError::Retry(retry)) => retry,
        };
        in_flight.route().counters.count_retry(retry);
        if Instant::now() >= in_flight.deadline() {
            return Err(RequestError::HoldTimeout);
        }
        if retry == Retry::NotProcessed {
            // A connection that takes no further request is not used again; a server that is full needs a moment.
            not_processed += 1;
            tokio::time::sleep(NOT_PROCESSED_PAUSE.delay(not_processed)).await;
            continue;
        }
        if retry == Retry::Connect {
            if let Some(unanswered) = &mut unanswered
                && in_flight.route().has_answered()
            {
                unanswered.note_refused(endpoint);
            }
            continue;
        }
        // One idle connection was closed by the endpoint; the other idle ones are not tried in turn.
        reuse = false;
        let sent = Unanswered::new(in_flight.route(), endpoint, retry == Retry::Idle);
        let sent_before = unanswered.replace(sent.into());
        if retry == Retry::Reset {
            in_flight.note_obstacle(Obstacle::Closed, endpoint);
            let is_starting = !in_flight.route().has_answered();
            let is_repeated = sent_before.is_some_and(|before| !before.is_same_end(endpoint));
            if is_repeated && !is_starting {
                return Err(LocalError::ConnectionBroken.into());
            }
            // The request itself may break the connection; the core serves other requests during the pause.
            tokio::time::sleep(RESET_PAUSE).await;
            if is_starting {
                in_flight.route().mark_refused(endpoint);
            }
        }
    }
}

/// Whether the request has been on this route of this agimo before.
fn has_passed(request: &RequestHead, in_flight: &InFlightRequest) -> bool {
    let own = &*in_flight.route().route.via;
    let mut hops = request.fields.all(FieldKind::Via).flat_map(list_members);
    hops.any(|hop| hop.split(|byte| *byte == b' ').nth(1) == Some(own))
}

/// A ready endpoint for a request that was not sent before. A place at a fresh endpoint is not held while the request waits
/// for another one.
fn ready_endpoint(in_flight: &InFlightRequest, is_first: bool) -> Option<EndpointLease> {
    match in_flight.route().choose(in_flight.preference()) {
        EndpointChoice::Ready(lease) if is_first => Some(lease),
        _ => None,
    }
}
