//! Whether a workload has been idle long enough, judged by arrivals and open work. Pure, time passed in.

use std::time::Duration;

use tokio::time::Instant;

/// Since when a workload has been idle, as far as looks at its traffic can tell.
///
/// A look that finds a new arrival or open work restarts the clock, and so does the first look after
/// open work: what ended in between ended at the look, so the clock is never early.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Idle {
    arrivals: u64,
    was_open: bool,
    since: Instant,
}

// === impl Idle ===

impl Idle {
    /// A workload that has just become ready.
    pub fn begin(arrivals: u64, now: Instant) -> Self {
        Self { arrivals, was_open: true, since: now }
    }

    #[must_use]
    pub fn look(self, arrivals: u64, open: u64, now: Instant) -> Self {
        let busy = open > 0 || self.was_open || arrivals != self.arrivals;
        let since = if busy { now } else { self.since };
        Self { arrivals, was_open: open > 0, since }
    }

    /// How long the idleness has lasted.
    pub fn lasted(self, now: Instant) -> Duration {
        now.saturating_duration_since(self.since)
    }
}

/// How often to look, so that sleep comes at most an eighth, or a second, late.
pub fn look_every(sleep_after: Duration) -> Duration {
    (sleep_after / 8).clamp(Duration::from_millis(5), Duration::from_secs(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Whatever comes and goes between looks, the workload has truly had no arrival and no open
        /// work for as long as the clock says.
        #[test]
        fn the_clock_is_never_early(
            requests in prop::collection::vec((0u64..5_000, 0u64..2_000), 0..20),
            every in 1u64..500,
        ) {
            let start = Instant::now();
            let at = |millis: u64| start + Duration::from_millis(millis);
            let mut idle = Idle::begin(0, start);
            for now in (0..8_000).step_by(every as usize) {
                let arrived = requests.iter().filter(|(begin, _)| *begin <= now).count() as u64;
                let ended = requests.iter().filter(|(begin, length)| begin + length <= now).count() as u64;
                idle = idle.look(arrived, arrived - ended, at(now));
                let busy_until = requests
                    .iter()
                    .filter(|(begin, _)| *begin <= now)
                    .map(|(begin, length)| (begin + length).min(now))
                    .max()
                    .unwrap_or(0);
                prop_assert!(idle.lasted(at(now)) <= Duration::from_millis(now - busy_until));
            }
        }

        /// It is at most two looks late.
        #[test]
        fn sleep_comes_in_time(length in 0u64..2_000, every in 1u64..500) {
            let start = Instant::now();
            let at = |millis: u64| start + Duration::from_millis(millis);
            let mut idle = Idle::begin(0, start);
            for now in (0..10_000).step_by(every as usize) {
                let open = u64::from(now < length);
                idle = idle.look(1, open, at(now));
                if now > length + 2 * every {
                    prop_assert!(idle.lasted(at(now)) >= Duration::from_millis(now - length - 2 * every));
                }
            }
        }
    }
}
