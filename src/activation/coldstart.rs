//! How long cold starts take, phase by phase, and how wakes end. It measures nothing itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::telemetry::counters::Histogram;
use crate::telemetry::{Exposition, Kind, Labels};

use super::Activation;

/// One service's cold starts.
#[derive(Debug)]
pub struct ColdStart {
    start: Histogram,
    ready: Histogram,
    connect: Histogram,
    total: Histogram,
    succeeded: AtomicU64,
    failed: AtomicU64,
}

/// Seconds; the first buckets are agimo's own share.
const BOUNDS: &[f64] = &[
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
    60.0, 120.0,
];

// === impl ColdStart ===

impl Default for ColdStart {
    fn default() -> Self {
        let histogram = || Histogram::new(BOUNDS);
        Self {
            start: histogram(),
            ready: histogram(),
            connect: histogram(),
            total: histogram(),
            succeeded: AtomicU64::new(0),
            failed: AtomicU64::new(0),
        }
    }
}

impl ColdStart {
    /// From the first request held to the workload's first replica started.
    pub fn started(&self, after: Duration) {
        self.start.observe(after);
    }

    /// From the first request held to the first endpoint ready: the wake has succeeded.
    pub fn ready(&self, after: Duration) {
        self.ready.observe(after);
        self.succeeded.fetch_add(1, Ordering::Relaxed);
    }

    /// A held request's connection to its endpoint.
    pub fn connected(&self, within: Duration) {
        self.connect.observe(within);
    }

    /// From a held request's arrival to the head of its response.
    pub fn answered(&self, after: Duration) {
        self.total.observe(after);
    }

    pub fn failed(&self) {
        self.failed.fetch_add(1, Ordering::Relaxed);
    }
}

/// Writes the families of all services.
pub fn collect(page: &mut Exposition, services: &[(Labels, Arc<Activation>)]) {
    page.family("agimo_wakes_total", Kind::Counter, "Wakes by their result.");
    for (labels, activation) in services {
        let cold = &activation.cold_start;
        for (result, count) in [("ready", &cold.succeeded), ("failed", &cold.failed)] {
            page.sample(&labels.clone().with("result", result), count.load(Ordering::Relaxed));
        }
    }
    page.family(
        "agimo_cold_start_seconds",
        Kind::Histogram,
        "Cold starts by phase: request held to started and to ready, connecting, and in total.",
    );
    for (labels, activation) in services {
        let cold = &activation.cold_start;
        let phases = [
            ("start", &cold.start),
            ("ready", &cold.ready),
            ("connect", &cold.connect),
            ("total", &cold.total),
        ];
        for (phase, histogram) in phases {
            let counted = histogram.counted();
            page.histogram(
                &labels.clone().with("phase", phase),
                counted.bounds,
                &counted.counts,
                counted.sum,
            );
        }
    }
}
