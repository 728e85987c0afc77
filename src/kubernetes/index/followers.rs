//! Who follows which workload and which Services, so that an event finds the snapshots that it changes.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use tokio::sync::watch;

use super::{SourceSnapshot, WorkloadKey, WorkloadSnapshot, remove_from};
use crate::backend::EndpointSource;
use crate::kubernetes::objects::ObjectName;
use crate::kubernetes::objects::workload::WorkloadObject;
use crate::ownership::OtherScaler;

/// Identifies a follower in its index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FollowerId(u64);

/// The followers of an index, found by workload and by Service.
#[derive(Default)]
pub struct Followers {
    next: u64,
    all: HashMap<FollowerId, Follower>,
    by_workload: HashMap<WorkloadKey, BTreeSet<FollowerId>>,
    by_service: HashMap<ObjectName, BTreeSet<FollowerId>>,
}

struct Follower {
    workload: WorkloadKey,
    sources: BTreeSet<EndpointSource>,
    snapshot: watch::Sender<WorkloadSnapshot>,
}

// === impl Followers ===

impl Followers {
    pub fn add(
        &mut self,
        workload: WorkloadKey,
        snapshot: WorkloadSnapshot,
    ) -> (FollowerId, watch::Receiver<WorkloadSnapshot>) {
        let id = FollowerId(self.next);
        self.next += 1;
        let (snapshot, receiver) = watch::channel(snapshot);
        self.by_workload.entry(workload.clone()).or_default().insert(id);
        self.all.insert(id, Follower { workload, sources: BTreeSet::new(), snapshot });
        (id, receiver)
    }

    pub fn remove(&mut self, id: FollowerId) {
        let Some(follower) = self.all.remove(&id) else { return };
        for service in follower.services() {
            remove_from(&mut self.by_service, &service, &id);
        }
        remove_from(&mut self.by_workload, &follower.workload, &id);
    }

    /// Replaces the sources of a follower, drops what its snapshot holds of removed ones, and returns the added ones.
    pub fn set_sources(
        &mut self,
        id: FollowerId,
        wanted: &BTreeSet<&EndpointSource>,
    ) -> Vec<EndpointSource> {
        let Some(follower) = self.all.get_mut(&id) else { return Vec::new() };
        let services_before = follower.services();
        let is_added = |source: &&&EndpointSource| !follower.sources.contains(**source);
        let added: Vec<_> =
            wanted.iter().filter(is_added).map(|source| (*source).clone()).collect();
        follower.sources = wanted.iter().map(|source| (*source).clone()).collect();
        follower.snapshot.send_if_modified(|snapshot| {
            let count = snapshot.sources.len();
            snapshot.sources.retain(|source, _| wanted.contains(source));
            snapshot.sources.len() != count
        });
        let services = follower.services();
        for service in services_before.difference(&services) {
            remove_from(&mut self.by_service, service, &id);
        }
        for service in services {
            self.by_service.entry(service).or_default().insert(id);
        }
        added
    }

    pub fn namespace(&self, id: FollowerId) -> Option<&str> {
        Some(&self.all.get(&id)?.workload.1.namespace)
    }

    /// The followers with a source at this Service, and those sources.
    pub fn of_service(&self, service: &ObjectName) -> Vec<(FollowerId, Vec<EndpointSource>)> {
        let ids = self.by_service.get(service).into_iter().flatten();
        let of_follower = |id: &FollowerId| {
            let sources = self.all.get(id)?.sources.iter();
            let sources = sources.filter(|source| service_of(source) == Some(&service.name));
            Some((*id, sources.cloned().collect()))
        };
        ids.filter_map(of_follower).collect()
    }

    pub fn publish_workload(&self, key: &WorkloadKey, workload: Option<&Arc<WorkloadObject>>) {
        for id in self.by_workload.get(key).into_iter().flatten() {
            let Some(follower) = self.all.get(id) else { continue };
            follower.snapshot.send_if_modified(|snapshot| {
                let is_changed = snapshot.workload.as_ref() != workload;
                snapshot.workload = workload.cloned();
                is_changed
            });
        }
    }

    pub fn publish_scalers(&self, key: &WorkloadKey, scalers: Vec<OtherScaler>) {
        for id in self.by_workload.get(key).into_iter().flatten() {
            let Some(follower) = self.all.get(id) else { continue };
            follower.snapshot.send_if_modified(|snapshot| {
                let is_changed = snapshot.other_scalers != scalers;
                snapshot.other_scalers.clone_from(&scalers);
                is_changed
            });
        }
    }

    pub fn publish_source(
        &self,
        id: FollowerId,
        source: &EndpointSource,
        source_snapshot: SourceSnapshot,
    ) {
        let Some(follower) = self.all.get(&id) else { return };
        follower.snapshot.send_if_modified(|snapshot| {
            let is_changed = snapshot.sources.get(source) != Some(&source_snapshot);
            if is_changed {
                snapshot.sources.insert(source.clone(), source_snapshot);
            }
            is_changed
        });
    }

    #[cfg(test)]
    pub fn is_empty(&self) -> bool {
        self.all.is_empty() && self.by_workload.is_empty() && self.by_service.is_empty()
    }
}

// === impl Follower ===

impl Follower {
    fn services(&self) -> BTreeSet<ObjectName> {
        let names = self.sources.iter().filter_map(service_of);
        names.map(|name| ObjectName::new(&self.workload.1.namespace, name)).collect()
    }
}

fn service_of(source: &EndpointSource) -> Option<&String> {
    match source {
        EndpointSource::Service { name, .. } => Some(name),
        EndpointSource::Processes => None,
    }
}
