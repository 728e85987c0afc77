//! The head of a request and of a response, and why a head is rejected, for every version of HTTP.

use http::{Method, StatusCode, Version};

use super::fields::{FieldKind, Fields, FieldsBuilder, Span};

/// The head of a request.
#[derive(Clone, Debug)]
pub struct RequestHead {
    pub method: Method,
    pub version: Version,
    pub body: BodyLength,
    /// The client asks to switch to another protocol on this connection (RFC 9110 section 7.8).
    pub upgrade: bool,
    pub fields: Fields,
    pub(super) authority: Option<Span>,
    /// Empty where the request has an authority and no path.
    pub(super) path: Span,
}

/// The head of a response, final or informational.
#[derive(Clone, Debug)]
pub struct ResponseHead {
    pub status: StatusCode,
    pub body: BodyLength,
    /// What `Content-Length` says; a response without a body may say how long it would be (RFC 9110 section 8.6).
    pub declared_length: Option<u64>,
    pub fields: Fields,
    /// agimo responds itself.
    pub is_own: bool,
    pub(super) reason: Span,
}

/// What the head says about the length of the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyLength {
    /// There is no body, or it is empty.
    None,
    /// In bytes.
    Known(u64),
    /// The body itself says where it ends.
    Unknown,
}

/// Bounds on a head; see `max_head`, `max_uri` and `max_headers` in the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadLimits {
    /// Bytes of the whole head.
    pub head: usize,
    /// Bytes of the request target.
    pub uri: usize,
    /// Field lines.
    pub lines: usize,
}

/// Why a head is rejected. The connection is closed after the response.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeadError {
    #[error("{0}")]
    Malformed(&'static str),
    #[error("the request head is larger than max_head or has more lines than max_headers")]
    TooLarge,
    #[error("the request target is longer than max_uri")]
    UriTooLong,
    #[error("this HTTP version is not supported")]
    Version,
    #[error("this method or transfer coding is not implemented")]
    NotImplemented,
    #[error("the request head did not arrive within head_timeout")]
    Slow,
    #[error("too many request heads are incomplete (max_head_memory)")]
    NoMemory,
}

// === impl RequestHead ===

impl RequestHead {
    /// A head from its parts. `path` is in origin-form, with the query, or `*`.
    pub fn new(
        method: Method,
        version: Version,
        authority: Option<&[u8]>,
        path: &[u8],
        body: BodyLength,
        mut fields: FieldsBuilder,
    ) -> Self {
        let authority = authority.map(|authority| fields.bytes(authority));
        let path = fields.bytes(path);
        Self { method, version, body, upgrade: false, fields: fields.build(), authority, path }
    }

    /// Whether the request could always be sent again (RFC 9110 section 9.2.2).
    pub fn is_repeatable(&self) -> bool {
        self.body == BodyLength::None && self.method.is_idempotent()
    }

    /// How often the request may still be forwarded; only for methods that ask about the way (RFC 9110 section 7.6.2).
    pub fn max_forwards(&self) -> Option<u64> {
        if self.method != Method::TRACE && self.method != Method::OPTIONS {
            return None;
        }
        let value = self.fields.all(FieldKind::MaxForwards).next()?;
        std::str::from_utf8(value).ok()?.parse().ok()
    }

    /// The host that the request is for, with its port if it has one.
    pub fn authority(&self) -> Option<&[u8]> {
        self.authority.map(|authority| self.fields.bytes(authority))
    }

    /// Path and query in origin-form, or `*`.
    pub fn path(&self) -> &[u8] {
        match self.fields.bytes(self.path) {
            // RFC 9112 section 3.2.4: OPTIONS without a path is about the server as a whole.
            b"" if self.method == Method::OPTIONS => b"*",
            b"" => b"/",
            path => path,
        }
    }
}

// === impl ResponseHead ===

impl ResponseHead {
    /// A head from its parts, with the usual reason phrase.
    pub fn new(status: StatusCode, body: BodyLength, mut fields: FieldsBuilder) -> Self {
        let reason = fields.bytes(status.canonical_reason().unwrap_or_default().as_bytes());
        let declared_length = match body {
            BodyLength::Known(length) => Some(length),
            BodyLength::None | BodyLength::Unknown => None,
        };
        Self { status, body, declared_length, fields: fields.build(), is_own: false, reason }
    }

    /// The same head with one more field line.
    pub fn with_line(&self, name: &[u8], value: &str) -> Self {
        let fields = self.fields.with_line(name, value.as_bytes());
        Self { fields, status: self.status, ..*self }
    }

    /// The reason phrase; empty in versions of HTTP that have none.
    pub fn reason(&self) -> &[u8] {
        self.fields.bytes(self.reason)
    }
}

// === impl HeadError ===

impl HeadError {
    pub fn status(self) -> StatusCode {
        match self {
            Self::Malformed(_) => StatusCode::BAD_REQUEST,
            Self::TooLarge | Self::NoMemory => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::UriTooLong => StatusCode::URI_TOO_LONG,
            Self::Version => StatusCode::HTTP_VERSION_NOT_SUPPORTED,
            Self::NotImplemented => StatusCode::NOT_IMPLEMENTED,
            Self::Slow => StatusCode::REQUEST_TIMEOUT,
        }
    }
}
