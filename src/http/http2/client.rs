//! The side of an HTTP/2 connection that sends requests to an endpoint: one connection carries many at once.

use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use h2::client::{Builder, Connection, ResponseFuture, SendRequest};
use h2::{Ping, PingPong, Reason};
use http::uri::Scheme;
use http::{Method, StatusCode};
use tokio::sync::Notify;

use crate::http::body::{BodyError, BodyFrames, BodySink, BodySource, NoFrames, TransferError};
use crate::http::codec::{Malformation, Progress, ResponseError, Upstream};
use crate::http::fields::{FieldKind, Fields};
use crate::http::message::{BodyLength, HeadError, ResponseHead};
use crate::http::outgoing::OutgoingRequest;
use crate::http::websocket;
use crate::net::stream::Stream;

use super::body::{BodyReader, BodyWriter};
use super::fields::{request, response_head};
use super::limits;
use super::tunnel::TunnelStream;

/// A connection to an endpoint, as the requests on it share it.
#[derive(Clone)]
pub struct UpstreamConnection {
    sender: SendRequest<Bytes>,
    scheme: Scheme,
    state: Rc<ConnectionState>,
}

/// What is known of a connection.
#[derive(Debug, Default)]
struct ConnectionState {
    /// Requests and tunnels that are open.
    open: Cell<usize>,
    has_answered: Cell<bool>,
    /// The settings of the endpoint have arrived.
    has_settings: Cell<bool>,
    settings: Notify,
    /// It takes no further request.
    is_closed: Cell<bool>,
}

/// Counts a request or a tunnel of a connection until it is dropped.
pub struct OpenStream(Rc<ConnectionState>);

/// Fields of a 101 response that HTTP/2 does not send.
struct SwitchedLines {
    upgrade: Vec<u8>,
    accept: Option<String>,
}

/// One request to an endpoint.
pub struct UpstreamRequest {
    connection: UpstreamConnection,
    open: OpenStream,
    reused: bool,
    progress: Progress,
    /// The request asks to switch protocols; what HTTP/1.1 would respond.
    switched: Option<Box<SwitchedLines>>,
    /// The request is a HEAD request, whose response has no body.
    to_head: bool,
    request: BodyWriter,
    head: Option<ResponseFuture>,
    response: BodyReader,
}

// === impl UpstreamConnection ===

impl UpstreamConnection {
    /// Begins HTTP/2 on a new connection. The second value drives the connection and ends with it.
    ///
    /// Fails if the connection ends meanwhile.
    pub async fn handshake(
        stream: Stream,
        scheme: Scheme,
    ) -> io::Result<(Self, impl Future<Output = ()>)> {
        let mut builder = Builder::new();
        builder
            .enable_push(false)
            .initial_connection_window_size(limits::CONNECTION_WINDOW)
            .initial_window_size(limits::STREAM_WINDOW)
            .max_send_buffer_size(limits::SEND_BUFFER)
            .data_frame_budget(limits::ENDPOINT_FRAME_BUDGET);
        let (sender, connection) = builder.handshake(stream).await.map_err(io::Error::other)?;
        let state = Rc::new(ConnectionState::default());
        Ok((Self { sender, scheme, state: state.clone() }, drive(connection, state)))
    }

    /// Whether it takes another request now.
    pub fn has_room(&self) -> bool {
        let most = self.sender.current_max_send_streams().min(limits::MOST_UPSTREAM_STREAMS);
        // After a GOAWAY nothing can be sent. A handle without a pending request registers nothing.
        let mut cx = Context::from_waker(Waker::noop());
        !self.is_closed()
            && self.state.open.get() < most
            && matches!(self.sender.clone().poll_ready(&mut cx), Poll::Ready(Ok(())))
    }

    /// Whether it takes no further request.
    pub fn is_closed(&self) -> bool {
        self.state.is_closed.get()
    }

    /// Whether no request and no tunnel is open.
    pub fn is_idle(&self) -> bool {
        self.state.open.get() == 0
    }

    /// Waits until the settings of the endpoint have arrived, or the connection has ended.
    pub async fn settings_received(&self) {
        while !self.state.has_settings.get() && !self.is_closed() {
            self.state.settings.notified().await;
        }
    }

    /// Whether the endpoint accepts requests to switch protocols (RFC 8441 section 3). Known once it is settled.
    pub fn accepts_upgrades(&self) -> bool {
        self.sender.is_extended_connect_protocol_enabled()
    }

    /// A stream for one request.
    pub fn open_stream(&self) -> UpstreamRequest {
        self.state.open.set(self.state.open.get() + 1);
        UpstreamRequest {
            connection: self.clone(),
            open: OpenStream(self.state.clone()),
            reused: self.state.has_answered.get(),
            progress: Progress { sent: false, received: false },
            switched: None,
            to_head: false,
            request: BodyWriter::default(),
            head: None,
            response: BodyReader::none(),
        }
    }
}

/// Moves a connection until it ends. Its first ping tells when the settings of the endpoint have arrived.
async fn drive(mut connection: Connection<Stream, Bytes>, state: Rc<ConnectionState>) {
    let mut pings = connection.ping_pong();
    let mut connection = pin!(connection);
    if let Some(pings) = &mut pings {
        // It fails only when a ping is under way.
        let _ = pings.send_ping(Ping::opaque());
    }
    poll_fn(|cx| {
        let ended = connection.as_mut().poll(cx);
        if !state.has_settings.get() && is_answered(&mut pings, cx) {
            state.has_settings.set(true);
            state.settings.notify_waiters();
        }
        ended.map(|_| ())
    })
    .await;
    state.is_closed.set(true);
    state.settings.notify_waiters();
}

fn is_answered(pings: &mut Option<PingPong>, cx: &mut Context<'_>) -> bool {
    pings.as_mut().is_none_or(|pings| matches!(pings.poll_pong(cx), Poll::Ready(Ok(_))))
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.0.open.set(self.0.open.get() - 1);
    }
}

// === impl UpstreamRequest ===

impl UpstreamRequest {
    fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<http::Response<Option<h2::RecvStream>>, h2::Error>> {
        let Some(head) = &mut self.head else { return Poll::Pending };
        match head.poll_informational(cx) {
            Poll::Ready(Some(informational)) => {
                return Poll::Ready(informational.map(|response| response.map(|()| None)));
            }
            Poll::Ready(None) | Poll::Pending => {}
        }
        Pin::new(head).poll(cx).map_ok(|response| response.map(Some))
    }

    /// Why there is no response.
    fn response_error(&mut self, error: &h2::Error) -> ResponseError {
        if error.is_go_away() {
            self.connection.state.is_closed.set(true);
        }
        let refused = error.is_reset() && error.reason() == Some(Reason::REFUSED_STREAM);
        if error.is_remote() && (refused || error.is_go_away()) {
            // RFC 9113 sections 6.8 and 8.7: the endpoint has not acted on it.
            return ResponseError::NotProcessed;
        }
        if error.is_library() {
            self.connection.state.is_closed.set(true);
            let rule = HeadError::Malformed("it does not follow the rules of HTTP/2");
            return ResponseError::Malformed(Malformation { rule, line: None });
        }
        self.progress.received |= error.is_reset();
        error.get_io().map_or(ResponseError::Disconnected, ResponseError::from_io)
    }
}

// === impl SwitchedLines ===

impl SwitchedLines {
    fn of(request: &Fields) -> Self {
        let upgrade = request.all(FieldKind::Upgrade).next().unwrap_or_default().to_vec();
        Self { upgrade, accept: websocket::accept_for(request) }
    }

    fn added_to(&self, response: &Fields) -> Fields {
        let fields = response.with_line(b"upgrade", &self.upgrade);
        match &self.accept {
            Some(accept) => fields.with_line(websocket::ACCEPT, accept.as_bytes()),
            None => fields,
        }
    }
}

impl BodySource for UpstreamRequest {
    fn poll_frames<R>(
        &mut self,
        cx: &mut Context<'_>,
        receive: impl for<'a> FnOnce(&mut Context<'_>, &mut dyn BodyFrames<'a>) -> R,
    ) -> Poll<R> {
        let batch = ready!(self.response.poll_batch(cx));
        Poll::Ready(self.response.pass_on(&batch, |frames| receive(cx, frames)))
    }

    fn is_complete(&self) -> bool {
        self.response.is_complete()
    }
}

impl BodySink for UpstreamRequest {
    fn send_frames(
        &mut self,
        cx: &mut Context<'_>,
        frames: &mut dyn BodyFrames<'_>,
    ) -> Result<(), TransferError> {
        self.request.append(frames)?;
        self.request.send(cx).map_err(TransferError::Sink)
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.request.poll_flush(cx)
    }

    fn is_blocked(&self) -> bool {
        self.request.is_blocked()
    }

    fn written(&self) -> u64 {
        self.request.written()
    }
}

impl Upstream for UpstreamRequest {
    type Stream = TunnelStream;

    fn send_request(
        &mut self,
        cx: &mut Context<'_>,
        outgoing: &OutgoingRequest<'_>,
        frames: &mut dyn BodyFrames<'_>,
    ) -> Result<(), TransferError> {
        let head = outgoing.head;
        let message = request(outgoing, self.connection.scheme.clone())
            .map_err(|text| TransferError::Source(BodyError::Malformed(text)))?;
        self.switched = head.upgrade.then(|| Box::new(SwitchedLines::of(&head.fields)));
        self.to_head = head.method == Method::HEAD;
        let has_body = head.upgrade || head.body != BodyLength::None;
        let sent = self.connection.sender.send_request(message, !has_body);
        let (head, stream) = sent.map_err(|error| {
            self.connection.state.is_closed.set(true);
            TransferError::Sink(io::Error::other(error))
        })?;
        self.progress.sent = true;
        self.head = Some(head);
        self.request.begin_request(stream, has_body);
        if self.switched.is_some() {
            // What follows is no body.
            return Ok(());
        }
        self.request.append(frames)?;
        self.request.send(cx).map_err(TransferError::Sink)
    }

    fn poll_response<R>(
        &mut self,
        cx: &mut Context<'_>,
        mut receive: impl for<'a> FnMut(&mut Context<'_>, &ResponseHead, &mut dyn BodyFrames<'a>) -> R,
    ) -> Poll<Result<R, ResponseError>> {
        let (parts, body) = match ready!(self.poll_head(cx)) {
            Ok(response) => response.into_parts(),
            Err(error) => return Poll::Ready(Err(self.response_error(&error))),
        };
        self.progress.received = true;
        self.connection.state.has_answered.set(true);
        let Some(body) = body else {
            return Poll::Ready(Ok(receive(cx, &response_head(&parts, true), &mut NoFrames)));
        };
        self.head = None;
        let mut head = response_head(&parts, body.is_end_stream() || self.to_head);
        if let (Some(switched), true) = (&self.switched, head.status.is_success()) {
            head.status = StatusCode::SWITCHING_PROTOCOLS;
            head.fields = switched.added_to(&head.fields);
            self.response = BodyReader::new(body, true);
            return Poll::Ready(Ok(receive(cx, &head, &mut NoFrames)));
        }
        self.response = BodyReader::new(body, head.body != BodyLength::None);
        if self.response.is_complete() {
            return Poll::Ready(Ok(receive(cx, &head, &mut NoFrames)));
        }
        Poll::Ready(Ok(match self.response.poll_batch(cx) {
            Poll::Ready(batch) => {
                self.response.pass_on(&batch, |frames| receive(cx, &head, frames))
            }
            Poll::Pending => receive(cx, &head, &mut NoFrames),
        }))
    }

    fn progress(&self) -> Progress {
        self.progress
    }

    fn is_reused(&self) -> bool {
        self.reused
    }

    /// The connection serves others all the time; there is nothing to keep.
    fn is_reusable(&self) -> bool {
        false
    }

    fn into_stream(self) -> TunnelStream {
        TunnelStream::new(self.response.into_stream(), self.request).of_endpoint(self.open)
    }
}
