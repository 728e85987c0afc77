//! Who scales a workload, and why it is not put to sleep now: pure decisions from the facts that the edges report.

use std::time::Duration;

use crate::backoff::Backoff;
use crate::config::Scaler;

/// What an edge knows about scaling a workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScaleFacts {
    /// The edge can write `replicas`. Prometheus alone cannot.
    pub can_write_replicas: bool,
    /// A change of the workload has not reached all of its replicas. To scale it to zero now would lose those that work.
    pub is_rolling_out: bool,
    /// Somebody else has scaled the workload to zero since agimo scaled it up.
    pub is_contested: bool,
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
    /// Another replica of agimo is silent, and may have requests in flight for the workload.
    Peers,
    /// A rollout is not finished.
    Rollout,
}

/// Longest idle time that agimo waits because of somebody else, unless more is configured.
const LONGEST_PROLONGED: Duration = Duration::from_secs(3600);

/// The idle time before sleep. Where another writer scales the workload up again and again after agimo has put it to
/// sleep, such as another installation of agimo, it doubles each time: two writers that disagree must not write without
/// end.
pub fn prolonged_sleep_after(configured: Duration, foreign_wakes: u32) -> Duration {
    let backoff = Backoff { first: configured, longest: configured.max(LONGEST_PROLONGED) };
    backoff.delay(foreign_wakes)
}

// === impl ScaleFacts ===

impl Default for ScaleFacts {
    fn default() -> Self {
        Self { can_write_replicas: true, is_rolling_out: false, is_contested: false }
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
    pub fn of(owner: Owner, facts: ScaleFacts, are_peers_known: bool) -> Option<Self> {
        match owner {
            Owner::External => Some(Self::External),
            Owner::Agimo if !are_peers_known => Some(Self::Peers),
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

    fn facts(can_write_replicas: bool) -> ScaleFacts {
        ScaleFacts { can_write_replicas, ..ScaleFacts::default() }
    }

    #[test]
    fn agimo_owns_replicas_only_where_it_is_told_to_and_can_write_them() {
        assert_eq!(Owner::of(Scaler::Agimo, facts(true)), Owner::Agimo);
        assert_eq!(Owner::of(Scaler::Agimo, facts(false)), Owner::External);
        assert_eq!(Owner::of(Scaler::External, facts(true)), Owner::External);
    }

    #[test]
    fn the_idle_time_doubles_with_each_wake_by_somebody_else_after_the_first() {
        let seconds = |foreign_wakes, configured| {
            prolonged_sleep_after(Duration::from_secs(configured), foreign_wakes).as_secs()
        };
        assert_eq!([0, 1, 2, 3, 60].map(|wakes| seconds(wakes, 5)), [5, 5, 10, 20, 3600]);
        assert_eq!(seconds(60, 7200), 7200);
    }

    #[test]
    fn sleep_is_blocked_by_other_scalers_silent_replicas_of_agimo_and_rollouts() {
        let of = SleepBlocker::of;
        assert_eq!(of(Owner::Agimo, facts(true), true), None);
        assert_eq!(of(Owner::Agimo, facts(true), false), Some(SleepBlocker::Peers));
        assert_eq!(of(Owner::External, facts(true), true), Some(SleepBlocker::External));
        let rolling_out = ScaleFacts { is_rolling_out: true, ..facts(true) };
        assert_eq!(of(Owner::Agimo, rolling_out, true), Some(SleepBlocker::Rollout));
    }
}
