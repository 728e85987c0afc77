//! What the request path needs of a version of HTTP: the client's side of one request, and the endpoint's side. A new
//! version implements these two traits; the request path does not change.

use std::io;
use std::task::{Context, Poll};

use crate::net::stream::ByteStream;
use crate::net::tls::failure;

use super::body::{BodyFrames, BodySink, BodySource, TransferError};
use super::message::{HeadError, ResponseHead};
use super::outgoing::OutgoingRequest;

/// One request of a client: the source of its body, and the sink of the response body.
pub trait Downstream: BodySource + BodySink {
    /// What is left of the connection once it has switched protocols.
    type Stream: ByteStream;

    /// Passes what has already been received of the request body to `receive`, without reading from the connection.
    fn early_frames<R>(&mut self, receive: impl for<'a> FnOnce(&mut dyn BodyFrames<'a>) -> R) -> R;

    /// Makes the request body whole again, so that it can be sent to another endpoint.
    ///
    /// Returns false when a part of it was passed on that is no longer in memory.
    fn rewind_body(&mut self) -> bool;

    /// The client shall send no further request on this connection: the next head says so.
    fn close_after_response(&mut self);

    /// Sends an informational head (RFC 9110 section 15.2), where the version of HTTP has such.
    fn send_informational(&mut self, cx: &mut Context<'_>, head: &ResponseHead) -> io::Result<()>;

    /// Sends the final head, with the first frames of the body in the same write.
    fn start_response(
        &mut self,
        cx: &mut Context<'_>,
        head: &ResponseHead,
        frames: &mut dyn BodyFrames<'_>,
    ) -> Result<(), TransferError>;

    /// Sends a response of agimo's own, whose body is complete, in place of one of the application.
    fn send_own_response(
        &mut self,
        cx: &mut Context<'_>,
        head: &ResponseHead,
        body: &[u8],
    ) -> io::Result<()>;

    /// Makes sure that the client does not take an incomplete response for a complete one.
    fn abort(&mut self);

    /// Ready when the client has disconnected, even if parts of the request body have not been read. It reads nothing.
    fn poll_closed(&mut self, cx: &mut Context<'_>) -> Poll<()>;

    /// Called now and then while the request is held. Where the end of the connection cannot arrive behind a body that
    /// fills all buffers, this makes the network tell whether the client is still there.
    fn probe_client(&mut self, cx: &mut Context<'_>) -> io::Result<()>;

    /// The connection as the protocol that was switched to uses it.
    fn into_stream(self) -> Self::Stream;
}

/// One request to an endpoint: the sink of its body, and the source of the response body.
pub trait Upstream: BodySource + BodySink {
    /// The connection below.
    type Stream: ByteStream;

    /// Sends the head, with the first frames of the body in the same write.
    fn send_request(
        &mut self,
        cx: &mut Context<'_>,
        request: &OutgoingRequest<'_>,
        frames: &mut dyn BodyFrames<'_>,
    ) -> Result<(), TransferError>;

    /// Waits for the next head and passes it to `receive` once, a final head with what came of its body in the same read.
    fn poll_response<R>(
        &mut self,
        cx: &mut Context<'_>,
        receive: impl for<'a> FnMut(&mut Context<'_>, &ResponseHead, &mut dyn BodyFrames<'a>) -> R,
    ) -> Poll<Result<R, ResponseError>>;

    /// How far this request has come on the connection.
    fn progress(&self) -> Progress;

    /// Whether the connection has served a request before, so that the endpoint may be closing it.
    fn is_reused(&self) -> bool;

    /// Whether the connection can serve another request. Asked when the response is complete.
    fn is_reusable(&self) -> bool;

    /// The connection, for another request or for the protocol that was switched to.
    fn into_stream(self) -> Self::Stream;
}

/// Whether bytes of one request have been sent, and of its response received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    pub sent: bool,
    pub received: bool,
}

/// Why there is no response.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResponseError {
    #[error("the connection ended before the head of the response")]
    Disconnected,
    /// Whatever its method, the request may be sent again.
    #[error("the endpoint has not acted on the request")]
    NotProcessed,
    /// The endpoint has ended the TLS session; the text says why.
    #[error("{0}")]
    Tls(&'static str),
    #[error("the response is not valid HTTP: {0}")]
    Malformed(Malformation),
}

/// What is not valid about a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformation {
    pub rule: HeadError,
    /// The line of the head, counted from 1, as far as one line is wrong by itself.
    pub line: Option<usize>,
}

// === impl ResponseError ===

impl ResponseError {
    /// A connection that failed.
    pub fn from_io(error: &io::Error) -> Self {
        failure::describe(error).map_or(Self::Disconnected, Self::Tls)
    }
}

// === impl Malformation ===

impl std::fmt::Display for Malformation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.line {
            Some(line) => write!(f, "line {line}: {}", self.rule),
            None => self.rule.fmt(f),
        }
    }
}
