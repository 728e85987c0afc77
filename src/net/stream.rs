//! A connection's socket: what was read too early, what could not be written yet. It knows no message.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use rustix::event::{PollFd, PollFlags};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;

/// A TCP stream without buffers of its own while nothing is stuck.
#[derive(Debug)]
pub struct Stream {
    stream: TcpStream,
    /// Read and given back, to be read first next time.
    early: Vec<u8>,
    /// Accepted for writing; the socket had no room.
    unsent: Vec<u8>,
    /// How much of `unsent` has gone out meanwhile.
    sent: usize,
    /// `poll_closed` has consumed a readiness that a read still needs.
    readiness_taken: bool,
    /// Bytes that have come from the socket, and that have gone into it.
    received: u64,
    written: u64,
}

// === impl Stream ===

impl Stream {
    pub fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            early: Vec::new(),
            unsent: Vec::new(),
            sent: 0,
            readiness_taken: false,
            received: 0,
            written: 0,
        }
    }

    /// Reads what there is, the given-back bytes first; 0 is the peer's end of stream.
    pub fn poll_read(&mut self, cx: &mut Context<'_>, into: &mut [u8]) -> Poll<io::Result<usize>> {
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
        let length = ready!(self.poll_socket(cx, into))?;
        self.received += length as u64;
        Poll::Ready(Ok(length))
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

    /// Bytes that have gone into the socket so far.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Takes the given-back bytes.
    pub fn take_early(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.early)
    }

    /// Ends the connection so that the peer cannot take it for a clean end.
    pub fn reset(&self) {
        // Closing with zero linger sends RST; where that fails, closing alone has to do.
        let _ = socket2::SockRef::from(&self.stream).set_linger(Some(std::time::Duration::ZERO));
    }

    /// Bytes that have come from the socket so far.
    pub fn received(&self) -> u64 {
        self.received
    }

    /// Sends `bytes`, keeping what the socket has no room for. Before sending more, wait for
    /// `poll_flush`, so that little is ever kept.
    pub fn send(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> io::Result<()> {
        let mut rest = bytes;
        if !self.unsent.is_empty() {
            self.unsent.extend_from_slice(rest);
            return Ok(());
        }
        while !rest.is_empty() {
            match Pin::new(&mut self.stream).poll_write(cx, rest) {
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

    /// Ready when nothing that was sent waits for room.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.sent < self.unsent.len() {
            match ready!(Pin::new(&mut self.stream).poll_write(cx, &self.unsent[self.sent..]))? {
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
        Poll::Ready(Ok(()))
    }

    /// Whether something that was sent waits for room.
    pub fn is_blocked(&self) -> bool {
        !self.unsent.is_empty()
    }

    /// Ends our side of the stream; the peer may go on.
    pub fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    /// Ready when the peer has closed or reset the connection, even behind bytes nobody has read.
    ///
    /// It reads nothing, so a held body stays in the kernel.
    pub fn poll_closed(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            if ready!(self.stream.poll_read_ready(cx)).is_err() || self.is_closed() {
                return Poll::Ready(());
            }
            // Bytes have come: forget this readiness, so that the next event wakes us, and let the
            // next read look for itself.
            self.readiness_taken = true;
            let _ = self.stream.try_io(Interest::READABLE, || {
                Err::<(), _>(io::Error::from(io::ErrorKind::WouldBlock))
            });
        }
    }

    /// Whether an idle connection can still be used: open, with nothing unexpected to read.
    pub fn is_quiet(&self) -> bool {
        // Without an event since the last read this costs no system call.
        let unread = self.stream.try_read(&mut [0]);
        self.early.is_empty()
            && matches!(unread, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }

    fn is_closed(&self) -> bool {
        let mut fds = [PollFd::new(&self.stream, PollFlags::RDHUP)];
        match rustix::event::poll(
            &mut fds,
            Some(&rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 }),
        ) {
            Ok(_) => {
                fds[0].revents().intersects(PollFlags::RDHUP | PollFlags::HUP | PollFlags::ERR)
            }
            Err(_) => false,
        }
    }

    fn poll_socket(&mut self, cx: &mut Context<'_>, into: &mut [u8]) -> Poll<io::Result<usize>> {
        if self.readiness_taken {
            match rustix::net::recv(&self.stream, &mut *into, rustix::net::RecvFlags::DONTWAIT) {
                Ok((length, _)) => {
                    self.readiness_taken = length == into.len();
                    return Poll::Ready(Ok(length));
                }
                Err(rustix::io::Errno::AGAIN) => self.readiness_taken = false,
                Err(error) => return Poll::Ready(Err(error.into())),
            }
        }
        let mut buffer = ReadBuf::new(into);
        ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buffer))?;
        Poll::Ready(Ok(buffer.filled().len()))
    }
}
