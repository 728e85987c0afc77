//! What another scaler needs to know of a workload: whether it is needed, and its demand at all replicas of agimo.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior};

use crate::autoscaler::window::{Average, Window};
use crate::catalog::{Snapshot, Workload};
use crate::coordination::Coordination;
use crate::demand::Totals;
use crate::workload::WorkloadId;

pub mod metric;

/// The signals of all workloads; clones share them.
#[derive(Clone)]
pub struct Signals {
    shared: Arc<Shared>,
}

struct Shared {
    snapshots: watch::Receiver<Arc<Snapshot>>,
    coordination: Coordination,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The workloads of a snapshot, which this was made from. Neither is kept in use by being known here.
    workloads: HashMap<Arc<WorkloadId>, SnapshotWorkload>,
    by_namespace: HashMap<String, Vec<Arc<WorkloadId>>>,
    made_from: Weak<Snapshot>,
    /// Workloads that somebody asks about.
    followed: HashMap<WorkloadId, Followed>,
}

/// A workload of the snapshot.
struct SnapshotWorkload {
    workload: Weak<Workload>,
    hosts: Vec<String>,
}

/// What is recorded of a workload.
struct Followed {
    window: Window,
    arrivals: Option<u64>,
    own_arrivals: Option<u64>,
    /// Of the replicas of agimo that are counted.
    generation: u64,
    recorded: Option<Instant>,
    /// When a request was last seen to have arrived.
    last_arrival: Option<Instant>,
    /// The longest window that was asked for.
    longest: Duration,
    asked: Instant,
}

/// What all replicas of agimo have counted of a workload.
struct Demand {
    totals: Totals,
    /// Arrivals at this replica.
    own_arrivals: u64,
    in_flight: u64,
    generation: u64,
}

/// The demand of a workload, at all replicas of agimo together.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Signal {
    /// Requests in flight now, held ones included.
    pub in_flight: u64,
    /// Over the window, as far as it was recorded; absent without a whole bucket.
    pub average: Option<Average>,
    /// Since when no request has arrived; absent where none was seen to.
    pub idle: Option<Duration>,
    /// For how long the demand was recorded without a gap, by the same replicas of agimo.
    pub recorded_for: Duration,
}

/// A workload to which services lead, and their hosts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedWorkload {
    pub id: Arc<WorkloadId>,
    pub hosts: Vec<String>,
}

/// How often the demand is recorded.
const INTERVAL: Duration = Duration::from_secs(1);
/// However often somebody asks.
const SHORTEST_BUCKET: Duration = Duration::from_millis(500);
/// The longest window that a trigger of KEDA can ask for.
pub const LONGEST_WINDOW: Duration = Duration::from_secs(600);
/// A workload that nobody has asked about for so long is not recorded any more.
const FORGET_AFTER: Duration = Duration::from_secs(900);

// === impl Signals ===

impl Signals {
    pub fn new(snapshots: watch::Receiver<Arc<Snapshot>>, coordination: Coordination) -> Self {
        let state = Mutex::default();
        Self { shared: Arc::new(Shared { snapshots, coordination, state }) }
    }

    /// Records the demand of the workloads that are asked about, forever.
    pub async fn run(self) {
        let mut interval = tokio::time::interval(INTERVAL);
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            interval.tick().await;
            self.record(Instant::now());
        }
    }

    /// The workload with this name; `None` where no service leads to it.
    pub fn workload(&self, id: &WorkloadId) -> Option<Arc<Workload>> {
        self.shared.workload(&mut self.shared.lock(), id)
    }

    /// The workloads of a namespace, in the order of their kinds and names.
    pub fn workloads_in(&self, namespace: &str) -> Vec<NamedWorkload> {
        let mut state = self.shared.lock();
        self.shared.refresh(&mut state);
        let ids = state.by_namespace.get(namespace).into_iter().flatten();
        let named = |id: &Arc<WorkloadId>| {
            let hosts = state.workloads.get(id)?.hosts.clone();
            Some(NamedWorkload { id: id.clone(), hosts })
        };
        ids.filter_map(named).collect()
    }

    /// Whether the demand of every replica of agimo is known. Otherwise a workload that seems to be idle may be in use.
    pub fn is_complete(&self) -> bool {
        self.shared.coordination.is_demand_known()
    }

    /// The demand of a workload, averaged over this time as far as it was recorded.
    pub fn signal(&self, id: &WorkloadId, window: Duration) -> Option<Signal> {
        let now = Instant::now();
        let mut state = self.shared.lock();
        let workload = self.shared.workload(&mut state, id)?;
        let demand = self.shared.demand(&workload);
        let in_flight = demand.in_flight;
        let followed = state.followed.entry(id.clone()).or_insert_with(|| Followed::new(now));
        followed.asked = now;
        followed.longest = followed.longest.max(window);
        followed.record(&demand, now);
        Some(Signal {
            in_flight,
            average: followed.window.average(now, window),
            idle: followed.last_arrival.map(|at| now.saturating_duration_since(at)),
            recorded_for: followed.window.recorded_for(now),
        })
    }

    fn record(&self, now: Instant) {
        let mut state = self.shared.lock();
        state.followed.retain(|_, followed| now < followed.asked + FORGET_AFTER);
        let ids: Vec<WorkloadId> = state.followed.keys().cloned().collect();
        for id in ids {
            let workload = self.shared.workload(&mut state, &id);
            let demand = workload.map(|workload| self.shared.demand(&workload));
            if let (Some(demand), Some(followed)) = (demand, state.followed.get_mut(&id)) {
                followed.record(&demand, now);
            }
        }
    }
}

// === impl Shared ===

impl Shared {
    fn workload(&self, state: &mut State, id: &WorkloadId) -> Option<Arc<Workload>> {
        self.refresh(state);
        state.workloads.get(id)?.workload.upgrade()
    }

    /// Takes the workloads of the newest snapshot.
    fn refresh(&self, state: &mut State) {
        let snapshot = self.snapshots.borrow().clone();
        if state.made_from.as_ptr() == Arc::as_ptr(&snapshot) {
            return;
        }
        state.workloads.clear();
        state.by_namespace.clear();
        for route in &snapshot.routes {
            let id = &route.workload.id;
            let known = state.workloads.entry(id.clone()).or_insert_with(|| {
                let namespace = state.by_namespace.entry(id.namespace.clone()).or_default();
                namespace.push(id.clone());
                SnapshotWorkload { workload: Arc::downgrade(&route.workload), hosts: Vec::new() }
            });
            if !known.hosts.contains(&route.config.host) {
                known.hosts.push(route.config.host.clone());
            }
        }
        state.by_namespace.values_mut().for_each(|ids| ids.sort());
        state.made_from = Arc::downgrade(&snapshot);
    }

    /// What was counted, and what is in flight, here and at the other replicas.
    fn demand(&self, workload: &Workload) -> Demand {
        let view = self.coordination.view(&workload.id);
        let demand = workload.demand();
        let own = demand.totals();
        Demand {
            totals: own.plus(view.totals()),
            own_arrivals: own.arrivals,
            in_flight: demand.in_flight() + view.in_flight,
            generation: view.generation,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Followed ===

impl Followed {
    fn new(now: Instant) -> Self {
        Self {
            window: Window::default(),
            arrivals: None,
            own_arrivals: None,
            generation: 0,
            recorded: None,
            last_arrival: None,
            longest: Duration::ZERO,
            asked: now,
        }
    }

    fn record(&mut self, demand: &Demand, now: Instant) {
        let Demand { totals, own_arrivals, generation, .. } = *demand;
        if self.recorded.is_none_or(|at| now >= at + SHORTEST_BUCKET) {
            self.recorded = Some(now);
            self.window.record(totals, generation, now, self.longest);
        }
        // Requests that came before the first record, or to a replica that was not counted before, are not known to be recent.
        let is_comparable = generation == self.generation;
        let has_arrived = self.own_arrivals.is_some_and(|before| own_arrivals > before)
            || (is_comparable && self.arrivals.is_some_and(|before| totals.arrivals > before));
        if has_arrived {
            self.last_arrival = Some(now);
        }
        self.own_arrivals = Some(own_arrivals);
        (self.arrivals, self.generation) = (Some(totals.arrivals), generation);
    }
}
