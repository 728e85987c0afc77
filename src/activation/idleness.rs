//! How long a workload has been idle, judged by arrivals and requests in flight. Pure: time is passed in.

use std::time::Duration;

use tokio::time::Instant;

/// Since when a workload has been idle, as far as regular checks of its demand can tell.
///
/// A check that finds a new arrival or a request in flight restarts the clock. So does the first check after
/// one: a request that ended in between counts as ended at the check, so the clock is never early.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Idleness {
    arrivals: u64,
    was_busy: bool,
    since: Instant,
}

// === impl Idleness ===

impl Idleness {
    /// A workload that has just become ready.
    pub fn begin(arrivals: u64, now: Instant) -> Self {
        Self { arrivals, was_busy: true, since: now }
    }

    #[must_use]
    pub fn check(self, arrivals: u64, in_flight: u64, now: Instant) -> Self {
        let busy = in_flight > 0 || self.was_busy || arrivals != self.arrivals;
        let since = if busy { now } else { self.since };
        Self { arrivals, was_busy: in_flight > 0, since }
    }

    /// Since when nothing is in flight; absent where the last check found something.
    pub fn since(self) -> Option<Instant> {
        (!self.was_busy).then_some(self.since)
    }

    /// How long the idleness has lasted.
    pub fn lasted(self, now: Instant) -> Duration {
        now.saturating_duration_since(self.since)
    }
}

/// How often to check: sleep comes at most an eighth of `sleep_after`, or a second, late.
pub fn check_interval(sleep_after: Duration) -> Duration {
    (sleep_after / 8).clamp(Duration::from_millis(5), Duration::from_secs(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Whatever arrives and ends between checks, the workload has had no request for as long as the clock says.
        #[test]
        fn the_clock_is_never_early(
            requests in prop::collection::vec((0u64..5_000, 0u64..2_000), 0..20),
            every in 1u64..500,
        ) {
            let start = Instant::now();
            let at = |millis: u64| start + Duration::from_millis(millis);
            let mut idle = Idleness::begin(0, start);
            for now in (0..8_000).step_by(every as usize) {
                let arrived = requests.iter().filter(|(begin, _)| *begin <= now).count() as u64;
                let ended = requests.iter().filter(|(begin, length)| begin + length <= now).count() as u64;
                idle = idle.check(arrived, arrived - ended, at(now));
                let busy_until = requests
                    .iter()
                    .filter(|(begin, _)| *begin <= now)
                    .map(|(begin, length)| (begin + length).min(now))
                    .max()
                    .unwrap_or(0);
                prop_assert!(idle.lasted(at(now)) <= Duration::from_millis(now - busy_until));
            }
        }

        /// The clock is at most two checks late.
        #[test]
        fn the_clock_is_at_most_two_checks_late(length in 0u64..2_000, every in 1u64..500) {
            let start = Instant::now();
            let at = |millis: u64| start + Duration::from_millis(millis);
            let mut idle = Idleness::begin(0, start);
            for now in (0..10_000).step_by(every as usize) {
                let in_flight = u64::from(now < length);
                idle = idle.check(1, in_flight, at(now));
                if now > length + 2 * every {
                    prop_assert!(idle.lasted(at(now)) >= Duration::from_millis(now - length - 2 * every));
                }
            }
        }
    }
}
