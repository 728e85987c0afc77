//! Who scales a workload, and why it is not put to sleep now: pure decisions from the facts that the edges report.

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

// === impl ScaleFacts ===

impl Default for ScaleFacts {
    fn default() -> Self {
        Self {
            can_write_replicas: true,
            agimo_replicas: 1,
            is_rolling_out: false,
            is_contested: false,
        }
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
    fn only_a_single_agimo_puts_its_own_workloads_to_sleep() {
        assert_eq!(SleepBlocker::of(Owner::Agimo, facts(true, 0)), None);
        assert_eq!(SleepBlocker::of(Owner::Agimo, facts(true, 1)), None);
        assert_eq!(SleepBlocker::of(Owner::Agimo, facts(true, 2)), Some(SleepBlocker::Peers));
        assert_eq!(SleepBlocker::of(Owner::External, facts(true, 1)), Some(SleepBlocker::External));
        let rolling_out = ScaleFacts { is_rolling_out: true, ..facts(true, 1) };
        assert_eq!(SleepBlocker::of(Owner::Agimo, rolling_out), Some(SleepBlocker::Rollout));
    }
}
