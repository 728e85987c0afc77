//! A client and its connection, as the request path uses them.

use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;

use http::Method;

use crate::http::codec::Downstream;
use crate::http::forwarded::ClientIdentity;
use crate::http::message::RequestHead;
use crate::net::timer::Timer;

use super::core::Core;
use super::error_response::ErrorResponse;

/// A client that has sent a request.
pub struct Client<D> {
    pub downstream: D,
    /// For whatever is awaited next.
    pub timer: Timer,
    pub identity: ClientIdentity,
    pub core: Rc<Core>,
}

// === impl Client ===

impl<D: Downstream> Client<D> {
    /// Responds to the request in place of the application.
    pub async fn send_error(&mut self, request: &RequestHead, response: &ErrorResponse) {
        let (head, body) = response.message();
        let body = if request.method == Method::HEAD { &[] } else { body.as_bytes() };
        if self.core.draining.get() {
            self.downstream.close_after_response();
        }
        let downstream = &mut self.downstream;
        // The next read notices a client that has disconnected.
        let _ = poll_fn(|cx| Poll::Ready(downstream.send_own_response(cx, &head, body))).await;
    }
}
