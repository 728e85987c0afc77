//! One request on one connection to an endpoint: its body there, the response back, both streaming at once.

use std::future::poll_fn;
use std::task::{Context, Poll, ready};

use http::StatusCode;

use crate::catalog::Route;
use crate::demand::Retry;
use crate::http::body::{BodyError, BodyFrames, BodyLimit, TransferError, poll_transfer};
use crate::http::codec::{Downstream, ResponseError, Upstream};
use crate::http::fields::{FieldKind, Fields, list_members};
use crate::http::message::{HeadError, RequestHead, ResponseHead};
use crate::http::outgoing::{OutgoingRequest, OutgoingTrace};
use crate::net::timer::Idleness;

use super::access_log::ResponseEnd;
use super::client::Client;
use super::error_response::LocalError;
use super::in_flight::InFlightRequest;
use super::request_error::{ForwardError, RequestError};

/// One request on one connection to an endpoint.
pub struct Exchange<'a, D, U> {
    client: &'a mut Client<D>,
    request: &'a RequestHead,
    route: &'a Route,
    upstream: U,
    upload_limit: BodyLimit,
    /// The endpoint does not take the rest of the request body; it may still respond.
    upload_refused: bool,
    /// The response has a status from 200 to 299.
    is_success: bool,
}

/// The response has started: its head has been passed on, with the first part of its body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResponseStart {
    Switched,
    Final,
}

/// How an exchange ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExchangeOutcome {
    /// The connection speaks another protocol from now on.
    Switched,
    /// Both bodies are complete; the connection may be able to serve another request.
    Complete { is_reusable: bool },
    /// The response is not complete.
    Broken(ResponseEnd),
}

// === impl Exchange ===

impl<'a, D: Downstream, U: Upstream> Exchange<'a, D, U> {
    pub fn new(
        client: &'a mut Client<D>,
        request: &'a RequestHead,
        route: &'a Route,
        upstream: U,
    ) -> Self {
        let upload_limit = BodyLimit::new(route.config.max_body);
        Self {
            client,
            request,
            route,
            upstream,
            upload_limit,
            upload_refused: false,
            is_success: false,
        }
    }

    /// Whether the connection has served a request before.
    pub fn is_reused(&self) -> bool {
        self.upstream.is_reused()
    }

    /// Sends the request and waits for the head of its final response, which is passed on.
    pub async fn start(
        &mut self,
        in_flight: &mut InFlightRequest,
    ) -> Result<ResponseStart, ForwardError> {
        let config = in_flight.route().config();
        let response_timeout = config.response_timeout;
        let limit = config.upload_timeout();
        // `body_timeout` is for the client alone.
        let bounds_application = config.idle_timeout == limit;
        let mut idleness = Idleness::new(limit);
        let mut uploading = true;
        let sent = poll_fn(|cx| Poll::Ready(self.send_request(cx, in_flight))).await;
        sent.map_err(|error| self.prepare_retry(error))?;
        in_flight.note_forwarded();
        let started = poll_fn(|cx| {
            self.poll_upload(cx)?;
            if uploading && self.client.downstream.is_complete() {
                uploading = false;
                self.client.timer.set_after(response_timeout);
            }
            if let Poll::Ready(started) = self.poll_response(cx, in_flight) {
                return Poll::Ready(started);
            }
            self.poll_client_disconnected(cx)?;
            let timer = &mut self.client.timer;
            if uploading {
                let moved = self.upstream.written();
                if idleness.poll(cx, timer, moved).is_pending() {
                    return Poll::Pending;
                }
                if !self.upstream.is_blocked() {
                    return Poll::Ready(Err(LocalError::IdleTimeout.into()));
                }
                if bounds_application {
                    return Poll::Ready(Err(LocalError::ResponseTimeout.into()));
                }
                // The application does not read, which is not the fault of the client.
                idleness.restart();
                idleness.poll(cx, timer, moved).map(|()| Err(LocalError::IdleTimeout.into()))
            } else {
                timer.poll(cx).map(|()| Err(LocalError::ResponseTimeout.into()))
            }
        })
        .await;
        self.client.timer.clear();
        started.map_err(|error| self.prepare_retry(error))
    }

    /// Moves both bodies to their ends.
    pub async fn finish(&mut self, in_flight: &InFlightRequest) -> ExchangeOutcome {
        let mut idleness = Idleness::new(in_flight.route().config().idle_timeout);
        let end = poll_fn(|cx| {
            if self.poll_upload(cx).is_err() {
                return Poll::Ready(ResponseEnd::ClientDisconnected);
            }
            let downstream = &mut self.client.downstream;
            if let Poll::Ready(ended) = poll_transfer(cx, &mut self.upstream, downstream, None) {
                return Poll::Ready(match ended {
                    Ok(()) => ResponseEnd::Complete,
                    Err(TransferError::Source(_)) => ResponseEnd::BrokenOff,
                    Err(TransferError::Sink(_)) => ResponseEnd::ClientDisconnected,
                });
            }
            if self.poll_client_disconnected(cx).is_err() {
                return Poll::Ready(ResponseEnd::ClientDisconnected);
            }
            let moved = self.client.downstream.written() + self.upstream.written();
            idleness.poll(cx, &mut self.client.timer, moved).map(|()| ResponseEnd::IdleTimeout)
        })
        .await;
        if end == ResponseEnd::Complete && self.is_success && !self.client.downstream.is_complete()
        {
            // Boxed: few requests are answered before they are complete.
            Box::pin(self.finish_upload(in_flight)).await;
        }
        self.client.timer.clear();
        if end != ResponseEnd::Complete {
            self.client.downstream.abort();
            return ExchangeOutcome::Broken(end);
        }
        let is_reusable = !self.upload_refused && self.upstream.is_reusable();
        ExchangeOutcome::Complete { is_reusable }
    }

    /// The response is complete and successful, and the client is still sending: goes on as long as both sides want.
    async fn finish_upload(&mut self, in_flight: &InFlightRequest) {
        let mut idleness = Idleness::new(in_flight.route().config().upload_timeout());
        poll_fn(|cx| {
            let has_failed = self.poll_upload(cx).is_err() || self.upload_refused;
            let is_sent = self.client.downstream.is_complete() && !self.upstream.is_blocked();
            if has_failed || is_sent || self.poll_client_disconnected(cx).is_err() {
                return Poll::Ready(());
            }
            idleness.poll(cx, &mut self.client.timer, self.upstream.written())
        })
        .await;
    }

    /// The connection to the endpoint, once it has switched protocols or can serve another request.
    pub fn into_stream(self) -> U::Stream {
        self.upstream.into_stream()
    }

    /// Sends the head and what has been received of the body.
    fn send_request(
        &mut self,
        cx: &mut Context<'_>,
        in_flight: &InFlightRequest,
    ) -> Result<(), ForwardError> {
        let Client { downstream, identity, .. } = &mut *self.client;
        let Route { config, via, .. } = self.route;
        let stripped_prefix: &[u8] = if config.strip_prefix {
            config.path_prefix.trim_end_matches('/').as_bytes()
        } else {
            b""
        };
        let trace = in_flight.span().map(|span| OutgoingTrace {
            parent: span.trace_parent(),
            is_new: span.parent_id.is_none(),
        });
        let request =
            OutgoingRequest { head: self.request, client: identity, stripped_prefix, via, trace };
        let (upstream, limit) = (&mut self.upstream, &mut self.upload_limit);
        let sent = downstream.early_frames(|frames| {
            limit.apply(frames, |frames| upstream.send_request(cx, &request, frames))
        });
        match sent {
            Ok(()) => Ok(()),
            Err(TransferError::Source(error)) => Err(upload_error(error).into()),
            Err(TransferError::Sink(_)) => Err(self.without_response()),
        }
    }

    fn poll_upload(&mut self, cx: &mut Context<'_>) -> Result<(), RequestError> {
        if self.upload_refused {
            return Ok(());
        }
        let limit = Some(&mut self.upload_limit);
        match poll_transfer(cx, &mut self.client.downstream, &mut self.upstream, limit) {
            Poll::Ready(Err(TransferError::Source(error))) => return Err(upload_error(error)),
            Poll::Ready(Err(TransferError::Sink(_))) => self.upload_refused = true,
            _ => {}
        }
        Ok(())
    }

    /// As long as the request body is being read, the upload itself notices that the client disconnects.
    fn poll_client_disconnected(&mut self, cx: &mut Context<'_>) -> Result<(), RequestError> {
        let downstream = &mut self.client.downstream;
        let is_read =
            !downstream.is_complete() && !self.upload_refused && !self.upstream.is_blocked();
        if !is_read && downstream.poll_closed(cx).is_ready() {
            return Err(RequestError::ClientDisconnected);
        }
        Ok(())
    }

    /// Passes on the heads of the response up to the final one.
    fn poll_response(
        &mut self,
        cx: &mut Context<'_>,
        in_flight: &mut InFlightRequest,
    ) -> Poll<Result<ResponseStart, ForwardError>> {
        let Client { downstream, core, .. } = &mut *self.client;
        let is_success = &mut self.is_success;
        loop {
            // The client first takes what was sent to it; otherwise informational responses would pile up.
            ready!(downstream.poll_flush(cx)).map_err(|_| RequestError::ClientDisconnected)?;
            let passed_on = ready!(self.upstream.poll_response(cx, |cx, head, frames| {
                let is_switched = head.status == StatusCode::SWITCHING_PROTOCOLS;
                if head.status.is_informational() && !is_switched {
                    let sent = downstream.send_informational(cx, head);
                    return sent.map(|()| None).map_err(|_| RequestError::ClientDisconnected);
                }
                let cookie = in_flight.new_cookie();
                let with_cookie = cookie.map(|cookie| head.with_line(b"Set-Cookie", cookie));
                let head = with_cookie.as_ref().unwrap_or(head);
                if is_switched {
                    switch(cx, downstream, self.request, head, in_flight)
                } else {
                    if core.draining.get() {
                        downstream.close_after_response();
                    }
                    *is_success = head.status.is_success();
                    start_response(cx, downstream, head, frames, in_flight)
                }
            }));
            match passed_on {
                Ok(Ok(None)) => {}
                Ok(Ok(Some(start))) => return Poll::Ready(Ok(start)),
                Ok(Err(error)) => return Poll::Ready(Err(error.into())),
                Err(ResponseError::Disconnected) => {
                    return Poll::Ready(Err(self.without_response()));
                }
                Err(ResponseError::NotProcessed) => {
                    return Poll::Ready(Err(ForwardError::Retry(Retry::NotProcessed)));
                }
                Err(ResponseError::Tls(problem)) => {
                    in_flight.note_detail(problem.to_owned());
                    return Poll::Ready(Err(LocalError::EndpointTls.into()));
                }
                Err(ResponseError::Malformed(malformation)) => {
                    in_flight.note_detail(malformation.to_string());
                    return Poll::Ready(Err(LocalError::ResponseMalformed.into()));
                }
            }
        }
    }

    /// The connection ended before the head of a response. A request of which something was sent may have been acted on;
    /// to repeat it is safe only if its method is idempotent (RFC 9110 section 9.2.2).
    fn without_response(&self) -> ForwardError {
        let progress = self.upstream.progress();
        let is_safe = !progress.sent || self.request.method.is_idempotent();
        match (!progress.received && is_safe, self.upstream.is_reused()) {
            (false, _) => LocalError::ConnectionBroken.into(),
            (true, true) => ForwardError::Retry(Retry::Idle),
            (true, false) => ForwardError::Retry(Retry::Reset),
        }
    }

    /// Makes the request body whole before the request is sent again; where that is impossible, it is not sent again.
    fn prepare_retry(&mut self, error: ForwardError) -> ForwardError {
        match error {
            ForwardError::Retry(_) if !self.client.downstream.rewind_body() => {
                LocalError::ConnectionBroken.into()
            }
            error => error,
        }
    }
}

fn switch<D: Downstream>(
    cx: &mut Context<'_>,
    downstream: &mut D,
    request: &RequestHead,
    head: &ResponseHead,
    in_flight: &mut InFlightRequest,
) -> Result<Option<ResponseStart>, RequestError> {
    let fault = if !request.upgrade {
        Some("it switches protocols, which the request did not ask for")
    } else if !downstream.is_complete() {
        // The rest of the request body would be mixed into the tunnel.
        Some("it switches protocols before the end of the request")
    } else if !is_requested_protocol(&request.fields, &head.fields) {
        Some("it switches to a protocol that the request did not ask for")
    } else {
        None
    };
    if let Some(fault) = fault {
        in_flight.note_detail(fault.to_owned());
        return Err(LocalError::ResponseMalformed.into());
    }
    in_flight.note_response(head.status);
    in_flight.note_answered();
    let sent = downstream.send_informational(cx, head);
    sent.map(|()| Some(ResponseStart::Switched)).map_err(|_| RequestError::ClientDisconnected)
}

/// Whether the response switches to protocols that the request names (RFC 9110 section 7.8).
fn is_requested_protocol(request: &Fields, response: &Fields) -> bool {
    let mut switched = response.all(FieldKind::Upgrade).flat_map(list_members).peekable();
    let requested = |protocol: &[u8]| {
        let mut requested = request.all(FieldKind::Upgrade).flat_map(list_members);
        requested.any(|name| name.eq_ignore_ascii_case(protocol))
    };
    switched.peek().is_some() && switched.all(requested)
}

fn start_response<D: Downstream>(
    cx: &mut Context<'_>,
    downstream: &mut D,
    head: &ResponseHead,
    frames: &mut dyn BodyFrames<'_>,
    in_flight: &mut InFlightRequest,
) -> Result<Option<ResponseStart>, RequestError> {
    let sent = downstream.start_response(cx, head, frames);
    if let Err(TransferError::Source(error)) = sent {
        in_flight.note_detail(error.to_string());
        return Err(LocalError::ResponseMalformed.into());
    }
    in_flight.note_response(head.status);
    in_flight.note_answered();
    sent.map(|()| Some(ResponseStart::Final)).map_err(|_| RequestError::ClientDisconnected)
}

fn upload_error(error: BodyError) -> RequestError {
    match error {
        BodyError::TooLarge => LocalError::BodyTooLarge.into(),
        BodyError::Malformed(text) => LocalError::Head(HeadError::Malformed(text)).into(),
        BodyError::Disconnected => RequestError::ClientDisconnected,
    }
}
