//! Parses request heads strictly, so that no two recipients can read them differently (RFC 9112).

use http::{Method, Version};

use crate::http::fields::{FieldKind, Fields, Span, list_members};
use crate::http::message::{HeadError, HeadLimits, RequestHead};
use crate::http::request_rules::{check_method, is_authority, is_http_in_tunnel};

use super::framing::Framing;

/// The request target (RFC 9112 section 3.2).
struct Target<'a> {
    /// Of an absolute-form target; it takes precedence over `Host`.
    authority: Option<&'a [u8]>,
    /// Path and query in origin-form, `*`, or empty after an authority.
    path: &'a [u8],
}

/// The most field lines of any request head, whatever `max_headers` says: they are parsed on the stack.
const MOST_LINES: usize = 256;

/// Parses the request head at the start of `bytes`; `None` when its end has not arrived yet.
///
/// Returns the head and its length in bytes.
pub fn parse_request(
    bytes: &[u8],
    limits: &HeadLimits,
) -> Result<Option<(RequestHead, usize)>, HeadError> {
    let mut lines = [httparse::EMPTY_HEADER; MOST_LINES];
    let mut request = httparse::Request::new(&mut lines[..limits.lines.min(MOST_LINES)]);
    let length = match request.parse(bytes) {
        Err(httparse::Error::Version) => return parse_other_version(bytes, limits),
        Err(error) => return Err(parse_error(error)),
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return check_unfinished(bytes, limits).map(|()| None),
    };
    if length > limits.head {
        return Err(HeadError::TooLarge);
    }
    let head = &bytes[..length];
    reject_bare_line_feeds(head)?;
    let (Some(method), Some(raw_target), Some(minor)) =
        (request.method, request.path, request.version)
    else {
        return Err(HeadError::Malformed("the request line is not complete"));
    };
    if raw_target.len() > limits.uri {
        return Err(HeadError::UriTooLong);
    }
    let method = Method::from_bytes(method.as_bytes())
        .map_err(|_| HeadError::Malformed("the method is not a token"))?;
    let target = Target::parse(raw_target.as_bytes());
    if let (Some(_), [b'?', ..]) = (target.authority, target.path) {
        return parse_with_path(head, target.path, limits);
    }
    let version = version(minor);
    let fields = Fields::index(head, request.headers);
    check_request(&method, version, &target, &fields)?;
    let authority = target.authority.map(|authority| Span::of(authority, head));
    let parsed = RequestHead {
        body: Framing::of_request(version, &fields)?.body_length(),
        upgrade: asks_for_upgrade(version, &fields),
        authority: authority.or_else(|| fields.span_of(FieldKind::Host)),
        path: Span::of(target.path, head),
        method,
        version,
        fields,
    };
    Ok(Some((parsed, length)))
}

/// Whether the connection may serve another request (RFC 9112 section 9.3).
pub fn keeps_alive(version: Version, fields: &Fields) -> bool {
    let connection = fields.connection();
    !connection.close && (version == Version::HTTP_11 || connection.keep_alive)
}

/// RFC 9110 section 2.5: a message of a higher minor version is read as one of the highest that is known.
fn parse_other_version(
    bytes: &[u8],
    limits: &HeadLimits,
) -> Result<Option<(RequestHead, usize)>, HeadError> {
    let line_end = bytes.iter().position(|byte| *byte == b'\r').unwrap_or(bytes.len());
    let words: Vec<&[u8]> = bytes[..line_end].split(|byte| *byte == b' ').collect();
    match words.as_slice() {
        [_, _, version] => match version.strip_prefix(b"HTTP/1.") {
            Some([b'2'..=b'9']) => {
                let mut known = bytes.to_vec();
                known[line_end - 1] = b'1';
                parse_request(&known, limits)
            }
            _ => Err(HeadError::Version),
        },
        _ => Err(HeadError::Malformed("the request line is not a method, a target and a version")),
    }
}

/// RFC 9112 section 3.2.1: a target without a path is sent on with the path `/`. `query` is the rest of the target.
fn parse_with_path(
    head: &[u8],
    query: &[u8],
    limits: &HeadLimits,
) -> Result<Option<(RequestHead, usize)>, HeadError> {
    let (before, after) = head.split_at(query.as_ptr() as usize - head.as_ptr() as usize);
    let parsed = parse_request(&[before, b"/", after].concat(), limits)?;
    Ok(parsed.map(|(parsed, _)| (parsed, head.len())))
}

// === impl Target ===

impl<'a> Target<'a> {
    fn parse(raw: &'a [u8]) -> Self {
        let Some(rest) = after_scheme(raw) else {
            return Self { authority: None, path: raw };
        };
        let end = rest.iter().position(|byte| matches!(byte, b'/' | b'?')).unwrap_or(rest.len());
        Self { authority: Some(&rest[..end]), path: &rest[end..] }
    }
}

/// What RFC 9112 sections 3.2 and 3.2.2 require of every request.
fn check_request(
    method: &Method,
    version: Version,
    target: &Target<'_>,
    fields: &Fields,
) -> Result<(), HeadError> {
    let mut hosts = fields.all(FieldKind::Host);
    match (hosts.next(), hosts.next()) {
        (_, Some(_)) => return Err(HeadError::Malformed("there is more than one Host")),
        (None, None) if version == Version::HTTP_11 => {
            return Err(HeadError::Malformed("there is no Host"));
        }
        _ => {}
    }
    if !fields.all(FieldKind::Host).chain(target.authority).all(is_authority) {
        return Err(HeadError::Malformed("the host is not a host name or address"));
    }
    check_method(method)?;
    match (target.authority, target.path) {
        (Some(b""), _) => Err(HeadError::Malformed("the request target names no host")),
        (_, path) if path.contains(&b'#') => {
            Err(HeadError::Malformed("the request target has a fragment"))
        }
        (None, b"*") if *method != Method::OPTIONS => {
            Err(HeadError::Malformed("only OPTIONS may ask for *"))
        }
        (None, b"*" | [b'/', ..]) | (Some(_), _) => Ok(()),
        (None, _) => Err(HeadError::Malformed("the request target is neither a path nor a URI")),
    }
}

/// Whether a request asks to switch protocols (RFC 9110 section 7.8).
fn asks_for_upgrade(version: Version, fields: &Fields) -> bool {
    version == Version::HTTP_11
        && fields.has(FieldKind::Upgrade)
        && fields.connection().upgrade
        && !fields.all(FieldKind::Upgrade).flat_map(list_members).any(is_http_in_tunnel)
}

pub(super) fn parse_error(error: httparse::Error) -> HeadError {
    match error {
        httparse::Error::TooManyHeaders => HeadError::TooLarge,
        httparse::Error::Version => HeadError::Version,
        httparse::Error::HeaderName => HeadError::Malformed("a field name is not a token"),
        httparse::Error::HeaderValue => HeadError::Malformed("a field value has a forbidden byte"),
        httparse::Error::NewLine => HeadError::Malformed("a line does not end in CR LF"),
        httparse::Error::Status => HeadError::Malformed("the status line is malformed"),
        httparse::Error::Token => HeadError::Malformed("the first line is malformed"),
    }
}

/// A head whose end has not arrived is rejected as soon as it cannot fit any more.
fn check_unfinished(bytes: &[u8], limits: &HeadLimits) -> Result<(), HeadError> {
    if !bytes.contains(&b'\n') {
        let space = bytes.iter().position(|byte| *byte == b' ');
        let after_method = space.map_or(0, |at| bytes.len() - at - 1);
        if after_method > limits.uri + " HTTP/1.1\r".len() {
            return Err(HeadError::UriTooLong);
        }
    }
    if bytes.len() >= limits.head {
        return Err(HeadError::TooLarge);
    }
    Ok(())
}

/// RFC 9112 section 2.2 allows a recipient to accept a lone LF as the end of a line. Recipients differ in this, so it is
/// rejected.
fn reject_bare_line_feeds(head: &[u8]) -> Result<(), HeadError> {
    let bare = head
        .iter()
        .enumerate()
        .any(|(at, byte)| *byte == b'\n' && (at == 0 || head[at - 1] != b'\r'));
    if bare { Err(HeadError::Malformed("a line ends in LF without CR")) } else { Ok(()) }
}

fn after_scheme(target: &[u8]) -> Option<&[u8]> {
    [&b"http://"[..], b"https://"].iter().find_map(|scheme| {
        let (start, rest) = target.split_at_checked(scheme.len())?;
        start.eq_ignore_ascii_case(scheme).then_some(rest)
    })
}

pub(super) fn version(minor: u8) -> Version {
    if minor == 0 { Version::HTTP_10 } else { Version::HTTP_11 }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: HeadLimits = HeadLimits { head: 1024, uri: 100, lines: 8 };

    fn parse(text: &str) -> Result<RequestHead, HeadError> {
        parse_request(text.as_bytes(), &LIMITS).map(|parsed| parsed.expect("complete").0)
    }

    #[test]
    fn field_lines_keep_their_order_case_and_bytes() {
        let head = parse("GET /a?b HTTP/1.1\r\nHOST: Example.com:80\r\nx-B:  two \r\nX-a:\r\n\r\n")
            .unwrap();
        let lines: Vec<_> = head.fields.iter().map(|line| (line.name, line.value)).collect();
        let expected: [(&[u8], &[u8]); 3] =
            [(b"HOST", b"Example.com:80"), (b"x-B", b"two"), (b"X-a", b"")];
        assert_eq!(lines, expected);
        assert_eq!(head.path(), b"/a?b");
        assert_eq!(head.authority(), Some(&b"Example.com:80"[..]));
    }

    #[test]
    fn the_authority_of_an_absolute_target_replaces_the_host() {
        let head = parse("GET http://a.example/x HTTP/1.1\r\nHost: b.example\r\n\r\n").unwrap();
        assert_eq!(head.authority(), Some(&b"a.example"[..]));
        assert_eq!(head.path(), b"/x");
        let head = parse("GET HTTP://a.example HTTP/1.1\r\nHost: a.example\r\n\r\n").unwrap();
        assert_eq!(head.path(), b"/");
    }

    #[test]
    fn ambiguous_and_malformed_heads_are_rejected() {
        for text in [
            "GET / HTTP/1.1\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
            "GET / HTTP/1.1\nHost: a\n\n",
            "GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nX : a\r\n\r\n",
            "GET a HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET * HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET http:///x HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: user@a\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a, b\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: x\";for=y\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: [::1\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a:b\r\n\r\n",
            "GET http://u@a/ HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET /a b HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET http://a/#b HTTP/1.1\r\nHost: a\r\n\r\n",
            "connect a:80 HTTP/1.1\r\nHost: a\r\n\r\n",
            "Head / HTTP/1.1\r\nHost: a\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9223372036854775808\r\n\r\n",
        ] {
            let error = parse(text).expect_err(text);
            assert!(matches!(error, HeadError::Malformed(_)), "{text:?}: {error:?}");
        }
        assert_eq!(
            parse("CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n").unwrap_err(),
            HeadError::NotImplemented
        );
        assert_eq!(parse("GET / HTTP/2.0\r\nHost: a\r\n\r\n").unwrap_err(), HeadError::Version);
    }

    #[test]
    fn a_higher_minor_version_is_read_as_1_1() {
        let head = parse("GET / HTTP/1.2\r\nHost: a\r\n\r\n").unwrap();
        assert_eq!(head.version, Version::HTTP_11);
        assert_eq!(parse("GET / HTTP/3.0\r\nHost: a\r\n\r\n").unwrap_err(), HeadError::Version);
        assert!(parse("GET / HTTP/1.10\r\nHost: a\r\n\r\n").is_err());
    }

    #[test]
    fn an_absolute_target_with_a_query_and_no_path_gets_the_path() {
        let text = "GET http://a.example?q=/ HTTP/1.1\r\nHost: b\r\n\r\nrest";
        let (head, length) = parse_request(text.as_bytes(), &LIMITS).unwrap().unwrap();
        assert_eq!((head.path(), head.authority()), (&b"/?q=/"[..], Some(&b"a.example"[..])));
        assert_eq!(&text[length..], "rest");
    }

    #[test]
    fn limits_apply_before_the_head_is_complete() {
        let long = format!("GET /{}", "a".repeat(200));
        assert_eq!(parse_request(long.as_bytes(), &LIMITS).unwrap_err(), HeadError::UriTooLong);
        let big = format!("GET / HTTP/1.1\r\nX: {}", "a".repeat(1100));
        assert_eq!(parse_request(big.as_bytes(), &LIMITS).unwrap_err(), HeadError::TooLarge);
        let many = format!("GET / HTTP/1.1\r\n{}\r\n", "X: a\r\n".repeat(9));
        assert_eq!(parse_request(many.as_bytes(), &LIMITS).unwrap_err(), HeadError::TooLarge);
        assert!(parse_request(b"GET / HT", &LIMITS).unwrap().is_none());
    }
}
