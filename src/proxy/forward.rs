//! Takes a request to an endpoint and its response back, both streaming. It chooses no endpoint.

use std::future::poll_fn;
use std::task::{Context, Poll, ready};

use http::{StatusCode, Version};
use tokio::time::Instant;

use crate::http1::fields::Kind;
use crate::http1::head::{HeadError, ResponseHead};
use crate::http1::length::Length;
use crate::http1::scratch;
use crate::http1::wire::Wire;
use crate::traffic::Retry;

use super::connection::Client;
use super::core::Flight;
use super::headers::{self, Persistence};
use super::pump::{Pump, PumpError};
use super::reject::Reason;
use super::request::{After, Failed, Open, Request};
use super::upstream::{self, ConnectError, Upstream};

/// The application has answered.
pub enum Answered {
    Response(After),
    Switched(Wire, Flight),
}

/// One request on one connection to an endpoint.
struct Exchange<'a> {
    client: &'a mut Client,
    request: &'a Request,
    upstream: Wire,
    reused: bool,
    upload: Pump,
    /// The endpoint takes no more of the request body; it may still answer.
    upload_refused: bool,
    /// What went out of the request body with the head, to be sent again if need be.
    sent_early: Vec<u8>,
    /// Bytes received from the client when the exchange began.
    received: u64,
    /// A response head that is not complete yet.
    partial: Vec<u8>,
}

/// The response has begun.
enum Begun {
    Switched,
    Response { download: Pump, keep_upstream: bool, keep_client: bool, until_close: bool },
}

/// Sends the request to the flight's endpoint and its response to the client.
pub async fn forward(
    client: &mut Client,
    request: &Request,
    flight: Flight,
    open: &mut Open,
) -> Result<Answered, Failed> {
    let limit = open.service().service.config.connect_timeout;
    let repeatable = request.length == Length::Empty && request.head.method.is_idempotent();
    let upstream = match upstream::idle(flight.endpoint(), repeatable) {
        Some(upstream) => upstream,
        None => {
            let began = Instant::now();
            let connected = Box::pin(upstream::connect(client, flight.endpoint(), limit)).await;
            open.connecting_since(began);
            connected.map_err(|error| match error {
                ConnectError::ClientGone => Failed::ClientGone,
                ConnectError::Refused => {
                    flight.endpoint().gone();
                    Failed::Again(Retry::Connect)
                }
            })?
        }
    };
    let mut exchange =
        Exchange::new(client, request, upstream, open.service().service.config.max_body);
    let sent = client_log_start(exchange.client);
    let begun = exchange.response(open).await;
    if let Some(sent) = sent {
        open.waiting_since(sent);
    }
    match begun {
        Ok(Begun::Switched) => Ok(Answered::Switched(exchange.upstream, flight)),
        Ok(Begun::Response { download, keep_upstream, keep_client, until_close }) => {
            exchange.finish(download, keep_upstream, keep_client, until_close, &flight, open).await
        }
        Err(failed) => {
            if failed == Failed::Again(Retry::Reset) {
                flight.endpoint().gone();
            }
            Err(failed)
        }
    }
}

/// The clock is read for the access log only.
fn client_log_start(client: &Client) -> Option<Instant> {
    client.core.access_log.then(Instant::now)
}

// === impl Exchange ===

impl<'a> Exchange<'a> {
    fn new(
        client: &'a mut Client,
        request: &'a Request,
        upstream: Upstream,
        max_body: Option<u64>,
    ) -> Self {
        let received = client.wire.received();
        Self {
            client,
            request,
            upstream: upstream.wire,
            reused: upstream.reused,
            upload: Pump::new(request.length, request.length, max_body),
            upload_refused: false,
            sent_early: Vec::new(),
            received,
            partial: Vec::new(),
        }
    }

    /// Sends the request and waits for the head of its final response, which is passed on.
    async fn response(&mut self, open: &mut Open) -> Result<Begun, Failed> {
        let response_timeout = open.service().service.config.response_timeout;
        let mut waiting = false;
        poll_fn(|cx| Poll::Ready(self.send_head(cx))).await?;
        let begun = poll_fn(|cx| {
            self.poll_upload(cx)?;
            if let (Some(limit), false, true) =
                (response_timeout, waiting, self.upload.is_finished())
            {
                waiting = true;
                self.client.timer.set(Instant::now() + limit);
            }
            if let Poll::Ready(begun) = self.poll_head(cx, open) {
                return Poll::Ready(begun);
            }
            self.poll_client_gone(cx)?;
            self.client.timer.poll(cx).map(|()| Err(Reason::ResponseTimeout.into()))
        })
        .await;
        self.client.timer.clear();
        begun.map_err(|failed| self.give_back(failed))
    }

    /// Head and the first bytes of the body in one write.
    fn send_head(&mut self, cx: &mut Context<'_>) -> Result<(), Failed> {
        let sent = scratch::lend(|scratch| {
            let out = &mut scratch.output;
            let Request { head, length, upgrade } = self.request;
            headers::write_request(head, *length, *upgrade, &self.client.identity, out);
            if !self.upload.is_finished() {
                let mut early = self.client.wire.take_early();
                let used = self.upload.feed(&early, out).map_err(upload_failed)?;
                self.client.wire.unread(&early[used..]);
                early.truncate(used);
                self.sent_early = early;
            }
            Ok::<_, Failed>(self.upstream.send(cx, out))
        })?;
        // Nothing went out: the connection was closed already.
        sent.map_err(|_| {
            self.give_back(Failed::Again(if self.reused { Retry::Idle } else { Retry::Reset }))
        })
    }

    fn poll_upload(&mut self, cx: &mut Context<'_>) -> Result<(), Failed> {
        if self.upload_refused {
            return Ok(());
        }
        match self.upload.poll(cx, &mut self.client.wire, &mut self.upstream) {
            Poll::Ready(Err(PumpError::Recipient(_))) => self.upload_refused = true,
            Poll::Ready(Err(error)) => return Err(upload_failed(error)),
            _ => {}
        }
        Ok(())
    }

    /// While its body is being read, the upload notices that the client goes.
    fn poll_client_gone(&mut self, cx: &mut Context<'_>) -> Result<(), Failed> {
        let is_read =
            !self.upload.is_finished() && !self.upload_refused && !self.upstream.is_blocked();
        if !is_read && self.client.wire.poll_closed(cx).is_ready() {
            return Err(Failed::ClientGone);
        }
        Ok(())
    }

    fn poll_head(&mut self, cx: &mut Context<'_>, open: &mut Open) -> Poll<Result<Begun, Failed>> {
        loop {
            let begun = ready!(scratch::lend(|scratch| {
                let read = ready!(self.upstream.poll_read(cx, &mut scratch.input));
                let Ok(length @ 1..) = read else {
                    return Poll::Ready(Err(self.without_response()));
                };
                Poll::Ready(if self.partial.is_empty() {
                    self.take_heads(cx, &scratch.input[..length], &mut scratch.output, open)
                } else {
                    self.partial.extend_from_slice(&scratch.input[..length]);
                    let all = std::mem::take(&mut self.partial);
                    self.take_heads(cx, &all, &mut scratch.output, open)
                })
            }));
            if let Some(begun) = begun.transpose() {
                return Poll::Ready(begun);
            }
        }
    }

    /// Passes on the heads in `input` up to the final one, and with that what follows it.
    fn take_heads(
        &mut self,
        cx: &mut Context<'_>,
        input: &[u8],
        out: &mut Vec<u8>,
        open: &mut Open,
    ) -> Result<Option<Begun>, Failed> {
        let mut rest = input;
        let begun = loop {
            let Some((head, length)) =
                ResponseHead::parse(rest).map_err(|_| Reason::ResponseMalformed)?
            else {
                self.partial = rest.to_vec();
                break None;
            };
            rest = &rest[length..];
            if head.status == StatusCode::SWITCHING_PROTOCOLS {
                break Some(self.switch(&head, rest, out, open)?);
            }
            if !head.status.is_informational() {
                break Some(self.begin(&head, rest, out, open)?);
            }
            // RFC 9110 section 15.2: HTTP/1.0 has no informational responses.
            if self.request.head.version == Version::HTTP_11 {
                headers::write_response(&head, Length::Empty, self.persistence(true), out);
            }
        };
        self.client.wire.send(cx, out).map_err(|_| Failed::ClientGone)?;
        Ok(begun)
    }

    fn switch(
        &mut self,
        head: &ResponseHead,
        rest: &[u8],
        out: &mut Vec<u8>,
        open: &mut Open,
    ) -> Result<Begun, Failed> {
        // A switch before the end of the request would mix its body into the tunnel.
        if !self.request.upgrade || !self.upload.is_finished() {
            return Err(Reason::ResponseMalformed.into());
        }
        headers::write_response(head, Length::Empty, self.persistence(true), out);
        self.upstream.unread(rest);
        open.respond(head.status);
        open.answered();
        Ok(Begun::Switched)
    }

    fn begin(
        &mut self,
        head: &ResponseHead,
        rest: &[u8],
        out: &mut Vec<u8>,
        open: &mut Open,
    ) -> Result<Begun, Failed> {
        let length = Length::of_response(head, &self.request.head.method)
            .map_err(|_| Reason::ResponseMalformed)?;
        let framing = match (length, self.request.head.version) {
            (Length::Chunked | Length::UntilClose, Version::HTTP_11) => Length::Chunked,
            (Length::Chunked | Length::UntilClose, _) => Length::UntilClose,
            (length, _) => length,
        };
        let until_close = framing == Length::UntilClose;
        let keep_client = self.request.head.keeps_alive()
            && !until_close
            && self.upload.is_finished()
            && !self.client.core.draining.get();
        headers::write_response(head, framing, self.persistence(keep_client), out);
        let mut download = Pump::new(length, framing, None);
        let used = download.feed(rest, out).map_err(|_| Reason::ResponseMalformed)?;
        self.upstream.unread(&rest[used..]);
        open.respond(head.status);
        open.answered();
        let keep_upstream =
            head.keeps_alive() && length != Length::UntilClose && is_framed_once(head);
        Ok(Begun::Response { download, keep_upstream, keep_client, until_close })
    }

    /// Both bodies to their ends.
    async fn finish(
        mut self,
        mut download: Pump,
        keep_upstream: bool,
        keep_client: bool,
        until_close: bool,
        flight: &Flight,
        open: &Open,
    ) -> Result<Answered, Failed> {
        let idle_timeout = open.service().service.config.idle_timeout;
        let mut moved = 0;
        let ended = poll_fn(|cx| {
            self.poll_upload(cx)?;
            match download.poll(cx, &mut self.upstream, &mut self.client.wire) {
                Poll::Ready(Ok(())) => return Poll::Ready(Ok(true)),
                Poll::Ready(Err(PumpError::Recipient(_))) => {
                    return Poll::Ready(Err(Failed::ClientGone));
                }
                Poll::Ready(Err(_)) => return Poll::Ready(Ok(false)),
                Poll::Pending => {}
            }
            self.poll_client_gone(cx)?;
            let Some(limit) = idle_timeout else { return Poll::Pending };
            let all = download.moved() + self.upload.moved();
            if std::mem::replace(&mut moved, all) != all || !self.client.timer.is_set() {
                self.client.timer.set(Instant::now() + limit);
            }
            self.client.timer.poll(cx).map(|()| Ok(false))
        })
        .await;
        self.client.timer.clear();
        let complete = match ended {
            Ok(complete) => complete,
            Err(_) => return Ok(Answered::Response(After::Drop)),
        };
        if !complete {
            if until_close {
                // Only a reset tells the client that this is not the end of the body.
                self.client.wire.reset();
            }
            return Ok(Answered::Response(After::Drop));
        }
        if keep_upstream
            && self.upload.is_finished()
            && !self.upload_refused
            && self.upstream.is_quiet()
        {
            flight.endpoint().keep_idle(self.upstream, Instant::now());
        }
        Ok(Answered::Response(if keep_client { After::KeepAlive } else { After::Close }))
    }

    fn persistence(&self, keep_alive: bool) -> Persistence {
        Persistence { keep_alive, version: self.request.head.version }
    }

    /// The connection ended before the first byte of a response, or in its head.
    fn without_response(&self) -> Failed {
        if !self.partial.is_empty()
            || !self.request.head.method.is_idempotent()
            || !self.is_untouched()
        {
            return Reason::ConnectionBroken.into();
        }
        Failed::Again(if self.reused { Retry::Idle } else { Retry::Reset })
    }

    /// All that was taken of the request body is still in hand.
    fn is_untouched(&self) -> bool {
        self.client.wire.received() == self.received
    }

    /// Before a request is repeated, its body is made whole again; if it can't be, it is not repeated.
    fn give_back(&mut self, failed: Failed) -> Failed {
        if matches!(failed, Failed::Again(_)) {
            if !self.is_untouched() {
                return Reason::ConnectionBroken.into();
            }
            self.client.wire.unread(&self.sent_early);
        }
        failed
    }
}

/// Whether no other reader could take the response to end elsewhere (RFC 9112 section 6.3); what
/// follows on a connection where one could is not to be trusted.
fn is_framed_once(head: &ResponseHead) -> bool {
    !head.fields.has(Kind::TransferEncoding)
        || (head.version == Version::HTTP_11 && !head.fields.has(Kind::ContentLength))
}

fn upload_failed(error: PumpError) -> Failed {
    match error {
        PumpError::TooLarge => Reason::BodyTooLarge.into(),
        PumpError::Malformed(error) => Reason::Head(HeadError::Malformed(error.words())).into(),
        PumpError::Sender | PumpError::Recipient(_) => Failed::ClientGone,
    }
}
