//! Why a request gets no response of its application, or not of this endpoint.

use crate::activation::Rejection;
use crate::demand::Retry;

use super::error_response::LocalError;

/// Why a request has no response of its application.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestError {
    ClientDisconnected,
    /// No endpoint became ready within `hold_timeout`.
    HoldTimeout,
    /// The workload could not be woken.
    WakeFailed(Rejection),
    /// The route has left the configuration; the request must be routed anew.
    RouteRemoved,
    Local(LocalError),
}

/// Why the endpoint did not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ForwardError {
    /// The request may be sent to another endpoint: it was not acted on, or to repeat it is safe (RFC 9110 section
    /// 9.2.2).
    Retry(Retry),
    Failed(RequestError),
}

// === impl RequestError ===

impl From<LocalError> for RequestError {
    fn from(error: LocalError) -> Self {
        Self::Local(error)
    }
}

// === impl ForwardError ===

impl From<RequestError> for ForwardError {
    fn from(error: RequestError) -> Self {
        Self::Failed(error)
    }
}

impl From<LocalError> for ForwardError {
    fn from(error: LocalError) -> Self {
        Self::Failed(error.into())
    }
}
