//! The side of an HTTP/2 connection that serves a client: accepts streams, each of which is one request.

use std::io;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::Reason;
use h2::server::{Builder, Connection, SendResponse};
use http::{Method, StatusCode};

use crate::http::body::{BodyFrames, BodySink, BodySource, TransferError};
use crate::http::codec::Downstream;
use crate::http::grpc::is_grpc;
use crate::http::message::{BodyLength, HeadError, HeadLimits, RequestHead, ResponseHead};
use crate::net::stream::Stream;

use super::body::{Batch, BodyReader, BodyWriter};
use super::fields::{request_head, response};
use super::limits;
use super::tunnel::TunnelStream;

/// A client's connection.
pub struct DownstreamConnection {
    inner: Connection<Stream, Bytes>,
    limits: HeadLimits,
}

/// A request whose head is rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RejectedRequest {
    pub error: HeadError,
    /// A response to it has no body.
    pub is_head: bool,
    pub is_grpc: bool,
}

/// A stream of a client: one request.
pub struct DownstreamRequest {
    request: BodyReader,
    /// What was passed on of the body without waiting for it.
    passed_on: Batch,
    /// More of the body was passed on, which is no longer in memory.
    is_consumed: bool,
    respond: SendResponse<Bytes>,
    /// Informational responses that were sent.
    informational: usize,
    response: BodyWriter,
}

// === impl DownstreamConnection ===

impl DownstreamConnection {
    /// Exchanges prefaces and settings (RFC 9113 section 3.4).
    pub async fn handshake(stream: Stream, limits: HeadLimits) -> io::Result<Self> {
        let handshake = Builder::new()
            .enable_connect_protocol()
            .initial_connection_window_size(limits::CONNECTION_WINDOW)
            .initial_window_size(limits::STREAM_WINDOW)
            .max_concurrent_streams(limits::MOST_STREAMS)
            .max_header_list_size(u32::try_from(limits.head).unwrap_or(u32::MAX))
            .max_local_error_reset_streams(Some(limits::MOST_ERRORS))
            .max_pending_accept_reset_streams(limits::MOST_EARLY_RESETS)
            .max_send_buffer_size(limits::SEND_BUFFER)
            .data_frame_budget(limits::CLIENT_FRAME_BUDGET)
            .handshake(stream);
        Ok(Self { inner: handshake.await.map_err(io::Error::other)?, limits })
    }

    /// The next stream, with its head or why that is rejected; `None` when the connection has ended. All streams of the
    /// connection move only while this is polled.
    pub fn poll_accept(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<(Result<RequestHead, RejectedRequest>, DownstreamRequest)>> {
        Poll::Ready(match ready!(self.inner.poll_accept(cx)) {
            Some(Ok((request, respond))) => {
                let (parts, body) = request.into_parts();
                let head = request_head(&parts, body.is_end_stream(), &self.limits);
                let head = head.map_err(|error| RejectedRequest::new(error, &parts));
                let has_body = head.as_ref().is_ok_and(|head| head.body != BodyLength::None);
                Some((head, DownstreamRequest::new(BodyReader::new(body, has_body), respond)))
            }
            // The peer has been told already.
            Some(Err(_)) | None => None,
        })
    }

    /// The client shall open no further streams (GOAWAY); those that are open go on.
    pub fn close_gracefully(&mut self) {
        self.inner.graceful_shutdown();
    }
}

// === impl RejectedRequest ===

impl RejectedRequest {
    fn new(error: HeadError, parts: &http::request::Parts) -> Self {
        let content_type = parts.headers.get(http::header::CONTENT_TYPE);
        Self {
            error,
            is_head: parts.method == Method::HEAD,
            is_grpc: content_type.is_some_and(|value| is_grpc(value.as_bytes())),
        }
    }
}

// === impl DownstreamRequest ===

impl DownstreamRequest {
    fn new(request: BodyReader, respond: SendResponse<Bytes>) -> Self {
        Self {
            request,
            passed_on: Batch::default(),
            is_consumed: false,
            respond,
            informational: 0,
            response: BodyWriter::default(),
        }
    }

    fn send_head(&mut self, head: &ResponseHead, has_body: bool) -> io::Result<()> {
        let stream = self.respond.send_response(response(head), !has_body);
        self.response.begin(stream.map_err(io::Error::other)?, has_body);
        Ok(())
    }
}

impl BodySource for DownstreamRequest {
    fn poll_frames<R>(
        &mut self,
        cx: &mut Context<'_>,
        receive: impl for<'a> FnOnce(&mut Context<'_>, &mut dyn BodyFrames<'a>) -> R,
    ) -> Poll<R> {
        let batch = ready!(self.request.poll_batch(cx));
        self.is_consumed = true;
        Poll::Ready(self.request.pass_on(&batch, |frames| receive(cx, frames)))
    }

    fn is_complete(&self) -> bool {
        self.request.is_complete()
    }
}

impl BodySink for DownstreamRequest {
    fn send_frames(
        &mut self,
        cx: &mut Context<'_>,
        frames: &mut dyn BodyFrames<'_>,
    ) -> Result<(), TransferError> {
        self.response.append(frames)?;
        self.response.send(cx).map_err(TransferError::Sink)
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.response.poll_flush(cx)
    }

    fn is_blocked(&self) -> bool {
        self.response.is_blocked()
    }

    fn written(&self) -> u64 {
        self.response.written()
    }
}

impl Downstream for DownstreamRequest {
    type Stream = TunnelStream;

    fn early_frames<R>(&mut self, receive: impl for<'a> FnOnce(&mut dyn BodyFrames<'a>) -> R) -> R {
        // Nothing is awaited here; whoever waits for the rest polls again.
        let mut cx = Context::from_waker(std::task::Waker::noop());
        self.passed_on = Batch::default();
        if !self.request.is_complete()
            && let Poll::Ready(batch) = self.request.poll_batch(&mut cx)
        {
            self.passed_on = batch;
        }
        self.request.pass_on(&self.passed_on, receive)
    }

    fn rewind_body(&mut self) -> bool {
        if !self.is_consumed {
            self.request.unread(std::mem::take(&mut self.passed_on));
        }
        !self.is_consumed
    }

    /// A matter of the connection, not of one stream.
    fn close_after_response(&mut self) {}

    fn send_informational(&mut self, cx: &mut Context<'_>, head: &ResponseHead) -> io::Result<()> {
        if head.status == StatusCode::SWITCHING_PROTOCOLS {
            self.send_head(head, true)?;
            return self.response.send(cx);
        }
        if self.informational == limits::MOST_INFORMATIONAL {
            return Ok(());
        }
        self.informational += 1;
        self.respond.send_informational(response(head)).map_err(io::Error::other)
    }

    fn start_response(
        &mut self,
        cx: &mut Context<'_>,
        head: &ResponseHead,
        frames: &mut dyn BodyFrames<'_>,
    ) -> Result<(), TransferError> {
        self.passed_on = Batch::default();
        let has_body = head.body != BodyLength::None;
        // Before the head, which is not sent where these are malformed.
        self.response.append(frames)?;
        self.send_head(head, has_body).map_err(TransferError::Sink)?;
        self.response.send(cx).map_err(TransferError::Sink)
    }

    fn send_own_response(
        &mut self,
        cx: &mut Context<'_>,
        head: &ResponseHead,
        body: &[u8],
    ) -> io::Result<()> {
        self.send_head(head, !body.is_empty())?;
        self.response.append_data(body);
        self.response.append_end();
        self.response.send(cx)
    }

    fn abort(&mut self) {
        self.respond.send_reset(Reason::INTERNAL_ERROR);
    }

    fn poll_closed(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match self.response.stream() {
            Some(stream) => stream.poll_reset(cx).map(|_| ()),
            None => self.respond.poll_reset(cx).map(|_| ()),
        }
    }

    /// The connection itself notices when the client is gone.
    fn probe_client(&mut self, _cx: &mut Context<'_>) -> io::Result<()> {
        Ok(())
    }

    fn into_stream(self) -> TunnelStream {
        TunnelStream::new(self.request.into_stream(), self.response)
    }
}
