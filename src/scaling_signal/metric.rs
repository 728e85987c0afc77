//! The numbers by which other scalers scale a workload. Pure.

use super::Signal;

/// A number that rises and falls with the demand of a workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metric {
    /// Requests in flight, held ones and open WebSockets included.
    Concurrency,
    /// Requests per second.
    Rate,
}

/// The least number above zero that Kubernetes can write: quantities have thousandths.
const LEAST: f64 = 0.001;

// === impl Metric ===

impl Metric {
    pub const ALL: [Self; 2] = [Self::Concurrency, Self::Rate];

    /// Its name in `external.metrics.k8s.io`. Prometheus knows the first as well.
    pub fn name(self) -> &'static str {
        match self {
            Self::Concurrency => "agimo_active_requests",
            Self::Rate => "agimo_requests_per_second",
        }
    }

    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|metric| metric.name() == name)
    }

    /// It rises at once and falls with the average over the window. It is zero only where nothing is in flight and nothing has
    /// arrived in the window.
    pub fn value(self, signal: &Signal) -> f64 {
        let in_flight = signal.in_flight as f64;
        match self {
            Self::Concurrency => signal.concurrency.max(in_flight),
            // A WebSocket that stays open arrived long ago, and its workload is in use.
            Self::Rate => signal.rate.max(in_flight.min(LEAST)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_number_rises_at_once_and_falls_with_the_average() {
        let signal = |in_flight, concurrency, rate| Signal {
            in_flight,
            concurrency,
            rate,
            idle: None,
            recorded_for: Duration::ZERO,
        };
        assert_eq!(Metric::Concurrency.value(&signal(30, 0.5, 0.0)), 30.0);
        assert_eq!(Metric::Concurrency.value(&signal(0, 0.5, 0.0)), 0.5);
        assert_eq!(Metric::Rate.value(&signal(0, 0.5, 7.0)), 7.0);
        assert_eq!(Metric::Rate.value(&signal(1, 1.0, 0.0)), 0.001, "an open WebSocket");
        assert_eq!(Metric::Rate.value(&signal(0, 0.0, 0.0)), 0.0);
    }
}
