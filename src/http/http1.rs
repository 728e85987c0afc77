//! HTTP/1.1 (RFC 9112): heads, message framing, and the two sides of a connection.

mod body;
mod chunk_extension;
pub mod client;
mod decoder;
pub mod framing;
pub mod head;
pub mod head_writer;
mod malformation;
mod preface;
pub mod response_head;
pub mod server;
