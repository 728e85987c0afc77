//! A TLS session as a transport for streams (RFC 8446, RFC 5246).

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use rustls::ConnectionCommon;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::TlsStream;

use crate::net::stream::{ByteStream, Stream};

use super::tcp::TcpTransport;

/// A session whose handshake is complete.
#[derive(Debug)]
pub(in crate::net) struct TlsTransport {
    /// The stream below is over TCP.
    session: TlsStream<Stream>,
    /// The peer is not to be told of the end.
    is_reset: bool,
}

/// The socket without its buffers, for what is written while the session is dropped.
struct LastWrites<'a>(&'a TcpTransport);

// === impl TlsTransport ===

impl TlsTransport {
    pub(in crate::net) fn new(session: TlsStream<Stream>) -> Self {
        Self { session, is_reset: false }
    }

    pub(super) fn poll_read_buffer(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.session).poll_read(cx, buffer)
    }

    pub(super) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.session).poll_write(cx, bytes)
    }

    pub(super) fn poll_write_vectored(
        &mut self,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.session).poll_write_vectored(cx, parts)
    }

    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.session).poll_flush(cx)
    }

    pub(super) fn is_flushed(&self) -> bool {
        !self.session.get_ref().1.wants_write()
    }

    /// Bytes that have been sent.
    pub(in crate::net) fn written(&self) -> u64 {
        self.session.get_ref().0.written()
    }

    /// Sends `close_notify` (RFC 8446 section 6.1), then closes the side below.
    pub(super) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.session).poll_shutdown(cx)
    }

    pub(super) fn is_quiet(&self) -> bool {
        let (stream, session) = self.session.get_ref();
        // A session that wants no bytes has some to give, or has received the end.
        session.wants_read() && stream.is_quiet()
    }

    pub(super) fn reset(&mut self) {
        self.is_reset = true;
        self.session.get_mut().0.reset();
    }

    pub(super) fn tcp(&self) -> &TcpTransport {
        self.session.get_ref().0.transport().tcp()
    }

    pub(super) fn tcp_mut(&mut self) -> &mut TcpTransport {
        self.session.get_mut().0.transport_mut().tcp_mut()
    }
}

impl Drop for TlsTransport {
    /// Without `close_notify` the peer could take the end for an attack that cut the connection.
    fn drop(&mut self) {
        if self.is_reset {
            return;
        }
        self.session.get_mut().1.send_close_notify();
        match &mut self.session {
            TlsStream::Client(stream) => {
                let (below, session) = stream.get_mut();
                write_rest(below, session);
            }
            TlsStream::Server(stream) => {
                let (below, session) = stream.get_mut();
                write_rest(below, session);
            }
        }
    }
}

/// Writes what a session still has. What the kernel has no room for is lost, as without TLS.
fn write_rest<Data>(below: &Stream, session: &mut ConnectionCommon<Data>) {
    let mut last = LastWrites(below.transport().tcp());
    while session.wants_write() && session.write_tls(&mut last).is_ok() {}
}

impl io::Write for LastWrites<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
