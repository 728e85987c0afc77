//! What is known of a request, from its head to its end, and that it is counted. It takes no step itself.

use std::rc::Rc;
use std::time::Duration;

use http::{Method, StatusCode};
use tokio::time::Instant;
use tracing::info;

use crate::activation::{Activation, Rejection};
use crate::demand::Retry;
use crate::http::http1::framing::Length;
use crate::http::http1::head::RequestHead;
use crate::net::stream::Stream;

use super::client::Client;
use super::core::{CoreRoute, Flight};
use super::reject::Reason;

/// A request whose head has come.
pub struct Request {
    pub head: RequestHead,
    pub length: Length,
    pub upgrade: bool,
}

/// What becomes of the client's connection.
pub enum After {
    /// It may send its next request.
    KeepAlive,
    /// It is closed, once the client has had time to read its response.
    Close,
    /// The client has gone, or must see that its response is broken.
    Drop,
    /// It speaks another protocol now.
    Switched(Box<Switched>),
}

/// An upgraded connection: the other side, and what counts it.
pub struct Switched {
    pub upstream: Stream,
    pub flight: Flight,
    pub open: Open,
}

/// Why a request was not answered by its application.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failed {
    ClientGone,
    /// The workload could not be woken.
    WakeFailed(Rejection),
    /// The route has left the configuration; the request must be routed anew.
    RouteRemoved,
    Rejected(Reason),
    /// Nothing of it can have been acted on, or repeating it is safe (RFC 9110 section 9.2.2).
    Again(Retry),
}

/// One request, counted from its arrival until this is dropped.
pub struct Open {
    route: Rc<CoreRoute>,
    arrived: Instant,
    held: Duration,
    connecting: Duration,
    waiting: Duration,
    status: u16,
}

// === impl Request ===

impl Request {
    pub fn is_head(&self) -> bool {
        self.head.method == Method::HEAD
    }

    /// Whether it could always be sent again.
    pub fn is_repeatable(&self) -> bool {
        self.length == Length::Empty && self.head.method.is_idempotent()
    }
}

// === impl Failed ===

impl From<Reason> for Failed {
    fn from(reason: Reason) -> Self {
        Self::Rejected(reason)
    }
}

// === impl Open ===

impl Open {
    pub fn begin(route: Rc<CoreRoute>) -> Self {
        route.counters.count_arrival();
        let none = Duration::ZERO;
        Self {
            route,
            arrived: Instant::now(),
            held: none,
            connecting: none,
            waiting: none,
            status: 0,
        }
    }

    pub fn route(&self) -> &Rc<CoreRoute> {
        &self.route
    }

    pub fn arrived(&self) -> Instant {
        self.arrived
    }

    pub fn held_since(&mut self, began: Instant) {
        self.held += began.elapsed();
    }

    pub fn connecting_since(&mut self, began: Instant) {
        let took = began.elapsed();
        self.connecting += took;
        if let Some(activation) = self.held_by() {
            self.route.route.requester.cold_start.connected(took);
            activation.note_connected();
        }
    }

    /// Notes that the head has been sent to an endpoint.
    pub fn forwarded(&self) {
        if let Some(activation) = self.held_by() {
            activation.note_forwarded();
        }
    }

    pub fn waiting_since(&mut self, began: Instant) {
        self.waiting += began.elapsed();
    }

    /// Notes the head of the response.
    pub fn respond(&mut self, status: StatusCode) {
        self.status = status.as_u16();
        self.route.counters.count_response(self.status);
    }

    /// Notes that the application has answered.
    pub fn answered(&self) {
        let Some(activation) = &self.route.route.workload.activation else { return };
        let was_held = !self.held.is_zero();
        activation.note_answered(was_held.then_some(self.arrived));
        if was_held {
            self.route.route.requester.cold_start.answered(self.arrived.elapsed());
        }
    }

    pub fn log(&self, client: &Client, request: &Request) {
        if client.core.access_log {
            self.write_log(client.identity.address(), request);
        }
    }

    /// The activation that the request was held by.
    fn held_by(&self) -> Option<&Activation> {
        if self.held.is_zero() { None } else { self.route.route.workload.activation.as_deref() }
    }

    fn write_log(&self, client: &str, request: &Request) {
        info!(
            target: "access",
            client,
            method = request.head.method.as_str(),
            host = %String::from_utf8_lossy(request.head.authority().unwrap_or_default()),
            uri = %String::from_utf8_lossy(request.head.target().path),
            service = self.route.config().host,
            status = self.status,
            held_ms = millis(self.held),
            connecting_ms = millis(self.connecting),
            waiting_ms = millis(self.waiting),
            total_ms = millis(self.arrived.elapsed()),
            "request"
        );
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.route.counters.count_end();
        self.route.counters.count_duration(self.arrived.elapsed());
    }
}

fn millis(duration: Duration) -> f64 {
    duration.as_micros() as f64 / 1e3
}
