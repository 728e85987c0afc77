//! Runs one workload in the cluster as a backend: feeds its step with what the watches and the engine say, and carries
//! out what the step decides.

use std::future::pending;
use std::sync::Arc;

use kube::Client;
use tokio::sync::watch;
use tokio::time::Instant;

use super::early_readiness::EarlyReadiness;
use super::index::health::ClusterHealth;
use super::scale::{self, ScaleFailure, ScaleResult};
use super::service_dns::ServiceDns;
use super::state_store::StateStore;
use super::step::{Input, Output, State};
use super::wake_watch::{WakeReport, WakeWatch};
use super::warning_events::UnreadyPod;
use super::watches::Following;
use crate::activation::events::EventPublisher;
use crate::backend::{Backend, BackendStatus, Lifecycle, Placement, ScaleCommand, WorkloadSpec};
use crate::net::dns::Resolver;
use crate::pending_operation::{PendingOperation, result_of, sleep_until};
use crate::workload::WorkloadId;

#[cfg(test)]
mod tests;

/// The engine's handle on one workload; its `Runner` does the work.
pub struct Workload {
    commands: watch::Sender<ScaleCommand>,
    status: watch::Receiver<BackendStatus>,
}

/// What a runner is given.
pub struct RunnerContext {
    pub client: Client,
    pub resolver: Resolver,
    pub spec: watch::Receiver<WorkloadSpec>,
    pub events: EventPublisher,
    pub following: Following,
    pub health: watch::Receiver<ClusterHealth>,
    pub state_store: StateStore,
}

/// Runs one workload.
pub struct Runner {
    context: RunnerContext,
    workload: Arc<WorkloadId>,
    commands: watch::Receiver<ScaleCommand>,
    status: watch::Sender<BackendStatus>,
    state: State,
    write: Option<PendingOperation<Result<ScaleResult, ScaleFailure>>>,
    wake_watch: Option<WakeWatch>,
    /// Most workloads have none.
    early_readiness: Option<EarlyReadiness>,
    dns: ServiceDns,
    step_at: Option<Instant>,
}

// === impl Workload ===

impl Workload {
    /// A workload, and the runner whose `run` the caller must own as a task.
    pub fn new(context: RunnerContext) -> (Self, Runner) {
        let spec = context.spec.borrow().clone();
        let (commands, commands_receiver) = watch::channel(ScaleCommand::CancelWake);
        let initial = BackendStatus { lifecycle: Lifecycle::Shared, ..BackendStatus::default() };
        let (status_sender, status) = watch::channel(initial);
        let runner = Runner {
            workload: context.events.workload().clone(),
            commands: commands_receiver,
            status: status_sender,
            dns: ServiceDns::new(context.resolver.clone(), spec.id.namespace.clone()),
            state: State::new(spec, Instant::now()),
            write: None,
            wake_watch: None,
            early_readiness: None,
            step_at: None,
            context,
        };
        (Self { commands, status }, runner)
    }
}

impl Backend for Workload {
    fn status(&self) -> watch::Receiver<BackendStatus> {
        self.status.clone()
    }

    /// The latest command counts: a runner that has not read the one before skips it.
    fn command(&self, command: ScaleCommand) {
        self.commands.send_replace(command);
    }
}

// === impl Runner ===

impl Runner {
    /// Runs until the handle or the specification's sender is dropped. The workload is left as it is. Boxed, because a future keeps
    /// what it is given a second time, and there are many runners.
    pub async fn run(mut self: Box<Self>) {
        let mut input = Some(self.observe());
        while let Some(next) = input {
            let output = self.state.step(next, Instant::now());
            self.carry_out(output);
            input = self.next_input().await;
        }
    }

    async fn next_input(&mut self) -> Option<Input> {
        let input = tokio::select! {
            // Commands go first: endpoints that a command withdraws are not published once more.
            biased;
            changed = self.commands.changed() => {
                changed.ok()?;
                let command = *self.commands.borrow_and_update();
                let saved_replicas = self.context.state_store.replicas(&self.workload);
                Input::Command { command, saved_replicas }
            }
            changed = self.context.spec.changed() => {
                changed.ok()?;
                self.update_spec()
            }
            changed = self.context.following.snapshot.changed() => {
                changed.ok()?;
                self.observe()
            }
            changed = self.context.health.changed() => {
                changed.ok()?;
                self.observe()
            }
            result = result_of(&mut self.write) => Input::Written(result),
            report = next_report(&mut self.wake_watch, self.state.unready_pod()) => match report {
                WakeReport::Pods(change) => Input::PodsChanged(change),
                WakeReport::Warning(warning) => Input::Warning(warning),
                WakeReport::ImagePulled(pull) => Input::ImagePulled(pull),
            },
            uid = next_probed(&mut self.early_readiness) => Input::ProbesPassed(uid),
            result = self.dns.next() => Input::LookedUp(result),
            () = sleep_until(self.step_at) => Input::TimePassed,
        };
        Some(input)
    }

    /// The health is read first: the snapshot is then at least as new.
    fn observe(&mut self) -> Input {
        let health = self.context.health.borrow_and_update().of(&self.workload.namespace);
        let snapshot = self.context.following.snapshot.borrow_and_update().clone();
        Input::Observed { health, snapshot }
    }

    fn update_spec(&mut self) -> Input {
        let spec = self.context.spec.borrow_and_update().clone();
        if let Placement::Kubernetes { sources } = &spec.placement {
            self.context.following.set_sources(sources);
        }
        Input::Spec(spec)
    }

    fn carry_out(&mut self, output: Output) {
        if let Some(replicas) = output.save_replicas {
            self.context.state_store.save_replicas(&self.workload, replicas);
        }
        if let Some(write) = output.write {
            let (client, workload) = (self.context.client.clone(), (*self.workload).clone());
            self.write = Some(Box::pin(scale::write(client, workload, write)));
        }
        let mut status = output.status;
        status.replicas_when_awake = self.context.state_store.replicas(&self.workload);
        // The status goes first: it wakes the task that releases held requests before those that consume events.
        self.status.send_if_modified(|known| {
            let is_changed = *known != status;
            *known = status;
            is_changed || output.republish
        });
        for event in output.events {
            self.context.events.publish(event);
        }
        match output.watch_pods {
            Some(selectors) => {
                let new = || WakeWatch::new(self.context.client.clone(), (*self.workload).clone());
                self.wake_watch.get_or_insert_with(new).set_selectors(&selectors);
            }
            None => self.wake_watch = None,
        }
        if output.probed_pods.is_empty() {
            self.early_readiness = None;
        } else {
            self.early_readiness.get_or_insert_default().set(output.probed_pods);
        }
        self.dns.set_lookups(output.lookups);
        self.step_at = output.step_at;
    }
}

async fn next_report(
    wake_watch: &mut Option<WakeWatch>,
    unready_pod: Option<UnreadyPod>,
) -> WakeReport {
    match wake_watch {
        Some(wake_watch) => wake_watch.next(unready_pod).await,
        None => pending().await,
    }
}

async fn next_probed(early_readiness: &mut Option<EarlyReadiness>) -> Arc<str> {
    match early_readiness {
        Some(early_readiness) => early_readiness.next().await,
        None => pending().await,
    }
}
