//! Moves message bodies between frames and the bytes of a connection.

use std::task::{Context, Poll, ready};

use crate::http::body::{BodyError, BodyFrame, BodyFrames, TransferError};
use crate::net::lent_buffers::{with_read_buffer, with_write_buffer};
use crate::net::stream::{ByteStream, Stream};

use super::chunk_extension::Grammar;
use super::decoder::Decoder;
use super::framing::Framing;

/// Reads one body from a connection.
#[derive(Debug)]
pub(super) struct BodyReader {
    decoder: Decoder,
    /// The end has been passed on.
    complete: bool,
}

/// Writes one body to a connection.
#[derive(Debug)]
pub(super) struct BodyWriter {
    framing: Framing,
    /// The end has been written.
    complete: bool,
}

/// The frames of some received bytes.
struct ReceivedFrames<'r, 'i> {
    reader: &'r mut BodyReader,
    rest: &'i [u8],
}

/// The connection ended or failed before the body did.
struct Disconnected;

// === impl BodyReader ===

impl BodyReader {
    pub(super) fn new(framing: Framing, grammar: Grammar) -> Self {
        Self { decoder: Decoder::new(framing, grammar), complete: framing == Framing::Empty }
    }

    pub(super) fn is_complete(&self) -> bool {
        self.complete
    }

    /// Reads once and passes the frames to `receive`; what follows the body is given back to the stream.
    pub(super) fn poll_frames<R>(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut Stream,
        receive: impl for<'a> FnOnce(&mut Context<'_>, &mut dyn BodyFrames<'a>) -> R,
    ) -> Poll<R> {
        with_read_buffer(|buffer| {
            let length = match ready!(stream.poll_read(cx, buffer)) {
                Ok(length) => length,
                Err(_) => return Poll::Ready(receive(cx, &mut Disconnected)),
            };
            if length == 0 && self.decoder.end_of_input().is_err() {
                return Poll::Ready(receive(cx, &mut Disconnected));
            }
            let mut frames = ReceivedFrames { reader: self, rest: &buffer[..length] };
            let received = receive(cx, &mut frames);
            stream.unread(frames.rest);
            Poll::Ready(received)
        })
    }

    /// Passes the frames of `input` to `receive`. Also returns what of `input` follows the frames.
    pub(super) fn frames_of<'i, R>(
        &mut self,
        input: &'i [u8],
        receive: impl FnOnce(&mut dyn BodyFrames<'i>) -> R,
    ) -> (R, &'i [u8]) {
        let mut frames = ReceivedFrames { reader: self, rest: input };
        let received = receive(&mut frames);
        (received, frames.rest)
    }
}

// === impl BodyWriter ===

impl BodyWriter {
    pub(super) fn new(framing: Framing) -> Self {
        Self { framing, complete: framing == Framing::Empty }
    }

    pub(super) fn framing(&self) -> Framing {
        self.framing
    }

    pub(super) fn is_complete(&self) -> bool {
        self.complete
    }

    /// Appends the frames to a write that is being composed.
    pub(super) fn append(
        &mut self,
        frames: &mut dyn BodyFrames<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), BodyError> {
        self.complete |= self.framing.encode_frames(frames, out)?;
        Ok(())
    }

    /// Sends the frames of one batch in one write.
    pub(super) fn send_frames(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut Stream,
        frames: &mut dyn BodyFrames<'_>,
    ) -> Result<(), TransferError> {
        if self.framing == Framing::Chunked {
            return self.send_composed(cx, stream, frames, &[]);
        }
        let first = match frames.next()? {
            Some(BodyFrame::Data(first)) => first,
            Some(BodyFrame::End(_)) => {
                self.complete = true;
                return Ok(());
            }
            None => return Ok(()),
        };
        match frames.next()? {
            Some(BodyFrame::Data(second)) => {
                return self.send_composed(cx, stream, frames, &[first, second]);
            }
            Some(BodyFrame::End(_)) => self.complete = true,
            None => {}
        }
        // Without chunks on either side the data is written from where it was read.
        stream.send(cx, first).map_err(TransferError::Sink)
    }

    /// `begun` is data in front of the frames.
    fn send_composed(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut Stream,
        frames: &mut dyn BodyFrames<'_>,
        begun: &[&[u8]],
    ) -> Result<(), TransferError> {
        with_write_buffer(|out| {
            begun.iter().for_each(|data| out.extend_from_slice(data));
            self.append(frames, out)?;
            stream.send(cx, out).map_err(TransferError::Sink)
        })
    }
}

// === impl ReceivedFrames ===

impl<'i> BodyFrames<'i> for ReceivedFrames<'_, 'i> {
    fn next(&mut self) -> Result<Option<BodyFrame<'i>>, BodyError> {
        if self.reader.complete {
            return Ok(None);
        }
        let frame = self.reader.decoder.decode(&mut self.rest)?;
        self.reader.complete = matches!(frame, Some(BodyFrame::End(_)));
        Ok(frame)
    }
}

// === impl Disconnected ===

impl<'a> BodyFrames<'a> for Disconnected {
    fn next(&mut self) -> Result<Option<BodyFrame<'a>>, BodyError> {
        Err(BodyError::Disconnected)
    }
}
