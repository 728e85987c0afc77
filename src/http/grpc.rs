//! What a proxy has to know of gRPC (gRPC over HTTP/2, `PROTOCOL-HTTP2.md` of the gRPC project).

use std::time::Duration;

use http::Version;

use super::fields::FieldKind;
use super::message::RequestHead;

/// Status codes of gRPC that agimo itself responds with (gRPC, "Status codes and their use in gRPC").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GrpcStatus {
    DeadlineExceeded = 4,
    ResourceExhausted = 8,
    FailedPrecondition = 9,
    Unimplemented = 12,
    Internal = 13,
    Unavailable = 14,
}

// === impl RequestHead ===

impl RequestHead {
    /// Whether it is a gRPC call. gRPC-Web is excluded because it uses ordinary HTTP responses.
    pub fn is_grpc(&self) -> bool {
        self.version == Version::HTTP_2 && self.fields.all(FieldKind::ContentType).any(is_grpc)
    }

    /// `grpc-timeout` of a gRPC call, counted from its arrival.
    pub fn grpc_timeout(&self) -> Option<Duration> {
        if !self.is_grpc() {
            return None;
        }
        parse_timeout(self.fields.named(b"grpc-timeout")?)
    }
}

/// Whether a body of this content type is one of gRPC.
pub(super) fn is_grpc(content_type: &[u8]) -> bool {
    content_type
        .strip_prefix(b"application/grpc")
        .is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
}

/// At most 8 digits and a unit.
fn parse_timeout(value: &[u8]) -> Option<Duration> {
    let (unit, digits) = value.split_last()?;
    if digits.is_empty() || digits.len() > 8 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number: u64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    Some(match unit {
        b'H' => Duration::from_secs(number * 3600),
        b'M' => Duration::from_secs(number * 60),
        b'S' => Duration::from_secs(number),
        b'm' => Duration::from_millis(number),
        b'u' => Duration::from_micros(number),
        b'n' => Duration::from_nanos(number),
        _ => return None,
    })
}

/// Percent-encodes all but spaces and visible ASCII other than `%` (gRPC over HTTP/2, Status-Message).
pub fn encode_message(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        match byte {
            b' '..=b'~' if byte != b'%' => encoded.push(byte.into()),
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::*;
    use crate::http::fields::FieldsBuilder;
    use crate::http::message::BodyLength;

    fn head(version: Version, content_type: &str) -> RequestHead {
        let mut fields = FieldsBuilder::default();
        fields.line(b"content-type", content_type.as_bytes());
        fields.line(b"grpc-timeout", b"1500m");
        RequestHead::new(Method::POST, version, Some(b"a"), b"/", BodyLength::Unknown, fields)
    }

    #[test]
    fn grpc_is_known_by_its_content_type() {
        for (content_type, expected) in [
            ("application/grpc", true),
            ("application/grpc+proto", true),
            ("application/grpc;x=y", true),
            ("application/grpc-web", false),
            ("application/grpc-web+proto", false),
            ("text/plain", false),
        ] {
            let found = head(Version::HTTP_2, content_type).is_grpc();
            assert_eq!(found, expected, "{content_type}");
        }
        assert!(!head(Version::HTTP_11, "application/grpc").is_grpc());
        let timeout = head(Version::HTTP_2, "application/grpc").grpc_timeout();
        assert_eq!(timeout, Some(Duration::from_millis(1500)));
        assert_eq!(head(Version::HTTP_2, "text/plain").grpc_timeout(), None);
    }

    #[test]
    fn timeouts_are_read_with_their_unit() {
        for (value, expected) in [
            ("2H", Some(Duration::from_secs(7200))),
            ("3M", Some(Duration::from_secs(180))),
            ("5S", Some(Duration::from_secs(5))),
            ("100m", Some(Duration::from_millis(100))),
            ("7u", Some(Duration::from_micros(7))),
            ("99999999n", Some(Duration::from_nanos(99_999_999))),
            ("100000000n", None),
            ("5", None),
            ("S", None),
            ("-5S", None),
            ("5s", None),
            ("", None),
        ] {
            assert_eq!(parse_timeout(value.as_bytes()), expected, "{value:?}");
        }
    }

    #[test]
    fn messages_are_percent_encoded() {
        assert_eq!(encode_message("50% of \u{e4}\n"), "50%25 of %C3%A4%0A");
    }
}
