//! The objects that the watches list, joined for each workload: the workload itself, and for each of its sources the
//! Service and its endpoints. An event costs only what it concerns.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::hash::Hash;
use std::net::SocketAddr;
use std::sync::Arc;

use kube::runtime::watcher::Event;
use tokio::sync::watch;

use super::objects::scaler::ScalerObject;
use super::objects::workload::WorkloadObject;
use super::objects::{ObjectName, PodIdentity, ServiceObject, Slice};
use super::watch_scope::{ObjectKind, WatchScope};
use crate::backend::EndpointSource;
use crate::config::annotations::AnnotatedWorkload;
use crate::ownership::OtherScaler;
use crate::workload::{WorkloadId, WorkloadKind};

use self::annotated::Annotated;
use self::endpoints::{endpoints, peer_addresses};
use self::followers::{FollowerId, Followers};
use self::grouped::Grouped;
use self::health::ClusterHealth;
use self::scalers::Scalers;

mod annotated;
mod endpoints;
pub mod followers;
mod grouped;
pub mod health;
mod scalers;
#[cfg(test)]
mod tests;

/// An object of a watch.
#[derive(Clone, Debug, PartialEq)]
pub enum Object {
    Slice(Slice),
    Service(ServiceObject),
    Workload(WorkloadObject),
    Scaler(ScalerObject),
}

/// What is known of one workload.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct WorkloadSnapshot {
    /// No watch covers its namespace.
    pub is_unwatched: bool,
    pub workload: Option<Arc<WorkloadObject>>,
    /// The scalers other than agimo that target it.
    pub other_scalers: Vec<OtherScaler>,
    pub sources: BTreeMap<EndpointSource, SourceSnapshot>,
}

/// What is known of one source of a workload.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SourceSnapshot {
    pub service: Option<Arc<ServiceObject>>,
    pub ready: Vec<Endpoint>,
    /// Endpoints that terminate and still serve.
    pub last_resort: Vec<Endpoint>,
    /// All endpoints that terminate.
    pub terminating: Vec<SocketAddr>,
}

/// An address where a replica answers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Endpoint {
    pub address: SocketAddr,
    /// Absent where no pod is behind the address.
    pub pod: Option<PodIdentity>,
}

/// A Deployment or StatefulSet.
type WorkloadKey = (ObjectKind, ObjectName);

/// All objects of the watches, and the followers of workloads.
pub struct Index {
    listings: BTreeMap<WatchScope, Listing>,
    /// By the Service whose endpoints they hold.
    slices: Grouped<ObjectName, Slice>,
    services: HashMap<ObjectName, Arc<ServiceObject>>,
    workloads: HashMap<WorkloadKey, Arc<WorkloadObject>>,
    scalers: Scalers,
    annotated: Annotated,
    followers: Followers,
    health: watch::Sender<ClusterHealth>,
    /// The Service of agimo's own replicas.
    peer_service: Option<ObjectName>,
    peers: watch::Sender<BTreeSet<SocketAddr>>,
    /// Snapshots of sources that were computed, for the test that bounds them.
    #[cfg(test)]
    computed_sources: usize,
}

/// How far a watch is.
#[derive(Default)]
struct Listing {
    /// The objects of the list that is being read.
    current: Option<HashSet<ObjectName>>,
    is_done: bool,
    fault: Option<String>,
}

fn workload_key(kind: WorkloadKind, name: ObjectName) -> WorkloadKey {
    let kind = match kind {
        WorkloadKind::StatefulSet => ObjectKind::StatefulSet,
        // Processes have no objects and are not followed.
        WorkloadKind::Deployment | WorkloadKind::Process => ObjectKind::Deployment,
    };
    (kind, name)
}

fn workload_id((kind, name): &WorkloadKey) -> WorkloadId {
    let kind = match kind {
        ObjectKind::StatefulSet => WorkloadKind::StatefulSet,
        _ => WorkloadKind::Deployment,
    };
    WorkloadId { kind, namespace: name.namespace.clone(), name: name.name.clone() }
}

/// Removes a value from its set, and a set that is then empty.
fn remove_from<K: Hash + Eq, V: Ord>(map: &mut HashMap<K, BTreeSet<V>>, key: &K, value: &V) {
    if let Some(values) = map.get_mut(key) {
        values.remove(value);
        if values.is_empty() {
            map.remove(key);
        }
    }
}

// === impl WorkloadSnapshot ===

impl WorkloadSnapshot {
    /// The ready endpoints of all sources.
    pub fn ready(&self) -> impl Iterator<Item = &Endpoint> {
        self.sources.values().flat_map(|source| &source.ready)
    }
}

// === impl Index ===

impl Index {
    /// An index of what these watches will list.
    pub fn new(
        scopes: impl IntoIterator<Item = WatchScope>,
        peer_service: Option<ObjectName>,
    ) -> Self {
        Self {
            listings: scopes.into_iter().map(|scope| (scope, Listing::default())).collect(),
            slices: Grouped::default(),
            services: HashMap::new(),
            workloads: HashMap::new(),
            scalers: Scalers::default(),
            annotated: Annotated::default(),
            followers: Followers::default(),
            health: watch::Sender::new(ClusterHealth::default()),
            peer_service,
            peers: watch::Sender::new(BTreeSet::new()),
            #[cfg(test)]
            computed_sources: 0,
        }
    }

    /// How far the watches are, now and as it changes.
    pub fn health(&self) -> watch::Receiver<ClusterHealth> {
        self.health.subscribe()
    }

    /// The addresses of agimo's replicas, this one included. Replicas that start or terminate count: they may have requests
    /// in flight.
    pub fn peers(&self) -> watch::Receiver<BTreeSet<SocketAddr>> {
        self.peers.subscribe()
    }

    /// Follows a workload and these sources of it, until `unfollow`.
    pub fn follow(
        &mut self,
        workload: &WorkloadId,
        sources: &[EndpointSource],
    ) -> (FollowerId, watch::Receiver<WorkloadSnapshot>) {
        let name = ObjectName::new(&workload.namespace, &workload.name);
        let key = workload_key(workload.kind, name);
        let snapshot = WorkloadSnapshot {
            is_unwatched: !self.watches(key.0, &workload.namespace),
            workload: self.workloads.get(&key).cloned(),
            other_scalers: self.scalers.of(&key),
            sources: BTreeMap::new(),
        };
        let (id, receiver) = self.followers.add(key, snapshot);
        self.set_sources(id, sources);
        (id, receiver)
    }

    pub fn scaled_object_target(&self, name: &ObjectName) -> Option<WorkloadId> {
        self.scalers.scaled_object_target(name).map(workload_id)
    }

    /// Counts the changes of `annotated`.
    pub fn annotated_changes(&self) -> watch::Receiver<u64> {
        self.annotated.changes()
    }

    /// The workloads whose annotations make them services.
    pub fn annotated(&self) -> Vec<Arc<AnnotatedWorkload>> {
        self.annotated.all()
    }

    /// The UID of a Deployment or StatefulSet.
    pub fn uid_of(&self, workload: &WorkloadId) -> Option<Arc<str>> {
        let name = ObjectName::new(&workload.namespace, &workload.name);
        self.workloads.get(&workload_key(workload.kind, name)).map(|found| found.uid.clone())
    }

    /// Replaces the sources that a follower follows.
    pub fn set_sources(&mut self, id: FollowerId, sources: &[EndpointSource]) {
        let wanted: BTreeSet<&EndpointSource> = sources.iter().collect();
        let added = self.followers.set_sources(id, &wanted);
        self.publish_sources(id, &added);
    }

    pub fn unfollow(&mut self, id: FollowerId) {
        self.followers.remove(id);
    }

    /// Applies an event of a watch. An object that cannot be read comes as `None`.
    pub fn apply(&mut self, scope: &WatchScope, event: Event<(ObjectName, Option<Object>)>) {
        if !matches!(event, Event::Init) {
            self.set_fault(scope, None);
        }
        match event {
            Event::Init => self.listing(scope).current = Some(HashSet::new()),
            Event::InitApply((name, object)) => {
                if let Some(current) = &mut self.listing(scope).current {
                    current.insert(name.clone());
                }
                self.put(scope.kind, name, object);
            }
            Event::InitDone => {
                let current = self.listing(scope).current.take().unwrap_or_default();
                self.retain(scope, &current);
                self.listing(scope).is_done = true;
                self.publish_health();
            }
            Event::Apply((name, object)) => self.put(scope.kind, name, object),
            Event::Delete((name, _)) => self.put(scope.kind, name, None),
        }
    }

    /// Records that a watch cannot be read, or that it can be read again.
    pub fn set_fault(&mut self, scope: &WatchScope, fault: Option<String>) {
        let listing = self.listing(scope);
        if listing.fault != fault {
            listing.fault = fault;
            self.publish_health();
        }
    }

    fn listing(&mut self, scope: &WatchScope) -> &mut Listing {
        self.listings.entry(scope.clone()).or_default()
    }

    fn publish_health(&self) {
        let peers = self.peer_service.as_ref().map(|service| service.namespace.clone());
        let mut health = ClusterHealth::new(peers);
        for (WatchScope { kind, namespace }, listing) in &self.listings {
            health.add(namespace, kind.is_scaler(), listing.is_done, listing.fault.as_ref());
        }
        self.health.send_if_modified(|known| {
            let is_changed = *known != health;
            *known = health;
            is_changed
        });
    }

    fn watches(&self, kind: ObjectKind, namespace: &str) -> bool {
        let is_watched = |namespace| self.listings.contains_key(&WatchScope { kind, namespace });
        is_watched(None) || is_watched(Some(namespace.to_owned()))
    }

    // --- objects

    /// Stores or removes an object, and publishes it to the followers that it concerns.
    fn put(&mut self, kind: ObjectKind, name: ObjectName, object: Option<Object>) {
        match (kind, object) {
            (ObjectKind::EndpointSlice, Some(Object::Slice(slice))) => {
                self.put_slice(name, Some(slice));
            }
            (ObjectKind::EndpointSlice, _) => self.put_slice(name, None),
            (ObjectKind::Service, object) => {
                let before = match object {
                    Some(Object::Service(service)) => {
                        self.services.insert(name.clone(), Arc::new(service))
                    }
                    _ => self.services.remove(&name),
                };
                let before = before.as_deref();
                self.annotated.put_service(&name, before, &self.services, &self.workloads);
                self.publish_service(&name);
            }
            (ObjectKind::Deployment | ObjectKind::StatefulSet, object) => {
                let key = (kind, name);
                let before = match object {
                    Some(Object::Workload(workload)) => {
                        self.workloads.insert(key.clone(), Arc::new(workload))
                    }
                    _ => self.workloads.remove(&key),
                };
                let now = self.workloads.get(&key);
                let (before, read) = (before.as_deref(), now.map(|now| &**now));
                self.annotated.put_workload(&key, before, read, &self.services);
                self.followers.publish_workload(&key, now);
            }
            (ObjectKind::HorizontalPodAutoscaler | ObjectKind::ScaledObject, object) => {
                let scaler = match object {
                    Some(Object::Scaler(scaler)) => Some(scaler),
                    _ => None,
                };
                for key in self.scalers.put(kind, name, scaler) {
                    self.followers.publish_scalers(&key, self.scalers.of(&key));
                }
            }
        }
    }

    fn put_slice(&mut self, name: ObjectName, slice: Option<Slice>) {
        for service in self.slices.put(name, slice.map(|slice| (slice.service.clone(), slice))) {
            self.publish_service(&service);
        }
    }

    /// Removes the objects of this scope that a complete list did not contain.
    fn retain(&mut self, scope: &WatchScope, current: &HashSet<ObjectName>) {
        let is_gone = |name: &&ObjectName| {
            scope.namespace.as_ref().is_none_or(|namespace| *namespace == name.namespace)
                && !current.contains(*name)
        };
        let gone: Vec<ObjectName> = match scope.kind {
            ObjectKind::EndpointSlice => self.slices.names().filter(is_gone).cloned().collect(),
            ObjectKind::Service => self.services.keys().filter(is_gone).cloned().collect(),
            ObjectKind::HorizontalPodAutoscaler | ObjectKind::ScaledObject => {
                self.scalers.names(scope.kind).filter(is_gone).cloned().collect()
            }
            kind @ (ObjectKind::Deployment | ObjectKind::StatefulSet) => {
                let of_kind = self.workloads.keys().filter(|(other, _)| *other == kind);
                of_kind.map(|(_, name)| name).filter(is_gone).cloned().collect()
            }
        };
        for name in gone {
            self.put(scope.kind, name, None);
        }
    }

    // --- publishing

    /// Publishes a Service and its endpoints to the followers with a source there.
    fn publish_service(&mut self, service: &ObjectName) {
        for (id, sources) in self.followers.of_service(service) {
            self.publish_sources(id, &sources);
        }
        if self.peer_service.as_ref() == Some(service) {
            let peers = peer_addresses(self.slices.of(service));
            self.peers.send_if_modified(|known| {
                let is_changed = *known != peers;
                *known = peers;
                is_changed
            });
        }
    }

    fn publish_sources(&mut self, id: FollowerId, sources: &[EndpointSource]) {
        let Some(namespace) = self.followers.namespace(id).map(ToOwned::to_owned) else { return };
        for source in sources {
            let snapshot = self.source_snapshot(&namespace, source);
            self.followers.publish_source(id, source, snapshot);
        }
    }

    fn source_snapshot(&mut self, namespace: &str, source: &EndpointSource) -> SourceSnapshot {
        #[cfg(test)]
        {
            self.computed_sources += 1;
        }
        let EndpointSource::Service { name, port, .. } = source else {
            return SourceSnapshot::default();
        };
        let name = ObjectName::new(namespace, name);
        let Some(service) = self.services.get(&name) else { return SourceSnapshot::default() };
        let listed = match service.port(port) {
            // It keeps the slices of an earlier type, and its name may lead anywhere.
            _ if service.is_external_name => SourceSnapshot::default(),
            Some(port) => endpoints(self.slices.of(&name), &port.name, service.prefers_ipv6),
            None => SourceSnapshot::default(),
        };
        SourceSnapshot { service: Some(service.clone()), ..listed }
    }
}
