//! Every answer that is agimo's own, in one table: status, reason, words. It answers for no application.

use http::StatusCode;
use tokio::time::Instant;

use crate::activation::Rejection;
use crate::cause::{Cause, NotReadyReason};
use crate::http::http1::head::HeadError;

/// An answer in the application's place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reject {
    pub reason: Reason,
    /// In seconds (RFC 9110 section 10.2.3).
    pub retry_after: Option<u64>,
    /// What the place where the workload runs says about it: one line.
    pub detail: Option<String>,
}

/// Why; the value of `x-agimo-reason`, a closed set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    BodyTooLarge,
    ConnectionBroken,
    Head(HeadError),
    HoldFull,
    /// What it waited for in vain, where that is known.
    HoldTimeout(Option<Cause>),
    IdleTimeout,
    NoBackend,
    ResponseMalformed,
    ResponseTimeout,
    ServiceRemoved,
    UnknownHost,
    WakeFailed(Cause),
}

/// The header that carries the reason.
pub const REASON_HEADER: &str = "x-agimo-reason";
/// The header with the particulars, where there are any.
pub const DETAIL_HEADER: &str = "x-agimo-detail";

// === impl Reject ===

impl Reject {
    /// A refusal that may have passed when the client comes again.
    fn later(reason: Reason, seconds: u64) -> Self {
        Self { reason, retry_after: Some(seconds.max(1)), detail: None }
    }

    /// Why a request was held for so long, as far as its workload's place can tell.
    pub fn held_too_long(reason: Option<NotReadyReason>) -> Self {
        let (cause, detail) = reason.map(|reason| (reason.cause, reason.detail)).unzip();
        Self { detail, ..Reason::HoldTimeout(cause).into() }
    }

    /// The whole response; `close` ends the connection after it.
    pub fn write(&self, head_only: bool, close: bool, out: &mut Vec<u8>) {
        use std::io::Write as _;
        let (status, token, words) = self.reason.row();
        let phrase = status.canonical_reason().unwrap_or_default();
        let body = match &self.detail {
            Some(detail) => format!("agimo: {words}: {detail}\n"),
            None => format!("agimo: {words}\n"),
        };
        // Writing to a vector cannot fail.
        let _ = write!(
            out,
            "HTTP/1.1 {} {phrase}\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: {}\r\n{REASON_HEADER}: {token}\r\n",
            status.as_u16(),
            body.len()
        );
        if let Some(detail) = &self.detail {
            // Field values are visible ASCII and spaces (RFC 9110 section 5.5).
            let value: String = detail
                .chars()
                .map(|character| if matches!(character, ' '..='~') { character } else { '?' })
                .collect();
            let _ = write!(out, "{DETAIL_HEADER}: {}\r\n", value.trim());
        }
        if let Some(seconds) = self.retry_after {
            let _ = write!(out, "retry-after: {seconds}\r\n");
        }
        if close {
            out.extend_from_slice(b"connection: close\r\n");
        }
        out.extend_from_slice(b"\r\n");
        if !head_only {
            out.extend_from_slice(body.as_bytes());
        }
    }

    pub fn status(&self) -> StatusCode {
        self.reason.row().0
    }
}

impl From<Reason> for Reject {
    fn from(reason: Reason) -> Self {
        match reason {
            Reason::HoldFull | Reason::ServiceRemoved => Self::later(reason, 1),
            // Nothing here will change that by itself; still it is not the client's fault.
            Reason::NoBackend => Self::later(reason, 60),
            _ => Self { reason, retry_after: None, detail: None },
        }
    }
}

impl From<HeadError> for Reject {
    fn from(error: HeadError) -> Self {
        Reason::Head(error).into()
    }
}

impl From<Rejection> for Reject {
    fn from(rejection: Rejection) -> Self {
        let left = rejection.until.saturating_duration_since(Instant::now());
        Self::later(Reason::WakeFailed(rejection.cause), left.as_secs_f64().ceil() as u64)
    }
}

// === impl Reason ===

impl Reason {
    pub fn token(self) -> &'static str {
        self.row().1
    }

    /// The table: status, `x-agimo-reason`, and words for a person.
    fn row(self) -> (StatusCode, &'static str, &'static str) {
        use StatusCode as S;
        match self {
            Self::BodyTooLarge => {
                (S::PAYLOAD_TOO_LARGE, "body-too-large", "the request body is larger than max_body")
            }
            Self::ConnectionBroken => (
                S::BAD_GATEWAY,
                "connection-broken",
                "the application closed the connection before it answered",
            ),
            Self::HoldFull => {
                (S::SERVICE_UNAVAILABLE, "hold-full", "too many requests wait for this application")
            }
            Self::HoldTimeout(None) => {
                (S::GATEWAY_TIMEOUT, "hold-timeout", "the application was not ready within timeout")
            }
            Self::HoldTimeout(Some(cause)) => {
                (S::GATEWAY_TIMEOUT, cause.token(), cause.description())
            }
            Self::IdleTimeout => (
                S::REQUEST_TIMEOUT,
                "idle-timeout",
                "nothing of the request body came within idle_timeout",
            ),
            Self::NoBackend => (
                S::SERVICE_UNAVAILABLE,
                "no-backend",
                "this agimo has no backend for the type of this service",
            ),
            Self::ResponseMalformed => (
                S::BAD_GATEWAY,
                "response-malformed",
                "the application's response is not valid HTTP",
            ),
            Self::ResponseTimeout => (
                S::GATEWAY_TIMEOUT,
                "response-timeout",
                "the application did not answer within response_timeout",
            ),
            Self::ServiceRemoved => {
                (S::SERVICE_UNAVAILABLE, "service-removed", "this service is no longer configured")
            }
            Self::UnknownHost => {
                (S::NOT_FOUND, "unknown-host", "no service is configured for this host and path")
            }
            Self::WakeFailed(cause) => (S::SERVICE_UNAVAILABLE, cause.token(), cause.description()),
            Self::Head(error) => Self::head_row(error),
        }
    }

    fn head_row(error: HeadError) -> (StatusCode, &'static str, &'static str) {
        let (token, words) = match error {
            HeadError::Malformed(words) => ("request-malformed", words),
            HeadError::TooLarge => (
                "head-too-large",
                "the request head is larger than max_head or has more lines than max_headers",
            ),
            HeadError::UriTooLong => ("uri-too-long", "the request target is longer than max_uri"),
            HeadError::Version => ("version-not-supported", "this HTTP version is not spoken here"),
            HeadError::NotImplemented => {
                ("not-implemented", "this method or transfer coding is not implemented here")
            }
            HeadError::Slow => {
                ("head-timeout", "the request head did not arrive within head_timeout")
            }
        };
        (error.status(), token, words)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hold_that_was_in_vain_says_what_it_waited_for() {
        let detail =
            "web-1, container app: ErrImageNeverPull: image \u{201c}x\u{201d}\r\nset-cookie: a"
                .to_owned();
        let reason = NotReadyReason { cause: Cause::ImageUnavailable, detail };
        let mut out = Vec::new();
        Reject::held_too_long(Some(reason)).write(false, false, &mut out);
        let text = String::from_utf8(out).unwrap();
        assert!(text.starts_with("HTTP/1.1 504 Gateway Timeout\r\n"), "{text}");
        let line =
            "x-agimo-detail: web-1, container app: ErrImageNeverPull: image ?x???set-cookie: a\r\n";
        for line in ["x-agimo-reason: image-unavailable\r\n", line] {
            assert!(text.contains(line), "{line:?} in {text}");
        }
        assert_eq!(Reject::held_too_long(None).reason.token(), "hold-timeout");
    }

    #[test]
    fn an_answer_names_its_reason_and_when_to_come_again() {
        let mut out = Vec::new();
        Reject::from(Reason::HoldFull).write(false, true, &mut out);
        let text = String::from_utf8(out).unwrap();
        assert!(text.starts_with("HTTP/1.1 503 Service Unavailable\r\n"), "{text}");
        for line in ["x-agimo-reason: hold-full\r\n", "retry-after: 1\r\n", "connection: close\r\n"]
        {
            assert!(text.contains(line), "{line:?} in {text}");
        }
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("content-length: {}\r\n", body.len())));
    }
}
