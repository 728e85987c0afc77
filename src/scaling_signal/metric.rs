//! The numbers by which other scalers scale a workload. Pure.

use std::time::Duration;

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

    /// It rises at once and falls with the average over the window. It is above zero while anything is in flight, and after each
    /// arrival for the time of the window.
    pub fn value(self, signal: &Signal, window: Duration) -> f64 {
        let in_flight = signal.in_flight as f64;
        let average = signal.average.unwrap_or_default();
        let value = match self {
            Self::Concurrency => average.concurrency.max(in_flight),
            Self::Rate => average.rate,
        };
        // A WebSocket that stays open arrived long ago; and an arrival counts although its window has begun anew.
        let is_in_use = signal.in_flight > 0 || signal.idle.is_some_and(|idle| idle < window);
        if is_in_use { value.max(LEAST) } else { value }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::autoscaler::window::Average;

    const WINDOW: Duration = Duration::from_secs(60);

    #[test]
    fn a_number_rises_at_once_and_falls_with_the_average() {
        let value = |metric: Metric, in_flight, concurrency, rate, idle: u64| {
            let average = Some(Average { concurrency, rate });
            let (idle, recorded_for) = (Some(Duration::from_secs(idle)), WINDOW);
            metric.value(&Signal { in_flight, average, idle, recorded_for }, WINDOW)
        };
        assert_eq!(value(Metric::Concurrency, 30, 0.5, 0.0, 0), 30.0);
        assert_eq!(value(Metric::Concurrency, 0, 0.5, 0.0, 1), 0.5);
        assert_eq!(value(Metric::Rate, 0, 0.5, 7.0, 1), 7.0);
        assert_eq!(value(Metric::Rate, 1, 1.0, 0.0, 90), 0.001, "an open WebSocket");
        assert_eq!(value(Metric::Rate, 0, 0.0, 0.0, 59), 0.001, "the window has begun anew");
        assert_eq!(value(Metric::Rate, 0, 0.0, 0.0, 60), 0.0);
    }
}
