//! agimo's own responses to gRPC calls: a status in the head of a response without a body ("Trailers-Only").

use http::StatusCode;

use crate::http::fields::FieldsBuilder;
use crate::http::grpc::{GrpcStatus, encode_message};
use crate::http::message::{BodyLength, HeadError, ResponseHead};

use super::{ErrorResponse, LocalError, REASON_HEADER};

// === impl ErrorResponse ===

impl ErrorResponse {
    /// The head of the response, with a gRPC status; it has no body.
    pub fn grpc_head(&self) -> ResponseHead {
        let mut fields = FieldsBuilder::default();
        fields.line(b"content-type", b"application/grpc");
        let status = self.error.grpc_status() as u8;
        fields.line(b"grpc-status", status.to_string().as_bytes());
        fields.line(b"grpc-message", encode_message(&self.sentence()).as_bytes());
        if let Some(seconds) = self.retry_after {
            // gRPC A6, "Pushback": in milliseconds.
            fields.line(b"grpc-retry-pushback-ms", (seconds * 1000).to_string().as_bytes());
        }
        fields.line(REASON_HEADER.as_bytes(), self.error.token().as_bytes());
        let mut head = ResponseHead::new(StatusCode::OK, BodyLength::None, fields);
        head.is_own = true;
        head
    }
}

// === impl LocalError ===

impl LocalError {
    /// UNAVAILABLE does not say whether the application has processed the call: gRPC's own clients use it for a connection that
    /// broke, too.
    fn grpc_status(self) -> GrpcStatus {
        match self {
            Self::ClientDeadline(_) | Self::ResponseTimeout | Self::IdleTimeout => {
                GrpcStatus::DeadlineExceeded
            }
            Self::BodyTooLarge
            | Self::Head(HeadError::TooLarge | HeadError::UriTooLong | HeadError::NoMemory) => {
                GrpcStatus::ResourceExhausted
            }
            Self::UnknownHost => GrpcStatus::Unimplemented,
            // gRPC knows no redirects: the call is never answered here.
            Self::HttpsRequired => GrpcStatus::FailedPrecondition,
            Self::Head(_) | Self::Loop | Self::ResponseMalformed => GrpcStatus::Internal,
            Self::ConnectionBroken
            | Self::EndpointTls
            | Self::HoldFull
            | Self::HoldTimeout(_)
            | Self::NoBackend
            | Self::ServiceRemoved
            | Self::WakeFailed(_) => GrpcStatus::Unavailable,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_names_its_reason_and_when_to_retry() {
        let head = ErrorResponse::from(LocalError::HoldFull).grpc_head();
        assert_eq!((head.status, head.body), (StatusCode::OK, BodyLength::None));
        for (name, value) in [
            ("grpc-status", "14"),
            ("grpc-message", "agimo: too many requests wait for this application"),
            ("grpc-retry-pushback-ms", "1000"),
            ("x-agimo-reason", "hold-full"),
        ] {
            assert_eq!(head.fields.named(name.as_bytes()), Some(value.as_bytes()), "{name}");
        }
        let unknown = ErrorResponse::from(LocalError::UnknownHost).grpc_head();
        assert_eq!(unknown.fields.named(b"grpc-status"), Some(&b"12"[..]));
        assert_eq!(unknown.fields.named(b"grpc-retry-pushback-ms"), None);
    }
}
