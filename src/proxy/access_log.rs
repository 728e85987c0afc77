//! The access log: a line for each request when its response has ended, and a line for each tunnel at its end.

use std::time::Duration;

use tracing::info;

use crate::http::message::RequestHead;
use crate::telemetry::durations::millis;
use crate::telemetry::printable::printable;

/// A request as the log names it.
#[derive(Clone, Debug)]
pub struct LoggedRequest {
    pub client: Box<str>,
    /// Empty where it is not known.
    pub method: String,
    pub host: String,
    pub uri: String,
    /// Host and path prefix of the route; empty where none matches.
    pub service: String,
}

/// What became of a request.
#[derive(Clone, Copy, Debug, Default)]
pub struct Outcome {
    pub status: u16,
    /// `x-agimo-reason`, where agimo responded itself.
    pub reason: Option<&'static str>,
    pub end: ResponseEnd,
    pub held: Duration,
    pub connecting: Duration,
    pub waiting: Duration,
    pub total: Duration,
}

/// How the response ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ResponseEnd {
    #[default]
    Complete,
    ClientDisconnected,
    /// The application broke the response off.
    BrokenOff,
    /// No part of it moved for `idle_timeout`.
    IdleTimeout,
}

// === impl LoggedRequest ===

impl LoggedRequest {
    pub fn new(client: &str, request: &RequestHead, service: &str) -> Self {
        Self {
            client: client.into(),
            method: request.method.as_str().to_owned(),
            host: printable(request.authority().unwrap_or_default()),
            uri: printable(request.path()),
            service: service.to_owned(),
        }
    }

    /// A request of which not even the method is known.
    pub fn unknown(client: &str) -> Self {
        let none = String::new();
        Self {
            client: client.into(),
            method: none.clone(),
            host: none.clone(),
            uri: none.clone(),
            service: none,
        }
    }

    pub fn log_response(&self, outcome: &Outcome) {
        let Self { client, method, host, uri, service } = self;
        info!(
            target: "access",
            client = &**client,
            method,
            host,
            uri,
            service,
            status = outcome.status,
            reason = outcome.reason,
            end = outcome.end.as_str(),
            held_ms = millis(outcome.held),
            connecting_ms = millis(outcome.connecting),
            waiting_ms = millis(outcome.waiting),
            total_ms = millis(outcome.total),
            "request"
        );
    }

    /// Bytes count from the switch of protocols on.
    pub fn log_tunnel_end(&self, duration: Duration, sent: u64, received: u64) {
        let Self { client, method, host, uri, service } = self;
        info!(
            target: "access",
            client = &**client,
            method,
            host,
            uri,
            service,
            duration_ms = millis(duration),
            bytes_to_application = sent,
            bytes_to_client = received,
            "tunnel ended"
        );
    }
}

// === impl ResponseEnd ===

impl ResponseEnd {
    /// The value of `end` in the log.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::ClientDisconnected => "client-disconnected",
            Self::BrokenOff => "broken-off",
            Self::IdleTimeout => "idle-timeout",
        }
    }
}
