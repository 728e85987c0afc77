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
    /// HTTP/1.1 over TLS, and HTTP/2 over TLS for gRPC.
    Https,
    /// HTTP/2 over TLS (RFC 9113 section 3.2).
    H2,
}

/// What is spoken to an endpoint for one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpokenProtocol {
    /// HTTP/2, on a connection that serves other requests at the same time.
    pub is_http2: bool,
    pub is_tls: bool,
}

// === impl EndpointProtocol ===

impl EndpointProtocol {
    /// Every spelling of `protocol`.
    pub const SPELLINGS: &[&str] = &["auto", "http1", "h2c", "https", "h2"];

    /// As it is written in a configuration.
    pub fn as_str(self) -> &'static str {
        Self::SPELLINGS[self as usize]
    }

    /// What a port of a Service says of itself in `appProtocol` (Kubernetes, Service, "Application protocol").
    pub fn from_app_protocol(app_protocol: &str) -> Self {
        match app_protocol {
            "kubernetes.io/h2c" | "grpc" => Self::H2c,
            "http" | "kubernetes.io/ws" => Self::Http1,
            "https" | "kubernetes.io/wss" => Self::Https,
            _ => Self::Auto,
        }
    }

    /// What is spoken for a request; `discovered` is what the port of the Service says.
    pub fn spoken(self, discovered: Self, is_grpc: bool) -> SpokenProtocol {
        let (is_http2, is_tls) = match if self == Self::Auto { discovered } else { self } {
            // Where the service itself says so, even gRPC goes over HTTP/1.1.
            Self::Http1 => (is_grpc && self == Self::Auto, false),
            Self::Auto => (is_grpc, false),
            Self::H2c => (true, false),
            Self::Https => (is_grpc, true),
            Self::H2 => (true, true),
        };
        SpokenProtocol { is_http2, is_tls }
    }

    /// Whether every endpoint is reached over TLS.
    pub fn requires_tls(self) -> bool {
        matches!(self, Self::Https | Self::H2)
    }

    /// Whether the port of the Service decides.
    pub fn is_discovered(self) -> bool {
        self == Self::Auto
    }

    pub(crate) fn from_spelling(written: &str) -> Option<Self> {
        [Self::Auto, Self::Http1, Self::H2c, Self::Https, Self::H2]
            .into_iter()
            .find(|protocol| protocol.as_str() == written)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use EndpointProtocol::{Auto, H2, H2c, Http1, Https};

    #[test]
    fn the_service_decides_before_the_port_and_grpc_needs_http2() {
        for (configured, discovered, is_grpc, is_http2, is_tls) in [
            (Auto, Auto, false, false, false),
            (Auto, Auto, true, true, false),
            (Auto, Http1, true, true, false),
            (Http1, H2c, true, false, false),
            (Auto, H2c, false, true, false),
            (H2c, Https, false, true, false),
            (Auto, Https, false, false, true),
            (Auto, Https, true, true, true),
            (Https, Auto, true, true, true),
            (H2, H2c, false, true, true),
        ] {
            let spoken = configured.spoken(discovered, is_grpc);
            assert_eq!(
                spoken,
                SpokenProtocol { is_http2, is_tls },
                "{configured:?} {discovered:?}"
            );
        }
    }
}
