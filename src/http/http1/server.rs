//! The side of an HTTP/1 connection that serves a client: reads requests one after the other, writes the responses.

use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http::{Method, StatusCode, Version};
use tokio::time::Instant;

use crate::http::body::{BodyFrames, BodySink, BodySource, NoFrames, TransferError};
use crate::http::codec::{Downstream, Malformation};
use crate::http::fields::FieldsBuilder;
use crate::http::message::{BodyLength, HeadError, HeadLimits, RequestHead, ResponseHead};
use crate::net::lent_buffers::{with_read_buffer, with_write_buffer};
use crate::net::stream::{ByteStream, Stream};
use crate::net::timer::Timer;

use super::body::{BodyReader, BodyWriter};
use super::chunk_extension::Grammar;
use super::framing::Framing;
use super::head::{keeps_alive, parse_request};
use super::head_writer::write_response_head;
use super::preface::Preface;

/// A client's connection, and the state of its current request.
#[derive(Debug)]
pub struct ServerConnection {
    stream: Stream,
    /// A request has been read.
    has_read_request: bool,
    version: Version,
    /// The connection may serve another request after this one.
    keep_alive: bool,
    framing: Framing,
    request: BodyReader,
    /// The request asks to switch protocols.
    is_upgrade: bool,
    /// The request is a HEAD request, whose response has no body.
    to_head: bool,
    /// Bytes of the request body that waited to be read when the client was last probed.
    unread_before: u64,
    /// Bytes received from the client up to the end of the head.
    received: u64,
    /// What was passed on of the body that came with the head.
    passed_on: Vec<u8>,
    response: BodyWriter,
}

/// Why there is no next request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoRequest {
    /// The client has closed the connection, or it failed.
    Closed,
    /// The client speaks HTTP/2; the stream still contains its preface.
    Http2,
    Rejected(RejectedHead),
}

/// A request head that is rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RejectedHead {
    pub malformation: Malformation,
    /// It begins as a HEAD request, to which a response has no body.
    pub to_head: bool,
}

/// Bytes that are read at once while a head is expected. What follows the head is kept while the request is held, so it
/// must not be much.
const HEAD_READ: usize = 8 * 1024;
/// How long a client may be silent after the response that ends the connection, and for how long and how many bytes it may
/// go on sending. To close at once would reset the connection, and the response could be lost.
const LINGER_SILENCE: Duration = Duration::from_secs(5);
const LINGER: Duration = Duration::from_secs(60);
const LINGER_BYTES: usize = 64 * 1024 * 1024;

// === impl ServerConnection ===

impl ServerConnection {
    pub fn new(stream: Stream) -> Self {
        Self {
            stream,
            has_read_request: false,
            version: Version::HTTP_11,
            keep_alive: false,
            framing: Framing::Empty,
            request: BodyReader::new(Framing::Empty, Grammar::Strict),
            is_upgrade: false,
            to_head: false,
            unread_before: 0,
            received: 0,
            passed_on: Vec::new(),
            response: BodyWriter::new(Framing::Empty),
        }
    }

    /// Waits for the head of the next request. `partial` keeps what has arrived of it between calls and is empty as long
    /// as nothing has.
    pub fn poll_request(
        &mut self,
        cx: &mut Context<'_>,
        limits: &HeadLimits,
        partial: &mut Vec<u8>,
    ) -> Poll<Result<RequestHead, NoRequest>> {
        loop {
            let head = ready!(with_read_buffer(|buffer| {
                let buffer = &mut buffer[..HEAD_READ];
                let Ok(length @ 1..) = ready!(self.stream.poll_read(cx, buffer)) else {
                    return Poll::Ready(Err(NoRequest::Closed));
                };
                let had_begun = !partial.is_empty();
                if !self.has_read_request {
                    match Preface::of(partial, &buffer[..length]) {
                        Preface::Absent => {}
                        Preface::Incomplete => {
                            partial.extend_from_slice(&buffer[..length]);
                            return Poll::Ready(Ok(None));
                        }
                        Preface::Complete => {
                            partial.extend_from_slice(&buffer[..length]);
                            self.stream.unread(&std::mem::take(partial));
                            return Poll::Ready(Err(NoRequest::Http2));
                        }
                    }
                }
                let head = parse_part(&buffer[..length], limits, &mut *partial);
                Poll::Ready(match head {
                    Ok(Some((head, rest))) => {
                        self.stream.unread(rest);
                        Ok(Some(head))
                    }
                    Ok(None) => Ok(None),
                    Err(error) => {
                        let head = if had_begun { &**partial } else { &buffer[..length] };
                        Err(NoRequest::Rejected(RejectedHead::new(error, head, limits)))
                    }
                })
            }))?;
            if let Some(head) = head {
                self.start_request(&head);
                return Poll::Ready(Ok(head));
            }
        }
    }

    /// Whether the response that was sent last lets the client send another request.
    pub fn is_kept_alive(&self) -> bool {
        self.keep_alive
    }

    /// Writes what is left, closes agimo's side, and gives the client time to read it (RFC 9112 section 9.6).
    pub async fn linger(&mut self, timer: &mut Timer) {
        let end = Instant::now() + LINGER;
        timer.set(Instant::now() + LINGER_SILENCE);
        let mut left = LINGER_BYTES;
        let mut closed = false;
        poll_fn(|cx| {
            if timer.poll(cx).is_ready() {
                return Poll::Ready(());
            }
            if !closed {
                if ready!(self.stream.poll_flush(cx)).is_err()
                    || ready!(self.stream.poll_shutdown(cx)).is_err()
                {
                    return Poll::Ready(());
                }
                closed = true;
            }
            loop {
                let read = with_read_buffer(|buffer| self.stream.poll_read(cx, buffer));
                if read.is_pending() {
                    // Registers the later deadline.
                    return timer.poll(cx);
                }
                let Poll::Ready(Ok(length @ 1..)) = read else { return Poll::Ready(()) };
                left = left.saturating_sub(length);
                let now = Instant::now();
                if left == 0 || now >= end {
                    return Poll::Ready(());
                }
                timer.set((now + LINGER_SILENCE).min(end));
            }
        })
        .await;
    }

    fn start_request(&mut self, head: &RequestHead) {
        self.has_read_request = true;
        self.version = head.version;
        self.keep_alive = keeps_alive(head.version, &head.fields);
        self.framing = Framing::for_recipient(head.body, true);
        self.request = BodyReader::new(self.framing, Grammar::Strict);
        self.received = self.stream.received();
        self.is_upgrade = head.upgrade;
        self.to_head = head.method == Method::HEAD;
        self.unread_before = 0;
        self.passed_on = Vec::new();
    }
}

impl BodySource for ServerConnection {
    fn poll_frames<R>(
        &mut self,
        cx: &mut Context<'_>,
        receive: impl for<'a> FnOnce(&mut Context<'_>, &mut dyn BodyFrames<'a>) -> R,
    ) -> Poll<R> {
        self.request.poll_frames(cx, &mut self.stream, receive)
    }

    fn is_complete(&self) -> bool {
        self.request.is_complete()
    }
}

impl BodySink for ServerConnection {
    fn send_frames(
        &mut self,
        cx: &mut Context<'_>,
        frames: &mut dyn BodyFrames<'_>,
    ) -> Result<(), TransferError> {
        self.response.send_frames(cx, &mut self.stream, frames)
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

impl Downstream for ServerConnection {
    type Stream = Stream;

    fn early_frames<R>(&mut self, receive: impl for<'a> FnOnce(&mut dyn BodyFrames<'a>) -> R) -> R {
        if self.request.is_complete() {
            // What has been received belongs to the next request.
            return receive(&mut NoFrames);
        }
        let mut early = self.stream.take_early();
        let (received, rest) = self.request.frames_of(&early, receive);
        self.stream.unread(rest);
        early.truncate(early.len() - rest.len());
        self.passed_on = early;
        received
    }

    fn rewind_body(&mut self) -> bool {
        if self.stream.received() != self.received {
            return false;
        }
        self.stream.unread(&self.passed_on);
        self.passed_on = Vec::new();
        self.request = BodyReader::new(self.framing, Grammar::Strict);
        true
    }

    fn close_after_response(&mut self) {
        self.keep_alive = false;
    }

    fn send_informational(&mut self, cx: &mut Context<'_>, head: &ResponseHead) -> io::Result<()> {
        // RFC 9110 section 15.2: HTTP/1.0 has no informational responses.
        if self.version == Version::HTTP_10 {
            return Ok(());
        }
        with_write_buffer(|out| {
            write_response_head(head, Framing::Empty, false, self.version, true, out);
            self.stream.send(cx, out)
        })
    }

    fn start_response(
        &mut self,
        cx: &mut Context<'_>,
        head: &ResponseHead,
        frames: &mut dyn BodyFrames<'_>,
    ) -> Result<(), TransferError> {
        let framing = Framing::for_recipient(head.body, self.version == Version::HTTP_11);
        // What follows a refused request to switch protocols may be meant for the other protocol.
        let is_ambiguous = self.is_upgrade && !self.stream.is_quiet();
        // A response of HTTP/2 may end with its head.
        let states_empty = framing == Framing::Empty
            && head.declared_length.is_none()
            && !self.to_head
            && !matches!(head.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        let keep_alive = self.keep_alive
            && !is_ambiguous
            && framing != Framing::UntilClose
            && self.request.is_complete();
        self.response = BodyWriter::new(framing);
        with_write_buffer(|out| {
            write_response_head(head, framing, states_empty, self.version, keep_alive, out);
            self.response.append(frames, out)?;
            self.keep_alive = keep_alive;
            self.passed_on = Vec::new();
            self.stream.send(cx, out).map_err(TransferError::Sink)
        })
    }

    fn send_own_response(
        &mut self,
        cx: &mut Context<'_>,
        head: &ResponseHead,
        body: &[u8],
    ) -> io::Result<()> {
        // Only where the end of the request is beyond doubt.
        self.keep_alive &= self.framing == Framing::Empty
            && self.version == Version::HTTP_11
            && (!self.is_upgrade || self.stream.is_quiet());
        with_write_buffer(|out| {
            let framing = Framing::for_recipient(head.body, true);
            write_response_head(head, framing, false, self.version, self.keep_alive, out);
            out.extend_from_slice(body);
            self.stream.send(cx, out)
        })
    }

    fn abort(&mut self) {
        if self.response.framing() == Framing::UntilClose {
            // Only a reset tells the client that this is not the end of the body.
            self.stream.reset();
        }
    }

    fn poll_closed(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.stream.poll_closed(cx)
    }

    fn probe_client(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        // A client of HTTP/1.0 knows no informational response.
        if self.version == Version::HTTP_10 || self.request.is_complete() || self.is_blocked() {
            return Ok(());
        }
        // Silence behind bytes that nobody reads: the buffers are full, or the client pauses.
        let unread = self.stream.unread_bytes();
        if unread == 0 || unread != std::mem::replace(&mut self.unread_before, unread) {
            return Ok(());
        }
        let proceed =
            ResponseHead::new(StatusCode::CONTINUE, BodyLength::None, FieldsBuilder::default());
        self.send_informational(cx, &proceed)
    }

    fn into_stream(self) -> Stream {
        self.stream
    }
}

// === impl RejectedHead ===

impl RejectedHead {
    /// `head` is what has arrived of it.
    pub fn new(error: HeadError, head: &[u8], limits: &HeadLimits) -> Self {
        let is_rejected = |lines: &[u8]| parse_request(lines, limits).is_err();
        let malformation = Malformation::find(error, head, is_rejected);
        Self { malformation, to_head: head.trim_ascii_start().starts_with(b"HEAD ") }
    }
}

/// Parses what has arrived of a head, with `received` as its newest part.
///
/// Returns the head and what follows it; `None` while the end of the head has not arrived.
fn parse_part<'a>(
    received: &'a [u8],
    limits: &HeadLimits,
    partial: &'a mut Vec<u8>,
) -> Result<Option<(RequestHead, &'a [u8])>, HeadError> {
    let mut received = received;
    let has_begun = !partial.is_empty();
    // RFC 9112 section 2.2: empty lines before a request are ignored.
    while let (false, Some(rest)) = (has_begun, received.strip_prefix(b"\r\n")) {
        received = rest;
    }
    if received.is_empty() {
        return Ok(None);
    }
    if !has_begun {
        if let Some((head, length)) = parse_request(received, limits)? {
            return Ok(Some((head, &received[length..])));
        }
        partial.extend_from_slice(received);
        return Ok(None);
    }
    partial.extend_from_slice(received);
    // Without the end of a line only the length has changed.
    if !received.contains(&b'\n') && partial.len() < limits.uri {
        return Ok(None);
    }
    let parsed = parse_request(partial, limits)?;
    Ok(parsed.map(|(head, length)| (head, &partial[length..])))
}
