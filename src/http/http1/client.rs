//! The side of an HTTP/1 connection that sends requests to an endpoint and reads the responses.

use std::io;
use std::task::{Context, Poll, ready};

use http::{Method, StatusCode, Version};

use crate::http::body::{BodyFrames, BodySink, BodySource, NoFrames, TransferError};
use crate::http::codec::{Progress, ResponseError, Upstream};
use crate::http::fields::FieldKind;
use crate::http::message::{BodyLength, HeadError, RequestHead, ResponseHead};
use crate::http::outgoing::OutgoingRequest;
use crate::http::websocket::GeneratedKey;
use crate::net::lent_buffers::{with_read_buffer, with_write_buffer};
use crate::net::stream::{ByteStream, Stream};

use super::body::{BodyReader, BodyWriter};
use super::chunk_extension::Grammar;
use super::framing::{Framing, ResponseFraming};
use super::head::keeps_alive;
use super::head_writer::write_request_head;
use super::response_head::{malformation, parse_response};

/// A connection to an endpoint, and the state of its one request.
#[derive(Debug)]
pub struct ClientConnection {
    stream: Stream,
    /// It has served a request before.
    reused: bool,
    request: BodyWriter,
    /// The request is a HEAD request, whose response has no body.
    to_head: bool,
    response: BodyReader,
    /// The response lets the connection serve another request.
    keep_alive: bool,
    /// Applications differ in where this request ends, or in what they do after it.
    is_ambiguous: bool,
    /// Where the request comes from a version of HTTP whose WebSockets have no key.
    generated_key: Option<Box<GeneratedKey>>,
    /// A response head that is not complete yet.
    partial: Vec<u8>,
    /// It is parsed again when it has ended, and before that only at this length, to notice what is no head.
    parse_at: usize,
    /// Bytes received and written before this request.
    received_before: u64,
    written_before: u64,
}

// === impl ClientConnection ===

impl ClientConnection {
    /// `reused` says that the connection has served a request before.
    pub fn new(mut stream: Stream, reused: bool) -> Self {
        stream.expect_message();
        Self {
            reused,
            request: BodyWriter::new(Framing::Empty),
            to_head: false,
            response: BodyReader::new(Framing::Empty, Grammar::Liberal),
            keep_alive: false,
            is_ambiguous: false,
            generated_key: None,
            partial: Vec::new(),
            parse_at: 0,
            received_before: stream.received(),
            written_before: stream.written(),
            stream,
        }
    }

    /// Passes the first head in `input` to `receive`; `None` while its end has not arrived.
    fn take_head<R>(
        &mut self,
        cx: &mut Context<'_>,
        input: &[u8],
        receive: &mut impl for<'a> FnMut(&mut Context<'_>, &ResponseHead, &mut dyn BodyFrames<'a>) -> R,
    ) -> Result<Option<R>, ResponseError> {
        let malformed = |error| ResponseError::Malformed(malformation(error, input));
        let Some((mut head, version, length)) = parse_response(input).map_err(malformed)? else {
            self.partial = input.to_vec();
            self.parse_at = input.len() * 2;
            return Ok(None);
        };
        let rest = &input[length..];
        if let (Some(generated), StatusCode::SWITCHING_PROTOCOLS) =
            (&self.generated_key, head.status)
            && !generated.is_accepted(&head.fields)
        {
            return Err(malformed(HeadError::Malformed("Sec-WebSocket-Accept is wrong")));
        }
        let ResponseFraming { framing, declared_length, is_contradictory } =
            Framing::of_response(head.status, &head.fields, self.to_head).map_err(malformed)?;
        if head.status.is_informational() {
            self.stream.unread(rest);
            return Ok(Some(receive(cx, &head, &mut NoFrames)));
        }
        head.body = framing.body_length();
        head.declared_length = declared_length;
        self.keep_alive = keeps_alive(version, &head.fields)
            && !is_contradictory
            && !self.is_ambiguous
            && framing != Framing::UntilClose
            && is_framed_once(&head, version);
        self.response = BodyReader::new(framing, Grammar::Liberal);
        let (received, rest) = self.response.frames_of(rest, |frames| receive(cx, &head, frames));
        self.stream.unread(rest);
        Ok(Some(received))
    }
}

impl BodySource for ClientConnection {
    fn poll_frames<R>(
        &mut self,
        cx: &mut Context<'_>,
        receive: impl for<'a> FnOnce(&mut Context<'_>, &mut dyn BodyFrames<'a>) -> R,
    ) -> Poll<R> {
        self.response.poll_frames(cx, &mut self.stream, receive)
    }

    fn is_complete(&self) -> bool {
        self.response.is_complete()
    }
}

impl BodySink for ClientConnection {
    fn send_frames(
        &mut self,
        cx: &mut Context<'_>,
        frames: &mut dyn BodyFrames<'_>,
    ) -> Result<(), TransferError> {
        self.request.send_frames(cx, &mut self.stream, frames)
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.poll_flush(cx)
    }

    fn is_blocked(&self) -> bool {
        self.stream.is_blocked()
    }

    fn written(&self) -> u64 {
        self.stream.written()
    }
}

impl Upstream for ClientConnection {
    type Stream = Stream;

    fn send_request(
        &mut self,
        cx: &mut Context<'_>,
        request: &OutgoingRequest<'_>,
        frames: &mut dyn BodyFrames<'_>,
    ) -> Result<(), TransferError> {
        let framing = Framing::for_recipient(request.head.body, true);
        self.to_head = request.head.method == Method::HEAD;
        self.is_ambiguous = is_ambiguous(request.head);
        self.request = BodyWriter::new(framing);
        if request.head.upgrade {
            self.generated_key = GeneratedKey::of(&request.head.fields).map(Box::new);
        }
        let key = self.generated_key.as_ref().map(|generated| generated.key.as_bytes());
        with_write_buffer(|out| {
            write_request_head(request, framing, key, out);
            self.request.append(frames, out)?;
            self.stream.send(cx, out).map_err(TransferError::Sink)
        })
    }

    fn poll_response<R>(
        &mut self,
        cx: &mut Context<'_>,
        mut receive: impl for<'a> FnMut(&mut Context<'_>, &ResponseHead, &mut dyn BodyFrames<'a>) -> R,
    ) -> Poll<Result<R, ResponseError>> {
        loop {
            let received = ready!(with_read_buffer(|buffer| {
                let length = match ready!(self.stream.poll_read(cx, buffer)) {
                    Ok(length @ 1..) => length,
                    Ok(_) => return Poll::Ready(Err(ResponseError::Disconnected)),
                    Err(error) => return Poll::Ready(Err(ResponseError::from_io(&error))),
                };
                Poll::Ready(if self.partial.is_empty() {
                    self.take_head(cx, &buffer[..length], &mut receive)
                } else {
                    let seen = self.partial.len();
                    self.partial.extend_from_slice(&buffer[..length]);
                    if self.partial.len() < self.parse_at && !has_head_end(&self.partial, seen) {
                        return Poll::Ready(Ok(None));
                    }
                    let all = std::mem::take(&mut self.partial);
                    self.take_head(cx, &all, &mut receive)
                })
            }))?;
            if let Some(received) = received {
                return Poll::Ready(Ok(received));
            }
        }
    }

    fn progress(&self) -> Progress {
        Progress {
            sent: self.stream.written() != self.written_before,
            received: self.stream.received() != self.received_before,
        }
    }

    fn is_reused(&self) -> bool {
        self.reused
    }

    fn is_reusable(&self) -> bool {
        self.keep_alive
            && self.request.is_complete()
            && !self.stream.is_blocked()
            && self.stream.is_quiet()
    }

    fn into_stream(mut self) -> Stream {
        self.stream.end_message();
        self.stream
    }
}

/// Whether a head ends in the bytes from `seen` on.
fn has_head_end(bytes: &[u8], seen: usize) -> bool {
    let from = seen.saturating_sub(3);
    bytes[from..].windows(2).any(|pair| pair == b"\n\n")
        || bytes[from..].windows(3).any(|end| end == b"\n\r\n")
}

/// Whether what follows a response to this request on its connection may be something else. A body has no meaning with
/// these methods (RFC 9110 section 9.3), so some applications leave it unread and take it for the next request. After a
/// refused upgrade, some take what follows for the other protocol.
fn is_ambiguous(request: &RequestHead) -> bool {
    let ignores_body = matches!(
        request.method,
        Method::GET | Method::HEAD | Method::DELETE | Method::OPTIONS | Method::TRACE
    );
    request.upgrade || (ignores_body && request.body != BodyLength::None)
}

/// Whether no other recipient could take the response to end elsewhere (RFC 9112 section 6.3). What follows on a
/// connection where one could is not to be trusted.
fn is_framed_once(head: &ResponseHead, version: Version) -> bool {
    !head.fields.has(FieldKind::TransferEncoding)
        || (version == Version::HTTP_11 && !head.fields.has(FieldKind::ContentLength))
}
