//! What carries the bytes of a stream: TCP, or TLS over TCP.

use std::io;
use std::task::{Context, Poll, ready};

use tokio::io::ReadBuf;

use self::tcp::TcpTransport;
use self::tls::TlsTransport;

pub(super) mod tcp;
pub(super) mod tls;

#[derive(Debug)]
pub(super) enum Transport {
    Tcp(TcpTransport),
    /// Boxed: it is larger than the other, which must stay small.
    Tls(Box<TlsTransport>),
}

// === impl Transport ===

impl Transport {
    /// Reads what has arrived; 0 is the end of the peer's side.
    pub(super) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        into: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let mut buffer = ReadBuf::new(into);
        ready!(self.poll_read_buffer(cx, &mut buffer))?;
        Poll::Ready(Ok(buffer.filled().len()))
    }

    /// The same into a buffer that need not be initialised.
    pub(super) fn poll_read_buffer(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(tcp) => tcp.poll_read_buffer(cx, buffer),
            Self::Tls(tls) => tls.poll_read_buffer(cx, buffer),
        }
    }

    /// Accepts bytes for writing. With TLS, some of them may still have to be flushed.
    pub(super) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self {
            Self::Tcp(tcp) => tcp.poll_write(cx, bytes),
            Self::Tls(tls) => tls.poll_write(cx, bytes),
        }
    }

    /// The same for several parts at once.
    pub(super) fn poll_write_vectored(
        &mut self,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self {
            Self::Tcp(tcp) => tcp.poll_write_vectored(cx, parts),
            Self::Tls(tls) => tls.poll_write_vectored(cx, parts),
        }
    }

    /// Ready when the kernel has everything that was accepted for writing.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(_) => Poll::Ready(Ok(())),
            Self::Tls(tls) => tls.poll_flush(cx),
        }
    }

    /// Whether the kernel has everything that was accepted for writing.
    pub(super) fn is_flushed(&self) -> bool {
        match self {
            Self::Tcp(_) => true,
            Self::Tls(tls) => tls.is_flushed(),
        }
    }

    /// Closes agimo's side; the peer may send on.
    pub(super) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(tcp) => tcp.poll_shutdown(cx),
            Self::Tls(tls) => tls.poll_shutdown(cx),
        }
    }

    /// Ready when the peer has closed or reset the connection, even behind bytes that have not been read.
    pub(super) fn poll_closed(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.tcp_mut().poll_closed(cx)
    }

    /// Has `is_quiet` ask the kernel.
    pub(super) fn refresh_events(&mut self) {
        self.tcp_mut().refresh_events();
    }

    /// Whether the connection is open with nothing to read.
    pub(super) fn is_quiet(&self) -> bool {
        match self {
            Self::Tcp(tcp) => tcp.is_quiet(),
            Self::Tls(tls) => tls.is_quiet(),
        }
    }

    /// Has the connection end with a reset when it is dropped.
    pub(super) fn reset(&mut self) {
        match self {
            Self::Tcp(tcp) => tcp.reset(),
            Self::Tls(tls) => tls.reset(),
        }
    }

    /// Whether a part of what the peer sends is acknowledged at once.
    pub(super) fn acknowledge_parts(&mut self, at_once: bool) {
        self.tcp_mut().acknowledge_parts(at_once);
    }

    /// Bytes on the wire that have arrived and nobody has read.
    pub(super) fn unread_bytes(&self) -> u64 {
        self.tcp().unread_bytes()
    }

    /// Whether the connection was reset, or closed in both directions.
    pub(super) fn is_dead(&self) -> bool {
        self.tcp().is_dead()
    }

    pub(super) fn tcp(&self) -> &TcpTransport {
        match self {
            Self::Tcp(tcp) => tcp,
            Self::Tls(tls) => tls.tcp(),
        }
    }

    fn tcp_mut(&mut self) -> &mut TcpTransport {
        match self {
            Self::Tcp(tcp) => tcp,
            Self::Tls(tls) => tls.tcp_mut(),
        }
    }
}
