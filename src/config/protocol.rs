//! What is spoken to the endpoints of a service (`protocol`).

/// The version of HTTP that agimo uses to an endpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum EndpointProtocol {
    /// HTTP/2 for gRPC; all other requests by `appProtocol` of the port of the Service, HTTP/1.1 by default.
    #[default]
    Auto,
    /// HTTP/1.1.
    Http1,
    /// HTTP/2 without TLS, with prior knowledge (RFC 9113 section 3.3).
    H2c,
}

// === impl EndpointProtocol ===

impl EndpointProtocol {
    /// Every spelling of `protocol`.
    pub const SPELLINGS: &[&str] = &["auto", "http1", "h2c"];

    /// As it is written in a configuration.
    pub fn as_str(self) -> &'static str {
        Self::SPELLINGS[self as usize]
    }

    /// What a port of a Service says of itself in `appProtocol` (Kubernetes, Service, "Application protocol").
    pub fn from_app_protocol(app_protocol: &str) -> Self {
        match app_protocol {
            "kubernetes.io/h2c" | "grpc" => Self::H2c,
            "http" | "kubernetes.io/ws" => Self::Http1,
            _ => Self::Auto,
        }
    }

    pub(crate) fn from_spelling(written: &str) -> Option<Self> {
        [Self::Auto, Self::Http1, Self::H2c]
            .into_iter()
            .find(|protocol| protocol.as_str() == written)
    }
}
