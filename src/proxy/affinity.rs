//! Which endpoint a request is to go to (`affinity`): the one that its client was sent to before, or the replica that its
//! host names.

use std::net::SocketAddr;

use crate::config::{Affinity, ServiceConfig, WorkloadConfig};
use crate::http::fields::Fields;
use crate::http::message::RequestHead;
use crate::workload::ordinal;

use super::endpoints::Endpoint;

/// Which of the ready endpoints may serve a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Preference {
    /// The less loaded of two.
    #[default]
    Any,
    /// This one while it is ready, otherwise any.
    Sticky(EndpointToken),
    /// Only the replica with this ordinal.
    Ordinal(u32),
    /// Its host is not the name of a replica.
    Nowhere,
}

/// Stands for an endpoint in a cookie; the same on every core and replica of agimo.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndpointToken(u32);

/// The name of the cookie.
const COOKIE: &[u8] = b"agimo_affinity";

// === impl Preference ===

impl Preference {
    /// The preference of a request of this service. Without `affinity` this is one comparison.
    pub fn of(config: &ServiceConfig, request: &RequestHead) -> Self {
        match config.affinity {
            Affinity::Off => Self::Any,
            Affinity::Cookie => cookie(&request.fields).map_or(Self::Any, Self::Sticky),
            Affinity::Host => {
                let replica = request.authority().and_then(|host| replica_of(config, host));
                replica.map_or(Self::Nowhere, Self::Ordinal)
            }
        }
    }

    /// The `Set-Cookie` line that sends the client's next request to this endpoint, if it is not sent there anyway.
    pub fn new_cookie(self, config: &ServiceConfig, endpoint: &Endpoint) -> Option<Box<str>> {
        if config.affinity != Affinity::Cookie || self == Self::Sticky(endpoint.token) {
            return None;
        }
        let name = String::from_utf8_lossy(COOKIE);
        let (EndpointToken(token), path) = (endpoint.token, &config.path_prefix);
        Some(format!("{name}={token:08x}; Path={path}; HttpOnly; SameSite=Lax").into())
    }
}

// === impl EndpointToken ===

impl EndpointToken {
    /// The FNV-1a hash of the address: it need only tell the endpoints of one service apart.
    pub fn of(endpoint: SocketAddr) -> Self {
        let mix = |hash: u32, byte: u8| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
        Self(endpoint.to_string().bytes().fold(0x811c_9dc5, mix))
    }
}

/// The endpoint that the first cookie of this name stands for (RFC 6265 section 4.2.1). User agents send the cookie with
/// the longest path first.
fn cookie(fields: &Fields) -> Option<EndpointToken> {
    let lines = fields.iter().filter(|line| line.name.eq_ignore_ascii_case(b"cookie"));
    let mut pairs = lines.flat_map(|line| line.value.split(|byte| *byte == b';'));
    let value =
        pairs.find_map(|pair| pair.trim_ascii().strip_prefix(COOKIE)?.strip_prefix(b"="))?;
    u32::from_str_radix(std::str::from_utf8(value).ok()?, 16).ok().map(EndpointToken)
}

/// The ordinal of the replica whose name is the first label of the host.
fn replica_of(config: &ServiceConfig, host: &[u8]) -> Option<u32> {
    let WorkloadConfig::Kubernetes(workload) = &config.workload else { return None };
    let label = host.split(|byte| *byte == b'.').next()?;
    let label = std::str::from_utf8(label).ok()?.to_ascii_lowercase();
    ordinal(&label, &workload.name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse::parse;
    use crate::http::fields::FieldsBuilder;
    use crate::http::message::BodyLength;

    fn preference(keys: &str, host: &str, cookie: Option<&str>) -> Preference {
        let service = format!(
            "[[services]]\nhost = '*.db.test'\ntype = 'sts'\nnamespace = 'a'\nname = 'db'\nservice_name = 'db'\n\
             service_port = 80\n{keys}"
        );
        let config = parse(&service).unwrap();
        let mut fields = FieldsBuilder::default();
        if let Some(cookie) = cookie {
            fields.line(b"cookie", cookie.as_bytes());
        }
        let (method, version) = (http::Method::GET, http::Version::HTTP_11);
        let host = Some(host.as_bytes());
        let request = RequestHead::new(method, version, host, b"/", BodyLength::None, fields);
        Preference::of(&config.services[0], &request)
    }

    #[test]
    fn a_cookie_names_an_endpoint() {
        let of = |cookie| preference("affinity = 'cookie'", "x.db.test", cookie);
        let sticky = Preference::Sticky(EndpointToken(0xff));
        assert_eq!(of(Some("a=b; agimo_affinity=000000ff; c=d")), sticky);
        for none in [None, Some("a=b"), Some("agimo_affinity=x"), Some("xagimo_affinity=ff")] {
            assert_eq!(of(none), Preference::Any, "{none:?}");
        }
        let off = preference("", "x.db.test", Some("agimo_affinity=ff"));
        assert_eq!(off, Preference::Any);
    }

    #[test]
    fn a_host_names_a_replica() {
        let of = |host| preference("affinity = 'host'", host, None);
        assert_eq!(of("DB-12.db.test:80"), Preference::Ordinal(12));
        for other in ["db.db.test", "web-0.db.test", "db-x.db.test"] {
            assert_eq!(of(other), Preference::Nowhere, "{other}");
        }
    }

    #[test]
    fn every_agimo_has_the_same_token_for_an_endpoint() {
        let token = EndpointToken::of("10.0.0.1:80".parse().unwrap());
        assert_eq!(token, EndpointToken(0xebe1_67a5));
    }
}
