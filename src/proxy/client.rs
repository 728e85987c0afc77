//! A client as the request path sees it. It waits for nothing by itself.

use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;

use crate::net::stream::Stream;
use crate::net::timer::Timer;

use super::core::Core;
use super::headers::ClientIdentity;
use super::reject::Reject;

/// A client and its connection.
pub struct Client {
    pub wire: Stream,
    /// For whatever the connection waits for next.
    pub timer: Timer,
    pub identity: ClientIdentity,
    pub core: Rc<Core>,
}

// === impl Client ===

impl Client {
    /// Sends an answer of agimo's own.
    pub async fn write(&mut self, reject: Reject, head_only: bool, close: bool) {
        let mut response = Vec::new();
        reject.write(head_only, close, &mut response);
        // A client that has gone is noticed by the next read.
        let _ = poll_fn(|cx| Poll::Ready(self.wire.send(cx, &response))).await;
    }
}
