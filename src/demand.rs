//! Counts what every scaler reads: arrivals and open work, per service. It knows no protocol and decides nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::telemetry::counters::{Counter, Histogram};
use crate::telemetry::{Exposition, Kind, Labels};

/// The traffic of one service over all cores.
#[derive(Debug)]
pub struct RouteCounters {
    cores: Box<[Arc<CoreCounters>]>,
}

/// The part of one core, which alone writes it: no two cores share a cache line.
#[derive(Debug)]
#[repr(align(128))]
pub struct CoreCounters {
    arrivals: AtomicU64,
    ended: Counter,
    held: Counter,
    released: Counter,
    responses: [Counter; CLASSES.len()],
    retries: [Counter; RETRIES.len()],
    durations: Histogram,
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
}

const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];
const RETRIES: [(Retry, &str); 3] =
    [(Retry::Connect, "connect"), (Retry::Idle, "idle"), (Retry::Reset, "reset")];

/// Seconds; up to a slow cold start, which this histogram includes.
const DURATION_BOUNDS: &[f64] =
    &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];

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
        self.cores.iter().map(|core| core.arrivals.load(Ordering::SeqCst)).sum()
    }

    /// Requests, streams and tunnels that have arrived and not ended, those held included.
    pub fn open(&self) -> u64 {
        // Ends are read first: a request that comes and goes in between is then counted as open.
        let ended: u64 = self.cores.iter().map(|core| core.ended.get()).sum();
        self.arrivals().saturating_sub(ended)
    }

    fn sum(&self, of: impl Fn(&CoreCounters) -> u64) -> u64 {
        self.cores.iter().map(|core| of(core)).sum()
    }
}

// === impl CoreCounters ===

impl Default for CoreCounters {
    fn default() -> Self {
        Self {
            arrivals: AtomicU64::new(0),
            ended: Counter::default(),
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
    pub fn arrive(&self) {
        self.arrivals.fetch_add(1, Ordering::SeqCst);
    }

    pub fn end(&self) {
        self.ended.add(1);
    }

    pub fn hold(&self) {
        self.held.add(1);
    }

    pub fn release(&self) {
        self.released.add(1);
    }

    /// Counts a response head by its status code.
    pub fn respond(&self, status: u16) {
        if let Some(class) = self.responses.get(usize::from(status / 100).wrapping_sub(1)) {
            class.add(1);
        }
    }

    /// Counts a request's time from its arrival to the end of its response.
    pub fn last(&self, duration: Duration) {
        self.durations.observe(duration);
    }

    pub fn retry(&self, reason: Retry) {
        if let Some(at) = RETRIES.iter().position(|(known, _)| *known == reason) {
            self.retries[at].add(1);
        }
    }
}

/// Writes the families of all services.
pub fn collect(page: &mut Exposition, services: &[(Labels, Arc<RouteCounters>)]) {
    page.family("agimo_requests_total", Kind::Counter, "Requests that have arrived.");
    for (labels, traffic) in services {
        page.sample(labels, traffic.arrivals());
    }
    page.family(
        "agimo_active_requests",
        Kind::Gauge,
        "Requests, streams and tunnels from arrival to end, held time included.",
    );
    for (labels, traffic) in services {
        page.sample(labels, traffic.open());
    }
    page.family("agimo_held_requests", Kind::Gauge, "Requests that wait for an endpoint.");
    for (labels, traffic) in services {
        let released = traffic.sum(|core| core.released.get());
        page.sample(labels, traffic.sum(|core| core.held.get()).saturating_sub(released));
    }
    page.family("agimo_responses_total", Kind::Counter, "Responses by class of status code.");
    for (labels, traffic) in services {
        for (at, class) in CLASSES.iter().enumerate() {
            let count = traffic.sum(|core| core.responses[at].get());
            page.sample(&labels.clone().with("class", class), count);
        }
    }
    page.family(
        "agimo_request_duration_seconds",
        Kind::Histogram,
        "Time from a request's arrival to the end of its response, held time included.",
    );
    for (labels, traffic) in services {
        let mut cores = traffic.cores.iter().map(|core| core.durations.counted());
        if let Some(mut all) = cores.next() {
            cores.for_each(|core| all.add(&core));
            page.histogram(labels, all.bounds, &all.counts, all.sum);
        }
    }
    page.family(
        "agimo_upstream_retries_total",
        Kind::Counter,
        "Requests sent to an endpoint again, by the reason.",
    );
    for (labels, traffic) in services {
        for (at, (_, reason)) in RETRIES.iter().enumerate() {
            let count = traffic.sum(|core| core.retries[at].get());
            page.sample(&labels.clone().with("reason", reason), count);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_work_is_what_has_arrived_and_not_ended() {
        let traffic = RouteCounters::new(2);
        traffic.core(0).arrive();
        traffic.core(1).arrive();
        traffic.core(1).end();
        assert_eq!((traffic.arrivals(), traffic.open()), (2, 1));
    }

    #[test]
    fn a_page_shows_every_service_from_the_start() {
        let traffic = Arc::new(RouteCounters::new(1));
        let core = traffic.core(0);
        core.arrive();
        core.respond(204);
        core.respond(999);
        core.retry(Retry::Idle);
        let mut page = Exposition::default();
        let idle = (Labels::default().with("host", "b"), Arc::new(RouteCounters::new(1)));
        collect(&mut page, &[(Labels::default().with("host", "a"), traffic), idle]);
        let page = page.into_page();
        for line in [
            "agimo_requests_total{host=\"a\"} 1",
            "agimo_requests_total{host=\"b\"} 0",
            "agimo_active_requests{host=\"a\"} 1",
            "agimo_active_requests{host=\"b\"} 0",
            "agimo_responses_total{host=\"a\",class=\"2xx\"} 1",
            "agimo_upstream_retries_total{host=\"a\",reason=\"idle\"} 1",
        ] {
            assert!(page.lines().any(|found| found == line), "{line} in\n{page}");
        }
    }
}
