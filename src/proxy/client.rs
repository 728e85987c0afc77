//! A client and its connection, as the request path uses them.

use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;
use std::time::SystemTime;

use http::Method;
use tokio::time::Instant;

use crate::activation::{RequestDetails, WakingRequest};
use crate::api::requests::EndedRequest;
use crate::http::codec::Downstream;
use crate::http::forwarded::ClientIdentity;
use crate::http::message::{RequestHead, ResponseHead};
use crate::http::trace_context::TraceParent;
use crate::http::user_agent::UserAgentClass;
use crate::ledger::recorded_request::client_network;
use crate::net::timer::Timer;
use crate::request_spans::{RequestSpan, SpanContext};
use crate::telemetry::durations::{millis, since_1970};
use crate::telemetry::printable::printable;

use super::access_log::{LoggedRequest, Outcome, ResponseEnd};
use super::core::Core;
use super::error_log;
use super::error_response::ErrorResponse;
use super::in_flight::InFlightRequest;
use super::tunnel::LoggedTunnel;

/// Of each part of a request that is shown to those who watch.
const LONGEST_SHOWN: usize = 200;

/// A client that has sent a request.
pub struct Client<D> {
    pub downstream: D,
    /// For whatever is awaited next.
    pub timer: Timer,
    pub identity: ClientIdentity,
    pub core: Rc<Core>,
}

/// The reason under which a response that an application broke off is logged.
const BROKEN_OFF: &str = "response-broken";

// === impl Client ===

impl<D: Downstream> Client<D> {
    /// Responds to the request in place of the application.
    pub async fn send_error(&mut self, request: &RequestHead, response: &ErrorResponse) {
        if request.is_grpc() {
            return self.send_own(request, &response.grpc_head(), &[]).await;
        }
        let (head, body) = response.message();
        self.send_own(request, &head, body.as_bytes()).await;
    }

    /// Sends a response of agimo.
    pub async fn send_own(&mut self, request: &RequestHead, head: &ResponseHead, body: &[u8]) {
        let body = if request.method == Method::HEAD { &[] } else { body };
        if self.core.draining.get() {
            self.downstream.close_after_response();
        }
        let downstream = &mut self.downstream;
        // The next read notices a client that has disconnected.
        let _ = poll_fn(|cx| Poll::Ready(downstream.send_own_response(cx, head, body))).await;
    }

    /// Responds to a request that no route counts.
    pub async fn reject(&mut self, request: &RequestHead, response: ErrorResponse) {
        let logged = || LoggedRequest::new(self.identity.address(), request, "");
        self.log_rejected(&response, logged, String::new);
        self.send_error(request, &response).await;
    }

    /// Logs the response to a head that names no valid request.
    pub fn log_rejected_head(&self, response: &ErrorResponse) {
        let logged = || LoggedRequest::unknown(self.identity.address());
        let detail =
            || [response.error.text(), response.detail.as_deref().unwrap_or_default()].join(": ");
        self.log_rejected(response, logged, detail);
    }

    /// Logs a response of agimo to a request of no route.
    fn log_rejected(
        &self,
        response: &ErrorResponse,
        logged: impl Fn() -> LoggedRequest,
        detail: impl FnOnce() -> String,
    ) {
        let (status, reason) = (response.status().as_u16(), response.error.token());
        if self.core.access_log {
            logged().log_response(&Outcome { status, reason: Some(reason), ..Outcome::default() });
        }
        if response.location.is_none()
            && let Some(suppressed) = self.core.errors.admit(None, reason, Instant::now())
        {
            error_log::log(&logged(), status, reason, &detail(), suppressed);
        }
    }

    /// Logs what has become of a request; `reason` is that of a response of agimo.
    pub fn log(
        &self,
        request: &RequestHead,
        in_flight: &InFlightRequest,
        reason: Option<&'static str>,
        end: ResponseEnd,
    ) {
        let is_watched =
            self.core.tap.is_watched() && self.core.view().snapshot.config.record_requests;
        let span = in_flight.span();
        if !self.core.access_log && !is_watched && span.is_none() && end != ResponseEnd::BrokenOff {
            return;
        }
        let outcome = in_flight.outcome(reason, end);
        if let (Some(context), Some(sampler)) = (span, &self.core.sampler) {
            sampler.finish(self.span(context, request, in_flight, &outcome));
        }
        if is_watched {
            self.core.tap.show(self.shown(request, in_flight, &outcome));
        }
        if self.core.access_log {
            self.logged(request, in_flight).log_response(&outcome);
        }
        if end == ResponseEnd::BrokenOff {
            let detail = "the application closed the connection before the end of its response";
            self.log_failure(request, in_flight, outcome.status, BROKEN_OFF, detail);
        }
    }

    /// The request for those who watch.
    fn shown(
        &self,
        request: &RequestHead,
        in_flight: &InFlightRequest,
        outcome: &Outcome,
    ) -> EndedRequest {
        let network = self.identity.address().parse().ok().and_then(client_network);
        EndedRequest {
            at_unix: since_1970(SystemTime::now()).as_millis() as f64 / 1e3,
            method: shortened(request.method.as_str().as_bytes()),
            host: shortened(request.authority().unwrap_or_default()),
            path: shortened(without_query(request)),
            service: in_flight.route().route.requester.service.to_string(),
            network: network.map(|network| network.to_string()),
            client_kind: {
                let name = request.fields.named(b"user-agent");
                let begin = name.map(|name| &name[..name.len().min(LONGEST_SHOWN)]);
                UserAgentClass::of(begin).as_str().to_owned()
            },
            status: outcome.status,
            reason: outcome.reason.map(str::to_owned),
            end: outcome.end.as_str().to_owned(),
            held_ms: millis(outcome.held),
            total_ms: millis(outcome.total),
        }
    }

    /// The span of a request that has ended.
    fn span(
        &self,
        context: SpanContext,
        request: &RequestHead,
        in_flight: &InFlightRequest,
        outcome: &Outcome,
    ) -> RequestSpan {
        let route = &in_flight.route().route;
        let mut shown = self.shown(request, in_flight, outcome);
        if !self.core.view().snapshot.config.record_requests {
            (shown.path, shown.network, shown.client_kind) = Default::default();
        }
        RequestSpan {
            context,
            request: shown,
            ended: SystemTime::now(),
            total: outcome.total,
            held: outcome.held,
            workload: route.workload.id.clone(),
            path_prefix: route.config.path_prefix.clone(),
            is_tls: self.identity.is_https(&request.fields),
            is_grpc: request.is_grpc(),
            connecting: outcome.connecting,
            waiting: outcome.waiting,
        }
    }

    /// Logs a response of agimo in place of the application.
    pub fn log_error(
        &self,
        request: &RequestHead,
        in_flight: &InFlightRequest,
        response: &ErrorResponse,
    ) {
        let reason = response.error.token();
        self.log(request, in_flight, Some(reason), ResponseEnd::Complete);
        let detail = response.detail.as_deref().unwrap_or_default();
        self.log_failure(request, in_flight, response.status().as_u16(), reason, detail);
    }

    /// What is logged of a tunnel at its end.
    pub fn logged_tunnel(
        &self,
        request: &RequestHead,
        in_flight: &InFlightRequest,
    ) -> Option<Box<LoggedTunnel>> {
        let logged = || LoggedTunnel::new(self.logged(request, in_flight));
        self.core.access_log.then(|| Box::new(logged()))
    }

    /// The request as the log of its wake names it.
    pub fn waking_request(
        &self,
        request: &RequestHead,
        span: Option<SpanContext>,
    ) -> WakingRequest {
        let is_recorded = self.core.view().snapshot.config.record_requests;
        let details = || RequestDetails {
            method: request.method.as_str().to_owned(),
            path: printable(without_query(request)),
            client: self.identity.address().to_owned(),
            client_kind: UserAgentClass::of(request.fields.named(b"user-agent")).as_str(),
        };
        let trace_parent = match span {
            Some(span) => Some(span.trace_parent()),
            None => trace_parent_of(request).and_then(TraceParent::parse),
        };
        WakingRequest { details: is_recorded.then(details), trace_parent }
    }

    fn log_failure(
        &self,
        request: &RequestHead,
        in_flight: &InFlightRequest,
        status: u16,
        reason: &'static str,
        detail: &str,
    ) {
        let slot = Some(in_flight.route().route.slot);
        if let Some(suppressed) = self.core.errors.admit(slot, reason, Instant::now()) {
            error_log::log(&self.logged(request, in_flight), status, reason, detail, suppressed);
        }
    }

    fn logged(&self, request: &RequestHead, in_flight: &InFlightRequest) -> LoggedRequest {
        let service = &in_flight.route().route.requester.service;
        LoggedRequest::new(self.identity.address(), request, service)
    }
}

/// The path of a request; its query may hold secrets.
fn without_query(request: &RequestHead) -> &[u8] {
    request.path().split(|byte| *byte == b'?').next().unwrap_or_default()
}

fn shortened(text: &[u8]) -> String {
    printable(&text[..text.len().min(LONGEST_SHOWN)])
}

/// The value of `traceparent`. Several lines of it belong to no trace (W3C Trace Context, section 3.2.1: there is one).
pub fn trace_parent_of(request: &RequestHead) -> Option<&[u8]> {
    let mut lines =
        request.fields.iter().filter(|line| line.name.eq_ignore_ascii_case(b"traceparent"));
    let first = lines.next()?;
    lines.next().is_none().then_some(first.value)
}
