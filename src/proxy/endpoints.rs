//! The endpoints of a workload as one core uses them: its load on each, its idle connections, and which are unreachable.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use tokio::time::Instant;

use crate::activation::{Activation, Rejection};
use crate::backend::EndpointSource;
use crate::net::stream::Stream;

/// The endpoints of one source of a workload, read again only when they have changed.
#[derive(Default)]
pub struct Endpoints {
    generation: Cell<u64>,
    ready: RefCell<Vec<Rc<Endpoint>>>,
    rejection: Cell<Option<Rejection>>,
    /// State of a xorshift generator, which picks the two endpoints that are compared.
    random: Cell<u32>,
}

/// An endpoint, with this core's load on it and idle connections to it.
pub struct Endpoint {
    pub address: SocketAddr,
    in_flight: Cell<u32>,
    unreachable_until: Cell<Option<Instant>>,
    idle: RefCell<Vec<IdleConnection>>,
}

/// Counts a request as load of an endpoint until it is dropped.
pub struct EndpointLease(Rc<Endpoint>);

/// Where a request may go now.
pub enum EndpointChoice {
    Ready(EndpointLease),
    /// There is no endpoint; if there are only unreachable ones, until the first may be tried again.
    Wait(Option<Instant>),
    /// The last wake failed; the next may begin when the rejection ends.
    Rejected(Rejection),
}

struct IdleConnection {
    stream: Stream,
    since: Instant,
}

/// An endpoint that refused a connection gets no request for this long.
const UNREACHABLE_FOR: Duration = Duration::from_millis(100);
/// Idle connections kept per endpoint and core.
const MOST_IDLE: usize = 1024;
/// An idle connection is closed after this, which is less than the keep-alive timeout of common servers.
const IDLE_FOR: Duration = Duration::from_secs(60);

// === impl Endpoints ===

impl Endpoints {
    /// Reads the endpoints again if they have changed, and keeps the state of those that stay. If they have not, this is
    /// one atomic load.
    pub fn refresh(&self, activation: &Activation, source: &EndpointSource) {
        let generation = activation.generation();
        if self.generation.replace(generation) == generation {
            return;
        }
        let published = activation.published();
        let addresses = published.endpoints.get(source);
        let mut ready = self.ready.borrow_mut();
        let old = std::mem::take(&mut *ready);
        ready.extend(addresses.into_iter().flat_map(|addresses| addresses.iter()).map(|address| {
            let known = old.iter().find(|endpoint| endpoint.address == *address);
            known.cloned().unwrap_or_else(|| Rc::new(Endpoint::new(*address)))
        }));
        self.rejection.set(published.rejection);
    }

    /// The less loaded of two ready endpoints, or why there is none.
    pub fn choose(&self) -> EndpointChoice {
        if let Some(rejection) = self.rejection.get() {
            return EndpointChoice::Rejected(rejection);
        }
        let ready = self.ready.borrow();
        let chosen = match ready.as_slice() {
            [] => return EndpointChoice::Wait(None),
            [only] => only,
            many => {
                let (one, other) = self.two_of(many.len());
                let (one, other) = (&many[one], &many[other]);
                match (one.is_unreachable(), other.is_unreachable()) {
                    (false, true) => one,
                    (true, false) => other,
                    (true, true) => {
                        many.iter().find(|endpoint| !endpoint.is_unreachable()).unwrap_or(one)
                    }
                    _ if other.in_flight.get() < one.in_flight.get() => other,
                    _ => one,
                }
            }
        };
        if chosen.is_unreachable() {
            let ends = ready.iter().filter_map(|endpoint| endpoint.unreachable_until.get());
            return EndpointChoice::Wait(ends.min());
        }
        EndpointChoice::Ready(EndpointLease::new(chosen.clone()))
    }

    /// Closes connections that have been idle for too long or cannot be used any more.
    pub fn sweep(&self, now: Instant) {
        for endpoint in self.ready.borrow().iter() {
            endpoint.sweep(now);
        }
    }

    /// Two different indexes below `length`, which is at least 2.
    fn two_of(&self, length: usize) -> (usize, usize) {
        let mut random = self.random.get().max(1);
        random ^= random << 13;
        random ^= random >> 17;
        random ^= random << 5;
        self.random.set(random);
        let one = random as usize % length;
        let step = 1 + (random as usize / length) % (length - 1);
        (one, (one + step) % length)
    }
}

// === impl Endpoint ===

impl Endpoint {
    fn new(address: SocketAddr) -> Self {
        Self {
            address,
            in_flight: Cell::new(0),
            unreachable_until: Cell::new(None),
            idle: RefCell::default(),
        }
    }

    /// Keeps requests away from it for a moment: it refused a connection.
    pub fn mark_unreachable(&self) {
        self.unreachable_until.set(Some(Instant::now() + UNREACHABLE_FOR));
        self.idle.borrow_mut().clear();
    }

    /// An open connection, of those that were used less than `within` ago.
    pub fn take_idle(&self, within: Option<Duration>) -> Option<Stream> {
        let mut idle = self.idle.borrow_mut();
        while let Some(latest) = idle.pop() {
            if within.is_some_and(|within| latest.since.elapsed() > within) {
                idle.push(latest);
                return None;
            }
            if latest.stream.is_quiet() {
                return Some(latest.stream);
            }
        }
        None
    }

    /// Keeps a connection for another request.
    pub fn keep_idle(&self, stream: Stream, now: Instant) {
        let mut idle = self.idle.borrow_mut();
        if idle.len() < MOST_IDLE {
            idle.push(IdleConnection { stream, since: now });
        }
    }

    fn is_unreachable(&self) -> bool {
        match self.unreachable_until.get() {
            None => false,
            Some(until) if Instant::now() < until => true,
            Some(_) => {
                self.unreachable_until.set(None);
                false
            }
        }
    }

    fn sweep(&self, now: Instant) {
        self.idle.borrow_mut().retain(|idle| {
            now.saturating_duration_since(idle.since) < IDLE_FOR && idle.stream.is_quiet()
        });
    }
}

// === impl EndpointLease ===

impl EndpointLease {
    fn new(endpoint: Rc<Endpoint>) -> Self {
        endpoint.in_flight.set(endpoint.in_flight.get() + 1);
        Self(endpoint)
    }

    pub fn endpoint(&self) -> &Endpoint {
        &self.0
    }
}

impl Drop for EndpointLease {
    fn drop(&mut self) {
        self.0.in_flight.set(self.0.in_flight.get() - 1);
    }
}
