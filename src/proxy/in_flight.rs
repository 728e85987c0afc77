//! Counts a request from its arrival to its end, and notes what happens to it: for the metrics and the logs.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use http::StatusCode;
use tokio::time::Instant;

use crate::activation::Activation;
use crate::cause::{Cause, NotReadyReason};
use crate::request_spans::SpanContext;

use super::access_log::{Outcome, ResponseEnd};
use super::affinity::Preference;
use super::core::CoreRoute;

/// One request, counted from its arrival until this is dropped.
pub struct InFlightRequest {
    route: Rc<CoreRoute>,
    arrived: Instant,
    held: Duration,
    connecting: Duration,
    waiting: Duration,
    /// Boxed: few requests need it.
    particulars: Option<Box<Particulars>>,
    status: u16,
    is_tunnel: bool,
}

/// What only some requests have.
#[derive(Debug, Default)]
struct Particulars {
    /// What the last attempt met, and at which endpoint.
    obstacle: Option<(Obstacle, SocketAddr)>,
    /// What is wrong with the response of the application, for people.
    detail: Option<String>,
    preference: Preference,
    /// How long the client itself waits, from the arrival of the request (`grpc-timeout`), where that is less than
    /// `hold_timeout`.
    client_deadline: Option<Duration>,
    /// The value of a `Set-Cookie` line that agimo adds to the response.
    new_cookie: Option<Box<str>>,
    /// The span of a sampled request.
    span: Option<SpanContext>,
}

/// Why an attempt to reach an endpoint that is reported as ready was in vain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Obstacle {
    Refused,
    TimedOut,
    /// agimo has no file descriptor left.
    NoFiles,
    /// It accepted a connection and closed it without a response.
    Closed,
}

// === impl InFlightRequest ===

impl InFlightRequest {
    pub fn begin(route: Rc<CoreRoute>) -> Self {
        let arrived = Instant::now();
        route.counters.count_arrival(arrived);
        let none = Duration::ZERO;
        Self {
            route,
            arrived,
            held: none,
            connecting: none,
            waiting: none,
            particulars: None,
            status: 0,
            is_tunnel: false,
        }
    }

    pub fn route(&self) -> &Rc<CoreRoute> {
        &self.route
    }

    pub fn set_preference(&mut self, preference: Preference) {
        if preference != Preference::Any {
            self.particulars.get_or_insert_default().preference = preference;
        }
    }

    /// Which of the ready endpoints may serve it.
    pub fn preference(&self) -> Preference {
        self.particulars.as_ref().map_or(Preference::Any, |particulars| particulars.preference)
    }

    /// The client waits no longer than this from its arrival. It matters only where that is less than `hold_timeout`.
    pub fn set_client_deadline(&mut self, timeout: Duration) {
        if timeout < self.route.config().hold_timeout {
            self.particulars.get_or_insert_default().client_deadline = Some(timeout);
        }
    }

    /// Whether the client waits for less than `hold_timeout`.
    pub fn has_shorter_client_deadline(&self) -> bool {
        self.client_deadline().is_some()
    }

    /// Until then the request must have been sent to an endpoint: `hold_timeout` after its arrival, or earlier where the
    /// client waits for less.
    pub fn deadline(&self) -> Instant {
        self.arrived + self.client_deadline().unwrap_or(self.route.config().hold_timeout)
    }

    fn client_deadline(&self) -> Option<Duration> {
        self.particulars.as_ref()?.client_deadline
    }

    pub fn add_held(&mut self, started: Instant) {
        self.held += started.elapsed();
    }

    pub fn add_connecting(&mut self, started: Instant) {
        self.connecting += started.elapsed();
    }

    /// Notes that a connection to an endpoint was made.
    pub fn note_connected(&mut self, started: Instant) {
        self.add_connecting(started);
        let took = started.elapsed();
        if let Some(activation) = self.activation_if_held() {
            self.route.route.requester.cold_start.connected(took);
            activation.note_connected();
        }
    }

    /// Notes what an attempt has met.
    pub fn note_obstacle(&mut self, obstacle: Obstacle, endpoint: SocketAddr) {
        self.particulars.get_or_insert_default().obstacle = Some((obstacle, endpoint));
        let Some(activation) = &self.route.route.workload.activation else { return };
        match obstacle {
            Obstacle::Refused => activation.report_refused(endpoint),
            Obstacle::TimedOut => activation.report_timed_out(endpoint),
            Obstacle::NoFiles | Obstacle::Closed => {}
        }
    }

    /// Notes what is wrong with the response of the application.
    pub fn note_detail(&mut self, detail: String) {
        self.particulars.get_or_insert_default().detail = Some(detail);
    }

    /// Notes that the head has been sent to an endpoint.
    pub fn note_forwarded(&self) {
        if let Some(activation) = self.activation_if_held() {
            activation.note_forwarded();
        }
    }

    /// Adds the time that the endpoint took to respond.
    pub fn add_waiting(&mut self, started: Instant) {
        self.waiting += started.elapsed();
    }

    /// Notes the status of the response.
    pub fn note_response(&mut self, status: StatusCode) {
        self.status = status.as_u16();
        self.route.counters.count_response(self.status);
    }

    /// The connection speaks another protocol from now on.
    pub fn begin_tunnel(&mut self) {
        self.is_tunnel = true;
        self.route.counters.count_tunnel_opened();
    }

    /// Notes that the application has answered.
    pub fn note_answered(&self) {
        let Some(activation) = &self.route.route.workload.activation else { return };
        let was_held = !self.held.is_zero();
        activation.note_answered(was_held.then_some(self.arrived));
        if was_held {
            self.route.route.requester.cold_start.answered(self.arrived.elapsed());
        }
    }

    /// Why the workload of the route has no endpoint, as far as its backend knows.
    pub fn not_ready_reason(&self) -> Option<NotReadyReason> {
        let route = &self.route.route;
        let of_workload = route.workload.activation.as_ref()?.not_ready_reason(&route.source);
        let of_replica = || match self.preference() {
            Preference::Ordinal(ordinal) => Some(NotReadyReason {
                cause: Cause::NotReady,
                detail: format!("{}: replica {ordinal} is not ready", route.workload.id),
            }),
            _ => None,
        };
        of_workload.or_else(of_replica)
    }

    /// What the last attempt to reach an endpoint has met, for people.
    pub fn obstacle(&self) -> Option<String> {
        let (obstacle, endpoint) = self.particulars.as_ref()?.obstacle?;
        Some(match obstacle {
            Obstacle::Refused => format!("{endpoint} is ready but refuses connections"),
            Obstacle::NoFiles => "agimo has no file descriptor left: raise its limit of open files, or lower max_connections".to_owned(),
            Obstacle::TimedOut => {
                format!(
                    "{endpoint} is ready but did not accept a connection, or complete the TLS handshake, within connect_timeout"
                )
            }
            Obstacle::Closed => format!(
                "{endpoint} accepts connections and closes them without a response: give the application a readiness \
                 check (`readiness` of the service, or a readinessProbe) that passes only when it can answer"
            ),
        })
    }

    pub fn set_new_cookie(&mut self, cookie: Box<str>) {
        self.particulars.get_or_insert_default().new_cookie = Some(cookie);
    }

    /// The value of a `Set-Cookie` line that agimo adds to the response.
    pub fn new_cookie(&self) -> Option<&str> {
        self.particulars.as_ref()?.new_cookie.as_deref()
    }

    pub fn set_span(&mut self, span: SpanContext) {
        self.particulars.get_or_insert_default().span = Some(span);
    }

    /// The span of a sampled request.
    pub fn span(&self) -> Option<SpanContext> {
        self.particulars.as_ref()?.span
    }

    /// What is wrong with the response of the application, for people.
    pub fn take_detail(&mut self) -> Option<String> {
        self.particulars.as_mut()?.detail.take()
    }

    /// From its arrival, without the time that it was held or waited for a connection.
    pub fn duration_since_sent(&self, now: Instant) -> Duration {
        let all = now.saturating_duration_since(self.arrived);
        all.saturating_sub(self.held + self.connecting)
    }

    /// What has become of the request by now, for the access log.
    pub fn outcome(&self, reason: Option<&'static str>, end: ResponseEnd) -> Outcome {
        Outcome {
            status: self.status,
            reason,
            end,
            held: self.held,
            connecting: self.connecting,
            waiting: self.waiting,
            total: self.arrived.elapsed(),
        }
    }

    /// The activation, if the request was held.
    fn activation_if_held(&self) -> Option<&Activation> {
        if self.held.is_zero() { None } else { self.route.route.workload.activation.as_deref() }
    }
}

impl Drop for InFlightRequest {
    fn drop(&mut self) {
        if self.is_tunnel {
            self.route.counters.count_tunnel_closed();
        }
        let now = Instant::now();
        self.route.counters.count_end(now);
        self.route.counters.count_duration(now.saturating_duration_since(self.arrived));
    }
}
