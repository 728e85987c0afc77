//! The demand of the last seconds, in buckets of about one second.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use crate::demand::Totals;

/// What was counted, at the ends of its buckets.
#[derive(Clone, Debug, Default)]
pub struct Window {
    marks: VecDeque<(Instant, Totals)>,
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
    /// Records what was counted by now, and forgets what lies before the longest window. A total that is smaller than before
    /// belongs to fewer replicas of agimo: what was counted of the others has gone with them, so the window begins anew.
    pub fn record(&mut self, totals: Totals, now: Instant, longest: Duration) {
        let has_shrunk = |(_, last): &(Instant, Totals)| {
            totals.arrivals < last.arrivals || totals.request_time < last.request_time
        };
        if self.marks.back().is_some_and(has_shrunk) {
            self.marks.clear();
        }
        self.marks.push_back((now, totals));
        // One mark at or before the beginning of the window stays.
        while self.marks.get(1).is_some_and(|(at, _)| now >= *at + longest) {
            self.marks.pop_front();
        }
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
