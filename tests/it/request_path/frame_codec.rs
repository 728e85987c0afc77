//! A second codec, so that the tests show which part of the request path depends on HTTP/1: none. It is a sequence of
//! length-prefixed frames over a stream in memory.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use agimo::http::body::{BodyError, BodyFrame, BodyFrames, BodySink, BodySource, TransferError};
use agimo::http::codec::{Downstream, Malformation, Progress, ResponseError, Upstream};
use agimo::http::message::{BodyLength, HeadError, RequestHead, ResponseHead};
use agimo::http::outgoing::OutgoingRequest;
use agimo::net::stream::ByteStream;
use http::{Method, StatusCode, Version};
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};

use super::frames::{
    DATA, END, FRAME_HEAD, INFORMATIONAL, Lines, REQUEST, RESPONSE, append, body_length, body_text,
    fields, frame, frame_length, response_text,
};

/// One side of a connection, with its one request.
pub(super) struct FrameConnection {
    io: DuplexStream,
    /// Received and not yet passed on.
    input: Vec<u8>,
    unsent: Vec<u8>,
    complete: bool,
    /// Frames that were passed on before anything was read for them.
    passed_on: Vec<u8>,
    /// A part of the body was passed on that is no longer in memory.
    is_consumed: bool,
    received: bool,
    written: u64,
    pub(super) aborted: bool,
    pub(super) closes: bool,
}

/// The frames of a batch, all of them whole.
struct Batch<'b> {
    rest: &'b [u8],
    complete: &'b mut bool,
}

struct Disconnected;

// === impl FrameConnection ===

impl FrameConnection {
    pub(super) fn new(io: DuplexStream) -> Self {
        Self {
            io,
            input: Vec::new(),
            unsent: Vec::new(),
            complete: false,
            passed_on: Vec::new(),
            is_consumed: false,
            received: false,
            written: 0,
            aborted: false,
            closes: false,
        }
    }

    /// Reads the head of a client's request, and what follows it without another read.
    pub(super) async fn accept(io: DuplexStream) -> (Self, RequestHead) {
        let mut connection = Self::new(io);
        let frame = std::future::poll_fn(|cx| connection.poll_frame(cx)).await.unwrap();
        assert_eq!(frame[0], REQUEST);
        let text = std::str::from_utf8(&frame[FRAME_HEAD..]).unwrap();
        let mut lines = text.lines();
        let first: Vec<&str> = lines.next().unwrap().split(' ').collect();
        let [method, authority, path, body] = first[..] else { panic!("{text}") };
        let body = body_length(body);
        connection.complete = body == BodyLength::None;
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let (authority, path) = (Some(authority.as_bytes()), path.as_bytes());
        let head = RequestHead::new(method, Version::HTTP_2, authority, path, body, fields(lines));
        (connection, head)
    }

    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut space = [0; 4096];
        let mut buffer = ReadBuf::new(&mut space);
        ready!(Pin::new(&mut self.io).poll_read(cx, &mut buffer))?;
        let received = buffer.filled();
        self.input.extend_from_slice(received);
        self.received |= !received.is_empty();
        Poll::Ready(Ok(received.len()))
    }

    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Vec<u8>>> {
        loop {
            if let Some(length) = frame_length(&self.input) {
                return Poll::Ready(Ok(self.input.drain(..length).collect()));
            }
            if ready!(self.poll_fill(cx))? == 0 {
                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            }
        }
    }

    /// Takes the whole frames of the body that have been received.
    fn take_batch(&mut self) -> Vec<u8> {
        let mut length = 0;
        while let (false, Some(frame)) = (self.complete, frame_length(&self.input[length..])) {
            let kind = self.input[length];
            length += frame;
            if kind == END {
                break;
            }
        }
        self.input.drain(..length).collect()
    }

    fn send(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> io::Result<()> {
        self.unsent.extend_from_slice(bytes);
        match BodySink::poll_flush(self, cx) {
            Poll::Ready(sent) => sent,
            Poll::Pending => Ok(()),
        }
    }
}

impl BodySource for FrameConnection {
    fn poll_frames<R>(
        &mut self,
        cx: &mut Context<'_>,
        receive: impl for<'a> FnOnce(&mut Context<'_>, &mut dyn BodyFrames<'a>) -> R,
    ) -> Poll<R> {
        let mut batch = self.take_batch();
        while batch.is_empty() {
            match ready!(self.poll_fill(cx)) {
                Ok(1..) => batch = self.take_batch(),
                _ => return Poll::Ready(receive(cx, &mut Disconnected)),
            }
        }
        self.is_consumed = true;
        let mut frames = Batch { rest: &batch, complete: &mut self.complete };
        Poll::Ready(receive(cx, &mut frames))
    }

    fn is_complete(&self) -> bool {
        self.complete
    }
}

impl BodySink for FrameConnection {
    fn send_frames(
        &mut self,
        cx: &mut Context<'_>,
        frames: &mut dyn BodyFrames<'_>,
    ) -> Result<(), TransferError> {
        let mut out = Vec::new();
        append(frames, &mut out)?;
        self.send(cx, &out).map_err(TransferError::Sink)
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.unsent.is_empty() {
            let length = ready!(Pin::new(&mut self.io).poll_write(cx, &self.unsent))?;
            self.unsent.drain(..length);
            self.written += length as u64;
        }
        Poll::Ready(Ok(()))
    }

    fn is_blocked(&self) -> bool {
        !self.unsent.is_empty()
    }

    fn written(&self) -> u64 {
        self.written
    }
}

impl Downstream for FrameConnection {
    type Stream = Self;

    fn early_frames<R>(&mut self, receive: impl for<'a> FnOnce(&mut dyn BodyFrames<'a>) -> R) -> R {
        let batch = self.take_batch();
        let received = receive(&mut Batch { rest: &batch, complete: &mut self.complete });
        self.passed_on = batch;
        received
    }

    fn rewind_body(&mut self) -> bool {
        let rest = std::mem::take(&mut self.input);
        self.input = std::mem::take(&mut self.passed_on);
        self.complete &= self.input.is_empty();
        self.input.extend(rest);
        !self.is_consumed
    }

    fn close_after_response(&mut self) {
        self.closes = true;
    }

    fn send_informational(&mut self, cx: &mut Context<'_>, head: &ResponseHead) -> io::Result<()> {
        self.send(cx, &frame(INFORMATIONAL, response_text(head).as_bytes()))
    }

    fn start_response(
        &mut self,
        cx: &mut Context<'_>,
        head: &ResponseHead,
        frames: &mut dyn BodyFrames<'_>,
    ) -> Result<(), TransferError> {
        let mut out = frame(RESPONSE, response_text(head).as_bytes());
        append(frames, &mut out)?;
        self.send(cx, &out).map_err(TransferError::Sink)
    }

    fn send_own_response(
        &mut self,
        cx: &mut Context<'_>,
        head: &ResponseHead,
        body: &[u8],
    ) -> io::Result<()> {
        let head = frame(RESPONSE, response_text(head).as_bytes());
        self.send(cx, &[head, frame(DATA, body), frame(END, b"")].concat())
    }

    fn abort(&mut self) {
        self.aborted = true;
    }

    fn poll_closed(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            if !matches!(ready!(self.poll_fill(cx)), Ok(1..)) {
                return Poll::Ready(());
            }
        }
    }

    fn into_stream(self) -> Self {
        self
    }

    fn probe_client(&mut self, _: &mut Context<'_>) -> io::Result<()> {
        Ok(())
    }
}

impl Upstream for FrameConnection {
    type Stream = Self;

    fn send_request(
        &mut self,
        cx: &mut Context<'_>,
        request: &OutgoingRequest<'_>,
        frames: &mut dyn BodyFrames<'_>,
    ) -> Result<(), TransferError> {
        let head = request.head;
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let authority = head.authority().unwrap_or_default();
        let mut lines = Lines(format!(
            "{} {} {} {}\n",
            head.method,
            text(authority),
            text(head.path()),
            body_text(head.body)
        ));
        // The lines that differ between codecs are left out.
        request.write_fields(&mut lines, |_, _| ());
        let mut out = frame(REQUEST, lines.0.as_bytes());
        append(frames, &mut out)?;
        self.send(cx, &out).map_err(TransferError::Sink)
    }

    fn poll_response<R>(
        &mut self,
        cx: &mut Context<'_>,
        mut receive: impl for<'a> FnMut(&mut Context<'_>, &ResponseHead, &mut dyn BodyFrames<'a>) -> R,
    ) -> Poll<Result<R, ResponseError>> {
        let Ok(frame) = ready!(self.poll_frame(cx)) else {
            return Poll::Ready(Err(ResponseError::Disconnected));
        };
        let text = std::str::from_utf8(&frame[FRAME_HEAD..]).unwrap();
        let mut lines = text.lines();
        let Some((status, body)) = lines.next().and_then(|line| line.split_once(' ')) else {
            return Poll::Ready(Err(ResponseError::Malformed(malformed())));
        };
        let status = StatusCode::from_bytes(status.as_bytes()).unwrap();
        let head = ResponseHead::new(status, body_length(body), fields(lines));
        let batch = if frame[0] == RESPONSE { self.take_batch() } else { Vec::new() };
        let mut frames = Batch { rest: &batch, complete: &mut self.complete };
        Poll::Ready(Ok(receive(cx, &head, &mut frames)))
    }

    fn progress(&self) -> Progress {
        Progress { sent: self.written > 0, received: self.received }
    }

    fn is_reused(&self) -> bool {
        false
    }

    fn is_reusable(&self) -> bool {
        self.complete && !self.is_blocked()
    }

    fn into_stream(self) -> Self {
        self
    }
}

/// After a switch of protocols, bytes are no frames any more.
impl ByteStream for FrameConnection {
    fn poll_read(&mut self, cx: &mut Context<'_>, into: &mut [u8]) -> Poll<io::Result<usize>> {
        if self.input.is_empty() {
            ready!(self.poll_fill(cx))?;
        }
        let length = self.input.len().min(into.len());
        into[..length].copy_from_slice(&self.input[..length]);
        self.input.drain(..length);
        Poll::Ready(Ok(length))
    }

    fn send(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> io::Result<()> {
        Self::send(self, cx, bytes)
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        BodySink::poll_flush(self, cx)
    }

    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn written(&self) -> u64 {
        self.written
    }

    fn is_dead(&self) -> bool {
        false
    }
}

// === impl Batch ===

impl<'b> BodyFrames<'b> for Batch<'b> {
    fn next(&mut self) -> Result<Option<BodyFrame<'b>>, BodyError> {
        let Some(length) = frame_length(self.rest) else { return Ok(None) };
        let (whole, rest) = self.rest.split_at(length);
        self.rest = rest;
        let payload = &whole[FRAME_HEAD..];
        match whole[0] {
            DATA => Ok(Some(BodyFrame::Data(payload))),
            END => {
                *self.complete = true;
                let lines = std::str::from_utf8(payload).unwrap().lines();
                Ok(Some(BodyFrame::End(fields(lines).build())))
            }
            _ => Err(BodyError::Malformed("a frame has no place in a body")),
        }
    }
}

// === impl Disconnected ===

impl<'a> BodyFrames<'a> for Disconnected {
    fn next(&mut self) -> Result<Option<BodyFrame<'a>>, BodyError> {
        Err(BodyError::Disconnected)
    }
}

fn malformed() -> Malformation {
    Malformation { rule: HeadError::Malformed("a head without a length"), line: None }
}
