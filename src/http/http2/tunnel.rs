//! An HTTP/2 stream that has switched protocols (RFC 8441): its data frames are bytes both ways.

use std::io;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use h2::{Reason, RecvStream};

use crate::net::stream::ByteStream;

use super::body::BodyWriter;
use super::client::OpenStream;

/// A stream as a tunnel uses it.
pub struct TunnelStream {
    receive: Option<RecvStream>,
    /// Received and not yet read.
    unread: Bytes,
    send: BodyWriter,
    has_failed: bool,
    /// Of the connection to an endpoint, for as long as the tunnel lasts.
    _open: Option<OpenStream>,
}

// === impl TunnelStream ===

impl TunnelStream {
    pub(super) fn new(receive: Option<RecvStream>, send: BodyWriter) -> Self {
        Self { receive, unread: Bytes::new(), send, has_failed: false, _open: None }
    }

    pub(super) fn of_endpoint(mut self, open: OpenStream) -> Self {
        self._open = Some(open);
        self
    }
}

impl ByteStream for TunnelStream {
    fn poll_read(&mut self, cx: &mut Context<'_>, into: &mut [u8]) -> Poll<io::Result<usize>> {
        let Some(receive) = &mut self.receive else { return Poll::Ready(Ok(0)) };
        while self.unread.is_empty() {
            match ready!(receive.poll_data(cx)) {
                Some(Ok(data)) => self.unread = data,
                // RFC 8441 section 5: a reset is what a reset of the TCP connection is.
                Some(Err(error)) => {
                    self.has_failed = true;
                    return Poll::Ready(Err(io::Error::other(error)));
                }
                None => return Poll::Ready(Ok(0)),
            }
        }
        let length = self.unread.len().min(into.len());
        self.unread.copy_to_slice(&mut into[..length]);
        // An error means that the stream has ended: the next poll reports it.
        let _ = receive.flow_control().release_capacity(length);
        Poll::Ready(Ok(length))
    }

    fn send(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> io::Result<()> {
        self.send.append_data(bytes);
        self.send.send(cx)
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.send.poll_flush(cx))?;
        // Once the other side has ended, nothing else tells that it is gone.
        if !self.send.is_complete()
            && let Some(stream) = self.send.stream()
            && stream.poll_reset(cx).is_ready()
        {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.send.append_end();
        self.send.poll_flush(cx)
    }

    fn written(&self) -> u64 {
        self.send.written()
    }

    fn is_dead(&self) -> bool {
        self.has_failed
    }
}

/// The other side learns that the tunnel has not ended in an orderly way.
impl Drop for TunnelStream {
    fn drop(&mut self) {
        if !self.send.is_complete()
            && let Some(stream) = self.send.stream()
        {
            stream.send_reset(Reason::CANCEL);
        }
    }
}
