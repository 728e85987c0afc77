//! Moves message bodies between frames and HTTP/2 streams.

use std::io;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use h2::{RecvStream, SendStream};
use http::HeaderMap;

use crate::http::body::{BodyError, BodyFrame, BodyFrames};
use crate::http::fields::Fields;
use crate::net::lent_buffers::READ_BYTES;

use super::fields::{received_trailers, trailers};

/// Receives one body.
pub(super) struct BodyReader {
    /// `None` until there is a message.
    stream: Option<RecvStream>,
    /// The end has been passed on.
    complete: bool,
    /// To be passed on first.
    returned: Option<Batch>,
}

/// What has arrived of a body.
#[derive(Clone, Default)]
pub(super) struct Batch {
    first: Option<Bytes>,
    more: Vec<Bytes>,
    end: Option<Result<Fields, BodyError>>,
}

/// Sends one body.
#[derive(Default)]
pub(super) struct BodyWriter {
    /// `None` until the head has been sent.
    stream: Option<SendStream<Bytes>>,
    /// Accepted for sending; the stream has no room.
    unsent: BytesMut,
    /// The body ends behind `unsent`, with these trailers.
    end: Option<HeaderMap>,
    complete: bool,
    written: u64,
    /// The stream has no room before the connection has sent its head. So much is sent with the head nevertheless: the crate
    /// keeps it until then, and both go out in one write.
    with_head: usize,
}

/// What is sent with the head of a request at most, in bytes.
const MOST_WITH_HEAD: usize = 16 * 1024;

/// The frames of a batch.
struct Frames<'b> {
    data: std::iter::Chain<std::option::Iter<'b, Bytes>, std::slice::Iter<'b, Bytes>>,
    end: Option<&'b Result<Fields, BodyError>>,
    complete: &'b mut bool,
}

// === impl BodyReader ===

impl BodyReader {
    /// Receives from a stream, unless the head was all of the message.
    pub(super) fn new(stream: RecvStream, has_body: bool) -> Self {
        Self { stream: Some(stream), complete: !has_body, returned: None }
    }

    /// Before there is a message.
    pub(super) fn none() -> Self {
        Self { stream: None, complete: false, returned: None }
    }

    pub(super) fn is_complete(&self) -> bool {
        self.complete
    }

    /// Passes on what has arrived.
    pub(super) fn poll_batch(&mut self, cx: &mut Context<'_>) -> Poll<Batch> {
        if let Some(returned) = self.returned.take() {
            return Poll::Ready(returned);
        }
        let Some(stream) = &mut self.stream else { return Poll::Pending };
        let mut batch = Batch::default();
        let mut length = 0;
        while length < READ_BYTES && batch.end.is_none() {
            match stream.poll_data(cx) {
                Poll::Ready(Some(Ok(data))) => {
                    length += data.len();
                    // An error means that the stream has ended: the next poll reports it.
                    let _ = stream.flow_control().release_capacity(data.len());
                    batch.push(data);
                    if stream.is_end_stream() {
                        batch.end = Some(Ok(Fields::default()));
                    }
                }
                Poll::Ready(Some(Err(_))) => batch.end = Some(Err(BodyError::Disconnected)),
                Poll::Ready(None) => match stream.poll_trailers(cx) {
                    Poll::Ready(Ok(trailers)) => {
                        let trailers = trailers.as_ref().map(received_trailers);
                        batch.end = Some(Ok(trailers.unwrap_or_default()));
                    }
                    Poll::Ready(Err(_)) => batch.end = Some(Err(BodyError::Disconnected)),
                    Poll::Pending => break,
                },
                Poll::Pending => break,
            }
        }
        if batch.is_empty() { Poll::Pending } else { Poll::Ready(batch) }
    }

    /// Passes the frames of the batch to `receive`.
    pub(super) fn pass_on<R>(
        &mut self,
        batch: &Batch,
        receive: impl for<'a> FnOnce(&mut dyn BodyFrames<'a>) -> R,
    ) -> R {
        receive(&mut batch.frames(&mut self.complete))
    }

    /// Gives a batch back, to be passed on again.
    pub(super) fn unread(&mut self, batch: Batch) {
        self.complete &= batch.end.is_none();
        if !batch.is_empty() {
            self.returned = Some(batch);
        }
    }

    /// The stream, where it is there.
    pub(super) fn into_stream(self) -> Option<RecvStream> {
        self.stream
    }
}

// === impl Batch ===

impl Batch {
    fn push(&mut self, data: Bytes) {
        match self.first {
            None => self.first = Some(data),
            Some(_) => self.more.push(data),
        }
    }

    fn is_empty(&self) -> bool {
        self.first.is_none() && self.end.is_none()
    }

    fn frames<'b>(&'b self, complete: &'b mut bool) -> Frames<'b> {
        Frames { data: self.first.iter().chain(&self.more), end: self.end.as_ref(), complete }
    }
}

impl<'b> BodyFrames<'b> for Frames<'b> {
    fn next(&mut self) -> Result<Option<BodyFrame<'b>>, BodyError> {
        if let Some(data) = self.data.next() {
            return Ok(Some(BodyFrame::Data(data)));
        }
        match self.end.take() {
            None => Ok(None),
            Some(Err(error)) => Err(*error),
            Some(Ok(trailers)) => {
                *self.complete = true;
                Ok(Some(BodyFrame::End(trailers.clone())))
            }
        }
    }
}

// === impl BodyWriter ===

impl BodyWriter {
    /// The head has been sent on this stream; `has_body` says whether that was not all of the message. What has been accepted
    /// by now follows it.
    pub(super) fn begin(&mut self, stream: SendStream<Bytes>, has_body: bool) {
        self.stream = Some(stream);
        self.complete = !has_body;
        self.end = self.end.take().filter(|_| has_body);
    }

    /// The same for a request, whose stream opens with its head.
    pub(super) fn begin_request(&mut self, stream: SendStream<Bytes>, has_body: bool) {
        self.begin(stream, has_body);
        self.with_head = MOST_WITH_HEAD;
    }

    pub(super) fn stream(&mut self) -> Option<&mut SendStream<Bytes>> {
        self.stream.as_mut()
    }

    pub(super) fn is_complete(&self) -> bool {
        self.complete
    }

    /// Whether something that was accepted waits for room.
    pub(super) fn is_blocked(&self) -> bool {
        !self.unsent.is_empty() || self.end.is_some()
    }

    /// Bytes that the stream has accepted.
    pub(super) fn written(&self) -> u64 {
        self.written
    }

    /// Accepts the frames of a batch.
    pub(super) fn append(&mut self, frames: &mut dyn BodyFrames<'_>) -> Result<(), BodyError> {
        while let Some(frame) = frames.next()? {
            match frame {
                BodyFrame::Data(data) => self.append_data(data),
                BodyFrame::End(_) if self.complete => {}
                BodyFrame::End(fields) => self.end = Some(trailers(&fields)),
            }
        }
        Ok(())
    }

    /// Accepts a part of the body.
    pub(super) fn append_data(&mut self, data: &[u8]) {
        self.unsent.extend_from_slice(data);
    }

    /// The body ends behind what has been accepted.
    pub(super) fn append_end(&mut self) {
        if !self.complete {
            self.end = Some(HeaderMap::new());
        }
    }

    /// Sends what can be sent now of what was accepted.
    pub(super) fn send(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        let sent = self.poll_flush(cx);
        self.with_head = 0;
        match sent {
            Poll::Ready(sent) => sent,
            Poll::Pending => Ok(()),
        }
    }

    /// Ready when all that was accepted has been sent.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.is_blocked() {
            let Some(stream) = &mut self.stream else { return Poll::Ready(Err(closed())) };
            if self.unsent.is_empty() {
                let trailers = self.end.take().unwrap_or_default();
                self.complete = true;
                let sent = match trailers.is_empty() {
                    true => stream.send_data(Bytes::new(), true),
                    false => stream.send_trailers(trailers),
                };
                return Poll::Ready(sent.map_err(io::Error::other));
            }
            let mut room = stream.capacity();
            if room == 0 {
                stream.reserve_capacity(self.unsent.len());
                room = stream.capacity();
            }
            if room == 0 {
                room = std::mem::take(&mut self.with_head);
            }
            if room == 0 {
                match ready!(stream.poll_capacity(cx)) {
                    Some(Ok(_)) => continue,
                    Some(Err(error)) => return Poll::Ready(Err(io::Error::other(error))),
                    None => return Poll::Ready(Err(closed())),
                }
            }
            let part = self.unsent.split_to(room.min(self.unsent.len())).freeze();
            let length = part.len() as u64;
            let is_last =
                self.unsent.is_empty() && self.end.as_ref().is_some_and(HeaderMap::is_empty);
            stream.send_data(part, is_last).map_err(io::Error::other)?;
            self.written += length;
            if is_last {
                self.end = None;
                self.complete = true;
            }
        }
        Poll::Ready(Ok(()))
    }
}

fn closed() -> io::Error {
    io::ErrorKind::BrokenPipe.into()
}
