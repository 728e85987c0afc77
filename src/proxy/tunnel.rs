//! An upgraded connection: bytes both ways until both sides have closed. It never looks inside.

use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use crate::http::http1::framing::Length;
use crate::net::stream::Stream;
use crate::net::timer::{Idleness, Timer};

use super::pump::{Pump, PumpError};

/// One direction of a tunnel.
struct Direction {
    pump: Pump,
    /// The end of the stream has been passed on as well.
    closed: bool,
}

/// Copies both ways, each side's end passed on for itself, until both have ended, one has failed,
/// or nothing has moved for `idle_timeout`. Nothing else cuts a tunnel.
///
/// An idle tunnel holds no buffer: each core lends one while bytes move.
pub async fn run(mut client: Stream, mut upstream: Stream, idle_timeout: Option<Duration>) {
    let mut up = Direction::new();
    let mut down = Direction::new();
    let mut timer = Timer::default();
    let mut idleness = Idleness::new(idle_timeout);
    poll_fn(|cx| {
        let one = up.poll(cx, &mut client, &mut upstream);
        let other = down.poll(cx, &mut upstream, &mut client);
        match (one, other) {
            (Poll::Ready(Err(_)), _) | (_, Poll::Ready(Err(_))) => return Poll::Ready(()),
            (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => return Poll::Ready(()),
            _ => {}
        }
        idleness.poll(cx, &mut timer, client.written() + upstream.written())
    })
    .await;
}

// === impl Direction ===

impl Direction {
    fn new() -> Self {
        Self { pump: Pump::new(Length::UntilClose, Length::UntilClose, None), closed: false }
    }

    fn poll(
        &mut self,
        cx: &mut std::task::Context<'_>,
        from: &mut Stream,
        to: &mut Stream,
    ) -> Poll<Result<(), PumpError>> {
        if !self.closed {
            std::task::ready!(self.pump.poll(cx, from, to))?;
            std::task::ready!(to.poll_shutdown(cx)).map_err(PumpError::Recipient)?;
            self.closed = true;
        }
        Poll::Ready(Ok(()))
    }
}
