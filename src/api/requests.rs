//! `/api/v1/requests`: requests as they end, one JSON object for each.

use serde::{Deserialize, Serialize};

/// A request whose response has ended. Times are in milliseconds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EndedRequest {
    /// When its response ended, in seconds since 1970.
    pub at_unix: f64,
    pub method: String,
    pub host: String,
    /// Without the query, which may hold secrets.
    pub path: String,
    /// Host and path prefix of the service.
    pub service: String,
    /// Of the client: /24 for IPv4, /48 for IPv6.
    pub network: Option<String>,
    pub client_kind: String,
    pub status: u16,
    /// Where agimo responded itself: `x-agimo-reason`.
    pub reason: Option<String>,
    /// How the response ended: `complete`, `client-disconnected`, `broken-off` or `idle-timeout`.
    pub end: String,
    pub held_ms: f64,
    pub total_ms: f64,
}
