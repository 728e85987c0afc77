//! The stream for crates that read and write through the traits of tokio. They buffer for themselves.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{ByteStream, Stream};

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let stream = self.get_mut();
        if !stream.early.is_empty() {
            let length = ready!(ByteStream::poll_read(stream, cx, buffer.initialize_unfilled()))?;
            buffer.advance(length);
            return Poll::Ready(Ok(()));
        }
        // Into the buffer as it is: to fill it with zeros first would cost a third of the instructions for a request of HTTP/2.
        let before = buffer.filled().len();
        ready!(stream.transport.poll_read_buffer(cx, buffer))?;
        stream.received += (buffer.filled().len() - before) as u64;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let stream = self.get_mut();
        ready!(ByteStream::poll_flush(stream, cx))?;
        let length = ready!(stream.transport.poll_write_vectored(cx, parts))?;
        stream.written += length as u64;
        Poll::Ready(Ok(length))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ByteStream::poll_flush(self.get_mut(), cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ByteStream::poll_shutdown(self.get_mut(), cx)
    }
}
