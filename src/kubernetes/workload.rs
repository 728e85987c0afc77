//! One workload in the cluster as a backend: joins what is seen of it with what is wanted, and has its `replicas` written.
//! It sees no request.

use std::future::pending;
use std::net::SocketAddr;

use kube::Client;
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::warn;

use super::attempt::{Attempt, outcome};
use super::condition;
use super::index::{Endpoint, Seen};
use super::leaving::Leaving;
use super::named::Named;
use super::objects::Id;
use super::scale::{self, Failed, Known, Want, Written};
use super::waking::Waking;
use crate::activation::events::{EventKind, EventPublisher};
use crate::backend::{
    Backend, BackendStatus, EndpointSource, Lifecycle, ScaleCommand, SourceStatus,
};
use crate::cause::NotReadyReason;
use crate::config::{KubernetesConfig, Scaler, Via};
use crate::net::dns::Resolver;
use crate::ownership::ScaleFacts;

/// The backend's handle on one workload; its `Runner` does the work.
pub struct Workload {
    orders: watch::Sender<u32>,
    observed: watch::Receiver<BackendStatus>,
}

/// What a runner is given.
pub struct Surroundings {
    pub client: Client,
    pub resolver: Resolver,
    pub seen: watch::Receiver<Seen>,
    /// How many replicas of agimo there are, this one included.
    pub peers: watch::Receiver<usize>,
    pub events: EventPublisher,
}

/// Runs one workload.
pub struct Runner {
    config: KubernetesConfig,
    around: Surroundings,
    orders: watch::Receiver<u32>,
    observed: watch::Sender<BackendStatus>,
    want: Want,
    /// How many replicas it had when it was last put to sleep.
    last_awake: u32,
    /// Somebody waits for an endpoint, whoever scales.
    waking: Option<Waking>,
    /// When the first container of the last wake was seen to run.
    started: Option<Instant>,
    leaving: Leaving,
    written: Option<Known>,
    write: Option<Attempt<Result<Written, Failed>>>,
    write_again_at: Option<Instant>,
    write_trouble: Option<NotReadyReason>,
    named: Named,
    source: EndpointSource,
}

/// A workload, and the runner whose `run` the caller must own as a task.
pub fn new(
    config: KubernetesConfig,
    source: EndpointSource,
    around: Surroundings,
) -> (Workload, Runner) {
    let (orders, orders_receiver) = watch::channel(0);
    let (observed_sender, observed) = watch::channel(BackendStatus::default());
    let named = Named::new(around.resolver.clone(), &config);
    let runner = Runner {
        config,
        around,
        orders: orders_receiver,
        observed: observed_sender,
        want: Want::Nothing,
        last_awake: 1,
        waking: None,
        started: None,
        leaving: Leaving::new(Instant::now()),
        written: None,
        write: None,
        write_again_at: None,
        write_trouble: None,
        named,
        source,
    };
    (Workload { orders, observed }, runner)
}

// === impl Workload ===

impl Backend for Workload {
    fn status(&self) -> watch::Receiver<BackendStatus> {
        self.observed.clone()
    }

    fn command(&self, command: ScaleCommand) {
        let replicas = match command {
            ScaleCommand::ExpectReady => 1,
            ScaleCommand::WakeToAtLeast(replicas) | ScaleCommand::SetReplicas(replicas) => replicas,
            ScaleCommand::Sleep | ScaleCommand::CancelWake => 0,
        };
        self.orders.send_replace(replicas);
    }
}

// === impl Runner ===

impl Runner {
    /// Runs until the handle is dropped. The workload is left as it is.
    pub async fn run(mut self) {
        loop {
            let seen = self.around.seen.borrow_and_update().clone();
            self.settle(&seen);
            tokio::select! {
                // An order goes first: what it puts to sleep must not be said to be ready once more.
                biased;
                ordered = self.orders.changed() => match ordered {
                    Ok(()) => self.take_order(&seen),
                    Err(_) => return,
                },
                seen = self.around.seen.changed() => if seen.is_err() { return },
                peers = self.around.peers.changed() => if peers.is_err() { return },
                outcome = outcome(&mut self.write) => self.written(outcome),
                () = news(&mut self.waking, &seen) => {}
                () = self.named.changed() => {}
                () = until(self.write_again_at) => self.write_again_at = None,
                () = tokio::time::sleep_until(self.leaving.until()), if self.waits_for_leaving(&seen) => {
                    self.leaving.give_up(&seen.ready);
                }
            }
        }
    }

    fn take_order(&mut self, seen: &Seen) {
        let replicas = *self.orders.borrow_and_update();
        let scales = self.config.scaler == Scaler::Agimo;
        if replicas == 0 {
            // Given up where it is another's to wake; put to sleep where it is ours.
            let waking = self.waking.take();
            if scales {
                let pods = waking.iter().flat_map(Waking::ready);
                let listed = seen.ready.iter().chain(&seen.last_resort);
                self.leaving.put(listed.chain(pods), Instant::now());
                self.want = Want::Asleep;
            }
            return;
        }
        self.waking = Some(Waking::begin(self.around.client.clone(), self.config.clone()));
        self.started = None;
        self.leaving.wait_from(Instant::now());
        if scales {
            self.want = Want::Awake(replicas.max(self.last_awake));
        }
        // It may be ready already, so that nothing would change: say so all the same.
        self.observed.send_modify(|_| ());
    }

    /// Acts on whatever has changed: begins what is to be done, and says what is observed.
    fn settle(&mut self, seen: &Seen) {
        let is_listed = |endpoint: &Endpoint| {
            seen.ready.contains(endpoint) || seen.last_resort.contains(endpoint)
        };
        let now = Instant::now();
        self.leaving.forget_gone(is_listed, now);
        if self.falls_asleep(seen, now) {
            let pods = self.waking.iter().flat_map(Waking::ready);
            self.leaving.add(seen.ready.iter().chain(&seen.last_resort).chain(pods));
        }
        self.begin_write(seen);
        if let Some(waking) = &mut self.waking {
            // The write goes first: it is what the request waits for.
            if self.write.is_none() {
                waking.follow(seen.service.as_deref());
            }
            self.started = waking.started();
        }
        let ready = self.ready(seen);
        if !ready.is_empty() {
            self.awake(seen);
        }
        let observed = self.observe(seen, ready);
        self.observed.send_if_modified(|known| {
            let changes = *known != observed;
            *known = observed;
            changes
        });
    }

    /// It has a ready endpoint: what was wanted of it has come about.
    fn awake(&mut self, seen: &Seen) {
        if matches!(self.want, Want::Awake(_)) {
            self.want = Want::Nothing;
        }
        self.write_trouble = None;
        // Its pods are looked at until the slices have caught up with them.
        if self.stays(&seen.ready).next().is_some()
            && let Some(waking) = self.waking.take()
        {
            waking.log("slice ready");
        }
    }

    // --- endpoints

    /// What requests may be sent to.
    fn ready(&mut self, seen: &Seen) -> Vec<SocketAddr> {
        let mut ready: Vec<SocketAddr> =
            self.stays(&seen.ready).map(|endpoint| endpoint.address).collect();
        for endpoint in self.waking.iter().flat_map(Waking::ready) {
            if !ready.contains(&endpoint.address) && !self.leaving.contains(endpoint) {
                ready.push(endpoint.address);
            }
        }
        match self.config.via {
            Via::Service if !ready.is_empty() => self.service(seen, ready).into_iter().collect(),
            _ => ready,
        }
    }

    /// Endpoints on their way out that still answer, where somebody else sees to the next ones.
    fn last_resort(&self, seen: &Seen) -> Vec<SocketAddr> {
        let others_come = self.config.scaler == Scaler::External
            || seen.workload.as_ref().is_some_and(|workload| workload.replicas > 0);
        if others_come && self.config.via == Via::Pod {
            self.stays(&seen.last_resort).map(|endpoint| endpoint.address).collect()
        } else {
            Vec::new()
        }
    }

    fn stays<'a>(&self, endpoints: &'a [Endpoint]) -> impl Iterator<Item = &'a Endpoint> {
        endpoints.iter().filter(|endpoint| !self.leaving.contains(endpoint))
    }

    /// The Service's own address: its cluster IP, or what DNS says where it has none.
    fn service(&mut self, seen: &Seen, ready: Vec<SocketAddr>) -> Option<SocketAddr> {
        let service = seen.service.as_ref()?;
        let port = service.port(&self.config.service_port)?.number;
        match service.cluster_ip {
            Some(address) => Some(SocketAddr::new(address, port)),
            None => self.named.address(port, ready),
        }
    }

    // --- writing

    /// `replicas` as it stands, as far as is known.
    fn known(&self, seen: &Seen) -> Option<Known> {
        let workload = seen.workload.as_ref()?;
        let read = Known {
            replicas: workload.replicas,
            resource_version: workload.resource_version.clone(),
        };
        Some(Known::newer(read, self.written.as_ref()))
    }

    /// Whatever is seen of it just now goes, that which only comes to be seen included.
    fn falls_asleep(&self, seen: &Seen, now: Instant) -> bool {
        let has_none = || self.known(seen).is_some_and(|known| known.replicas == 0);
        let scales = self.config.scaler == Scaler::Agimo;
        scales && (self.want == Want::Asleep || now < self.leaving.until() && has_none())
    }

    /// It is wanted, or another has woken it since: what has not left until then stays.
    fn waits_for_leaving(&self, seen: &Seen) -> bool {
        let is_wanted = match self.want {
            Want::Awake(_) => true,
            Want::Asleep => false,
            Want::Nothing => self.known(seen).is_some_and(|known| known.replicas > 0),
        };
        is_wanted && self.leaving.has_any(&seen.ready)
    }

    fn begin_write(&mut self, seen: &Seen) {
        if self.write.is_some() || self.write_again_at.is_some() || !seen.synced {
            return;
        }
        let Some(known) = self.known(seen) else { return };
        let is_wanted = matches!(self.want, Want::Awake(_));
        match known.replicas {
            0 => {
                self.leaving.confirm();
                if is_wanted && self.leaving.has_any(&seen.ready) {
                    // Its controllers have not seen the zero yet. Were it taken back now, nobody could tell
                    // the pods that stay from those that go.
                    return;
                }
            }
            // Wanted again before it was put to sleep.
            _ if is_wanted => self.leaving.take_back(),
            _ => {}
        }
        let Some(replicas) = self.want.write(&known) else {
            if self.want == Want::Asleep {
                self.want = Want::Nothing;
            }
            return;
        };
        if replicas == 0 {
            self.last_awake = known.replicas;
        }
        let id = Id::new(&self.config.namespace, &self.config.name);
        let client = self.around.client.clone();
        self.write = Some(Box::pin(scale::write(client, self.config.kind, id, replicas, known)));
    }

    fn written(&mut self, outcome: Result<Written, Failed>) {
        match outcome {
            Ok(Written { known, conflicted }) => {
                if !conflicted {
                    self.log_scaled(known.replicas);
                }
                self.written = Some(known);
                self.write_trouble = None;
            }
            Err(Failed { trouble, pause }) => {
                self.write_again_at = Some(Instant::now() + pause);
                if self.want == Want::Asleep {
                    let (workload, detail) = (&self.config.name, &trouble.detail);
                    warn!(workload, detail, "cannot be put to sleep, stays awake");
                    self.want = Want::Nothing;
                    self.leaving.take_back();
                } else {
                    self.write_trouble = Some(trouble);
                }
            }
        }
    }

    fn log_scaled(&self, replicas: u32) {
        self.around.events.publish(EventKind::ScaleWritten { replicas });
    }

    // --- what is said

    fn observe(&mut self, seen: &Seen, ready: Vec<SocketAddr>) -> BackendStatus {
        let ready = if ready.is_empty() { self.last_resort(seen) } else { ready };
        let not_ready = if ready.is_empty() { self.trouble(seen) } else { None };
        let source = SourceStatus { ready, not_ready: None };
        BackendStatus {
            sources: [(self.source.clone(), source)].into(),
            started: self.started,
            not_ready,
            lifecycle: Lifecycle::Shared,
            scale_facts: ScaleFacts {
                can_write_replicas: true,
                agimo_replicas: *self.around.peers.borrow_and_update(),
            },
        }
    }

    /// Why it is not ready, the most telling first.
    fn trouble(&self, seen: &Seen) -> Option<NotReadyReason> {
        let missing = condition::trouble(&self.config, seen);
        let waking = self.waking.as_ref();
        missing
            .or_else(|| waking.and(self.write_trouble.clone()))
            .or_else(|| waking?.trouble())
            .or_else(|| waking.and(condition::delay(&self.config, seen)))
    }
}

async fn news(waking: &mut Option<Waking>, seen: &Seen) {
    match waking {
        Some(waking) => waking.changed(seen.service.as_deref()).await,
        None => pending().await,
    }
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => pending().await,
    }
}
