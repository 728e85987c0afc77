//! HTTP/1.1 on the wire (RFC 9112): heads, message framing and the socket. It knows no service and decides nothing.

pub mod body;
pub mod fields;
pub mod head;
pub mod length;
pub mod scratch;
pub mod timer;
pub mod wire;
