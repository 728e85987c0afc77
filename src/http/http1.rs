//! HTTP/1.1 (RFC 9112): heads, message framing, and the two sides of a connection.

mod body;
pub mod client;
mod decoder;
pub mod framing;
pub mod head;
mod head_writer;
pub mod server;
