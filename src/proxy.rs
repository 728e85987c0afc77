//! The request path: accepts, routes, counts, holds, forwards. It knows no version of HTTP; `connection.rs` and
//! `upstream.rs` alone choose a codec.

pub mod accept;
pub mod access_log;
mod affinity;
pub mod client;
pub mod client_connections;
pub mod connection;
pub mod connection_quota;
pub mod core;
pub mod endpoints;
pub mod error_log;
pub mod error_response;
pub mod exchange;
pub mod forward;
pub mod hold;
pub mod idle_connections;
pub mod in_flight;
pub mod max_forwards;
pub mod new_connection;
pub mod opening;
pub mod redirect;
pub mod request_error;
pub mod serve_request;
pub mod tunnel;
pub mod upstream;
