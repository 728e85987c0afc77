//! Workloads in Kubernetes: follows what the API server reports about them, and writes their `replicas`.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use kube::Client;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use crate::activation::events::EventBus;
use crate::backend::{BackendAndTask, Placement};
use crate::catalog::backends::BackendContext;
use crate::config::annotations::AnnotatedWorkload;
use crate::coordination::Coordination;
use crate::ledger::Ledger;
use crate::net::dns::Resolver;
use crate::shutdown::Shutdown;
use crate::workload::WorkloadId;

use self::index::Index;
use self::index::health::ClusterHealth;
use self::objects::ObjectName;
use self::state_store::StateStore;
use self::watch_scope::WatchScope;
use self::watches::SharedIndex;
use self::workload::{RunnerContext, Workload};

pub mod annotations;
pub mod check;
pub mod early_readiness;
pub mod event_recorder;
#[cfg(test)]
mod fake_api;
pub mod image_pull;
pub mod index;
pub mod lease;
pub mod not_ready;
pub mod objects;
pub mod pod_names;
pub mod pods;
pub mod readiness_probe;
pub mod scale;
pub mod service_dns;
pub mod state_store;
pub mod step;
pub mod terminating_endpoints;
pub mod token_review;
pub mod wake_watch;
pub mod warning_events;
pub mod watch_errors;
pub mod watch_scope;
pub mod watches;
pub mod workload;

/// The cluster, as far as agimo watches it; clones share one view.
#[derive(Clone)]
pub struct Cluster {
    client: Client,
    resolver: Resolver,
    scopes: Vec<WatchScope>,
    index: SharedIndex,
    state_store: StateStore,
    lease: Option<ObjectName>,
    /// This replica takes no part in the election any more.
    lease_released: CancellationToken,
    coordination: Coordination,
    shutdown: Shutdown,
    events: EventBus,
    ledger: Ledger,
    demand: Arc<WatchDemand>,
    external_metrics: Option<watch::Receiver<bool>>,
}

/// What agimo watches in the cluster, besides the workloads.
#[derive(Clone, Default)]
pub struct ClusterOptions {
    /// The namespaces to watch; all where none is named.
    pub namespaces: Vec<String>,
    /// The Service of agimo's own replicas, with the port of their exchange.
    pub peer_service: Option<ObjectName>,
    /// The Lease by which the replicas choose one that scales to zero.
    pub lease: Option<ObjectName>,
    pub coordination: Coordination,
    pub shutdown: Shutdown,
    /// What happens to workloads, to be written as Events.
    pub events: EventBus,
    /// Wakes and sleeps, to be written as Events when they are complete.
    pub ledger: Ledger,
    /// The ConfigMap that keeps the replicas of sleeping workloads.
    pub replica_store: Option<ObjectName>,
    /// Whether HorizontalPodAutoscalers read the metrics of agimo from agimo itself.
    pub external_metrics: Option<watch::Receiver<bool>>,
}

/// Whether the watches are needed: none begins before the first workload.
#[derive(Default)]
struct WatchDemand {
    is_needed: AtomicBool,
    needed: Notify,
    /// Every watch was listed once. A watch that fails later does not change it.
    was_ready: AtomicBool,
}

// === impl Cluster ===

impl Cluster {
    pub fn new(client: Client, resolver: Resolver, options: ClusterOptions) -> Self {
        let ClusterOptions {
            namespaces,
            peer_service,
            lease,
            coordination,
            shutdown,
            events,
            ledger,
            replica_store,
            external_metrics,
        } = options;
        let scopes = watches::scopes(&namespaces, peer_service.as_ref());
        let index = SharedIndex::new(Index::new(scopes.clone(), peer_service));
        let state_store = StateStore::new(replica_store);
        let kept = state_store.clone();
        coordination.pins().keep_with(Box::new(move |workload, pin| kept.save_pin(workload, pin)));
        let demand = Arc::default();
        Self {
            client,
            resolver,
            scopes,
            index,
            state_store,
            lease,
            lease_released: CancellationToken::new(),
            coordination,
            shutdown,
            events,
            ledger,
            demand,
            external_metrics,
        }
    }

    /// Runs the watches forever, from the first workload on.
    pub async fn run(self) {
        self.demand.needed.notified().await;
        let peers = self.index.lock().peers();
        let recorder = event_recorder::run(
            self.client.clone(),
            self.events.subscribe(),
            self.ledger.finished(),
            self.index.clone(),
            self.coordination.clone(),
        );
        let election = {
            let (client, coordination) = (self.client.clone(), self.coordination.clone());
            // Also if another of these tasks panics: the end of agimo waits for it.
            let released = self.lease_released.drop_guard();
            async move {
                lease::run(client, self.lease, coordination, self.shutdown).await;
                drop(released);
            }
        };
        tokio::join!(
            watches::run(self.client.clone(), self.scopes, self.index.clone()),
            follow_external_metrics(self.external_metrics, self.index),
            list_peers(peers, self.coordination.clone()),
            election,
            self.state_store.run(self.client, self.coordination.pins().clone()),
            recorder,
        );
    }

    /// Waits until this replica has left the Lease to the others, while agimo drains.
    pub async fn lease_released(&self) {
        if self.demand.is_needed.load(Ordering::Relaxed) {
            self.lease_released.cancelled().await;
        }
    }

    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// Begins the watches, although there may be no workload yet.
    pub fn require(&self) {
        self.demand.is_needed.store(true, Ordering::Relaxed);
        self.demand.needed.notify_one();
    }

    /// Waits until every watch was listed once, or cannot be read.
    pub async fn until_listed(&self) {
        let mut health = self.index.lock().health();
        // The index holds the sender.
        let _ = health.wait_for(ClusterHealth::is_usable).await;
    }

    /// The workload that a ScaledObject targets.
    pub fn scaled_object_target(&self, namespace: &str, name: &str) -> Option<WorkloadId> {
        self.index.lock().scaled_object_target(&ObjectName::new(namespace, name))
    }

    /// Counts the changes of `annotated`.
    pub fn annotated_changes(&self) -> watch::Receiver<u64> {
        self.index.lock().annotated_changes()
    }

    /// The workloads whose annotations make them services.
    pub fn annotated(&self) -> Vec<Arc<AnnotatedWorkload>> {
        self.index.lock().annotated()
    }

    /// Whether every watch was listed once, or none is needed. A namespace that cannot be read does not count, unless it is
    /// the only one.
    pub fn is_ready(&self) -> bool {
        let demand = &self.demand;
        if !demand.was_ready.load(Ordering::Relaxed) {
            let is_needed = demand.is_needed.load(Ordering::Relaxed);
            let is_listed =
                || self.index.lock().health().borrow().is_usable() && self.state_store.is_loaded();
            demand.was_ready.store(!is_needed || is_listed(), Ordering::Relaxed);
        }
        demand.was_ready.load(Ordering::Relaxed)
    }

    /// A workload as a backend. The task ends when the backend is dropped or agimo is aborted; the workload is left
    /// as it is.
    pub fn backend(&self, context: BackendContext) -> BackendAndTask {
        self.require();
        let BackendContext { spec, events, shutdown } = context;
        let following = {
            let spec = spec.borrow();
            let sources = match &spec.placement {
                Placement::Kubernetes { sources } => sources.as_slice(),
                Placement::Process(_) => &[],
            };
            self.index.follow(&spec.id, sources)
        };
        let health = self.index.lock().health();
        let (workload, runner) = Workload::new(RunnerContext {
            client: self.client.clone(),
            resolver: self.resolver.clone(),
            spec,
            events,
            following,
            health,
            state_store: self.state_store.clone(),
        });
        let runner = Box::new(runner);
        let task = async move {
            tokio::select! {
                () = runner.run() => {}
                () = shutdown.aborted() => {}
            }
        };
        BackendAndTask { backend: Arc::new(workload), task: Box::pin(task) }
    }
}

/// Tells the index whether HPAs read the metrics of agimo from agimo itself.
async fn follow_external_metrics(served: Option<watch::Receiver<bool>>, index: SharedIndex) {
    let Some(mut served) = served else { return };
    loop {
        let is_served = *served.borrow_and_update();
        index.lock().set_external_metrics(is_served);
        if served.changed().await.is_err() {
            return;
        }
    }
}

/// Tells the coordination which replicas of agimo there are, forever.
async fn list_peers(mut peers: watch::Receiver<BTreeSet<SocketAddr>>, coordination: Coordination) {
    loop {
        let listed = peers.borrow_and_update().clone();
        coordination.set_listed(listed);
        if peers.changed().await.is_err() {
            return;
        }
    }
}
