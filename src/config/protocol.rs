//! What is spoken to the endpoints of a service (`protocol`).

/// A version of HTTP, or how it is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// By the request: HTTP/2 for gRPC, HTTP/1.1 for all others.
    Auto,
    Http1,
    /// HTTP/2 without TLS, with prior knowledge (RFC 9113 section 3.3).
    H2c,
}

// === impl Protocol ===

impl Protocol {
    /// Every spelling of `protocol`.
    pub const SPELLINGS: &[&str] = &["auto", "http1", "h2c"];

    pub fn as_str(self) -> &'static str {
        Self::SPELLINGS[self as usize]
    }

    pub(crate) fn from_spelling(written: &str) -> Option<Self> {
        [Self::Auto, Self::Http1, Self::H2c]
            .into_iter()
            .find(|protocol| protocol.as_str() == written)
    }
}
