//! A connection as codecs and tunnels use it: bytes that were read too early, and bytes that could not be written yet.

use std::io;
use std::task::{Context, Poll, ready};

use tokio::net::TcpStream;

use super::transport::Transport;
use super::transport::tcp::TcpTransport;

mod async_io;

/// A connection without buffers of its own while nothing waits, over TCP or TLS.
#[derive(Debug)]
pub struct Stream {
    transport: Transport,
    /// Read and given back, to be read first next time.
    early: Vec<u8>,
    /// Accepted for writing; the transport had no room.
    unsent: Vec<u8>,
    /// How much of `unsent` has been written.
    sent: usize,
    received: u64,
    written: u64,
}

/// Bytes both ways: what a tunnel joins.
pub trait ByteStream {
    /// Reads what there is; 0 is the end of the peer's side.
    fn poll_read(&mut self, cx: &mut Context<'_>, into: &mut [u8]) -> Poll<io::Result<usize>>;

    /// Sends `bytes` and keeps what the connection has no room for. Before sending more, wait for `poll_flush`, so that
    /// little is ever kept.
    fn send(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> io::Result<()>;

    /// Ready when nothing that was sent waits for room.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Closes agimo's side; the peer may send on.
    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Bytes that the connection has accepted so far; over TLS as they are sent, encrypted.
    fn written(&self) -> u64;

    /// Whether the connection was reset, or closed in both directions, as is known now.
    fn is_dead(&self) -> bool;
}

// === impl Stream ===

impl Stream {
    pub fn new(socket: TcpStream) -> Self {
        Self::over(Transport::Tcp(TcpTransport::new(socket)))
    }

    pub(super) fn over(transport: Transport) -> Self {
        Self { transport, early: Vec::new(), unsent: Vec::new(), sent: 0, received: 0, written: 0 }
    }

    /// A message from the peer begins. If only a part of it arrives, it is acknowledged at once: the peer may wait for
    /// that before it sends the rest.
    pub fn expect_message(&mut self) {
        self.transport.acknowledge_parts(true);
    }

    /// No message of the peer is expected any more. What arrives in a tunnel is acknowledged as the kernel likes: to ask for
    /// it costs a third more CPU for each message that is answered at once.
    pub fn end_message(&mut self) {
        self.transport.acknowledge_parts(false);
    }

    /// Gives bytes back, so that the next read starts with them.
    pub fn unread(&mut self, bytes: &[u8]) {
        if !bytes.is_empty() {
            let mut early = Vec::with_capacity(bytes.len() + self.early.len());
            early.extend_from_slice(bytes);
            early.append(&mut self.early);
            self.early = early;
        }
    }

    /// Takes the bytes that were given back.
    pub fn take_early(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.early)
    }

    /// Bytes that have been read from the transport so far.
    pub fn received(&self) -> u64 {
        self.received
    }

    /// Bytes that have arrived and nobody has read.
    pub fn unread_bytes(&self) -> u64 {
        self.transport.unread_bytes()
    }

    /// Whether something that was sent waits for room.
    pub fn is_blocked(&self) -> bool {
        !self.unsent.is_empty() || !self.transport.is_flushed()
    }

    /// Ready when the peer has closed or reset the connection, even behind bytes that have not been read. It reads
    /// nothing.
    pub fn poll_closed(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.transport.poll_closed(cx)
    }

    /// Has `is_quiet` ask the kernel, and not only what the runtime has been told by now.
    pub fn refresh_events(&mut self) {
        self.transport.refresh_events();
    }

    /// Whether an idle connection can still be used: open, with nothing unexpected to read.
    pub fn is_quiet(&self) -> bool {
        self.early.is_empty() && self.transport.is_quiet()
    }

    /// Has the connection end so that the peer cannot take it for an orderly end.
    pub fn reset(&mut self) {
        self.transport.reset();
    }

    pub(super) fn transport(&self) -> &Transport {
        &self.transport
    }

    pub(super) fn transport_mut(&mut self) -> &mut Transport {
        &mut self.transport
    }
}

impl ByteStream for Stream {
    fn poll_read(&mut self, cx: &mut Context<'_>, into: &mut [u8]) -> Poll<io::Result<usize>> {
        if !self.early.is_empty() {
            let length = self.early.len().min(into.len());
            into[..length].copy_from_slice(&self.early[..length]);
            if length == self.early.len() {
                self.early = Vec::new();
            } else {
                self.early.drain(..length);
            }
            return Poll::Ready(Ok(length));
        }
        let length = ready!(self.transport.poll_read(cx, into))?;
        self.received += length as u64;
        Poll::Ready(Ok(length))
    }

    fn send(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> io::Result<()> {
        let mut rest = bytes;
        if !self.unsent.is_empty() {
            self.unsent.extend_from_slice(rest);
            return Ok(());
        }
        while !rest.is_empty() {
            match self.transport.poll_write(cx, rest) {
                Poll::Ready(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(Ok(length)) => {
                    rest = &rest[length..];
                    self.written += length as u64;
                }
                Poll::Ready(Err(error)) => return Err(error),
                Poll::Pending => {
                    self.unsent.extend_from_slice(rest);
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.sent < self.unsent.len() {
            match ready!(self.transport.poll_write(cx, &self.unsent[self.sent..]))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                length => {
                    self.sent += length;
                    self.written += length as u64;
                }
            }
        }
        if self.sent > 0 {
            self.unsent = Vec::new();
            self.sent = 0;
        }
        self.transport.poll_flush(cx)
    }

    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.transport.poll_shutdown(cx)
    }

    fn written(&self) -> u64 {
        match &self.transport {
            Transport::Tcp(_) => self.written,
            // The session accepts more than it sends at once.
            Transport::Tls(tls) => tls.written(),
        }
    }

    fn is_dead(&self) -> bool {
        self.transport.is_dead()
    }
}
