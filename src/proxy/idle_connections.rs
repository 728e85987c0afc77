//! Idle connections to one endpoint, as one core keeps them for further requests, and the bound on all of them.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::activation::endpoint::SharedEndpoint;
use crate::config::KeepAlive;
use crate::net::stream::Stream;

/// How many idle connections a core may keep (its share of `max_idle_upstream`), and how many it keeps.
#[derive(Debug, Default)]
pub struct IdleBudget {
    limit: Cell<usize>,
    used: Cell<usize>,
}

/// The idle connections to one endpoint. The one that was used last is taken first.
#[derive(Default)]
pub struct IdleConnections(RefCell<Vec<IdleConnection>>);

struct IdleConnection {
    stream: Stream,
    since: Instant,
    /// To be closed then.
    until: Instant,
    _place: Place,
}

/// The place of a connection in the budget of the core, and among those of all cores where `keep_alive` bounds them.
struct Place {
    budget: Rc<IdleBudget>,
    shared: Option<Arc<SharedEndpoint>>,
}

/// How long the last event of a connection is trusted. After that the kernel is asked whether the endpoint has closed it
/// or sent something: a request that is sent on a closed connection cannot be told from one that broke it.
const LATEST_EVENTS: Duration = Duration::from_millis(1);

// === impl IdleBudget ===

impl IdleBudget {
    pub fn set_limit(&self, limit: usize) {
        self.limit.set(limit);
    }
}

// === impl IdleConnections ===

impl IdleConnections {
    /// An open connection, of those that were used less than `within` ago.
    pub fn take(&self, within: Option<Duration>) -> Option<Stream> {
        let mut idle = self.0.borrow_mut();
        while let Some(mut latest) = idle.pop() {
            let idle_for = latest.since.elapsed();
            if within.is_some_and(|within| idle_for > within) {
                idle.push(latest);
                return None;
            }
            if idle_for >= LATEST_EVENTS {
                latest.stream.refresh_events();
            }
            if latest.stream.is_quiet() {
                return Some(latest.stream);
            }
        }
        None
    }

    /// Keeps a connection to the endpoint, as far as `keep_alive` and the budget allow.
    pub fn keep(
        &self,
        stream: Stream,
        keep_alive: KeepAlive,
        shared: &Arc<SharedEndpoint>,
        budget: &Rc<IdleBudget>,
        now: Instant,
    ) {
        let Some(idle_for) = keep_alive.idle_for else { return };
        if shared.serves_one_connection() {
            return;
        }
        if let Some(place) = Place::take(budget, shared, keep_alive.most_idle) {
            let until = now + idle_for;
            self.0.borrow_mut().push(IdleConnection { stream, since: now, until, _place: place });
        }
    }

    pub fn is_empty(&self) -> bool {
        self.0.borrow().is_empty()
    }

    /// Closes all.
    pub fn clear(&self) {
        self.0.borrow_mut().clear();
    }

    /// Closes those that have been idle for too long or cannot be used any more.
    pub fn sweep(&self, now: Instant) {
        self.0.borrow_mut().retain(|idle| now < idle.until && idle.stream.is_quiet());
    }
}

// === impl Place ===

impl Place {
    /// `None` where there are as many as there may be; `most` counts over all cores.
    fn take(
        budget: &Rc<IdleBudget>,
        shared: &Arc<SharedEndpoint>,
        most: Option<u32>,
    ) -> Option<Self> {
        if budget.used.get() >= budget.limit.get() {
            return None;
        }
        let shared = match most {
            Some(most) if !shared.add_idle(most) => return None,
            Some(_) => Some(shared.clone()),
            None => None,
        };
        budget.used.set(budget.used.get() + 1);
        Some(Self { budget: budget.clone(), shared })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.budget.used.set(self.budget.used.get() - 1);
        if let Some(shared) = &self.shared {
            shared.remove_idle();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_bounded_by_the_core_and_by_the_endpoint() {
        let (budget, shared) = (Rc::new(IdleBudget::default()), Arc::<SharedEndpoint>::default());
        budget.set_limit(3);
        let bounded: Vec<_> = (0..2).map(|_| Place::take(&budget, &shared, Some(2))).collect();
        assert!(bounded.iter().all(Option::is_some));
        assert!(Place::take(&budget, &shared, Some(2)).is_none(), "the endpoint has two");
        let last = Place::take(&budget, &shared, None);
        assert!(last.is_some());
        assert!(Place::take(&budget, &shared, None).is_none(), "the core has three");
        drop(bounded);
        assert!(Place::take(&budget, &shared, Some(1)).is_some());
        drop(last);
        assert_eq!(budget.used.get(), 0);
    }
}
