//! Endpoints that must not be routed to: those of pods that agimo, or another writer, has scaled to zero.

use tokio::time::Instant;

use super::State;
use crate::kubernetes::index::Endpoint;
use crate::kubernetes::pod_names;
use crate::kubernetes::scale::DesiredScale;

impl State {
    /// Keeps the endpoints that must not be routed to up to date.
    pub(super) fn track_terminating(&mut self, now: Instant) {
        if self.replicas() > Some(0) {
            self.is_scaled_to_zero = false;
        }
        let is_scaling_to_zero = self.is_scaling_to_zero(now);
        let sources = self.snapshot.sources.values();
        let listed = sources.flat_map(|source| source.ready.iter().chain(&source.last_resort));
        let keep_pods =
            is_scaling_to_zero || self.is_scaled_to_zero || now < self.terminating.wait_until();
        self.terminating.forget_unlisted(listed, keep_pods);
        if is_scaling_to_zero {
            self.add_terminating();
        }
        if self.waits_for_terminating() && now >= self.terminating.wait_until() {
            self.terminating.give_up(self.snapshot.ready());
        }
    }

    /// Whether every endpoint that is known now belongs to a pod that terminates.
    pub(super) fn is_scaling_to_zero(&self, now: Instant) -> bool {
        // Another replica of agimo may have put it to sleep.
        let is_asleep = self.authority.sleeps() && self.desired == DesiredScale::Unchanged;
        self.desired == DesiredScale::Exactly(0)
            || self.in_flight == Some(0)
            || ((is_asleep || now < self.terminating.wait_until()) && self.replicas() == Some(0))
    }

    /// Pods of other workloads behind the same Service stay.
    pub(super) fn add_terminating(&mut self) {
        let Self { snapshot, terminating, wake, spec, .. } = self;
        let is_own = |endpoint: &&Endpoint| {
            let pod = endpoint.pod.as_ref();
            pod.is_none_or(|pod| pod_names::belongs_to(&pod.name, &spec.id))
        };
        for (source, snapshot) in &snapshot.sources {
            let listed = snapshot.ready.iter().chain(&snapshot.last_resort);
            terminating.add(listed.filter(is_own));
            // Those that start would otherwise be taken for new ones when they are ready.
            let of_pods = wake.as_ref().map(|wake| wake.all_endpoints(source, snapshot));
            terminating.add(of_pods.iter().flatten());
        }
    }

    /// Whether the workload is to have replicas while the EndpointSlices still list terminating ones.
    pub(super) fn waits_for_terminating(&self) -> bool {
        let is_scaled_up = match self.desired {
            DesiredScale::Awake(_) => true,
            DesiredScale::Exactly(replicas) => replicas > 0,
            // Another writer may have scaled it up.
            DesiredScale::Unchanged => self.replicas() > Some(0),
        };
        is_scaled_up && self.in_flight != Some(0) && self.lists_terminating()
    }

    pub(super) fn lists_terminating(&self) -> bool {
        self.snapshot.ready().any(|endpoint| self.terminating.contains(endpoint))
    }
}
