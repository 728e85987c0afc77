//! Deadlines: one timer per connection, which is moved to whatever the connection waits for next.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep};

/// A deadline that is cheap to move later.
///
/// The timer of the runtime is armed at the first deadline, and again only when it fires too early. A keep-alive
/// connection whose deadline moves with every request thus touches the timer wheel about once per deadline, not once per
/// request.
#[derive(Default)]
pub struct Timer {
    deadline: Option<Instant>,
    sleep: Option<Pin<Box<Sleep>>>,
    /// The sleep holds this task's waker.
    registered: bool,
}

/// Ends when nothing has moved for a while.
pub struct Idleness {
    limit: Option<Duration>,
    moved: Option<u64>,
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
            None => self.sleep = Some(Box::pin(tokio::time::sleep_until(deadline))),
        }
    }

    /// A deadline this long from now, or none.
    pub fn set_after(&mut self, limit: Option<Duration>) {
        match limit {
            Some(limit) => self.set(Instant::now() + limit),
            None => self.clear(),
        }
    }

    pub fn clear(&mut self) {
        self.deadline = None;
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
                // Without budget the poll stores no waker, and the runtime polls this task again.
                self.registered = tokio::task::coop::has_budget_remaining();
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

// === impl Idleness ===

impl Idleness {
    /// Without a limit it never ends.
    pub fn new(limit: Option<Duration>) -> Self {
        Self { limit, moved: None }
    }

    /// Begins anew, as if something had moved.
    pub fn restart(&mut self) {
        self.moved = None;
    }

    /// Ready when `moved`, a count that only grows, has not changed for the limit. `timer` is used for nothing else
    /// meanwhile.
    pub fn poll(&mut self, cx: &mut Context<'_>, timer: &mut Timer, moved: u64) -> Poll<()> {
        if self.limit.is_none() {
            return Poll::Pending;
        }
        if self.moved.replace(moved) != Some(moved) {
            timer.set_after(self.limit);
        }
        timer.poll(cx)
    }
}
