//! HTTP/1.1 on the wire (RFC 9112): heads, message framing and body codings.

pub mod body;
pub mod framing;
pub mod head;
