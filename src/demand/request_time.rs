//! The time that requests have spent in flight, added up: the integral of concurrency over time.

use std::sync::atomic::{AtomicU64, Ordering, fence};
use std::time::Duration;

/// An integral with one writing core and any number of readers: a sequence lock. Neither side waits for the other; a reader
/// that meets a write looks again.
#[derive(Debug, Default)]
pub struct RequestTime {
    /// Odd while it is being written.
    version: AtomicU64,
    in_flight: AtomicU64,
    /// Of all requests up to `until`, in nanoseconds.
    total: AtomicU64,
    /// In nanoseconds since the counters began.
    until: AtomicU64,
}

/// A reader gives up after so many looks: what it sees then may be off by a request.
const MOST_LOOKS: u32 = 1_000;

// === impl RequestTime ===

impl RequestTime {
    /// A request has arrived or ended, at this time since the counters began.
    pub fn change(&self, is_arrival: bool, now: Duration) {
        let get = |field: &AtomicU64| field.load(Ordering::Relaxed);
        let version = get(&self.version);
        self.version.store(version.wrapping_add(1), Ordering::Relaxed);
        fence(Ordering::Release);
        let (in_flight, now) = (get(&self.in_flight), now.as_nanos() as u64);
        let passed = now.saturating_sub(get(&self.until));
        let total = get(&self.total).wrapping_add(in_flight.wrapping_mul(passed));
        self.total.store(total, Ordering::Relaxed);
        self.until.store(now, Ordering::Relaxed);
        let in_flight = if is_arrival { in_flight + 1 } else { in_flight.saturating_sub(1) };
        self.in_flight.store(in_flight, Ordering::Relaxed);
        self.version.store(version.wrapping_add(2), Ordering::Release);
    }

    /// The time that all requests have spent in flight by now.
    pub fn total(&self, now: Duration) -> Duration {
        let now = now.as_nanos() as u64;
        let mut total = 0;
        for _ in 0..MOST_LOOKS {
            let version = self.version.load(Ordering::Acquire);
            let [in_flight, known, until] = [&self.in_flight, &self.total, &self.until]
                .map(|field| field.load(Ordering::Relaxed));
            let passed = now.saturating_sub(until);
            total = known.wrapping_add(in_flight.wrapping_mul(passed));
            fence(Ordering::Acquire);
            if version.is_multiple_of(2) && self.version.load(Ordering::Relaxed) == version {
                break;
            }
            std::hint::spin_loop();
        }
        Duration::from_nanos(total)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MILLIS: fn(u64) -> Duration = Duration::from_millis;

    #[test]
    fn requests_that_go_on_count_up_to_now() {
        let time = RequestTime::default();
        time.change(true, MILLIS(10));
        time.change(true, MILLIS(20));
        assert_eq!(time.total(MILLIS(30)), MILLIS(30));
        time.change(false, MILLIS(40));
        assert_eq!(time.total(MILLIS(50)), MILLIS(60));
        time.change(false, MILLIS(50));
        assert_eq!(time.total(MILLIS(9_000)), MILLIS(60));
    }

    #[test]
    fn a_reader_beside_the_writer_never_sees_the_time_run_backwards() {
        let time = RequestTime::default();
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| {
                for step in 0..200_000_u64 {
                    time.change(step % 2 == 0, Duration::from_nanos(step * 10));
                }
            });
            let mut last = Duration::ZERO;
            while !writer.is_finished() {
                let total = time.total(Duration::ZERO);
                assert!(total >= last, "{total:?} after {last:?}");
                last = total;
            }
        });
        assert_eq!(time.total(MILLIS(2)), Duration::from_nanos(1_000_000));
    }

    proptest! {
        /// The total is the sum of what each request has spent.
        #[test]
        fn the_total_is_the_sum_over_the_requests(
            requests in prop::collection::vec((0u64..1_000, 0u64..1_000), 0..30),
        ) {
            let mut changes: Vec<(u64, bool)> = Vec::new();
            for (begin, length) in &requests {
                changes.extend([(*begin, true), (begin + length, false)]);
            }
            // An arrival goes before an end at the same time.
            changes.sort_by_key(|(at, is_arrival)| (*at, !is_arrival));
            let time = RequestTime::default();
            for (at, is_arrival) in changes {
                time.change(is_arrival, MILLIS(at));
            }
            let sum: u64 = requests.iter().map(|(_, length)| length).sum();
            prop_assert_eq!(time.total(MILLIS(5_000)), MILLIS(sum));
        }
    }
}
