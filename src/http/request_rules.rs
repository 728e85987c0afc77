//! What every request head must satisfy, whatever the version of HTTP: no two recipients may read it differently.

use http::Method;

use super::message::HeadError;

/// RFC 9110 section 9, and PATCH (RFC 5789).
const STANDARD_METHODS: [Method; 9] = [
    Method::GET,
    Method::HEAD,
    Method::POST,
    Method::PUT,
    Method::DELETE,
    Method::CONNECT,
    Method::OPTIONS,
    Method::TRACE,
    Method::PATCH,
];

/// Whether requests with this method are served.
pub(super) fn check_method(method: &Method) -> Result<(), HeadError> {
    if *method == Method::CONNECT {
        return Err(HeadError::NotImplemented);
    }
    // What is decided by the method must not depend on whether the application ignores its case.
    let is_folded =
        |known: &Method| known.as_str().eq_ignore_ascii_case(method.as_str()) && known != method;
    if STANDARD_METHODS.iter().any(is_folded) {
        return Err(HeadError::Malformed("the method is not written in capital letters"));
    }
    Ok(())
}

/// Host and port (RFC 3986 section 3.2.2), without user information; an empty host is allowed.
pub(super) fn is_authority(authority: &[u8]) -> bool {
    let host_end = match authority.first() {
        Some(b'[') => authority.iter().position(|byte| *byte == b']').map_or(0, |at| at + 1),
        _ => authority.iter().position(|byte| *byte == b':').unwrap_or(authority.len()),
    };
    let (host, port) = authority.split_at(host_end);
    let host_is_right = match host.strip_prefix(b"[") {
        Some(address) => address[..address.len() - 1]
            .iter()
            .all(|byte| byte.is_ascii_hexdigit() || matches!(byte, b':' | b'.')),
        None => host
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+;=".contains(byte)),
    };
    let port_is_right = match port.split_first() {
        None => true,
        Some((colon, digits)) => *colon == b':' && digits.iter().all(u8::is_ascii_digit),
    };
    host_is_right && port_is_right
}

/// Whether this is HTTP itself, as a protocol to switch to. It is not passed on: HTTP/2 requires to ignore it (RFC 9113 section
/// 3.1), and requests in a tunnel that speaks HTTP to the application would be neither routed nor counted.
pub(super) fn is_http_in_tunnel(protocol: &[u8]) -> bool {
    protocol.eq_ignore_ascii_case(b"h2c")
}
