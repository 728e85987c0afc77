//! The endpoints of a workload as one core uses them: its load on each, its idle connections, and which are unreachable.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::activation::endpoint::{ReadyEndpoint, SharedEndpoint};
use crate::activation::ramp::RampPermit;
use crate::activation::{Activation, Rejection};
use crate::backend::EndpointSource;
use crate::backoff::Backoff;
use crate::config::protocol::{EndpointProtocol, SpokenProtocol};
use crate::http::message::RequestHead;

use super::affinity::{EndpointToken, Preference};
use super::idle_connections::IdleConnections;
use super::upstream::multiplexed::MultiplexedConnections;

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
    /// Which replica of a StatefulSet answers there.
    ordinal: Option<u32>,
    protocol: EndpointProtocol,
    pub token: EndpointToken,
    pub shared: Arc<SharedEndpoint>,
    /// Requests are released to it step by step; false for ever once it takes any number.
    is_ramping: Cell<bool>,
    in_flight: Cell<u32>,
    /// How long requests take, as a moving average.
    usual_duration: Cell<Option<Duration>>,
    unreachable: Cell<Option<Unreachable>>,
    pub idle: IdleConnections,
    pub multiplexed: MultiplexedConnections,
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
pub struct EndpointLease {
    endpoint: Rc<Endpoint>,
    /// To be the one of the few that may wait for a first answer of a fresh endpoint.
    permit: Option<Box<RampPermit>>,
}

/// Where a request may go now.
pub enum EndpointChoice {
    Ready(EndpointLease),
    /// There is no endpoint; if there are only unreachable ones, until the first may be tried again.
    Wait(Option<Instant>),
    /// The endpoint is fresh and has as many requests as it may have now.
    Full(Rc<Endpoint>),
    /// The last wake failed; the next may begin when the rejection ends.
    Rejected(Rejection),
}

/// An endpoint that refused a connection gets no request for this long.
const AFTER_REFUSAL: Duration = Duration::from_millis(100);
/// An endpoint that does not respond at all is left alone for longer each time: each attempt costs a `connect_timeout`.
const AFTER_TIMEOUT: Backoff =
    Backoff { first: Duration::from_secs(1), longest: Duration::from_secs(60) };
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
        let endpoints = published.endpoints.get(source);
        let mut ready = self.ready.borrow_mut();
        let old = std::mem::take(&mut *ready);
        ready.extend(endpoints.into_iter().flat_map(|endpoints| endpoints.iter()).map(
            |endpoint| {
                let is_known = |known: &&Rc<Endpoint>| Arc::ptr_eq(&known.shared, &endpoint.shared);
                let known = old.iter().find(is_known);
                known.cloned().unwrap_or_else(|| Rc::new(Endpoint::new(endpoint)))
            },
        ));
        self.rejection.set(published.rejection);
    }

    /// The preferred ready endpoint, or the less loaded of two, or why there is none.
    pub fn choose(&self, preference: Preference) -> EndpointChoice {
        if let Some(rejection) = self.rejection.get() {
            return EndpointChoice::Rejected(rejection);
        }
        let ready = self.ready.borrow();
        let preferred = match preference {
            Preference::Any | Preference::Nowhere => None,
            Preference::Sticky(token) => {
                ready.iter().find(|endpoint| endpoint.token == token && !endpoint.is_avoided())
            }
            Preference::Ordinal(ordinal) => {
                let replica = ready.iter().find(|endpoint| endpoint.ordinal == Some(ordinal));
                let Some(replica) = replica else { return EndpointChoice::Wait(None) };
                Some(replica)
            }
        };
        let Some(chosen) = preferred.or_else(|| self.less_loaded(&ready)) else {
            return EndpointChoice::Wait(None);
        };
        if let Some(retry_at) =
            chosen.retry_at().filter(|at| chosen.is_avoided() && *at > Instant::now())
        {
            return EndpointChoice::Wait(Some(retry_at));
        }
        if !chosen.is_ramping() {
            return EndpointChoice::Ready(EndpointLease::new(chosen.clone(), None));
        }
        let others = ready.iter().filter(|endpoint| preferred.is_none() && !endpoint.is_avoided());
        for endpoint in std::iter::once(chosen).chain(others) {
            if !endpoint.is_ramping() {
                return EndpointChoice::Ready(EndpointLease::new(endpoint.clone(), None));
            }
            if let Some(permit) = endpoint.shared.ramp.try_enter() {
                return EndpointChoice::Ready(EndpointLease::new(endpoint.clone(), Some(permit)));
            }
        }
        EndpointChoice::Full(chosen.clone())
    }

    /// Keeps requests away from this endpoint for a moment.
    pub fn mark_refused(&self, address: SocketAddr) {
        let ready = self.ready.borrow();
        if let Some(endpoint) = ready.iter().find(|endpoint| endpoint.address == address) {
            endpoint.mark_refused();
        }
    }

    /// Whether there is another endpoint that accepts connections, as far as is known.
    pub fn has_other(&self, address: SocketAddr) -> bool {
        let ready = self.ready.borrow();
        ready.iter().any(|endpoint| endpoint.address != address && !endpoint.is_avoided())
    }

    /// Closes all idle connections.
    pub fn close_all_idle(&self) {
        for endpoint in self.ready.borrow().iter() {
            endpoint.idle.clear();
            endpoint.multiplexed.close_idle();
        }
    }

    /// Closes all idle connections to this endpoint.
    pub fn close_idle(&self, address: SocketAddr) {
        for endpoint in self.ready.borrow().iter().filter(|known| known.address == address) {
            if !endpoint.idle.is_empty() {
                endpoint.shared.note_closed_idle();
                endpoint.idle.clear();
            }
            endpoint.multiplexed.close_idle();
        }
    }

    /// Closes connections that have been idle for too long or cannot be used any more.
    pub fn sweep(&self, now: Instant) {
        for endpoint in self.ready.borrow().iter() {
            endpoint.idle.sweep(now);
            endpoint.multiplexed.sweep(now);
        }
    }

    /// The less loaded of two of these, chosen at random, as far as they are reachable.
    fn less_loaded<'a>(&self, ready: &'a [Rc<Endpoint>]) -> Option<&'a Rc<Endpoint>> {
        let many = match ready {
            [] => return None,
            [only] => return Some(only),
            many => many,
        };
        let (one, other) = self.two_of(many.len());
        let (one, other) = (&many[one], &many[other]);
        Some(match (one.is_avoided(), other.is_avoided()) {
            (false, true) => one,
            (true, false) => other,
            (true, true) => {
                let reachable = many.iter().find(|endpoint| !endpoint.is_avoided());
                let soonest = || many.iter().min_by_key(|endpoint| endpoint.retry_at());
                reachable.or_else(soonest).unwrap_or(one)
            }
            _ if other.in_flight.get() < one.in_flight.get() => other,
            _ => one,
        })
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
    fn new(ready: &ReadyEndpoint) -> Self {
        Self {
            address: ready.address,
            ordinal: ready.ordinal,
            protocol: ready.protocol,
            token: EndpointToken::of(ready.address),
            shared: ready.shared.clone(),
            is_ramping: Cell::new(true),
            in_flight: Cell::new(0),
            usual_duration: Cell::new(None),
            unreachable: Cell::new(None),
            idle: IdleConnections::default(),
            multiplexed: MultiplexedConnections::default(),
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
        self.idle.clear();
        self.multiplexed.close_idle();
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

    /// What is spoken to it for a request; `configured` is `protocol` of the service.
    pub fn spoken_protocol(
        &self,
        configured: EndpointProtocol,
        request: &RequestHead,
    ) -> SpokenProtocol {
        configured.spoken(self.protocol, request.is_grpc())
    }

    /// How long requests usually take, as far as this core knows.
    pub fn usual_duration(&self) -> Option<Duration> {
        self.usual_duration.get()
    }

    pub fn note_duration(&self, duration: Duration) {
        let average = |before: Duration| before - before / 8 + duration / 8;
        self.usual_duration.set(Some(self.usual_duration.get().map_or(duration, average)));
    }

    fn is_ramping(&self) -> bool {
        if self.is_ramping.get() && self.shared.ramp.is_open() {
            self.is_ramping.set(false);
        }
        self.is_ramping.get()
    }

    /// Whether requests go elsewhere for now.
    pub fn is_avoided(&self) -> bool {
        self.unreachable.get().is_some_and(|unreachable| Instant::now() < unreachable.avoid_until)
    }

    fn retry_at(&self) -> Option<Instant> {
        self.unreachable.get().map(|unreachable| unreachable.retry_at)
    }
}

// === impl EndpointLease ===

impl EndpointLease {
    pub fn new(endpoint: Rc<Endpoint>, permit: Option<RampPermit>) -> Self {
        endpoint.in_flight.set(endpoint.in_flight.get() + 1);
        endpoint.begin_attempt();
        Self { endpoint, permit: permit.map(Box::new) }
    }

    pub fn endpoint(&self) -> &Rc<Endpoint> {
        &self.endpoint
    }

    /// Gives the place among the few to another request.
    pub fn release_permit(&mut self) {
        self.permit = None;
    }

    /// Takes the permit, if the endpoint is fresh.
    pub fn take_permit(&mut self) -> Option<RampPermit> {
        self.permit.take().map(|permit| *permit)
    }
}

impl Drop for EndpointLease {
    fn drop(&mut self) {
        self.endpoint.in_flight.set(self.endpoint.in_flight.get() - 1);
    }
}
