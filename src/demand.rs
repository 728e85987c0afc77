//! What every scaler reads: arrivals and requests in flight, per route and summed per workload. It knows no protocol.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::time::Instant;

use self::request_time::RequestTime;
use crate::telemetry::counters::{Counter, Histogram};

pub mod metrics;
pub mod request_time;

/// The demand of one workload: the sum of its routes.
#[derive(Debug, Default)]
pub struct WorkloadDemand {
    routes: Mutex<CountedRoutes>,
}

/// The requests of one route over all cores.
#[derive(Debug)]
pub struct RouteCounters {
    cores: Box<[Arc<CoreCounters>]>,
}

/// The part of one core, which alone writes it: no two cores share a cache line.
#[derive(Debug)]
#[repr(align(128))]
pub struct CoreCounters {
    began: Instant,
    arrivals: AtomicU64,
    request_time: RequestTime,
    ended: Counter,
    tunnels_opened: Counter,
    tunnels_closed: Counter,
    held: Counter,
    released: Counter,
    responses: [Counter; CLASSES.len()],
    retries: [Counter; RETRIES.len()],
    durations: Histogram,
}

#[derive(Debug, Default)]
struct CountedRoutes {
    current: Vec<Arc<RouteCounters>>,
    /// Routes that no longer lead to the workload; they are gone when their last request has ended.
    removed: Vec<RemovedRoute>,
    /// Of removed routes that are gone.
    past: Totals,
}

/// What was counted since the start; neither value ever decreases.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Requests that have arrived.
    pub arrivals: u64,
    /// The time that requests have spent in flight, added up.
    pub request_time: Duration,
}

#[derive(Debug)]
struct RemovedRoute {
    counters: Weak<RouteCounters>,
    totals: Totals,
}

/// Why a request was sent to an endpoint again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// The connection could not be made.
    Connect,
    /// An idle connection had been closed when it was used.
    Idle,
    /// A new connection ended before the first byte of a response.
    Reset,
    /// The endpoint reported that it did not process the request (RFC 9113 sections 6.8 and 8.7).
    NotProcessed,
}

const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];
const RETRIES: [(Retry, &str); 4] = [
    (Retry::Connect, "connect"),
    (Retry::Idle, "idle"),
    (Retry::Reset, "reset"),
    (Retry::NotProcessed, "not-processed"),
];

/// Seconds; up to a slow cold start, which this histogram includes.
const DURATION_BOUNDS: &[f64] =
    &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];

// === impl WorkloadDemand ===

impl WorkloadDemand {
    /// Replaces the routes that are counted. Requests in flight of earlier routes count until they end.
    pub fn set_routes(&self, routes: Vec<Arc<RouteCounters>>) {
        let mut counted = self.lock();
        for route in std::mem::replace(&mut counted.current, routes) {
            let removed = RemovedRoute { counters: Arc::downgrade(&route), totals: route.totals() };
            counted.removed.push(removed);
        }
        // Most routes stay, and some come back.
        let CountedRoutes { current, removed, .. } = &mut *counted;
        removed.retain(|route| {
            !current.iter().any(|other| Arc::as_ptr(other) == route.counters.as_ptr())
        });
    }

    /// Requests that have arrived since the start; it never decreases.
    pub fn arrivals(&self) -> u64 {
        self.totals().arrivals
    }

    /// What was counted since the start.
    pub fn totals(&self) -> Totals {
        let mut counted = self.lock();
        counted.forget_gone();
        let current = counted.current.iter().map(|route| route.totals());
        let removed = counted.removed.iter().map(|route| route.totals);
        current.chain(removed).fold(counted.past, Totals::plus)
    }

    /// Requests, streams and tunnels that have arrived and not ended, those held included.
    pub fn in_flight(&self) -> u64 {
        self.sum(RouteCounters::in_flight)
    }

    /// WebSockets and other tunnels that are open.
    pub fn tunnels(&self) -> u64 {
        self.sum(RouteCounters::tunnels)
    }

    /// Requests that are held.
    pub fn held(&self) -> u64 {
        self.sum(RouteCounters::held)
    }

    /// Over the routes, and over those that are removed and still have requests.
    fn sum(&self, of: impl Fn(&RouteCounters) -> u64) -> u64 {
        let counted = self.lock();
        let removed = counted.removed.iter().filter_map(|route| route.counters.upgrade());
        let current = counted.current.iter().cloned();
        current.chain(removed).map(|route| of(&route)).sum()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, CountedRoutes> {
        self.routes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl CountedRoutes ===

impl CountedRoutes {
    /// Reads the removed routes anew and keeps what was counted of those that are gone.
    fn forget_gone(&mut self) {
        let past = &mut self.past;
        self.removed.retain_mut(|route| match route.counters.upgrade() {
            Some(counters) => {
                route.totals = counters.totals();
                true
            }
            None => {
                *past = past.plus(route.totals);
                false
            }
        });
    }
}

// === impl Totals ===

impl Totals {
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            arrivals: self.arrivals + other.arrivals,
            request_time: self.request_time + other.request_time,
        }
    }
}

// === impl RouteCounters ===

impl RouteCounters {
    pub fn new(cores: usize) -> Self {
        Self { cores: (0..cores).map(|_| Arc::default()).collect() }
    }

    pub fn core(&self, core: usize) -> Arc<CoreCounters> {
        self.cores[core].clone()
    }

    /// Requests that have arrived since the start.
    pub fn arrivals(&self) -> u64 {
        self.sum(|core| core.arrivals.load(Ordering::SeqCst))
    }

    /// Requests, streams and tunnels that have arrived and not ended, those held included.
    pub fn in_flight(&self) -> u64 {
        // Ends are read first: a request that comes and goes in between is then counted as in flight.
        let ended = self.sum(|core| core.ended.get());
        self.arrivals().saturating_sub(ended)
    }

    /// What was counted since the start.
    pub fn totals(&self) -> Totals {
        let request_time = self.cores.iter().map(|core| core.request_time()).sum();
        Totals { arrivals: self.arrivals(), request_time }
    }

    /// WebSockets and other tunnels that are open.
    pub fn tunnels(&self) -> u64 {
        // Those that closed are read first, as with requests.
        let closed = self.sum(|core| core.tunnels_closed.get());
        self.sum(|core| core.tunnels_opened.get()).saturating_sub(closed)
    }

    /// Requests that are held.
    pub fn held(&self) -> u64 {
        let released = self.sum(|core| core.released.get());
        self.sum(|core| core.held.get()).saturating_sub(released)
    }

    fn sum(&self, of: impl Fn(&CoreCounters) -> u64) -> u64 {
        self.cores.iter().map(|core| of(core)).sum()
    }
}

// === impl CoreCounters ===

impl Default for CoreCounters {
    fn default() -> Self {
        Self {
            began: Instant::now(),
            request_time: RequestTime::default(),
            arrivals: AtomicU64::new(0),
            ended: Counter::default(),
            tunnels_opened: Counter::default(),
            tunnels_closed: Counter::default(),
            held: Counter::default(),
            released: Counter::default(),
            responses: Default::default(),
            retries: Default::default(),
            durations: Histogram::new(DURATION_BOUNDS),
        }
    }
}

impl CoreCounters {
    /// Counts an arrival. Sequentially consistent with the look at the endpoints that follows it, so
    /// that a workload is never put to sleep under a request that has just found it awake.
    pub fn count_arrival(&self, now: Instant) {
        self.request_time.change(true, now.saturating_duration_since(self.began));
        self.arrivals.fetch_add(1, Ordering::SeqCst);
    }

    pub fn count_end(&self, now: Instant) {
        self.request_time.change(false, now.saturating_duration_since(self.began));
        self.ended.add(1);
    }

    /// The time that requests have spent in flight by now.
    fn request_time(&self) -> Duration {
        self.request_time.total(self.began.elapsed())
    }

    pub fn count_tunnel_opened(&self) {
        self.tunnels_opened.add(1);
    }

    pub fn count_tunnel_closed(&self) {
        self.tunnels_closed.add(1);
    }

    pub fn count_hold(&self) {
        self.held.add(1);
    }

    pub fn count_release(&self) {
        self.released.add(1);
    }

    /// Counts a response head by its status code.
    pub fn count_response(&self, status: u16) {
        if let Some(class) = self.responses.get(usize::from(status / 100).wrapping_sub(1)) {
            class.add(1);
        }
    }

    /// Counts a request's time from its arrival to the end of its response.
    pub fn count_duration(&self, duration: Duration) {
        self.durations.observe(duration);
    }

    pub fn count_retry(&self, reason: Retry) {
        if let Some(at) = RETRIES.iter().position(|(known, _)| *known == reason) {
            self.retries[at].add(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_in_flight_have_arrived_and_not_ended() {
        let counters = RouteCounters::new(2);
        counters.core(0).count_arrival(Instant::now());
        counters.core(1).count_arrival(Instant::now());
        counters.core(1).count_end(Instant::now());
        assert_eq!((counters.arrivals(), counters.in_flight()), (2, 1));
    }

    #[test]
    fn a_workload_has_the_sum_of_its_routes_and_of_those_that_still_have_requests() {
        let demand = WorkloadDemand::default();
        let (one, other) = (Arc::new(RouteCounters::new(1)), Arc::new(RouteCounters::new(1)));
        demand.set_routes(vec![one.clone(), other.clone()]);
        one.core(0).count_arrival(Instant::now());
        other.core(0).count_arrival(Instant::now());
        other.core(0).count_arrival(Instant::now());
        assert_eq!((demand.arrivals(), demand.in_flight()), (3, 3));
        demand.set_routes(vec![one.clone()]);
        other.core(0).count_end(Instant::now());
        assert_eq!((demand.arrivals(), demand.in_flight()), (3, 2), "removed, with one in flight");
        other.core(0).count_end(Instant::now());
        assert_eq!((demand.arrivals(), demand.in_flight()), (3, 1));
        demand.set_routes(vec![one.clone(), other.clone()]);
        other.core(0).count_arrival(Instant::now());
        assert_eq!((demand.arrivals(), demand.in_flight()), (4, 2), "it came back");
        other.core(0).count_end(Instant::now());
        demand.set_routes(vec![one]);
        drop(other);
        assert_eq!((demand.arrivals(), demand.in_flight()), (4, 1), "arrivals never decrease");
    }
}
