//! Delays between retries: each is twice as long as the one before, up to a limit.

use std::time::Duration;

/// An exponential backoff. It holds no state; the caller counts the failures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    pub first: Duration,
    pub longest: Duration,
}

// === impl Backoff ===

impl Backoff {
    /// The delay after this many failures in a row; `failures` counts the latest one and starts at 1.
    pub fn delay(self, failures: u32) -> Duration {
        let doublings = failures.saturating_sub(1);
        self.first.saturating_mul(2_u32.saturating_pow(doublings)).min(self.longest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_the_limit() {
        let backoff = Backoff { first: Duration::from_secs(1), longest: Duration::from_secs(60) };
        let seconds: Vec<u64> =
            [0, 1, 2, 3, 6, 7, 90].map(|failures| backoff.delay(failures).as_secs()).to_vec();
        assert_eq!(seconds, [1, 1, 2, 4, 32, 60, 60]);
    }
}
