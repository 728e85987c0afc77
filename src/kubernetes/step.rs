//! Decides for one workload what to write to `replicas`, which endpoints to publish and what to watch. Pure: every input
//! and the time are passed in, and the caller carries the output out.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::time::Instant;

use super::early_readiness::ProbedPod;
use super::image_pull::ImagePull;
use super::index::WorkloadSnapshot;
use super::index::health::WatchHealth;
use super::pod_names;
use super::pods::PodState;
use super::scale::{DesiredScale, ScaleFailure, ScaleRead, ScaleResult, ScaleWrite};
use super::terminating_endpoints::TerminatingEndpoints;
use super::warning_events::UnreadyPod;
use crate::activation::events::EventKind;
use crate::backend::{BackendStatus, EndpointSource, Placement, ScaleCommand, WorkloadSpec};
use crate::cause::NotReadyReason;
use crate::ownership::{Authority, Ownership};

use self::lookups::{Lookup, LookupResult, Lookups};
use self::wake::{PodChange, Wake};

pub mod lookups;
mod scaling;
mod status;
mod terminating;
#[cfg(test)]
mod tests;
pub mod wake;

/// Everything known and desired of one workload.
pub struct State {
    spec: WorkloadSpec,
    authority: Authority,
    health: WatchHealth,
    snapshot: WorkloadSnapshot,
    desired: DesiredScale,
    /// What the last write returned.
    written: Option<ScaleRead>,
    /// The number that is being written.
    in_flight: Option<u32>,
    /// No write begins before.
    retry_at: Option<Instant>,
    write_failure: Option<NotReadyReason>,
    /// How often the workload was scaled up since it was last ready.
    scaled_up: u32,
    /// Somebody else has scaled it to zero since: it is scaled up again not before.
    contested_until: Option<Instant>,
    terminating: TerminatingEndpoints,
    /// agimo scaled the workload to zero, and it was not seen with replicas since.
    is_scaled_to_zero: bool,
    wake: Option<Wake>,
    /// When the first container of the last wake was seen to run.
    started: Option<Instant>,
    lookups: Lookups,
}

/// What can happen to a workload.
#[derive(Clone, Debug)]
pub enum Input {
    /// Only time has passed.
    TimePassed,
    Observed {
        health: WatchHealth,
        snapshot: WorkloadSnapshot,
    },
    Spec(WorkloadSpec),
    /// A command of the engine, and the replicas that the workload had before it was last scaled to zero.
    Command {
        command: ScaleCommand,
        saved_replicas: u32,
    },
    Written(Result<ScaleResult, ScaleFailure>),
    PodsChanged(PodChange),
    Warning(Option<NotReadyReason>),
    /// An image was pulled for a pod of the wake.
    ImagePulled(ImagePull),
    /// The readiness probes of the pod with this UID have passed.
    ProbesPassed(Arc<str>),
    LookedUp(LookupResult),
}

/// What is to be done after a step.
#[derive(Debug)]
pub struct Output {
    /// The write to begin.
    pub write: Option<ScaleWrite>,
    /// The replicas to save: the workload is being scaled to zero.
    pub save_replicas: Option<u32>,
    pub status: BackendStatus,
    /// Publish the status even if it is the same: the command may have changed nothing.
    pub republish: bool,
    pub events: Vec<EventKind>,
    /// The label selectors of the pods to watch; `None` while no wake is in progress.
    pub watch_pods: Option<BTreeSet<String>>,
    /// The pods of the wake whose readiness probes are to be run.
    pub probed_pods: Vec<ProbedPod>,
    /// The lookups that are to be in progress.
    pub lookups: Vec<Lookup>,
    /// When to step again at the latest.
    pub step_at: Option<Instant>,
}

// === impl State ===

impl State {
    pub fn new(spec: WorkloadSpec, now: Instant) -> Self {
        Self {
            spec,
            authority: Authority::Report,
            health: WatchHealth::default(),
            snapshot: WorkloadSnapshot::default(),
            desired: DesiredScale::Unchanged,
            written: None,
            in_flight: None,
            retry_at: None,
            write_failure: None,
            scaled_up: 0,
            contested_until: None,
            terminating: TerminatingEndpoints::new(now),
            is_scaled_to_zero: false,
            wake: None,
            started: None,
            lookups: Lookups::default(),
        }
    }

    /// Takes an input, and decides what to do now.
    pub fn step(&mut self, input: Input, now: Instant) -> Output {
        let republish = matches!(
            input,
            Input::Command {
                command: ScaleCommand::ExpectReady
                    | ScaleCommand::WakeToAtLeast(_)
                    | ScaleCommand::CancelWake,
                ..
            }
        );
        let mut events = self.apply(input, now);
        self.update_authority();
        self.track_terminating(now);
        let (write, save_replicas) = self.begin_write(now);
        events.extend(self.update_wake(now));
        self.set_lookups(now);
        Output {
            write,
            save_replicas,
            status: self.status(),
            republish,
            events,
            watch_pods: self.wake.as_ref().map(|_| self.pod_selectors()),
            probed_pods: self.probed_pods(),
            lookups: self.lookups.due(now),
            step_at: self.step_at(now),
        }
    }

    /// A pod of the wake that is not ready.
    pub fn unready_pod(&self) -> Option<UnreadyPod> {
        self.wake.as_ref()?.unready_pod()
    }

    // --- inputs

    fn apply(&mut self, input: Input, now: Instant) -> Vec<EventKind> {
        match input {
            Input::TimePassed => {}
            Input::Observed { health, snapshot } => {
                let before = self.replicas();
                (self.health, self.snapshot) = (health, snapshot);
                if before > Some(0) && self.replicas() == Some(0) {
                    self.terminating.wait_from(now);
                }
            }
            Input::Spec(spec) => self.spec = spec,
            Input::Command { command, saved_replicas } => {
                self.command(command, saved_replicas, now);
            }
            Input::Written(result) => return self.written(result, now),
            Input::PodsChanged(change) => {
                let terminating = &self.terminating;
                let is_own = change.pod_name().is_none_or(|pod| self.is_own_pod(pod));
                if let Some(wake) = &mut self.wake
                    && is_own
                {
                    return wake.apply(change, |pod| is_terminating(terminating, pod));
                }
            }
            Input::Warning(warning) => {
                if let Some(wake) = &mut self.wake {
                    wake.set_warning(warning);
                }
            }
            Input::ImagePulled(ImagePull { pod, image, took, .. }) => {
                let is_waking = self.wake.is_some();
                return is_waking
                    .then_some(EventKind::ImagePulled { pod, image, took })
                    .into_iter()
                    .collect();
            }
            Input::ProbesPassed(uid) => {
                let passed = self.wake.as_mut().and_then(|wake| wake.note_probed(&uid));
                return passed.map(|pod| EventKind::PodReadyEarly { pod }).into_iter().collect();
            }
            Input::LookedUp(result) => self.lookups.finish(result, now),
        }
        Vec::new()
    }

    fn command(&mut self, command: ScaleCommand, saved_replicas: u32, now: Instant) {
        match command {
            ScaleCommand::ExpectReady => {
                self.desired = DesiredScale::Unchanged;
                self.is_scaled_to_zero = false;
                self.begin_wake();
            }
            ScaleCommand::WakeToAtLeast(replicas) => {
                self.desired = DesiredScale::Awake(replicas.max(saved_replicas));
                self.begin_wake();
                self.terminating.wait_from(now);
            }
            ScaleCommand::Sleep | ScaleCommand::SetReplicas(0) => {
                self.desired = DesiredScale::Exactly(0);
                self.add_terminating();
                self.wake = None;
                self.terminating.wait_from(now);
            }
            ScaleCommand::SetReplicas(replicas) => {
                self.desired = DesiredScale::Exactly(replicas);
                if self.replicas() == Some(0) {
                    self.begin_wake();
                    self.terminating.wait_from(now);
                }
            }
            ScaleCommand::CancelWake => {
                // Ready pods that only the wake knows are to be told from later ones when agimo scales to zero.
                let is_needed = |wake: &Wake| self.authority.sleeps() && wake.has_ready_pod();
                self.wake = self.wake.take().filter(is_needed);
                if matches!(self.desired, DesiredScale::Awake(_)) {
                    self.desired = DesiredScale::Unchanged;
                }
            }
        }
    }

    fn begin_wake(&mut self) {
        if self.wake.as_ref().is_none_or(|wake| wake.was_ready) {
            self.started = None;
        }
        // The pods of a wake that has not ended are still watched.
        let wake = self.wake.get_or_insert_default();
        wake.was_ready = false;
    }

    // --- authority

    /// What agimo may not write any more is left to whoever may.
    fn update_authority(&mut self) {
        self.authority =
            Ownership::decide(self.spec.scaler, self.spec.mode, &self.scale_facts()).authority;
        let is_permitted = match self.desired {
            DesiredScale::Unchanged => true,
            DesiredScale::Awake(_) => self.authority.wakes(),
            DesiredScale::Exactly(0) => self.authority.sleeps(),
            DesiredScale::Exactly(_) => self.authority == Authority::Scale,
        };
        if !is_permitted {
            self.desired = DesiredScale::Unchanged;
        }
        self.is_scaled_to_zero &= self.authority.sleeps();
    }

    // --- wake

    /// Ends what the workload's readiness ends.
    fn update_wake(&mut self, now: Instant) -> Vec<EventKind> {
        if self.has_ready_endpoint() {
            // The endpoints of other workloads behind the same Service may be ready before this one is scaled up.
            let is_undecided = self.replicas() == Some(0) && !self.is_contested();
            if matches!(self.desired, DesiredScale::Awake(_)) && !is_undecided {
                self.desired = DesiredScale::Unchanged;
            }
            self.write_failure = None;
            (self.scaled_up, self.contested_until) = (0, None);
            if let Some(wake) = &mut self.wake {
                wake.was_ready = true;
            }
        }
        let selectors = self.pod_selectors();
        let (any_listed, all_listed) = (self.lists_any_source(), self.lists_every_source());
        let Some(wake) = &mut self.wake else { return Vec::new() };
        wake.is_watched |= !selectors.is_empty();
        wake.retain_selectors(&selectors);
        if self.started.is_none() && wake.has_started(|pod| is_terminating(&self.terminating, pod))
        {
            self.started = Some(now);
        }
        let is_first = any_listed && wake.note_listed(now);
        let is_late = wake.ends_at().is_some_and(|at| now >= at);
        if (any_listed && all_listed) || is_late {
            self.wake = None;
        }
        if is_first { vec![EventKind::EndpointSliceReady] } else { Vec::new() }
    }

    fn lists_any_source(&self) -> bool {
        self.snapshot.ready().any(|endpoint| !self.terminating.contains(endpoint))
    }

    /// Whether the EndpointSlices list a ready endpoint for every source whose Service has its port.
    fn lists_every_source(&self) -> bool {
        self.snapshot.sources.iter().all(|(source, snapshot)| {
            let EndpointSource::Service { port, .. } = source else { return true };
            let has_port =
                snapshot.service.as_ref().is_some_and(|service| service.port(port).is_some());
            !has_port || snapshot.ready.iter().any(|endpoint| !self.terminating.contains(endpoint))
        })
    }

    /// The label selectors of the pods that the wake watches.
    fn pod_selectors(&self) -> BTreeSet<String> {
        let Some(wake) = &self.wake else { return BTreeSet::new() };
        // The write goes first: requests wait for it.
        if self.in_flight.is_some() && !wake.is_watched {
            return BTreeSet::new();
        }
        let services = self.snapshot.sources.values().filter_map(|source| source.service.as_ref());
        services.filter_map(|service| service.selector.clone()).collect()
    }

    /// During a rollout the pods may be those of an older revision.
    fn probed_pods(&self) -> Vec<ProbedPod> {
        let is_rolling_out =
            self.snapshot.workload.as_ref().is_none_or(|workload| workload.is_rolling_out);
        let Some(wake) = self.wake.as_ref().filter(|_| self.spec.early_ready && !is_rolling_out)
        else {
            return Vec::new();
        };
        wake.probed_pods(&self.snapshot.sources, |pod| {
            is_terminating(&self.terminating, pod) || !self.is_own_pod(&pod.name)
        })
    }

    fn step_at(&self, now: Instant) -> Option<Instant> {
        let terminating = self.waits_for_terminating().then(|| self.terminating.wait_until());
        let wake = self.wake.as_ref().and_then(Wake::ends_at);
        let contested = self.contested_until.filter(|at| *at > now);
        [self.retry_at, contested, terminating, wake, self.lookups.retry_at(now)]
            .into_iter()
            .flatten()
            .min()
    }

    /// Whether a pod belongs to the workload, and not to another one behind the same Service.
    fn is_own_pod(&self, name: &str) -> bool {
        pod_names::belongs_to(name, &self.spec.id)
    }

    fn sources(&self) -> &[EndpointSource] {
        match &self.spec.placement {
            Placement::Kubernetes { sources } => sources,
            Placement::Process(_) => &[],
        }
    }
}

fn is_terminating(terminating: &TerminatingEndpoints, pod: &PodState) -> bool {
    pod.uid.as_ref().is_some_and(|uid| terminating.contains_pod(uid))
}
