//! A TCP connection as a transport for streams: reads, writes, and whether the peer has closed.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;

/// A connected TCP socket.
#[derive(Debug)]
pub(in crate::net) struct TcpTransport {
    socket: TcpStream,
    /// `poll_closed` has cleared a readiness that a read still needs.
    readiness_cleared: bool,
    acknowledgement: Acknowledgement,
}

/// Whether what arrives is acknowledged as soon as no more of it has arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Acknowledgement {
    /// When the kernel likes.
    Delayed,
    /// At once, and nothing has arrived since the last time.
    Done,
    /// At once, and something has arrived.
    Due,
}

// === impl TcpTransport ===

impl TcpTransport {
    pub(in crate::net) fn new(socket: TcpStream) -> Self {
        Self { socket, readiness_cleared: false, acknowledgement: Acknowledgement::Delayed }
    }

    /// Reads what has arrived; nothing is the end of the peer's side.
    pub(super) fn poll_read_buffer(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = self.poll_socket(cx, buffer);
        match (self.acknowledgement, &read) {
            (Acknowledgement::Done, Poll::Ready(_)) => self.acknowledgement = Acknowledgement::Due,
            (Acknowledgement::Due, Poll::Pending) => {
                self.acknowledgement = Acknowledgement::Done;
                // Where that fails, the delay stays.
                let _ = rustix::net::sockopt::set_tcp_quickack(&self.socket, true);
            }
            _ => {}
        }
        read
    }

    fn poll_socket(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.readiness_cleared {
            let into = buffer.initialize_unfilled();
            match rustix::net::recv(&self.socket, &mut *into, rustix::net::RecvFlags::DONTWAIT) {
                Ok((length, _)) => {
                    self.readiness_cleared = length == into.len();
                    buffer.advance(length);
                    return Poll::Ready(Ok(()));
                }
                Err(rustix::io::Errno::AGAIN) => self.readiness_cleared = false,
                Err(error) => return Poll::Ready(Err(error.into())),
            }
        }
        Pin::new(&mut self.socket).poll_read(cx, buffer)
    }

    pub(super) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(cx, bytes)
    }

    /// Writes what there is room for, without being told when there is more.
    pub(super) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        self.socket.try_write(bytes)
    }

    /// Writes several parts in one system call.
    pub(super) fn poll_write_vectored(
        &mut self,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write_vectored(cx, parts)
    }

    /// Closes agimo's side; the peer may send on.
    pub(super) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }

    /// Ready when the peer has closed or reset the connection, even behind bytes that have not been read.
    ///
    /// It reads nothing, so the body of a held request stays in the kernel.
    pub(super) fn poll_closed(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            if ready!(self.socket.poll_read_ready(cx)).is_err() || self.is_closed() {
                return Poll::Ready(());
            }
            // Bytes have arrived: clear this readiness, so that the next event wakes the task, and have the next read
            // try the socket without it.
            self.readiness_cleared = true;
            let _ = self.socket.try_io(Interest::READABLE, || {
                Err::<(), _>(io::Error::from(io::ErrorKind::WouldBlock))
            });
        }
    }

    /// Has `is_quiet` ask the kernel.
    pub(super) fn refresh_events(&mut self) {
        self.readiness_cleared = true;
    }

    /// Whether the connection is open with nothing to read.
    pub(super) fn is_quiet(&self) -> bool {
        if self.readiness_cleared {
            return !self.has_events(PollFlags::IN | PollFlags::RDHUP);
        }
        // Without an event since the last read this costs no system call.
        let unread = self.socket.try_read(&mut [0]);
        matches!(unread, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }

    /// Has the connection end with a reset when it is dropped.
    pub(super) fn reset(&self) {
        // Closing with zero linger sends RST. Where that fails, closing alone has to do.
        let _ = socket2::SockRef::from(&self.socket).set_linger(Some(Duration::ZERO));
    }

    /// Whether a part of what the peer sends is acknowledged at once (tcp(7), TCP_QUICKACK). The kernel may delay that by
    /// 40 ms, and a peer with Nagle's algorithm (RFC 1122 section 4.2.3.4) does not send the rest before.
    pub(super) fn acknowledge_parts(&mut self, at_once: bool) {
        self.acknowledgement =
            if at_once { Acknowledgement::Done } else { Acknowledgement::Delayed };
    }

    /// Bytes that have arrived and nobody has read.
    pub(super) fn unread_bytes(&self) -> u64 {
        rustix::io::ioctl_fionread(&self.socket).unwrap_or(0)
    }

    /// Whether the connection was reset, or closed in both directions.
    pub(super) fn is_dead(&self) -> bool {
        self.has_events(PollFlags::empty())
    }

    fn is_closed(&self) -> bool {
        self.has_events(PollFlags::RDHUP)
    }

    /// Whether any of these events, an error or a hang-up is there now (poll(2)).
    fn has_events(&self, events: PollFlags) -> bool {
        let mut fds = [PollFd::new(&self.socket, events)];
        match rustix::event::poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })) {
            Ok(_) => fds[0].revents().intersects(events | PollFlags::HUP | PollFlags::ERR),
            Err(_) => false,
        }
    }
}
