//! One timer a connection, set for whatever it waits for next. It never says what the wait was for.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::time::{Instant, Sleep};

/// A deadline that is cheap to move later.
///
/// The runtime's timer is armed at the first deadline and armed again only when it fires early, so a
/// keep-alive connection whose deadline moves on with every request touches the timer wheel about
/// once a deadline, not once a request.
#[derive(Default)]
pub struct Timer {
    deadline: Option<Instant>,
    sleep: Option<Pin<Box<Sleep>>>,
    /// The sleep holds this task's waker.
    registered: bool,
}

// === impl Timer ===

impl Timer {
    pub fn set(&mut self, deadline: Instant) {
        self.deadline = Some(deadline);
        match &mut self.sleep {
            Some(sleep) if !sleep.is_elapsed() && sleep.deadline() <= deadline => {}
            Some(sleep) => {
                sleep.as_mut().reset(deadline);
                self.registered = false;
            }
            None => {
                self.sleep = Some(Box::pin(tokio::time::sleep_until(deadline)));
                self.registered = false;
            }
        }
    }

    pub fn clear(&mut self) {
        self.deadline = None;
    }

    pub fn is_set(&self) -> bool {
        self.deadline.is_some()
    }

    /// Ready once the deadline has passed; never without one. The polling task must not change.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let (Some(deadline), Some(sleep)) = (self.deadline, &mut self.sleep) else {
            return Poll::Pending;
        };
        loop {
            if !sleep.is_elapsed() {
                if self.registered {
                    return Poll::Pending;
                }
                self.registered = true;
                if sleep.as_mut().poll(cx).is_pending() {
                    return Poll::Pending;
                }
            }
            if sleep.deadline() >= deadline {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(deadline);
            self.registered = false;
        }
    }
}
