//! Several replicas of agimo that act as one: what the others report, who leads, and their agreement before a workload is
//! scaled to zero. It speaks no protocol.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::time::Instant;

use self::membership::Membership;
use crate::demand::{Totals, WorkloadDemand};
use crate::ownership::pins::Pins;
use crate::workload::WorkloadId;

pub mod membership;
pub mod metrics;
#[cfg(test)]
mod tests;

/// What this replica knows of the others, and what it tells them; clones share it.
#[derive(Clone)]
pub struct Coordination {
    shared: Arc<Shared>,
}

/// What one replica says about one workload.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Requests that have arrived since the replica started.
    pub arrivals: u64,
    /// Requests, streams and tunnels that have not ended, those held included.
    pub in_flight: u64,
    /// WebSockets and other tunnels that are open.
    #[serde(default)]
    pub tunnels: u64,
    /// Requests that are held.
    #[serde(default)]
    pub held: u64,
    /// The time that requests have spent in flight since the replica started, added up, in nanoseconds.
    #[serde(default)]
    pub request_time_ns: u64,
    /// The replica is about to scale the workload to zero, or has done so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub announcement: Option<Announcement>,
    /// The announcements of others for which the replica has withdrawn its endpoints. It did so before it counted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub withdrawn: Vec<u64>,
}

/// Asks the other replicas to withdraw the endpoints of a workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Announcement {
    /// No other announcement has it.
    pub id: u64,
    /// The workload was scaled to zero.
    pub is_done: bool,
}

/// What all other replicas together say about one workload.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerView {
    /// Changes with the set of replicas that are counted: what it adds or takes away has not just arrived.
    pub generation: u64,
    pub arrivals: u64,
    pub request_time: Duration,
    pub in_flight: u64,
    pub tunnels: u64,
    pub held: u64,
    pub announcements: Vec<Announcement>,
    /// The announcement of this replica for which every other one has withdrawn its endpoints.
    pub agreed: Option<u64>,
}

struct Shared {
    /// Tells the replicas apart, also one that was restarted at the same address.
    instance: u64,
    next_announcement: AtomicU64,
    is_leader: AtomicBool,
    /// The replicas exchange their demand. Otherwise nothing is known of a second one.
    has_exchange: AtomicBool,
    state: Mutex<State>,
    listed: watch::Sender<BTreeSet<SocketAddr>>,
    /// Changes when the others should hear of something at once.
    urgent: watch::Sender<u64>,
    pins: Pins,
}

#[derive(Default)]
struct State {
    generation: u64,
    /// The addresses at which this replica answers itself.
    own: HashSet<SocketAddr>,
    peers: HashMap<SocketAddr, Peer>,
    workloads: HashMap<Arc<WorkloadId>, Workload>,
}

/// Another replica.
struct Peer {
    is_connected: bool,
    heard: Instant,
    reports: HashMap<WorkloadId, Report>,
}

struct Workload {
    demand: Arc<WorkloadDemand>,
    announcement: Option<Announcement>,
    withdrawn: Vec<u64>,
    view: watch::Sender<PeerView>,
}

/// A replica that was not heard of for so long is unknown. It sends something at least twice a second.
const FRESH_FOR: Duration = Duration::from_secs(2);

// === impl Coordination ===

impl Default for Coordination {
    /// A replica that is alone and leads.
    fn default() -> Self {
        let instance = RandomState::new().hash_one("instance");
        let shared = Shared {
            instance,
            next_announcement: AtomicU64::new(instance),
            is_leader: AtomicBool::new(true),
            has_exchange: AtomicBool::new(false),
            state: Mutex::default(),
            listed: watch::Sender::new(BTreeSet::new()),
            urgent: watch::Sender::new(0),
            pins: Pins::default(),
        };
        Self { shared: Arc::new(shared) }
    }
}

impl Coordination {
    pub fn instance(&self) -> u64 {
        self.shared.instance
    }

    /// The name of this process in Events and records.
    pub fn name(&self) -> String {
        format!("agimo-{:016x}", self.instance())
    }

    /// The pins that people set through agimo.
    pub fn pins(&self) -> &Pins {
        &self.shared.pins
    }

    /// The replicas exchange their demand from now on.
    pub fn begin_exchange(&self) {
        self.shared.has_exchange.store(true, Ordering::Relaxed);
    }

    /// Whether this replica scales workloads to zero.
    pub fn is_leader(&self) -> bool {
        self.shared.is_leader.load(Ordering::Relaxed)
    }

    pub fn set_leader(&self, is_leader: bool) {
        self.shared.is_leader.store(is_leader, Ordering::Relaxed);
    }

    /// Whether the demand of every other replica is known now. A silent one may have requests in flight.
    pub fn are_peers_known(&self) -> bool {
        // Always in this order: the state, then the list.
        let state = self.lock();
        let listed = self.shared.listed.borrow();
        if !self.shared.has_exchange.load(Ordering::Relaxed) {
            return listed.len() <= 1;
        }
        state.others(&listed).all(|address| state.is_known(address))
    }

    // --- what Kubernetes says

    /// The addresses of all replicas, those that start or terminate and this one included. Another one is forgotten when it
    /// is not listed any more.
    pub fn set_listed(&self, listed: BTreeSet<SocketAddr>) {
        let mut state = self.lock();
        let count = state.peers.len();
        state.peers.retain(|address, _| listed.contains(address));
        state.generation += u64::from(state.peers.len() != count);
        state.own.retain(|address| listed.contains(address));
        self.shared.listed.send_if_modified(|known| {
            let is_changed = *known != listed;
            *known = listed;
            is_changed
        });
        self.publish_all(&state);
    }

    pub fn listed(&self) -> watch::Receiver<BTreeSet<SocketAddr>> {
        self.shared.listed.subscribe()
    }

    // --- what the others say

    /// This replica answers at this address itself.
    pub fn note_own(&self, address: SocketAddr) {
        let mut state = self.lock();
        state.own.insert(address);
        let was_counted = state.peers.remove(&address).is_some();
        state.generation += u64::from(was_counted);
        self.publish_all(&state);
    }

    /// Another replica reports these changes; the first of a connection are all that it has.
    pub fn apply(&self, peer: SocketAddr, is_first: bool, changes: Vec<(WorkloadId, Report)>) {
        let mut state = self.lock();
        if !self.shared.listed.borrow().contains(&peer) {
            return;
        }
        let now = Instant::now();
        let new = || Peer { is_connected: true, heard: now, reports: HashMap::new() };
        let known = state.peers.entry(peer).or_insert_with(new);
        (known.is_connected, known.heard) = (true, now);
        if is_first {
            known.reports.clear();
            state.generation += 1;
        }
        let Some(known) = state.peers.get_mut(&peer) else { return };
        let changed: Vec<WorkloadId> = changes.iter().map(|(id, _)| id.clone()).collect();
        known.reports.extend(changes);
        if is_first {
            self.publish_all(&state);
        } else {
            changed.iter().for_each(|id| self.publish(&state, id));
        }
    }

    /// The connection to another replica has ended: what it had announced is void, and it is unknown until it reports again.
    pub fn note_disconnected(&self, peer: SocketAddr) {
        let mut state = self.lock();
        if let Some(known) = state.peers.get_mut(&peer) {
            known.is_connected = false;
            self.publish_all(&state);
        }
    }

    /// Where the other replicas are, as far as this one knows its own address.
    pub fn peers(&self) -> Vec<SocketAddr> {
        let own = self.lock().own.clone();
        let listed = self.shared.listed.borrow();
        listed.iter().filter(|address| !own.contains(*address)).copied().collect()
    }

    /// Those replicas, and whether each one's demand is known now.
    pub fn known_peers(&self) -> Vec<(SocketAddr, bool)> {
        let state = self.lock();
        let listed = self.shared.listed.borrow();
        state.others(&listed).map(|address| (*address, state.is_known(address))).collect()
    }

    // --- what this replica says

    /// Joins a workload to the exchange.
    pub fn join(&self, id: Arc<WorkloadId>, demand: Arc<WorkloadDemand>) -> Membership {
        let (sender, view) = watch::channel(PeerView::default());
        let workload = Workload { demand, announcement: None, withdrawn: Vec::new(), view: sender };
        let mut state = self.lock();
        state.workloads.insert(id.clone(), workload);
        self.publish(&state, &id);
        Membership::joined(self.clone(), id, view)
    }

    /// What this replica says about its workloads now.
    pub fn reports(&self) -> Vec<(Arc<WorkloadId>, Report)> {
        let state = self.lock();
        let report = |(id, workload): (&Arc<WorkloadId>, &Workload)| {
            // Counted after the withdrawal that it reports.
            let totals = workload.demand.totals();
            let report = Report {
                announcement: workload.announcement,
                withdrawn: workload.withdrawn.clone(),
                arrivals: totals.arrivals,
                in_flight: workload.demand.in_flight(),
                tunnels: workload.demand.tunnels(),
                held: workload.demand.held(),
                request_time_ns: totals.request_time.as_nanos() as u64,
            };
            (id.clone(), report)
        };
        state.workloads.iter().map(report).collect()
    }

    /// Whether it is known which other replicas there are, and what each of them counts.
    pub fn is_demand_known(&self) -> bool {
        let has_exchange = self.shared.has_exchange.load(Ordering::Relaxed);
        // This replica lists itself, too.
        (!has_exchange || !self.shared.listed.borrow().is_empty()) && self.are_peers_known()
    }

    /// What the other replicas together say about a workload.
    pub fn view(&self, id: &WorkloadId) -> PeerView {
        let state = self.lock();
        state.workloads.get(id).map(|workload| workload.view.borrow().clone()).unwrap_or_default()
    }

    /// Changes when the others should hear of something at once.
    pub fn urgent(&self) -> watch::Receiver<u64> {
        self.shared.urgent.subscribe()
    }

    fn change(&self, id: &WorkloadId, change: impl FnOnce(&mut Workload) -> bool) {
        let mut state = self.lock();
        let Some(workload) = state.workloads.get_mut(id) else { return };
        if change(workload) {
            self.publish(&state, id);
            self.shared.urgent.send_modify(|changes| *changes += 1);
        }
    }

    // --- publishing

    fn publish_all(&self, state: &State) {
        state.workloads.keys().for_each(|id| self.publish(state, id));
    }

    fn publish(&self, state: &State, id: &WorkloadId) {
        let Some(workload) = state.workloads.get(id) else { return };
        let view = state.view(&self.shared.listed.borrow(), id, workload);
        workload.view.send_if_modified(|known| {
            let is_changed = *known != view;
            *known = view;
            is_changed
        });
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl PeerView ===

impl PeerView {
    /// What the other replicas have counted since they started.
    pub fn totals(&self) -> Totals {
        Totals { arrivals: self.arrivals, request_time: self.request_time }
    }
}

// === impl State ===

impl State {
    fn others<'a>(
        &'a self,
        listed: &'a BTreeSet<SocketAddr>,
    ) -> impl Iterator<Item = &'a SocketAddr> {
        listed.iter().filter(|address| !self.own.contains(address))
    }

    /// Whether the demand of this replica is known now.
    fn is_known(&self, address: &SocketAddr) -> bool {
        let is_heard = |peer: &Peer| peer.is_connected && Instant::now() < peer.heard + FRESH_FOR;
        self.peers.get(address).is_some_and(is_heard)
    }

    fn view(
        &self,
        listed: &BTreeSet<SocketAddr>,
        id: &WorkloadId,
        workload: &Workload,
    ) -> PeerView {
        let mut view = PeerView { generation: self.generation, ..PeerView::default() };
        for peer in self.peers.values() {
            let Some(report) = peer.reports.get(id) else { continue };
            view.arrivals += report.arrivals;
            view.request_time += Duration::from_nanos(report.request_time_ns);
            view.in_flight += report.in_flight;
            view.tunnels += report.tunnels;
            view.held += report.held;
            view.announcements.extend(report.announcement.filter(|_| peer.is_connected));
        }
        view.agreed = workload.announcement.map(|own| own.id).filter(|own| {
            self.others(listed).all(|address| {
                let report = self.peers.get(address).filter(|peer| peer.is_connected);
                let report = report.and_then(|peer| peer.reports.get(id));
                report.is_some_and(|report| report.withdrawn.contains(own))
            })
        });
        view
    }
}
