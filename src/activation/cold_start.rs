//! Metrics of cold starts: how long each phase takes, and how wakes end.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::telemetry::counters::Histogram;
use crate::telemetry::{Exposition, Labels, MetricKind};

/// The cold starts of one route: the wakes that its requests caused, and its held requests.
#[derive(Debug)]
pub struct ColdStartMetrics {
    start: Histogram,
    ready: Histogram,
    connect: Histogram,
    total: Histogram,
    /// Further phases of complete wakes, by their names; each from its first observation on.
    phases: Mutex<BTreeMap<&'static str, Histogram>>,
    succeeded: AtomicU64,
    failed: AtomicU64,
}

/// Seconds; the first buckets cover the share of agimo itself.
const BOUNDS: &[f64] = &[
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
    60.0, 120.0,
];

// === impl ColdStartMetrics ===

impl Default for ColdStartMetrics {
    fn default() -> Self {
        let histogram = || Histogram::new(BOUNDS);
        Self {
            start: histogram(),
            ready: histogram(),
            connect: histogram(),
            total: histogram(),
            phases: Mutex::default(),
            succeeded: AtomicU64::new(0),
            failed: AtomicU64::new(0),
        }
    }
}

impl ColdStartMetrics {
    /// Time from the wake request to the first started replica.
    pub fn started(&self, after: Duration) {
        self.start.observe(after);
    }

    /// Time from the wake request to the first ready endpoint: the wake succeeded.
    pub fn ready(&self, after: Duration) {
        self.ready.observe(after);
        self.succeeded.fetch_add(1, Ordering::Relaxed);
    }

    /// Time that a held request took to connect to its endpoint.
    pub fn connected(&self, within: Duration) {
        self.connect.observe(within);
    }

    /// Time from the arrival of a held request to the head of its response.
    pub fn answered(&self, after: Duration) {
        self.total.observe(after);
    }

    /// Time from the wake request to a further phase, which has a name from a closed set.
    pub fn reached(&self, phase: &'static str, after: Duration) {
        let mut phases = self.phases.lock().unwrap_or_else(PoisonError::into_inner);
        phases.entry(phase).or_insert_with(|| Histogram::new(BOUNDS)).observe(after);
    }

    /// The wake failed.
    pub fn failed(&self) {
        self.failed.fetch_add(1, Ordering::Relaxed);
    }
}

/// Writes the metric families of all routes.
pub fn collect(page: &mut Exposition, routes: &[(Labels, Arc<ColdStartMetrics>)]) {
    page.family(
        "agimo_wakes_total",
        MetricKind::Counter,
        "Wakes that requests of this service caused, by result.",
    );
    for (labels, cold) in routes {
        for (result, count) in [("ready", &cold.succeeded), ("failed", &cold.failed)] {
            page.sample(&labels.clone().with("result", result), count.load(Ordering::Relaxed));
        }
    }
    page.family(
        "agimo_cold_start_seconds",
        MetricKind::Histogram,
        "Cold starts by phase, from the wake request on; connect: connecting alone; total: from the arrival of a held request.",
    );
    for (labels, cold) in routes {
        let phases = [
            ("start", &cold.start),
            ("ready", &cold.ready),
            ("connect", &cold.connect),
            ("total", &cold.total),
        ];
        let mut add = |phase: &str, histogram: &Histogram| {
            let counted = histogram.snapshot();
            page.histogram(
                &labels.clone().with("phase", phase),
                counted.bounds,
                &counted.counts,
                counted.sum,
            );
        };
        phases.into_iter().for_each(|(phase, histogram)| add(phase, histogram));
        let further = cold.phases.lock().unwrap_or_else(PoisonError::into_inner);
        further.iter().for_each(|(phase, histogram)| add(phase, histogram));
    }
}
