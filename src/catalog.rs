//! The routes and workloads that run: turns each configuration into them and keeps what did not change. The only writer
//! of snapshots.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use tokio::sync::{mpsc, watch};
use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::activation::cold_start::ColdStartMetrics;
use crate::activation::events::EventBus;
use crate::activation::hold_quota::{HoldPermit, HoldQuota, TotalHoldQuota};
use crate::activation::runner::Runner;
use crate::activation::{Activation, WakeRequester};
use crate::backend::{EndpointSource, Placement, WorkloadSpec};
use crate::config::scaling::AutoscalingConfig;
use crate::config::{Config, ServiceConfig};
use crate::coordination::Coordination;
use crate::coordination::membership::Membership;
use crate::demand::{RouteCounters, WorkloadDemand};
use crate::routing::Table;
use crate::shutdown::Shutdown;
use crate::telemetry::Labels;
use crate::workload::WorkloadId;

use self::backends::Backends;
use self::merge::{MergedWorkload, RouteKey};
use self::slots::Slots;

pub mod backends;
pub mod cold_starts;
pub mod merge;
pub mod metrics;
pub mod slots;
pub mod sources;
#[cfg(test)]
mod tests;

/// A route: host and path prefix with their limits, and the workload that they lead to.
pub struct Route {
    pub config: ServiceConfig,
    pub labels: Labels,
    pub counters: Arc<RouteCounters>,
    pub workload: Arc<Workload>,
    /// Which endpoints of the workload requests go to.
    pub source: EndpointSource,
    pub requester: WakeRequester,
    /// The name of this agimo in `Via`, different for each route, so that a request that comes back to the same route is
    /// known (RFC 9110 section 7.6.3).
    pub via: Box<[u8]>,
    /// The route's place in what each core keeps of it; no other route of the snapshot has the same.
    pub slot: usize,
    hold_quota: HoldQuota,
    state: AtomicU8,
}

/// A workload, as all that use it hold on to it: routes, and through them requests in flight. When the last one
/// lets go, its activation ends.
pub struct Workload {
    pub id: Arc<WorkloadId>,
    /// Absent where agimo knows no place to run it.
    pub activation: Option<Arc<Activation>>,
    /// Cancels the activation's `unused` token when it is dropped.
    _in_use: DropGuard,
    demand: Arc<WorkloadDemand>,
    /// Tells the activation and the backend of changes.
    spec: watch::Sender<WorkloadSpec>,
}

/// Everything the edges need of one configuration, replaced as a whole.
pub struct Snapshot {
    pub config: Config,
    /// In the order of the configuration.
    pub routes: Vec<Arc<Route>>,
    /// Shared by all cores.
    pub table: Table<Arc<Route>>,
}

/// The single writer of snapshots.
pub struct Catalog {
    cores: usize,
    shutdown: Shutdown,
    backends: Backends,
    coordination: Coordination,
    events: EventBus,
    routes: HashMap<RouteKey, Arc<Route>>,
    workloads: BTreeMap<WorkloadId, Arc<Workload>>,
    slots: Slots,
    hold_total: Arc<TotalHoldQuota>,
    /// Different in each process.
    via_seed: RandomState,
    snapshots: watch::Sender<Arc<Snapshot>>,
    tasks: JoinSet<()>,
}

/// Whether a route is part of the current snapshot.
#[repr(u8)]
enum RouteState {
    Current,
    /// Another object stands for the same host and path; requests that are held go on.
    Superseded,
    /// Its host and path lead elsewhere or nowhere; requests that are held must be routed anew.
    Removed,
}

// === impl Workload ===

impl Workload {
    pub fn demand(&self) -> &WorkloadDemand {
        &self.demand
    }

    /// How its services configure the own scaler, which names the targets and the window of others, too.
    pub fn autoscaling(&self) -> Option<AutoscalingConfig> {
        self.spec.borrow().autoscaling
    }
}

// === impl Route ===

impl Route {
    /// Takes a permit to hold a request, unless the route or agimo as a whole holds as many as it may.
    /// `share` is the client's address, and how many it may have.
    pub fn acquire_hold(&self, share: Option<(IpAddr, u32)>) -> Option<HoldPermit> {
        self.hold_quota.acquire(self.config.max_held, share)
    }

    /// Requests of the route that are held now.
    pub fn held(&self) -> u32 {
        self.hold_quota.held()
    }

    /// When the oldest of them began to be held.
    pub fn oldest_held(&self) -> Option<Instant> {
        self.hold_quota.oldest()
    }

    /// Whether the route is part of the current snapshot.
    pub fn is_current(&self) -> bool {
        self.state.load(Ordering::Relaxed) == RouteState::Current as u8
    }

    /// Whether held requests must be routed anew.
    pub fn is_removed(&self) -> bool {
        self.state.load(Ordering::Relaxed) == RouteState::Removed as u8
    }

    fn retire(&self, state: RouteState) {
        self.state.store(state as u8, Ordering::Relaxed);
        if let Some(activation) = &self.workload.activation {
            activation.wake_waiters();
        }
    }
}

// === impl Catalog ===

impl Catalog {
    /// A catalog of this configuration, for this many cores; the receiver always holds the newest snapshot.
    pub fn new(
        config: Config,
        cores: usize,
        backends: Backends,
        coordination: Coordination,
        events: EventBus,
        shutdown: Shutdown,
    ) -> (Self, watch::Receiver<Arc<Snapshot>>) {
        let empty =
            Snapshot { config: config.clone(), routes: Vec::new(), table: Table::default() };
        let (snapshots, receiver) = watch::channel(Arc::new(empty));
        let mut catalog = Self {
            cores,
            shutdown,
            backends,
            coordination,
            events,
            routes: HashMap::new(),
            workloads: BTreeMap::new(),
            slots: Slots::default(),
            hold_total: Arc::default(),
            via_seed: RandomState::new(),
            snapshots,
            tasks: JoinSet::new(),
        };
        catalog.apply(config);
        (catalog, receiver)
    }

    /// Applies configurations as they come, and owns the tasks of all workloads, until agimo ends.
    ///
    /// # Errors
    /// When a task panicked.
    pub async fn run(mut self, mut configs: mpsc::Receiver<Config>) -> Result<(), JoinError> {
        let mut pins = self.coordination.pins().changes();
        loop {
            tokio::select! {
                () = self.shutdown.aborted() => break,
                // The sender is as old as the coordination.
                _ = pins.changed() => {
                    for id in self.coordination.pins().take_changed() {
                        let known = self.workloads.get(&id);
                        if let Some(activation) = known.and_then(|known| known.activation.as_ref()) {
                            activation.look_at_pin();
                        }
                    }
                }
                Some(config) = configs.recv() => self.apply(config),
                Some(ended) = self.tasks.join_next() => ended?,
            }
        }
        // Local processes stop in their own time.
        self.routes.clear();
        self.workloads.clear();
        while let Some(ended) = self.tasks.join_next().await {
            ended?;
        }
        Ok(())
    }

    /// Makes the running routes and workloads those of `config`; what is the same in both is not touched.
    fn apply(&mut self, config: Config) {
        self.apply_workloads(merge::merge(&config.services));
        let mut before = std::mem::take(&mut self.routes);
        let mut retired = Vec::new();
        let mut routes = Vec::with_capacity(config.services.len());
        let mut table = Table::default();
        for service in &config.services {
            let key = merge::route_key(service);
            let old = before.remove(&key);
            let route = match &old {
                Some(old) if self.is_unchanged(old, service) => old.clone(),
                _ => Arc::new(self.make_route(service.clone(), old.as_deref())),
            };
            if let Some(old) = old.filter(|old| !Arc::ptr_eq(old, &route)) {
                let same =
                    Arc::ptr_eq(&old.workload, &route.workload) && old.source == route.source;
                let state = if same { RouteState::Superseded } else { RouteState::Removed };
                retired.push((old, state));
            }
            table.insert(&service.host, &service.path_prefix, route.clone());
            routes.push(route.clone());
            self.routes.insert(key, route);
        }
        // A name in the cluster leads to the first service that has it, unless another one names it as its host.
        let of_host = |route: &Arc<Route>| (route.config.host.clone(), route.workload.id.clone());
        let has_names = |route: &&Arc<Route>| !route.config.names_in_cluster().is_empty();
        let mut owners: HashMap<String, Arc<WorkloadId>> = HashMap::new();
        if routes.iter().any(|route| has_names(&route)) {
            owners.extend(routes.iter().rev().map(of_host));
        }
        for route in routes.iter().filter(has_names) {
            let ServiceConfig { path_prefix, .. } = &route.config;
            for name in route.config.names_in_cluster() {
                let owner = owners.entry(name.clone()).or_insert_with(|| route.workload.id.clone());
                if *owner == route.workload.id && !table.contains(&name, path_prefix) {
                    table.insert(&name, path_prefix, route.clone());
                }
            }
        }
        for route in before.into_values() {
            self.slots.free(route.slot);
            retired.push((route, RouteState::Removed));
        }
        self.hold_total.set_limit(config.max_held_total);
        self.count_demand();
        self.snapshots.send_replace(Arc::new(Snapshot { config, routes, table }));
        // Only now: a request that is held for a route that is gone finds the new routes.
        for (route, state) in retired {
            route.retire(state);
        }
    }

    /// Starts, changes and lets go of workloads.
    fn apply_workloads(&mut self, merged: BTreeMap<WorkloadId, MergedWorkload>) {
        let mut before = std::mem::take(&mut self.workloads);
        for (id, MergedWorkload { spec, service }) in merged {
            let running = match before.remove(&id) {
                Some(running) if running.spec.borrow().can_become(&spec) => {
                    running.spec.send_if_modified(|known| {
                        let changes = *known != spec;
                        *known = spec;
                        changes
                    });
                    running
                }
                replaced => {
                    if let Some(activation) =
                        replaced.as_ref().and_then(|old| old.activation.as_ref())
                    {
                        activation.note_replaced();
                    }
                    self.start(spec, &service)
                }
            };
            self.workloads.insert(id, running);
        }
    }

    /// Starts the activation of a workload; `service` is the first that leads to it.
    fn start(&mut self, spec: WorkloadSpec, service: &str) -> Arc<Workload> {
        let id = Arc::new(spec.id.clone());
        let demand = Arc::<WorkloadDemand>::default();
        let unused = CancellationToken::new();
        let events = self.events.publisher(id.clone());
        let (sender, spec) = watch::channel(spec);
        let started = self.backends.start(spec.clone(), events.clone(), &self.shutdown, service);
        let activation = started.map(|started| {
            self.tasks.spawn(started.task);
            let activation = Arc::new(Activation::new(started.backend, events));
            let membership = match spec.borrow().placement {
                Placement::Kubernetes { .. } => self.coordination.join(id.clone(), demand.clone()),
                Placement::Process(_) => Membership::alone(),
            };
            let pins = self.coordination.pins().of(id.clone());
            let runner = Runner::new(activation.clone(), demand.clone(), spec, membership, pins);
            self.tasks.spawn(Box::new(runner).run(unused.clone(), self.shutdown.clone()));
            activation
        });
        let in_use = unused.drop_guard();
        Arc::new(Workload { id, activation, _in_use: in_use, demand, spec: sender })
    }

    fn is_unchanged(&self, route: &Route, service: &ServiceConfig) -> bool {
        route.config == *service
            && self
                .workloads
                .get(&*route.workload.id)
                .is_some_and(|running| Arc::ptr_eq(running, &route.workload))
    }

    /// A route of the present workloads; what was counted of an earlier route goes on.
    fn make_route(&mut self, config: ServiceConfig, old: Option<&Route>) -> Route {
        let labels = merge::labels(&config);
        let service: Arc<str> = config.name().into();
        let cold_start = old
            .map_or_else(Arc::<ColdStartMetrics>::default, |old| old.requester.cold_start.clone());
        Route {
            labels,
            counters: old.map_or_else(
                || Arc::new(RouteCounters::new(self.cores)),
                |old| old.counters.clone(),
            ),
            workload: self.workloads[&config.workload_id()].clone(),
            source: merge::endpoint_source(&config),
            via: self.via_name(&service),
            requester: WakeRequester { service, cold_start },
            slot: old.map_or_else(|| self.slots.take(), |old| old.slot),
            hold_quota: old.map_or_else(
                || HoldQuota::new(self.hold_total.clone()),
                |old| old.hold_quota.clone(),
            ),
            state: AtomicU8::new(RouteState::Current as u8),
            config,
        }
    }

    /// A name that no other process and no other route has.
    fn via_name(&self, service: &str) -> Box<[u8]> {
        format!("agimo-{:016x}", self.via_seed.hash_one(service)).into_bytes().into()
    }

    /// Has each workload count the requests of the routes that lead to it.
    fn count_demand(&self) {
        let mut counted: BTreeMap<&WorkloadId, Vec<Arc<RouteCounters>>> = BTreeMap::new();
        for route in self.routes.values() {
            counted.entry(&route.workload.id).or_default().push(route.counters.clone());
        }
        for (id, running) in &self.workloads {
            running.demand.set_routes(counted.remove(id).unwrap_or_default());
        }
    }
}
