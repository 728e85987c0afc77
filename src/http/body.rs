//! A message body as the request path moves it: data and trailers, in batches of what one read received.

use std::io;
use std::task::{Context, Poll, ready};

use super::fields::Fields;

/// A part of a body.
#[derive(Clone, Debug)]
pub enum BodyFrame<'a> {
    Data(&'a [u8]),
    /// The body is complete. The trailer section is empty where the sender sent none.
    End(Fields),
}

/// The frames of one read, in order.
pub trait BodyFrames<'a> {
    /// The next frame; `None` when the batch has no more. After `End` there is none.
    fn next(&mut self) -> Result<Option<BodyFrame<'a>>, BodyError>;
}

/// Where a body comes from.
pub trait BodySource {
    /// Reads once and passes what came to `receive`, which takes frames until `None`, `End` or an error.
    fn poll_frames<R>(
        &mut self,
        cx: &mut Context<'_>,
        receive: impl for<'a> FnOnce(&mut Context<'_>, &mut dyn BodyFrames<'a>) -> R,
    ) -> Poll<R>;

    /// Whether the end of the body has been passed on. A source without a body is complete from the start.
    fn is_complete(&self) -> bool;
}

/// Where a body is sent.
pub trait BodySink {
    /// Sends the frames of one batch with at most one write, and keeps what the connection has no room for. Before the
    /// next batch, wait for `poll_flush`, so that little is ever kept.
    fn send_frames(
        &mut self,
        cx: &mut Context<'_>,
        frames: &mut dyn BodyFrames<'_>,
    ) -> Result<(), TransferError>;

    /// Ready when nothing that was sent waits for room.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Whether something that was sent waits for room.
    fn is_blocked(&self) -> bool;

    /// Bytes that the connection has accepted so far; it only grows.
    fn written(&self) -> u64;
}

/// Why no more of a body can be received.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    #[error("{0}")]
    Malformed(&'static str),
    #[error("the body is larger than max_body")]
    TooLarge,
    #[error("the connection ended before the body did")]
    Disconnected,
}

/// Which side failed while a body was moved.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    #[error("the sender failed: {0}")]
    Source(#[from] BodyError),
    #[error("the recipient failed: {0}")]
    Sink(io::Error),
}

/// A batch without frames: a message whose body is empty, or has not begun to arrive.
#[derive(Debug)]
pub struct NoFrames;

/// Counts the data of a body and rejects more than the limit.
#[derive(Debug)]
pub struct BodyLimit {
    remaining: u64,
}

struct LimitedFrames<'l, 'f, 'a> {
    frames: &'f mut dyn BodyFrames<'a>,
    remaining: &'l mut u64,
}

/// Moves what can be moved of a body; ready when it is complete and all of it has been written.
pub fn poll_transfer<S: BodySource, T: BodySink>(
    cx: &mut Context<'_>,
    source: &mut S,
    sink: &mut T,
    mut limit: Option<&mut BodyLimit>,
) -> Poll<Result<(), TransferError>> {
    loop {
        ready!(sink.poll_flush(cx)).map_err(TransferError::Sink)?;
        if source.is_complete() {
            return Poll::Ready(Ok(()));
        }
        ready!(source.poll_frames(cx, |cx, frames| match &mut limit {
            Some(limit) => limit.apply(frames, |frames| sink.send_frames(cx, frames)),
            None => sink.send_frames(cx, frames),
        }))?;
    }
}

// === impl NoFrames ===

impl<'a> BodyFrames<'a> for NoFrames {
    fn next(&mut self) -> Result<Option<BodyFrame<'a>>, BodyError> {
        Ok(None)
    }
}

// === impl BodyLimit ===

impl BodyLimit {
    /// At most this many bytes of data, or any number.
    pub fn new(limit: Option<u64>) -> Self {
        Self { remaining: limit.unwrap_or(u64::MAX) }
    }

    /// Passes `frames` to `receive` up to the first that is beyond the limit.
    pub fn apply<R>(
        &mut self,
        frames: &mut dyn BodyFrames<'_>,
        receive: impl FnOnce(&mut dyn BodyFrames<'_>) -> R,
    ) -> R {
        receive(&mut LimitedFrames { frames, remaining: &mut self.remaining })
    }
}

// === impl LimitedFrames ===

impl<'a> BodyFrames<'a> for LimitedFrames<'_, '_, 'a> {
    fn next(&mut self) -> Result<Option<BodyFrame<'a>>, BodyError> {
        let frame = self.frames.next()?;
        if let Some(BodyFrame::Data(data)) = &frame {
            let remaining = self.remaining.checked_sub(data.len() as u64);
            *self.remaining = remaining.ok_or(BodyError::TooLarge)?;
        }
        Ok(frame)
    }
}
