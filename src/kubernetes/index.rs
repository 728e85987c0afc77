//! What the watches have said, joined: for each workload its object, its Service and its endpoints. One writer; it calls
//! nobody.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;

use kube::runtime::watcher::Event;
use tokio::sync::watch;

use super::objects::{Id, ServiceObject, Slice, SliceEndpoint, WorkloadObject};
use crate::config::{KubernetesConfig, KubernetesKind, ServicePort};

#[cfg(test)]
mod tests;

/// The kinds of objects that are watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    Slices,
    Services,
    Deployments,
    StatefulSets,
}

/// One watch: its kind, and its namespace unless it is of all.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Scope {
    pub kind: Kind,
    pub namespace: Option<String>,
}

/// An object of a watch as agimo keeps it.
#[derive(Clone, Debug, PartialEq)]
pub enum Object {
    Slice(Slice),
    Service(ServiceObject),
    Workload(WorkloadObject),
}

/// What is known of one workload, for whoever runs it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Seen {
    /// Every watch has been read once; before that, what is missing may only not have come.
    pub synced: bool,
    /// Why the API server cannot be read just now.
    pub fault: Option<String>,
    /// No watch is for its namespace.
    pub unwatched: bool,
    pub workload: Option<WorkloadObject>,
    pub service: Option<Arc<ServiceObject>>,
    pub ready: Vec<Endpoint>,
    /// Those that are on their way out and still answer.
    pub last_resort: Vec<Endpoint>,
    /// How many follow the workload, this one included.
    pub followers: usize,
}

/// An address of a workload, and what stands behind it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Endpoint {
    pub address: SocketAddr,
    /// The pod's UID; absent where no pod is behind the address.
    pub pod: Option<Arc<str>>,
}

/// Everything seen, and who wants to know.
pub struct Index {
    scopes: HashMap<Scope, Listing>,
    slices: HashMap<Id, BTreeMap<String, Slice>>,
    /// Which Service's endpoints a slice holds.
    slice_services: HashMap<Id, Id>,
    services: HashMap<Id, Arc<ServiceObject>>,
    workloads: HashMap<(Kind, Id), WorkloadObject>,
    targets: Vec<Target>,
    peers: Option<Id>,
    peer_count: watch::Sender<usize>,
}

/// How far a watch has been read.
#[derive(Default)]
struct Listing {
    /// What the list that is being read has brought so far.
    current: Option<HashSet<Id>>,
    done: bool,
    fault: Option<String>,
}

struct Target {
    workload: (Kind, Id),
    service: Id,
    port: ServicePort,
    seen: watch::Sender<Seen>,
}

// === impl Index ===

impl Index {
    /// An index of what these watches will bring. `peers` names the Service of agimo's own replicas.
    pub fn new(scopes: impl IntoIterator<Item = Scope>, peers: Option<Id>) -> Self {
        Self {
            scopes: scopes.into_iter().map(|scope| (scope, Listing::default())).collect(),
            slices: HashMap::new(),
            slice_services: HashMap::new(),
            services: HashMap::new(),
            workloads: HashMap::new(),
            targets: Vec::new(),
            peers,
            peer_count: watch::Sender::new(0),
        }
    }

    /// Whether every watch has been read once.
    pub fn is_synced(&self) -> bool {
        self.scopes.values().all(|listing| listing.done)
    }

    /// How many replicas of agimo there are, this one included; those that start or end are counted.
    pub fn peer_count(&self) -> watch::Receiver<usize> {
        self.peer_count.subscribe()
    }

    /// What is known of a workload, until the receiver is dropped.
    pub fn follow(&mut self, config: &KubernetesConfig) -> watch::Receiver<Seen> {
        let kind = match config.kind {
            KubernetesKind::Deployment => Kind::Deployments,
            KubernetesKind::StatefulSet => Kind::StatefulSets,
        };
        let (seen, receiver) = watch::channel(Seen::default());
        let target = Target {
            workload: (kind, Id::new(&config.namespace, &config.name)),
            service: Id::new(&config.namespace, &config.service_name),
            port: config.service_port.clone(),
            seen,
        };
        let workload = target.workload.clone();
        self.targets.push(target);
        self.publish(|target| target.workload == workload);
        receiver
    }

    /// Lets go of whoever has dropped its receiver, and tells those who follow the same workload.
    pub fn forget_unfollowed(&mut self) {
        let is_followed = |target: &Target| target.seen.receiver_count() > 0;
        let (followed, gone) = std::mem::take(&mut self.targets).into_iter().partition(is_followed);
        self.targets = followed;
        let left: HashSet<_> = Vec::into_iter(gone).map(|target| target.workload).collect();
        self.publish(|target| left.contains(&target.workload));
    }

    /// Takes what a watch has brought; the object of an event goes with its name.
    pub fn apply(&mut self, scope: &Scope, event: Event<(Id, Option<Object>)>) {
        if !matches!(event, Event::Init) {
            self.set_fault(scope, None);
        }
        match event {
            Event::Init => self.begin(scope),
            Event::InitApply((id, object)) => {
                if let Some(current) = &mut self.listing(scope).current {
                    current.insert(id.clone());
                }
                self.put(scope.kind, id, object);
            }
            Event::InitDone => {
                let current = self.listing(scope).current.take().unwrap_or_default();
                self.retain(scope, &current);
                self.listing(scope).done = true;
                self.publish(|_| true);
            }
            Event::Apply((id, object)) => self.put(scope.kind, id, object),
            Event::Delete((id, _)) => self.put(scope.kind, id, None),
        }
    }

    fn begin(&mut self, scope: &Scope) {
        self.listing(scope).current = Some(HashSet::new());
    }

    /// Notes that a watch cannot be read, or can again.
    pub fn set_fault(&mut self, scope: &Scope, fault: Option<String>) {
        let listing = self.listing(scope);
        if listing.fault != fault {
            listing.fault = fault;
            self.publish(|_| true);
        }
    }

    fn listing(&mut self, scope: &Scope) -> &mut Listing {
        self.scopes.entry(scope.clone()).or_default()
    }

    /// Keeps an object, or lets go of it, and tells those whom it concerns.
    fn put(&mut self, kind: Kind, id: Id, object: Option<Object>) {
        match kind {
            Kind::Slices => {
                let slice = object.and_then(|object| match object {
                    Object::Slice(slice) => Some(slice),
                    _ => None,
                });
                let now = slice.as_ref().map(|slice| slice.service.clone());
                let before = match &now {
                    Some(service) => self.slice_services.insert(id.clone(), service.clone()),
                    None => self.slice_services.remove(&id),
                };
                if let Some(before) = before.filter(|before| Some(before) != now.as_ref()) {
                    self.drop_slice(&before, &id.name);
                    self.publish_service(&before);
                }
                if let (Some(service), Some(slice)) = (now, slice) {
                    self.slices.entry(service.clone()).or_default().insert(id.name, slice);
                    self.publish_service(&service);
                }
            }
            Kind::Services => {
                match object {
                    Some(Object::Service(service)) => {
                        self.services.insert(id.clone(), Arc::new(service));
                    }
                    _ => drop(self.services.remove(&id)),
                }
                self.publish_service(&id);
            }
            Kind::Deployments | Kind::StatefulSets => {
                let key = (kind, id);
                match object {
                    Some(Object::Workload(workload)) => {
                        self.workloads.insert(key.clone(), workload);
                    }
                    _ => drop(self.workloads.remove(&key)),
                }
                self.publish(|target| target.workload == key);
            }
        }
    }

    fn drop_slice(&mut self, service: &Id, slice: &str) {
        if let Some(slices) = self.slices.get_mut(service) {
            slices.remove(slice);
            if slices.is_empty() {
                self.slices.remove(service);
            }
        }
    }

    /// Lets go of what a complete list of this scope did not bring.
    fn retain(&mut self, scope: &Scope, current: &HashSet<Id>) {
        let gone = |id: &Id| {
            scope.namespace.as_ref().is_none_or(|namespace| *namespace == id.namespace)
                && !current.contains(id)
        };
        let gone: Vec<Id> = match scope.kind {
            Kind::Slices => self.slice_services.keys().filter(|id| gone(id)).cloned().collect(),
            Kind::Services => self.services.keys().filter(|id| gone(id)).cloned().collect(),
            kind => {
                let of_kind = self.workloads.keys().filter(|(of, _)| *of == kind);
                of_kind.map(|(_, id)| id).filter(|id| gone(id)).cloned().collect()
            }
        };
        for id in gone {
            self.put(scope.kind, id, None);
        }
    }

    fn publish_service(&self, service: &Id) {
        self.publish(|target| target.service == *service);
        if self.peers.as_ref() == Some(service) {
            let slices = self.slices.get(service).into_iter().flat_map(BTreeMap::values);
            // A pod may have an address of each family, and an endpoint may have no pod.
            let replicas: HashSet<_> = slices
                .flat_map(|slice| &slice.endpoints)
                .map(|endpoint| endpoint.pod.as_ref().ok_or(endpoint.address))
                .collect();
            let count = replicas.len();
            self.peer_count.send_if_modified(|known| std::mem::replace(known, count) != count);
        }
    }

    fn publish(&self, concerns: impl Fn(&Target) -> bool) {
        for target in self.targets.iter().filter(|target| concerns(target)) {
            let seen = self.seen_by(target);
            target.seen.send_if_modified(|known| {
                let changes = *known != seen;
                *known = seen;
                changes
            });
        }
    }

    fn seen_by(&self, target: &Target) -> Seen {
        let service = self.services.get(&target.service).cloned();
        let port = service.as_ref().and_then(|service| service.port(&target.port));
        let (ready, last_resort) = match (&service, port) {
            (Some(service), Some(port)) => {
                self.endpoints(&target.service, &port.name, service.prefers_ipv6)
            }
            _ => Default::default(),
        };
        Seen {
            synced: self.is_synced(),
            fault: self.scopes.values().find_map(|listing| listing.fault.clone()),
            unwatched: !self.watches(&target.service.namespace),
            workload: self.workloads.get(&target.workload).cloned(),
            service,
            ready,
            last_resort,
            followers: self.targets.iter().filter(|of| of.workload == target.workload).count(),
        }
    }

    fn watches(&self, namespace: &str) -> bool {
        self.scopes.keys().any(|scope| {
            scope.kind == Kind::Deployments
                && scope.namespace.as_ref().is_none_or(|watched| watched == namespace)
        })
    }

    /// The ready endpoints of a Service's port, and those that are a last resort, of the address family that
    /// the Service prefers as far as it has any.
    fn endpoints(
        &self,
        service: &Id,
        port: &str,
        prefers_ipv6: bool,
    ) -> (Vec<Endpoint>, Vec<Endpoint>) {
        let mut found: [(Vec<Endpoint>, Vec<Endpoint>); 2] = Default::default();
        // An endpoint may stand in two slices while it moves (EndpointSlice concepts, duplicates).
        let mut known = HashSet::new();
        for slice in self.slices.get(service).into_iter().flat_map(BTreeMap::values) {
            let Some((_, port)) = slice.ports.iter().find(|(name, _)| name == port) else {
                continue;
            };
            let (ready, last_resort) = &mut found[usize::from(slice.is_ipv6 != prefers_ipv6)];
            for endpoint in &slice.endpoints {
                let address = SocketAddr::new(endpoint.address, *port);
                let found = Endpoint { address, pod: endpoint.pod.clone() };
                match endpoint {
                    SliceEndpoint { ready: true, .. } if known.insert(found.clone()) => {
                        ready.push(found)
                    }
                    SliceEndpoint { last_resort: true, .. } if known.insert(found.clone()) => {
                        last_resort.push(found);
                    }
                    _ => {}
                }
            }
        }
        let [preferred, other] = found;
        (
            if preferred.0.is_empty() { other.0 } else { preferred.0 },
            if preferred.1.is_empty() { other.1 } else { preferred.1 },
        )
    }
}
