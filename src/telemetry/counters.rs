//! Counters and histograms that the request path updates without a lock.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A counter with one writing core and any number of readers. With a single writer, adding needs no locked instruction.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

/// A histogram of durations.
#[derive(Debug)]
pub struct Histogram {
    bounds: &'static [f64],
    counts: Box<[AtomicU64]>,
    sum_micros: AtomicU64,
}

/// The values of a histogram at one moment, which can be added up over cores.
#[derive(Clone, Debug)]
pub struct HistogramSnapshot {
    pub bounds: &'static [f64],
    /// One more entry than `bounds`, for values above the last bound.
    pub counts: Vec<u64>,
    /// In seconds.
    pub sum: f64,
}

// === impl Counter ===

impl Counter {
    pub fn add(&self, more: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(more), Ordering::Relaxed);
    }

    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

// === impl Histogram ===

impl Histogram {
    /// `bounds` are upper bounds in seconds, ascending.
    pub fn new(bounds: &'static [f64]) -> Self {
        let counts = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Self { bounds, counts, sum_micros: AtomicU64::new(0) }
    }

    pub fn observe(&self, duration: Duration) {
        let seconds = duration.as_secs_f64();
        let bucket = self.bounds.partition_point(|bound| *bound < seconds);
        self.counts[bucket].fetch_add(1, Ordering::Relaxed);
        self.sum_micros.fetch_add(duration.as_micros() as u64, Ordering::Relaxed);
    }

    pub fn snapshot(&self) -> HistogramSnapshot {
        HistogramSnapshot {
            bounds: self.bounds,
            counts: self.counts.iter().map(|count| count.load(Ordering::Relaxed)).collect(),
            sum: self.sum_micros.load(Ordering::Relaxed) as f64 / 1e6,
        }
    }
}

// === impl HistogramSnapshot ===

impl HistogramSnapshot {
    /// Adds the values of a histogram with the same bounds.
    pub fn add(&mut self, other: &Self) {
        for (mine, theirs) in self.counts.iter_mut().zip(&other.counts) {
            *mine += theirs;
        }
        self.sum += other.sum;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_includes_its_upper_bound() {
        let histogram = Histogram::new(&[0.1, 1.0]);
        for millis in [50, 100, 101, 5000] {
            histogram.observe(Duration::from_millis(millis));
        }
        let mut snapshot = histogram.snapshot();
        assert_eq!(snapshot.counts, [2, 1, 1]);
        snapshot.add(&histogram.snapshot());
        assert_eq!(snapshot.counts, [4, 2, 2]);
        assert!((snapshot.sum - 10.502).abs() < 1e-9);
    }
}
