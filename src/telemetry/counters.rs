//! Counters that cost the request path no lock. They know no names.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A counter that one core alone writes and everyone may read: adding needs no locked instruction.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

/// Counts per bucket and a sum, for durations.
#[derive(Debug)]
pub struct Histogram {
    bounds: &'static [f64],
    counts: Box<[AtomicU64]>,
    micros: AtomicU64,
}

/// What a histogram has counted, to be added up over cores.
#[derive(Clone, Debug)]
pub struct Counted {
    pub bounds: &'static [f64],
    /// One more than `bounds`, for what lies beyond.
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
        Self { bounds, counts, micros: AtomicU64::new(0) }
    }

    pub fn observe(&self, duration: Duration) {
        let seconds = duration.as_secs_f64();
        let bucket = self.bounds.partition_point(|bound| *bound < seconds);
        self.counts[bucket].fetch_add(1, Ordering::Relaxed);
        self.micros.fetch_add(duration.as_micros() as u64, Ordering::Relaxed);
    }

    pub fn counted(&self) -> Counted {
        Counted {
            bounds: self.bounds,
            counts: self.counts.iter().map(|count| count.load(Ordering::Relaxed)).collect(),
            sum: self.micros.load(Ordering::Relaxed) as f64 / 1e6,
        }
    }
}

// === impl Counted ===

impl Counted {
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
    fn a_bound_belongs_to_its_bucket() {
        let histogram = Histogram::new(&[0.1, 1.0]);
        for millis in [50, 100, 101, 5000] {
            histogram.observe(Duration::from_millis(millis));
        }
        let mut counted = histogram.counted();
        assert_eq!(counted.counts, [2, 1, 1]);
        counted.add(&histogram.counted());
        assert_eq!(counted.counts, [4, 2, 2]);
        assert!((counted.sum - 10.502).abs() < 1e-9);
    }
}
