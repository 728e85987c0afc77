//! The endpoints of a workload as one core uses them: its load on each, its idle connections, and which are unreachable.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use tokio::time::Instant;

use crate::activation::{Activation, Rejection};
use crate::backend::EndpointSource;
use crate::backoff::Backoff;
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
    unreachable: Cell<Option<Unreachable>>,
    idle: RefCell<Vec<IdleConnection>>,
}

/// No connection to an endpoint could be made.
#[derive(Clone, Copy)]
struct Unreachable {
    /// Requests go to other endpoints until then.
    avoid_until: Instant,
    /// Where there is no other endpoint, it may be tried again then.
    retry_at: Instant,
    /// Connections in a row that timed out.
    timeouts: u32,
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
const AFTER_REFUSAL: Duration = Duration::from_millis(100);
/// An endpoint that does not respond at all is left alone for longer each time: each attempt costs a `connect_timeout`.
const AFTER_TIMEOUT: Backoff =
    Backoff { first: Duration::from_secs(1), longest: Duration::from_secs(60) };
/// How long the last event of a connection is trusted. After that the kernel is asked whether the endpoint has closed it:
/// a request that is sent on a closed connection cannot be told from one that broke it.
const LATEST_EVENTS: Duration = Duration::from_millis(1);
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
                match (one.is_avoided(), other.is_avoided()) {
                    (false, true) => one,
                    (true, false) => other,
                    (true, true) => {
                        let reachable = many.iter().find(|endpoint| !endpoint.is_avoided());
                        let soonest = || many.iter().min_by_key(|endpoint| endpoint.retry_at());
                        reachable.or_else(soonest).unwrap_or(one)
                    }
                    _ if other.in_flight.get() < one.in_flight.get() => other,
                    _ => one,
                }
            }
        };
        if let Some(retry_at) =
            chosen.retry_at().filter(|at| chosen.is_avoided() && *at > Instant::now())
        {
            return EndpointChoice::Wait(Some(retry_at));
        }
        chosen.begin_attempt();
        EndpointChoice::Ready(EndpointLease::new(chosen.clone()))
    }

    /// Keeps requests away from this endpoint for a moment.
    pub fn mark_refused(&self, address: SocketAddr) {
        let ready = self.ready.borrow();
        if let Some(endpoint) = ready.iter().find(|endpoint| endpoint.address == address) {
            endpoint.mark_refused();
        }
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
            unreachable: Cell::new(None),
            idle: RefCell::default(),
        }
    }

    /// Keeps requests away from it for a moment: it refused a connection, or is not ready to serve one.
    pub fn mark_refused(&self) {
        let retry_at = Instant::now() + AFTER_REFUSAL;
        let timeouts = self.unreachable.get().map_or(0, |unreachable| unreachable.timeouts);
        self.set_unreachable(Unreachable { avoid_until: retry_at, retry_at, timeouts });
    }

    /// Keeps requests away from it for longer each time: it did not respond within `connect_timeout`.
    pub fn mark_timed_out(&self) {
        let now = Instant::now();
        let timeouts = self.unreachable.get().map_or(0, |unreachable| unreachable.timeouts) + 1;
        let avoid_until = now + AFTER_TIMEOUT.delay(timeouts);
        self.set_unreachable(Unreachable { avoid_until, retry_at: now + AFTER_REFUSAL, timeouts });
    }

    /// It has accepted a connection.
    pub fn mark_reachable(&self) {
        self.unreachable.set(None);
    }

    fn set_unreachable(&self, unreachable: Unreachable) {
        self.unreachable.set(Some(unreachable));
        self.idle.borrow_mut().clear();
    }

    /// One request tries an endpoint that has timed out; the others go elsewhere until that one knows more.
    fn begin_attempt(&self) {
        if let Some(unreachable) = self.unreachable.get()
            && unreachable.timeouts > 0
        {
            let avoid_until = Instant::now() + AFTER_TIMEOUT.delay(unreachable.timeouts);
            self.unreachable.set(Some(Unreachable { avoid_until, ..unreachable }));
        }
    }

    /// An open connection, of those that were used less than `within` ago.
    pub fn take_idle(&self, within: Option<Duration>) -> Option<Stream> {
        let mut idle = self.idle.borrow_mut();
        while let Some(latest) = idle.pop() {
            let idle_for = latest.since.elapsed();
            if within.is_some_and(|within| idle_for > within) {
                idle.push(latest);
                return None;
            }
            let is_open = idle_for < LATEST_EVENTS || !latest.stream.is_closed();
            if is_open && latest.stream.is_quiet() {
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

    fn is_avoided(&self) -> bool {
        self.unreachable.get().is_some_and(|unreachable| Instant::now() < unreachable.avoid_until)
    }

    fn retry_at(&self) -> Option<Instant> {
        self.unreachable.get().map(|unreachable| unreachable.retry_at)
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
