//! Workloads in Kubernetes: follows what the API server says of them, and has them scaled. It sees no request.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use kube::Client;
use tokio::sync::Notify;

use crate::backend::{BackendAndTask, EndpointSource, Placement};
use crate::catalog::backends::BackendContext;
use crate::config::{KubernetesConfig, KubernetesKind};
use crate::net::dns::Resolver;
use crate::workload::WorkloadKind;

use self::index::{Index, Scope};
use self::objects::Id;
use self::watches::Shared;
use self::workload::Surroundings;

pub mod attempt;
pub mod client;
pub mod condition;
pub mod diagnosis;
pub mod index;
pub mod leaving;
pub mod named;
pub mod objects;
pub mod pods;
pub mod scale;
pub mod waking;
pub mod watches;
pub mod workload;

/// The cluster, as far as agimo watches it; clones share one view.
#[derive(Clone)]
pub struct Cluster {
    client: Client,
    resolver: Resolver,
    scopes: Vec<Scope>,
    index: Shared,
    need: Arc<Need>,
}

/// Whether anything is wanted of the cluster; nothing is watched before.
#[derive(Default)]
struct Need {
    arose: AtomicBool,
    told: Notify,
    /// Every watch had been read once; what is added later changes nothing about it.
    was_ready: AtomicBool,
}

// === impl Cluster ===

impl Cluster {
    /// A view of these namespaces, or of all where none is named. `peers` is the Service whose endpoints are
    /// agimo's own replicas.
    pub fn new(
        client: Client,
        resolver: Resolver,
        namespaces: &[String],
        peers: Option<Id>,
    ) -> Self {
        let scopes = watches::scopes(namespaces, peers.as_ref());
        let index = Arc::new(Mutex::new(Index::new(scopes.clone(), peers)));
        Self { client, resolver, scopes, index, need: Arc::default() }
    }

    /// Watches for ever, from the first workload on.
    pub async fn run(self) {
        self.need.told.notified().await;
        watches::run(self.client, self.scopes, self.index).await;
    }

    /// Whether every watch has been read once, or none is needed.
    pub fn is_ready(&self) -> bool {
        let need = &self.need;
        if !need.was_ready.load(Ordering::Relaxed) {
            let arose = need.arose.load(Ordering::Relaxed);
            let ready = !arose || watches::lock(&self.index).is_synced();
            need.was_ready.store(ready, Ordering::Relaxed);
        }
        need.was_ready.load(Ordering::Relaxed)
    }

    /// A workload as a backend.
    pub fn backend(&self, context: BackendContext) -> BackendAndTask {
        let spec = context.spec.borrow().clone();
        let source = match &spec.placement {
            Placement::Kubernetes { sources } => sources.first().cloned(),
            Placement::Process(_) => None,
        };
        let source = source.unwrap_or(EndpointSource::Processes);
        let EndpointSource::Service { name, port, via } = source.clone() else {
            unreachable!("replaced by the next change")
        };
        let config = KubernetesConfig {
            kind: if spec.id.kind == WorkloadKind::StatefulSet {
                KubernetesKind::StatefulSet
            } else {
                KubernetesKind::Deployment
            },
            namespace: spec.id.namespace.clone(),
            name: spec.id.name.clone(),
            service_name: name,
            service_port: port,
            scaler: spec.scaler,
            via,
        };
        self.need.arose.store(true, Ordering::Relaxed);
        self.need.told.notify_one();
        let (seen, peers) = {
            let mut index = watches::lock(&self.index);
            (index.follow(&config), index.peer_count())
        };
        let around = Surroundings {
            client: self.client.clone(),
            resolver: self.resolver.clone(),
            seen,
            peers,
            events: context.events,
        };
        let (workload, runner) = workload::new(config, source, around);
        let index = self.index.clone();
        let shutdown = context.shutdown;
        let work = async move {
            tokio::select! {
                () = runner.run() => {}
                () = shutdown.aborted() => {}
            }
            watches::lock(&index).forget_unfollowed();
        };
        BackendAndTask { backend: Arc::new(workload), task: Box::pin(work) }
    }
}
