//! Changes the replicas of a workload that is awake or waking, by its demand at all replicas of agimo.

use tokio::time::Instant;

use super::Runner;
use crate::activation::events::EventKind;
use crate::activation::state::State;
use crate::autoscaler::{self, Autoscaler};
use crate::backend::ScaleCommand;
use crate::config::scaling::AutoscalingConfig;
use crate::demand::Totals;
use crate::ownership::{Authority, Ownership};

impl Runner {
    /// Replicas that a wake asks for at least: with a target, as many as the requests that wait now need.
    pub(super) fn needed_by_wake(&self) -> u32 {
        let spec = self.spec.borrow();
        let by_demand = |config| autoscaler::replicas_of_wake(self.in_flight(), &config);
        spec.own_scaling().map_or(spec.wake_replicas, by_demand)
    }

    /// The workload has become ready.
    pub(super) fn begin_scaling(&mut self) {
        let now = Instant::now();
        let replicas = self.status.borrow().replicas.unwrap_or(1);
        self.autoscaler = Autoscaler::begin(replicas, now);
        self.decided = (replicas, replicas.max(self.wake_replicas));
        self.is_overridden = false;
        self.next_decision = now + autoscaler::INTERVAL;
        if let Some(config) = self.autoscaling() {
            let (totals, generation) = self.totals();
            self.autoscaler.record(totals, generation, now, &config);
        }
    }

    /// A regular check of the demand.
    pub(super) fn scale(&mut self, now: Instant) {
        let Some(config) = self.autoscaling() else { return };
        match self.machine.state {
            State::Waking { .. } => self.scale_wake(),
            State::Awake { .. } if now >= self.next_decision => {
                self.next_decision = now + autoscaler::INTERVAL;
                self.scale_awake(now, &config);
            }
            _ => {}
        }
    }

    fn autoscaling(&self) -> Option<AutoscalingConfig> {
        let Ownership { authority, observed, .. } = self.ownership();
        let is_own = observed.unwrap_or(authority) == Authority::Scale;
        self.spec.borrow().own_scaling().filter(|_| is_own)
    }

    /// More requests wait than at the first one. Fewer change nothing: a wake belongs to no request.
    fn scale_wake(&mut self) {
        let wanted = self.needed_by_wake();
        if wanted > self.wake_replicas
            && self.authority() == Authority::Scale
            && self.membership.is_leader()
            && self
                .status
                .borrow()
                .replicas
                .is_some_and(|replicas| replicas > 0 && replicas < wanted)
        {
            self.wake_replicas = wanted;
            self.activation.backend.command(ScaleCommand::SetReplicas(wanted));
        }
    }

    fn scale_awake(&mut self, now: Instant, config: &AutoscalingConfig) {
        // Each replica of agimo records the demand, so that a new leader knows it.
        let (totals, generation) = self.totals();
        self.autoscaler.record(totals, generation, now, config);
        let (replicas, ready) = {
            let status = self.status.borrow();
            let ready = status.sources.values().map(|source| source.ready.len()).max();
            (status.replicas, ready.unwrap_or(0))
        };
        let decision =
            self.autoscaler.decide(u32::try_from(ready).unwrap_or(u32::MAX), now, config);
        let (Some(replicas), Some(decision)) = (replicas, decision) else { return };
        if self.observed().is_none() && self.follow_foreign_change(replicas) {
            return;
        }
        // A silent replica may have demand that is not known, and Kubernetes chooses which pods end.
        let tunnels = self.demand.tunnels() + self.membership.view().tunnels;
        let may_remove =
            self.membership.are_peers_known() && (tunnels == 0 || config.scale_down_cuts_tunnels);
        if !self.membership.is_leader()
            || replicas == 0
            || decision.replicas == replicas
            || (decision.replicas < replicas && !may_remove)
        {
            return;
        }
        let (to, reason, is_observed) =
            (decision.replicas, decision.reason, self.observed().is_some());
        if is_observed && self.observer.scaled_to.replace(to) == Some(to) {
            return;
        }
        let event = EventKind::ScaleDecided { from: replicas, to, reason, is_observed };
        self.activation.events.publish(event);
        if !is_observed {
            self.decided = (replicas, to);
            self.activation.backend.command(ScaleCommand::SetReplicas(to));
        }
    }

    /// Whether somebody else has changed the number of replicas since this workload was woken. What a person or another
    /// controller has set stays until the workload sleeps.
    fn follow_foreign_change(&mut self, replicas: u32) -> bool {
        if !self.membership.is_leader() {
            // The leader's decisions are not known here.
            self.decided = (replicas, replicas);
            return false;
        }
        let (before, asked) = self.decided;
        if !self.is_overridden && replicas > 0 && replicas != before && replicas != asked {
            self.is_overridden = true;
            let writers = self.status.borrow().scale_facts.writers.clone();
            self.activation.events.publish(EventKind::ScaleOverridden { replicas, writers });
        }
        self.is_overridden
    }

    /// What all replicas of agimo have counted.
    fn totals(&self) -> (Totals, u64) {
        let view = self.membership.view();
        (self.demand.totals().plus(view.totals()), view.generation)
    }
}
