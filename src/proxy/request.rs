//! What is known of a request, from its head to its end, and that it is counted. It takes no step itself.

use std::rc::Rc;
use std::time::Duration;

use http::{Method, StatusCode};
use tokio::time::Instant;
use tracing::{debug, info};

use crate::activation::Refusal;
use crate::demand::Retry;
use crate::http::http1::framing::Length;
use crate::http::http1::head::RequestHead;
use crate::net::stream::Stream;

use super::client::Client;
use super::core::{CoreService, Flight};
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
    Refused(Refusal),
    Rejected(Reason),
    /// Nothing of it can have been acted on, or repeating it is safe (RFC 9110 section 9.2.2).
    Again(Retry),
}

/// One request, counted from its arrival until this is dropped.
pub struct Open {
    service: Rc<CoreService>,
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
    pub fn begin(service: Rc<CoreService>) -> Self {
        service.traffic.arrive();
        let none = Duration::ZERO;
        Self {
            service,
            arrived: Instant::now(),
            held: none,
            connecting: none,
            waiting: none,
            status: 0,
        }
    }

    pub fn service(&self) -> &Rc<CoreService> {
        &self.service
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
        if let Some(activation) = self.cold() {
            activation.cold_start.connected(took);
            debug!(service = activation.name(), "connected");
        }
    }

    /// Notes that the head has been sent to an endpoint, for whoever measures a cold start.
    pub fn forwarded(&self) {
        if let Some(activation) = self.cold() {
            debug!(service = activation.name(), "forwarded");
        }
    }

    pub fn waiting_since(&mut self, began: Instant) {
        self.waiting += began.elapsed();
    }

    /// Notes the head of the response.
    pub fn respond(&mut self, status: StatusCode) {
        self.status = status.as_u16();
        self.service.traffic.respond(self.status);
    }

    /// Notes that the application has answered.
    pub fn answered(&self) {
        let Some(activation) = &self.service.service.activation else { return };
        let first = activation.is_first_answer();
        if !self.held.is_zero() {
            let after = self.arrived.elapsed();
            activation.cold_start.answered(after);
            if first {
                info!(service = activation.name(), after_ms = after.as_millis() as u64, "answered");
            }
        }
    }

    pub fn log(&self, client: &Client, request: &Request) {
        if client.core.access_log {
            self.write_log(client.identity.address(), request);
        }
    }

    fn cold(&self) -> Option<&crate::activation::Activation> {
        if self.held.is_zero() { None } else { self.service.service.activation.as_deref() }
    }

    fn write_log(&self, client: &str, request: &Request) {
        info!(
            target: "access",
            client,
            method = request.head.method.as_str(),
            host = %String::from_utf8_lossy(request.head.authority().unwrap_or_default()),
            uri = %String::from_utf8_lossy(request.head.target().path),
            service = self.service.service.config.host,
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
        self.service.traffic.end();
        self.service.traffic.last(self.arrived.elapsed());
    }
}

fn millis(duration: Duration) -> f64 {
    duration.as_micros() as f64 / 1e3
}
