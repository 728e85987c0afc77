//! One request on one connection to an endpoint: its body there, its response back, both streaming. It
//! chooses no endpoint and repeats nothing itself.

use std::future::poll_fn;
use std::task::{Context, Poll, ready};

use http::{StatusCode, Version};

use crate::demand::Retry;
use crate::http::fields::Kind;
use crate::http::http1::framing::Length;
use crate::http::http1::head::{HeadError, ResponseHead};
use crate::net::scratch;
use crate::net::stream::Stream;
use crate::net::timer::Idleness;

use super::client::Client;
use super::headers::{self, Persistence};
use super::pump::{Pump, PumpError};
use super::reject::Reason;
use super::request::{Failed, Open, Request};
use super::upstream::Upstream;

/// One request on one connection to an endpoint.
pub struct Exchange<'a> {
    client: &'a mut Client,
    request: &'a Request,
    upstream: Upstream,
    upload: Pump,
    /// The endpoint takes no more of the request body; it may still answer.
    upload_refused: bool,
    /// What went out of the request body with the head, to be sent again if need be.
    sent_early: Vec<u8>,
    /// Bytes received from the client when the exchange began.
    received: u64,
    /// Bytes received from and written to the endpoint when the exchange began.
    upstream_before: (u64, u64),
    /// A response head that is not complete yet.
    partial: Vec<u8>,
}

/// The final response has begun: its head and the first bytes of its body have been passed on.
pub struct Response {
    download: Pump,
    keep_upstream: bool,
    keep_client: bool,
    /// Towards the client, only the end of the connection ends the body.
    until_close: bool,
}

/// What the head of the response says.
pub enum Begun {
    Switched,
    Response(Response),
}

/// How a response ended.
pub enum Ended {
    /// Whole. The connections may go on where they are given back, and where `keep_client` says so.
    Whole { upstream: Option<Stream>, keep_client: bool },
    /// Broken, which the client must see; or the client has gone.
    Broken,
}

// === impl Exchange ===

impl<'a> Exchange<'a> {
    pub fn new(
        client: &'a mut Client,
        request: &'a Request,
        upstream: Upstream,
        max_body: Option<u64>,
    ) -> Self {
        let received = client.wire.received();
        let upstream_before = (upstream.wire.received(), upstream.wire.written());
        Self {
            client,
            request,
            upstream,
            upload: Pump::new(request.length, request.length, max_body),
            upload_refused: false,
            sent_early: Vec::new(),
            received,
            upstream_before,
            partial: Vec::new(),
        }
    }

    /// Sends the request and waits for the head of its final response, which is passed on.
    pub async fn response(&mut self, open: &mut Open) -> Result<Begun, Failed> {
        let config = &open.route().config();
        let response_timeout = config.response_timeout;
        let mut idleness = Idleness::new(config.idle_timeout);
        let mut uploading = true;
        let sent = poll_fn(|cx| Poll::Ready(self.send_head(cx))).await;
        sent.map_err(|failed| self.give_back(failed))?;
        open.forwarded();
        let begun = poll_fn(|cx| {
            self.poll_upload(cx)?;
            if uploading && self.upload.is_finished() {
                uploading = false;
                self.client.timer.set_after(response_timeout);
            }
            if let Poll::Ready(begun) = self.poll_head(cx, open) {
                return Poll::Ready(begun);
            }
            self.poll_client_gone(cx)?;
            let timer = &mut self.client.timer;
            if uploading {
                let idle = idleness.poll(cx, timer, self.upstream.wire.written());
                idle.map(|()| Err(Reason::IdleTimeout.into()))
            } else {
                timer.poll(cx).map(|()| Err(Reason::ResponseTimeout.into()))
            }
        })
        .await;
        self.client.timer.clear();
        begun.map_err(|failed| self.give_back(failed))
    }

    /// Both bodies to their ends.
    pub async fn finish(mut self, mut response: Response, open: &Open) -> Ended {
        let mut idleness = Idleness::new(open.route().config().idle_timeout);
        let download = &mut response.download;
        let whole = poll_fn(|cx| {
            if self.poll_upload(cx).is_err() {
                return Poll::Ready(false);
            }
            if let Poll::Ready(ended) =
                download.poll(cx, &mut self.upstream.wire, &mut self.client.wire)
            {
                return Poll::Ready(ended.is_ok());
            }
            if self.poll_client_gone(cx).is_err() {
                return Poll::Ready(false);
            }
            let moved = self.client.wire.written() + self.upstream.wire.written();
            idleness.poll(cx, &mut self.client.timer, moved).map(|()| false)
        })
        .await;
        self.client.timer.clear();
        if !whole {
            if response.until_close {
                // Only a reset tells the client that this is not the end of the body.
                self.client.wire.reset();
            }
            return Ended::Broken;
        }
        let keep_upstream = response.keep_upstream
            && self.upload.is_finished()
            && !self.upload_refused
            && !self.upstream.wire.is_blocked()
            && self.upstream.wire.is_quiet();
        Ended::Whole {
            upstream: keep_upstream.then_some(self.upstream.wire),
            keep_client: response.keep_client,
        }
    }

    /// The other side of a connection that has switched protocols.
    pub fn into_upstream(self) -> Stream {
        self.upstream.wire
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
            Ok::<_, Failed>(self.upstream.wire.send(cx, out))
        })?;
        sent.map_err(|_| self.without_response())
    }

    fn poll_upload(&mut self, cx: &mut Context<'_>) -> Result<(), Failed> {
        if self.upload_refused {
            return Ok(());
        }
        match self.upload.poll(cx, &mut self.client.wire, &mut self.upstream.wire) {
            Poll::Ready(Err(PumpError::Recipient(_))) => self.upload_refused = true,
            Poll::Ready(Err(error)) => return Err(upload_failed(error)),
            _ => {}
        }
        Ok(())
    }

    /// While its body is being read, the upload notices that the client goes.
    fn poll_client_gone(&mut self, cx: &mut Context<'_>) -> Result<(), Failed> {
        let is_read =
            !self.upload.is_finished() && !self.upload_refused && !self.upstream.wire.is_blocked();
        if !is_read && self.client.wire.poll_closed(cx).is_ready() {
            return Err(Failed::ClientGone);
        }
        Ok(())
    }

    fn poll_head(&mut self, cx: &mut Context<'_>, open: &mut Open) -> Poll<Result<Begun, Failed>> {
        loop {
            // What is on its way to the client goes first, or informational responses would pile up.
            ready!(self.client.wire.poll_flush(cx)).map_err(|_| Failed::ClientGone)?;
            let begun = ready!(scratch::lend(|scratch| {
                let read = ready!(self.upstream.wire.poll_read(cx, &mut scratch.input));
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
        self.upstream.wire.unread(rest);
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
        self.upstream.wire.unread(&rest[used..]);
        open.respond(head.status);
        open.answered();
        let keep_upstream =
            head.keeps_alive() && length != Length::UntilClose && is_framed_once(head);
        Ok(Begun::Response(Response { download, keep_upstream, keep_client, until_close }))
    }

    fn persistence(&self, keep_alive: bool) -> Persistence {
        Persistence { keep_alive, version: self.request.head.version }
    }

    /// The connection ended before the first byte of a response, or in its head. A request of which
    /// something went out may have been acted on; repeating it is safe only if its method is
    /// idempotent (RFC 9110 section 9.2.2).
    fn without_response(&self) -> Failed {
        let (received, written) = self.upstream_before;
        let nothing_came = self.upstream.wire.received() == received;
        let nothing_went = self.upstream.wire.written() == written;
        let may_be_repeated = nothing_went || self.request.head.method.is_idempotent();
        match (nothing_came && may_be_repeated, self.upstream.reused) {
            (false, _) => Reason::ConnectionBroken.into(),
            (true, true) => Failed::Again(Retry::Idle),
            (true, false) => Failed::Again(Retry::Reset),
        }
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
