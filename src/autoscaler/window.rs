//! The demand of the last seconds, in buckets of about one second.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use crate::demand::Totals;

/// What was counted, at the ends of its buckets.
#[derive(Clone, Debug, Default)]
pub struct Window {
    marks: VecDeque<(Instant, Totals)>,
    /// Of the set of replicas that counted the marks.
    generation: u64,
}

/// The average over some time.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Average {
    /// Requests in flight.
    pub concurrency: f64,
    /// Requests per second.
    pub rate: f64,
}

// === impl Window ===

impl Window {
    /// Records what was counted by now, and forgets what lies before the longest window. The generation changes with the set of
    /// replicas of agimo that have counted: what a replica has counted since it started does not arrive when it joins, and does
    /// not vanish when it leaves, so the window begins anew.
    pub fn record(&mut self, totals: Totals, generation: u64, now: Instant, longest: Duration) {
        let has_shrunk = |(_, last): &(Instant, Totals)| {
            totals.arrivals < last.arrivals || totals.request_time < last.request_time
        };
        if generation != self.generation || self.marks.back().is_some_and(has_shrunk) {
            self.marks.clear();
        }
        self.generation = generation;
        self.marks.push_back((now, totals));
        // One mark at or before the beginning of the window stays.
        while self.marks.get(1).is_some_and(|(at, _)| now >= *at + longest) {
            self.marks.pop_front();
        }
    }

    /// For how long it was recorded without a gap, up to about the longest window.
    pub fn recorded_for(&self, now: Instant) -> Duration {
        self.marks.front().map_or(Duration::ZERO, |(at, _)| now.saturating_duration_since(*at))
    }

    /// The average over the last `window`, or over the time that was recorded; `None` without a whole bucket.
    pub fn average(&self, now: Instant, window: Duration) -> Option<Average> {
        let (end, last) = self.marks.back()?;
        let is_inside = |(at, _): &&(Instant, Totals)| now < *at + window;
        let oldest_inside = self.marks.iter().position(|mark| is_inside(&mark))?;
        let (begin, first) = self.marks.get(oldest_inside.saturating_sub(1))?;
        let seconds = end.saturating_duration_since(*begin).as_secs_f64();
        if seconds <= 0.0 {
            return None;
        }
        Some(Average {
            concurrency: (last.request_time - first.request_time).as_secs_f64() / seconds,
            rate: (last.arrivals - first.arrivals) as f64 / seconds,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn what_a_replica_of_agimo_has_counted_before_it_joins_is_no_demand_of_now() {
        let (start, longest) = (Instant::now(), SECOND * 60);
        let totals = |arrivals| Totals { arrivals, request_time: Duration::ZERO };
        let mut window = Window::default();
        window.record(totals(10), 1, start, longest);
        window.record(totals(12), 1, start + SECOND, longest);
        let now = start + 2 * SECOND;
        window.record(totals(1_000_012), 2, now, longest);
        assert_eq!(
            (window.average(now, longest), window.recorded_for(now)),
            (None, Duration::ZERO)
        );
        let now = now + SECOND;
        window.record(totals(1_000_015), 2, now, longest);
        assert_eq!(window.average(now, longest).unwrap().rate, 3.0);
        assert_eq!(window.recorded_for(now), SECOND);
    }
}
