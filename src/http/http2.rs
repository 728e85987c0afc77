//! HTTP/2 (RFC 9113), on the crate h2: a stream is a request, and flow control is the room for its body.

mod body;
pub mod client;
pub mod fields;
pub mod limits;
pub mod server;
pub mod tunnel;
