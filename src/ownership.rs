//! Who scales a workload, and why it is not put to sleep now: pure decisions from the facts that the edges report.

use std::time::Duration;

use crate::backoff::Backoff;
use crate::config::Scaler;

/// What an edge knows about scaling a workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScaleFacts {
    /// The edge can write `replicas`. Prometheus alone cannot.
    pub can_write_replicas: bool,
    /// Running replicas of agimo, this one included; 0 and 1 mean that it runs alone.
    pub agimo_replicas: usize,
    /// A change of the workload has not reached all of its replicas. To scale it to zero now would lose those that work.
    pub is_rolling_out: bool,
    /// Somebody else has scaled the workload to zero since agimo scaled it up.
    pub is_contested: bool,
    /// How often in a row somebody else scaled the workload up after agimo had put it to sleep.
    pub foreign_wakes: u32,
}

/// Who writes `replicas` of a workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    Agimo,
    /// KEDA, an HPA, or whatever else reads agimo's metrics.
    External,
}

/// Why a workload is not put to sleep now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SleepBlocker {
    /// An external scaler owns `replicas`.
    External,
    /// Other replicas of agimo may have requests in flight for the workload.
    Peers,
    /// A rollout is not finished.
    Rollout,
}

/// Longest idle time that agimo waits because of somebody else, unless more is configured.
const LONGEST_PROLONGED: Duration = Duration::from_secs(3600);

// === impl ScaleFacts ===

impl Default for ScaleFacts {
    fn default() -> Self {
        Self {
            can_write_replicas: true,
            agimo_replicas: 1,
            is_rolling_out: false,
            is_contested: false,
            foreign_wakes: 0,
        }
    }
}

impl ScaleFacts {
    /// The idle time before sleep. Where another writer scales the workload up again and again, such as another
    /// installation of agimo, it doubles each time: two writers that disagree must not write without end.
    pub fn sleep_after(self, configured: Duration) -> Duration {
        let backoff = Backoff { first: configured, longest: configured.max(LONGEST_PROLONGED) };
        backoff.delay(self.foreign_wakes)
    }
}

// === impl Owner ===

impl Owner {
    /// The owner that the configuration names, as far as the edge can carry it out.
    pub fn of(scaler: Scaler, facts: ScaleFacts) -> Self {
        match scaler {
            Scaler::Agimo if facts.can_write_replicas => Self::Agimo,
            Scaler::Agimo | Scaler::External => Self::External,
        }
    }

    /// The value of `scaler` in `/services`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Agimo => "agimo",
            Self::External => "external",
        }
    }
}

// === impl SleepBlocker ===

impl SleepBlocker {
    /// The first reason that keeps the workload awake.
    pub fn of(owner: Owner, facts: ScaleFacts) -> Option<Self> {
        match owner {
            Owner::External => Some(Self::External),
            Owner::Agimo if facts.agimo_replicas > 1 => Some(Self::Peers),
            Owner::Agimo => facts.is_rolling_out.then_some(Self::Rollout),
        }
    }

    /// The value of `kept_awake_by` in `/services`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::External => "external",
            Self::Peers => "peers",
            Self::Rollout => "rollout",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(can_write_replicas: bool, agimo_replicas: usize) -> ScaleFacts {
        ScaleFacts { can_write_replicas, agimo_replicas, ..ScaleFacts::default() }
    }

    #[test]
    fn agimo_owns_replicas_only_where_it_is_told_to_and_can_write_them() {
        assert_eq!(Owner::of(Scaler::Agimo, facts(true, 1)), Owner::Agimo);
        assert_eq!(Owner::of(Scaler::Agimo, facts(false, 1)), Owner::External);
        assert_eq!(Owner::of(Scaler::External, facts(true, 1)), Owner::External);
    }

    #[test]
    fn the_idle_time_doubles_with_each_wake_by_somebody_else_after_the_first() {
        let seconds = |foreign_wakes, configured| {
            let facts = ScaleFacts { foreign_wakes, ..ScaleFacts::default() };
            facts.sleep_after(Duration::from_secs(configured)).as_secs()
        };
        assert_eq!([0, 1, 2, 3, 60].map(|wakes| seconds(wakes, 5)), [5, 5, 10, 20, 3600]);
        assert_eq!(seconds(60, 7200), 7200);
    }

    #[test]
    fn only_a_single_agimo_puts_its_own_workloads_to_sleep() {
        assert_eq!(SleepBlocker::of(Owner::Agimo, facts(true, 0)), None);
        assert_eq!(SleepBlocker::of(Owner::Agimo, facts(true, 1)), None);
        assert_eq!(SleepBlocker::of(Owner::Agimo, facts(true, 2)), Some(SleepBlocker::Peers));
        assert_eq!(SleepBlocker::of(Owner::External, facts(true, 1)), Some(SleepBlocker::External));
        let rolling_out = ScaleFacts { is_rolling_out: true, ..facts(true, 1) };
        assert_eq!(SleepBlocker::of(Owner::Agimo, rolling_out), Some(SleepBlocker::Rollout));
    }
}
