//! The responses that agimo sends in place of the application, in one table: status, reason and text of each.

use std::time::SystemTime;

use http::StatusCode;
use tokio::time::Instant;

use crate::activation::Rejection;
use crate::cause::{Cause, NotReadyReason};
use crate::http::fields::FieldsBuilder;
use crate::http::message::{BodyLength, HeadError, ResponseHead};

mod grpc;

/// A response in place of the application.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ErrorResponse {
    pub error: LocalError,
    /// In seconds (RFC 9110 section 10.2.3).
    pub retry_after: Option<u64>,
    /// One line from the backend of the workload, for people.
    pub detail: Option<String>,
    /// Where the client is to go instead.
    pub location: Option<String>,
}

/// Why agimo responds itself: a closed set, which `x-agimo-reason` names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LocalError {
    BodyTooLarge,
    /// `grpc-timeout` passed before an endpoint became ready, with the cause if it is known.
    ClientDeadline(Option<Cause>),
    ConnectionBroken,
    EndpointTls,
    Head(HeadError),
    HoldFull,
    HttpsRequired,
    /// No endpoint became ready, with the cause if it is known.
    HoldTimeout(Option<Cause>),
    IdleTimeout,
    Loop,
    NoBackend,
    ResponseMalformed,
    ResponseTimeout,
    ServiceRemoved,
    UnknownHost,
    WakeFailed(Cause),
}

/// Seconds after which a request that was held in vain may be sent again: its wake goes on.
const RETRY_AFTER_HOLD: u64 = 5;

/// A rejection may last for much longer, and end at any time.
const MOST_RETRY_AFTER: u64 = 60;

/// The header with the reason.
pub const REASON_HEADER: &str = "x-agimo-reason";
/// The header with the detail, if there is one.
pub const DETAIL_HEADER: &str = "x-agimo-detail";

// === impl ErrorResponse ===

impl ErrorResponse {
    /// The request may succeed after this many seconds.
    fn later(error: LocalError, seconds: u64) -> Self {
        Self { retry_after: Some(seconds.max(1)), ..Self::plain(error) }
    }

    fn plain(error: LocalError) -> Self {
        Self { error, retry_after: None, detail: None, location: None }
    }

    /// The request is to be sent to this URL over HTTPS.
    pub fn redirect(location: String) -> Self {
        Self { location: Some(location), ..Self::plain(LocalError::HttpsRequired) }
    }

    /// A request was held for `hold_timeout`; `reason` says why its workload was not ready, and `obstacle` what an attempt
    /// to reach a ready endpoint met.
    pub fn hold_timeout(reason: Option<NotReadyReason>, obstacle: Option<String>) -> Self {
        Self::not_ready(LocalError::HoldTimeout, reason, obstacle)
    }

    /// The same for the deadline of the client.
    pub fn client_deadline(reason: Option<NotReadyReason>, obstacle: Option<String>) -> Self {
        Self::not_ready(LocalError::ClientDeadline, reason, obstacle)
    }

    fn not_ready(
        error: impl FnOnce(Option<Cause>) -> LocalError,
        reason: Option<NotReadyReason>,
        obstacle: Option<String>,
    ) -> Self {
        let (cause, detail) = reason.map(|reason| (reason.cause, reason.detail)).unzip();
        let error = error(cause);
        Self { detail: detail.or(obstacle), ..Self::later(error, RETRY_AFTER_HOLD) }
    }

    /// The response as a message: its head, and its body for every method but HEAD.
    pub fn message(&self) -> (ResponseHead, String) {
        let (status, token, _) = self.error.row();
        let body = self.sentence() + "\n";
        let length = body.len();
        let mut fields = FieldsBuilder::default();
        fields.line(b"content-type", b"text/plain; charset=utf-8");
        fields.line(b"content-length", length.to_string().as_bytes());
        fields.line(REASON_HEADER.as_bytes(), token.as_bytes());
        if let Some(detail) = &self.detail {
            // Field values are visible ASCII and spaces (RFC 9110 section 5.5).
            let value: String = detail
                .chars()
                .map(|character| if matches!(character, ' '..='~') { character } else { '?' })
                .collect();
            fields.line(DETAIL_HEADER.as_bytes(), value.trim().as_bytes());
        }
        if let Some(seconds) = self.retry_after {
            fields.line(b"retry-after", seconds.to_string().as_bytes());
        }
        if let Some(location) = &self.location {
            fields.line(b"location", location.as_bytes());
        }
        let now = httpdate::fmt_http_date(SystemTime::now());
        fields.line(b"date", now.as_bytes());
        let mut head = ResponseHead::new(status, BodyLength::Known(length as u64), fields);
        head.is_own = true;
        (head, body)
    }

    /// What happened, for people.
    fn sentence(&self) -> String {
        let text = self.error.text();
        match &self.detail {
            Some(detail) => format!("agimo: {text}: {detail}"),
            None => format!("agimo: {text}"),
        }
    }

    pub fn status(&self) -> StatusCode {
        self.error.row().0
    }
}

impl From<LocalError> for ErrorResponse {
    fn from(error: LocalError) -> Self {
        match error {
            LocalError::HoldFull | LocalError::ServiceRemoved => Self::later(error, 1),
            // This lasts until agimo is started in another way, and yet it is no fault of the client.
            LocalError::NoBackend => Self::later(error, 60),
            _ => Self::plain(error),
        }
    }
}

impl From<Rejection> for ErrorResponse {
    fn from(rejection: Rejection) -> Self {
        let left = rejection.until.saturating_duration_since(Instant::now());
        let seconds = left.as_secs_f64().ceil() as u64;
        Self::later(LocalError::WakeFailed(rejection.cause), seconds.min(MOST_RETRY_AFTER))
    }
}

// === impl LocalError ===

impl LocalError {
    pub fn token(self) -> &'static str {
        self.row().1
    }

    /// A sentence for people.
    pub fn text(self) -> &'static str {
        self.row().2
    }

    /// The table: status, `x-agimo-reason`, and a text for people.
    fn row(self) -> (StatusCode, &'static str, &'static str) {
        use StatusCode as S;
        match self {
            Self::BodyTooLarge => {
                (S::PAYLOAD_TOO_LARGE, "body-too-large", "the request body is larger than max_body")
            }
            Self::ClientDeadline(None) => (
                S::GATEWAY_TIMEOUT,
                "client-deadline",
                "the application was not ready within the grpc-timeout of the call",
            ),
            Self::ClientDeadline(Some(cause)) => {
                (S::GATEWAY_TIMEOUT, cause.token(), cause.description())
            }
            Self::ConnectionBroken => (
                S::BAD_GATEWAY,
                "connection-broken",
                "the application closed the connection before it answered",
            ),
            Self::EndpointTls => (
                S::BAD_GATEWAY,
                "endpoint-tls",
                "no TLS connection to the application could be made",
            ),
            Self::HoldFull => {
                (S::SERVICE_UNAVAILABLE, "hold-full", "too many requests wait for this application")
            }
            // Unlike 301, this keeps the method and the body (RFC 9110 section 15.4.9).
            Self::HttpsRequired => {
                (S::PERMANENT_REDIRECT, "https-required", "this service is used over HTTPS")
            }
            Self::HoldTimeout(None) => (
                S::GATEWAY_TIMEOUT,
                "hold-timeout",
                "the application was not ready within hold_timeout",
            ),
            Self::HoldTimeout(Some(cause)) => {
                (S::GATEWAY_TIMEOUT, cause.token(), cause.description())
            }
            Self::IdleTimeout => (
                S::REQUEST_TIMEOUT,
                "idle-timeout",
                "no part of the request body arrived within idle_timeout",
            ),
            Self::Loop => (
                S::LOOP_DETECTED,
                "loop-detected",
                "the request has passed this agimo before: its endpoint leads back to agimo",
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
        let (token, text) = match error {
            HeadError::Malformed(text) => ("request-malformed", text),
            HeadError::TooLarge => (
                "head-too-large",
                "the request head is larger than max_head or has more lines than max_headers",
            ),
            HeadError::UriTooLong => ("uri-too-long", "the request target is longer than max_uri"),
            HeadError::Version => ("version-not-supported", "this HTTP version is not supported"),
            HeadError::NotImplemented => {
                ("not-implemented", "this method or transfer coding is not implemented")
            }
            HeadError::NoMemory => {
                ("head-memory", "too many request heads are incomplete (max_head_memory)")
            }
            HeadError::Slow => {
                ("head-timeout", "the request head did not arrive within head_timeout")
            }
        };
        (error.status(), token, text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(head: &ResponseHead) -> Vec<String> {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        head.fields
            .iter()
            .map(|line| format!("{}: {}", text(line.name), text(line.value)))
            .collect()
    }

    #[test]
    fn a_hold_timeout_names_why_the_workload_is_not_ready() {
        let detail =
            "web-1, container app: ErrImageNeverPull: image \u{201c}x\u{201d}\r\nset-cookie: a"
                .to_owned();
        let reason = NotReadyReason { cause: Cause::ImageUnavailable, detail };
        let (head, _) = ErrorResponse::hold_timeout(Some(reason), None).message();
        assert_eq!((head.status.as_u16(), head.reason()), (504, &b"Gateway Timeout"[..]));
        let lines = lines(&head);
        let detail =
            "x-agimo-detail: web-1, container app: ErrImageNeverPull: image ?x???set-cookie: a";
        for line in ["x-agimo-reason: image-unavailable", detail] {
            assert!(lines.iter().any(|found| found == line), "{line:?} in {lines:?}");
        }
        let unknown = ErrorResponse::hold_timeout(None, Some("obstacle".to_owned()));
        assert_eq!(unknown.error.token(), "hold-timeout");
        assert_eq!((unknown.detail.as_deref(), unknown.retry_after), (Some("obstacle"), Some(5)));
    }

    #[test]
    fn a_response_names_its_reason_and_when_to_retry() {
        let (head, body) = ErrorResponse::from(LocalError::HoldFull).message();
        assert_eq!((head.status.as_u16(), head.reason()), (503, &b"Service Unavailable"[..]));
        let lines = lines(&head);
        let length = format!("content-length: {}", body.len());
        for line in ["x-agimo-reason: hold-full", "retry-after: 1", &length] {
            assert!(lines.iter().any(|found| found == line), "{line:?} in {lines:?}");
        }
        assert_eq!(head.body, BodyLength::Known(body.len() as u64));
    }
}
