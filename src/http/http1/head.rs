//! Parses request and response heads strictly, so that no two readers can differ about them. It never forwards.

use http::{Method, StatusCode, Version};

use crate::http::fields::{Fields, Kind};

/// Bounds on a head; see `max_head`, `max_uri` and `max_headers` in the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes from the first of the request line to the empty line.
    pub head: usize,
    /// Bytes of the request target.
    pub uri: usize,
    /// Field lines.
    pub lines: usize,
}

/// The head of a request.
#[derive(Clone, Debug)]
pub struct RequestHead {
    pub method: Method,
    pub version: Version,
    pub fields: Fields,
    target: (u32, u32),
}

/// The head of a response.
#[derive(Clone, Debug)]
pub struct ResponseHead {
    pub status: StatusCode,
    pub version: Version,
    pub fields: Fields,
    reason: (u32, u32),
}

/// Where a request wants to go (RFC 9112 section 3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target<'a> {
    /// From an absolute-form target, which takes precedence over `Host`.
    pub authority: Option<&'a [u8]>,
    /// Path and query in origin-form, or `*`.
    pub path: &'a [u8],
}

/// Why a head is refused; the connection is closed after the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeadError {
    #[error("{0}")]
    Malformed(&'static str),
    #[error("the request head is larger than max_head or has more lines than max_headers")]
    TooLarge,
    #[error("the request target is longer than max_uri")]
    UriTooLong,
    #[error("this HTTP version is not spoken here")]
    Version,
    #[error("this method or transfer coding is not implemented here")]
    NotImplemented,
    #[error("the request head did not arrive within head_timeout")]
    Slow,
}

/// The most field lines any head may have, whatever `max_headers` says; they are parsed on the stack.
pub const MOST_LINES: usize = 256;

/// Bounds on the head of a response; an application is trusted further than a client.
pub const RESPONSE_LIMITS: Limits = Limits { head: 256 * 1024, uri: 0, lines: MOST_LINES };

// === impl RequestHead ===

impl RequestHead {
    /// Parses the head at the start of `bytes`; `None` when its end has not come yet.
    ///
    /// Returns the head and its length in bytes.
    pub fn parse(bytes: &[u8], limits: &Limits) -> Result<Option<(Self, usize)>, HeadError> {
        let mut lines = [httparse::EMPTY_HEADER; MOST_LINES];
        let mut request = httparse::Request::new(&mut lines[..limits.lines.min(MOST_LINES)]);
        let length = match request.parse(bytes).map_err(HeadError::from)? {
            httparse::Status::Complete(length) => length,
            httparse::Status::Partial => return unfinished(bytes, limits).map(|()| None),
        };
        if length > limits.head {
            return Err(HeadError::TooLarge);
        }
        let head = &bytes[..length];
        refuse_bare_line_feeds(head)?;
        let (Some(method), Some(target), Some(minor)) =
            (request.method, request.path, request.version)
        else {
            return Err(HeadError::Malformed("the request line is not complete"));
        };
        if target.len() > limits.uri {
            return Err(HeadError::UriTooLong);
        }
        let head = Self {
            method: Method::from_bytes(method.as_bytes())
                .map_err(|_| HeadError::Malformed("the method is not a token"))?,
            version: version(minor),
            target: (offset(head, target.as_bytes()), target.len() as u32),
            fields: Fields::index(head, request.headers),
        };
        head.check()?;
        Ok(Some((head, length)))
    }

    /// The request target as it came.
    pub fn raw_target(&self) -> &[u8] {
        self.fields.raw(self.target.0 as usize..(self.target.0 + self.target.1) as usize)
    }

    /// The target's authority, if it has one, and what follows.
    pub fn target(&self) -> Target<'_> {
        let raw = self.raw_target();
        let Some(rest) = after_scheme(raw) else {
            return Target { authority: None, path: raw };
        };
        let end = rest.iter().position(|byte| matches!(byte, b'/' | b'?')).unwrap_or(rest.len());
        let path: &[u8] = match &rest[end..] {
            // RFC 9112 section 3.2.4: of the server as a whole.
            b"" if self.method == Method::OPTIONS => b"*",
            b"" => b"/",
            path => path,
        };
        Target { authority: Some(&rest[..end]), path }
    }

    /// The host that the request names, its port included: of the target, otherwise of `Host`.
    pub fn authority(&self) -> Option<&[u8]> {
        self.target().authority.or_else(|| self.fields.all(Kind::Host).next())
    }

    /// Whether the connection may serve another request (RFC 9112 section 9.3).
    pub fn keeps_alive(&self) -> bool {
        keeps_alive(self.version, &self.fields)
    }

    /// What RFC 9112 sections 3.2 and 3.2.2 ask of every request.
    fn check(&self) -> Result<(), HeadError> {
        let mut hosts = self.fields.all(Kind::Host);
        match (hosts.next(), hosts.next()) {
            (_, Some(_)) => return Err(HeadError::Malformed("there is more than one Host")),
            (None, None) if self.version == Version::HTTP_11 => {
                return Err(HeadError::Malformed("there is no Host"));
            }
            _ => {}
        }
        let named = self.fields.all(Kind::Host).chain(self.target().authority);
        if !named.into_iter().all(is_authority) {
            return Err(HeadError::Malformed("the host is not a host name or address"));
        }
        if self.method == Method::CONNECT {
            return Err(HeadError::NotImplemented);
        }
        let target = self.target();
        let path = target.path;
        match target.authority {
            Some(b"") => Err(HeadError::Malformed("the request target names no host")),
            // An absolute target may have a query and no path; it has then no origin-form of its own.
            Some(_) if path.first() == Some(&b'?') => {
                Err(HeadError::Malformed("the request target has a query and no path"))
            }
            None if path != b"*" && path.first() != Some(&b'/') => {
                Err(HeadError::Malformed("the request target is neither a path nor a URI"))
            }
            None if path == b"*" && self.method != Method::OPTIONS => {
                Err(HeadError::Malformed("only OPTIONS may ask for *"))
            }
            _ => Ok(()),
        }
    }
}

// === impl ResponseHead ===

impl ResponseHead {
    /// Parses the head at the start of `bytes`; `None` when its end has not come yet.
    pub fn parse(bytes: &[u8]) -> Result<Option<(Self, usize)>, HeadError> {
        let mut lines = [httparse::EMPTY_HEADER; MOST_LINES];
        let mut response = httparse::Response::new(&mut lines);
        let length = match response.parse(bytes).map_err(HeadError::from)? {
            httparse::Status::Complete(length) => length,
            httparse::Status::Partial if bytes.len() > RESPONSE_LIMITS.head => {
                return Err(HeadError::TooLarge);
            }
            httparse::Status::Partial => return Ok(None),
        };
        let head = &bytes[..length];
        let (Some(code), Some(minor)) = (response.code, response.version) else {
            return Err(HeadError::Malformed("the status line is not complete"));
        };
        let reason = response.reason.unwrap_or_default().as_bytes();
        let parsed = Self {
            status: StatusCode::from_u16(code)
                .map_err(|_| HeadError::Malformed("the status code is out of range"))?,
            version: version(minor),
            reason: if reason.is_empty() {
                (0, 0)
            } else {
                (offset(head, reason), reason.len() as u32)
            },
            fields: Fields::index(head, response.headers),
        };
        Ok(Some((parsed, length)))
    }

    /// The reason phrase as it came; it may be empty.
    pub fn reason(&self) -> &[u8] {
        self.fields.raw(self.reason.0 as usize..(self.reason.0 + self.reason.1) as usize)
    }

    /// Whether the connection may serve another request (RFC 9112 section 9.3).
    pub fn keeps_alive(&self) -> bool {
        keeps_alive(self.version, &self.fields)
    }
}

// === impl HeadError ===

impl HeadError {
    pub fn status(self) -> StatusCode {
        match self {
            Self::Malformed(_) => StatusCode::BAD_REQUEST,
            Self::TooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::UriTooLong => StatusCode::URI_TOO_LONG,
            Self::Version => StatusCode::HTTP_VERSION_NOT_SUPPORTED,
            Self::NotImplemented => StatusCode::NOT_IMPLEMENTED,
            Self::Slow => StatusCode::REQUEST_TIMEOUT,
        }
    }
}

impl From<httparse::Error> for HeadError {
    fn from(error: httparse::Error) -> Self {
        match error {
            httparse::Error::TooManyHeaders => Self::TooLarge,
            httparse::Error::Version => Self::Version,
            httparse::Error::HeaderName => Self::Malformed("a field name is not a token"),
            httparse::Error::HeaderValue => Self::Malformed("a field value has a forbidden byte"),
            httparse::Error::NewLine => Self::Malformed("a line does not end in CR LF"),
            httparse::Error::Status => Self::Malformed("the status line is malformed"),
            httparse::Error::Token => Self::Malformed("the first line is malformed"),
        }
    }
}

/// A head whose end has not come is refused as soon as it can no longer fit.
fn unfinished(bytes: &[u8], limits: &Limits) -> Result<(), HeadError> {
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

/// RFC 9112 section 2.2 lets a recipient take a lone LF for a line's end; readers differ about it,
/// so it is refused.
fn refuse_bare_line_feeds(head: &[u8]) -> Result<(), HeadError> {
    let bare = head
        .iter()
        .enumerate()
        .any(|(at, byte)| *byte == b'\n' && (at == 0 || head[at - 1] != b'\r'));
    if bare { Err(HeadError::Malformed("a line ends in LF without CR")) } else { Ok(()) }
}

/// Host and port (RFC 3986 section 3.2.2), without user information; an empty host is allowed.
fn is_authority(authority: &[u8]) -> bool {
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

fn after_scheme(target: &[u8]) -> Option<&[u8]> {
    [&b"http://"[..], b"https://"].iter().find_map(|scheme| {
        let (start, rest) = target.split_at_checked(scheme.len())?;
        start.eq_ignore_ascii_case(scheme).then_some(rest)
    })
}

fn keeps_alive(version: Version, fields: &Fields) -> bool {
    let connection = fields.connection();
    !connection.close && (version == Version::HTTP_11 || connection.keep_alive)
}

fn version(minor: u8) -> Version {
    if minor == 0 { Version::HTTP_10 } else { Version::HTTP_11 }
}

fn offset(head: &[u8], part: &[u8]) -> u32 {
    (part.as_ptr() as usize - head.as_ptr() as usize) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { head: 1024, uri: 100, lines: 8 };

    fn parse(text: &str) -> Result<RequestHead, HeadError> {
        RequestHead::parse(text.as_bytes(), &LIMITS).map(|parsed| parsed.expect("complete").0)
    }

    #[test]
    fn a_head_keeps_its_lines_as_they_came() {
        let head = parse("GET /a?b HTTP/1.1\r\nHOST: Example.com:80\r\nx-B:  two \r\nX-a:\r\n\r\n")
            .unwrap();
        let lines: Vec<_> = head.fields.iter().map(|line| (line.name, line.value)).collect();
        let expected: [(&[u8], &[u8]); 3] =
            [(b"HOST", b"Example.com:80"), (b"x-B", b"two"), (b"X-a", b"")];
        assert_eq!(lines, expected);
        assert_eq!(head.target(), Target { authority: None, path: b"/a?b" });
        assert_eq!(head.authority(), Some(&b"Example.com:80"[..]));
    }

    #[test]
    fn an_absolute_target_names_the_host() {
        let head = parse("GET http://a.example/x HTTP/1.1\r\nHost: b.example\r\n\r\n").unwrap();
        assert_eq!(head.authority(), Some(&b"a.example"[..]));
        assert_eq!(head.target().path, b"/x");
        let head = parse("GET HTTP://a.example HTTP/1.1\r\nHost: a.example\r\n\r\n").unwrap();
        assert_eq!(head.target().path, b"/");
    }

    #[test]
    fn what_two_readers_could_take_differently_is_refused() {
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
    fn limits_hold_before_the_head_is_complete() {
        let long = format!("GET /{}", "a".repeat(200));
        assert_eq!(
            RequestHead::parse(long.as_bytes(), &LIMITS).unwrap_err(),
            HeadError::UriTooLong
        );
        let big = format!("GET / HTTP/1.1\r\nX: {}", "a".repeat(1100));
        assert_eq!(RequestHead::parse(big.as_bytes(), &LIMITS).unwrap_err(), HeadError::TooLarge);
        let many = format!("GET / HTTP/1.1\r\n{}\r\n", "X: a\r\n".repeat(9));
        assert_eq!(RequestHead::parse(many.as_bytes(), &LIMITS).unwrap_err(), HeadError::TooLarge);
        assert!(RequestHead::parse(b"GET / HT", &LIMITS).unwrap().is_none());
    }
}
