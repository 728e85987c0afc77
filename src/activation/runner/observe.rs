//! With `mode = "observe"`: what agimo would do with a workload, as events.

use tokio::time::Instant;

use super::Runner;
use crate::activation::events::EventKind;
use crate::activation::idleness::Idleness;
use crate::activation::state::State;
use crate::ownership::Authority;

/// What was observed of a workload that agimo does not scale.
#[derive(Debug, Default)]
pub(super) struct Observer {
    /// Since when the workload is idle; absent while it is not awake.
    idleness: Option<Idleness>,
    /// Arrivals when a sleep was observed. It is observed once for each idle time.
    asleep_at: Option<u64>,
    /// A wake is observed once until the workload was awake.
    pub(super) has_reported_wake: bool,
    /// The replicas that the demand last asked for.
    pub(super) scaled_to: Option<u32>,
}

impl Runner {
    /// What agimo would write if it did not only observe.
    pub(super) fn observed(&self) -> Option<Authority> {
        self.ownership().observed
    }

    /// A regular check of the demand.
    pub(super) fn observe(&mut self, now: Instant) {
        let Some(observed) = self.observed() else { return };
        if !matches!(self.machine.state, State::Awake { .. }) {
            self.observer.idleness = None;
            return;
        }
        let arrivals = self.arrivals();
        let idleness = match self.observer.idleness {
            Some(idleness) if self.sleep_blocker(observed).is_none() => {
                idleness.check(arrivals, self.in_flight(), now)
            }
            _ => Idleness::begin(arrivals, now),
        };
        self.observer.idleness = Some(idleness);
        let idle = idleness.lasted(now);
        let is_new = self.observer.asleep_at != Some(arrivals);
        if idle >= self.sleep_after() && is_new && self.membership.is_leader() {
            self.observer.asleep_at = Some(arrivals);
            self.activation.events.publish(EventKind::SleepObserved { idle });
        }
    }
}
