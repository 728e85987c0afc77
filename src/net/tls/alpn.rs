//! The protocol names by which client and server choose a version of HTTP in the handshake (ALPN, RFC 7301 section 6; RFC 9113
//! section 3.1).

pub(super) const HTTP2: &[u8] = b"h2";
pub(super) const HTTP1: &[u8] = b"http/1.1";
