//! The status that a step publishes: endpoints, reasons and facts.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use tokio::time::Instant;

use super::State;
use super::wake::Wake;
use crate::backend::{BackendStatus, EndpointSource, Lifecycle, SourceStatus};
use crate::cause::NotReadyReason;
use crate::config::Via;
use crate::kubernetes::index::health::ListHealth;
use crate::kubernetes::index::{Endpoint, SourceSnapshot};
use crate::kubernetes::not_ready;
use crate::kubernetes::scale::DesiredScale;
use crate::ownership::{OtherScalers, ScaleFacts};
use crate::workload::{WorkloadId, WorkloadKind, ordinal};

impl State {
    pub(super) fn status(&self) -> BackendStatus {
        let sources: BTreeMap<_, _> = self
            .sources()
            .iter()
            .filter_map(|source| {
                let snapshot = self.snapshot.sources.get(source)?;
                Some((source.clone(), self.source_status(source, snapshot)))
            })
            .collect();
        BackendStatus {
            not_ready: self.not_ready(&sources),
            terminating: self.terminating_addresses().into(),
            sources,
            is_starting: false,
            started: self.started,
            lifecycle: Lifecycle::Shared,
            replicas: self.replicas(),
            replicas_when_awake: 0,
            requests: {
                let workload = self.snapshot.workload.as_ref();
                workload.map(|workload| workload.template.requests).unwrap_or_default()
            },
            scale_facts: self.scale_facts(),
        }
    }

    pub(super) fn scale_facts(&self) -> ScaleFacts {
        let workload = self.snapshot.workload.as_ref();
        let other_scalers = match &self.health.scalers {
            ListHealth { is_synced: true, .. } => {
                OtherScalers::Known(self.snapshot.other_scalers.clone())
            }
            ListHealth { fault: Some(fault), .. } => OtherScalers::Unreadable(fault.clone()),
            ListHealth { fault: None, .. } => OtherScalers::NotRead,
        };
        ScaleFacts {
            can_write_replicas: true,
            is_rolling_out: workload.is_some_and(|workload| workload.is_rolling_out),
            is_contested: self.is_contested(),
            other_scalers,
            writers: workload.map(|workload| workload.replicas_writers.clone()).unwrap_or_default(),
            pin: workload.and_then(|workload| workload.pin),
            annotation_problem: workload.and_then(|workload| workload.annotation_problem.clone()),
        }
    }

    pub(super) fn has_ready_endpoint(&self) -> bool {
        self.snapshot.sources.iter().any(|(source, snapshot)| self.has_ready(source, snapshot))
    }

    /// The lookups that the Services without a cluster IP need.
    pub(super) fn set_lookups(&mut self, now: Instant) {
        let mut wanted: BTreeMap<String, Vec<SocketAddr>> = BTreeMap::new();
        for (source, snapshot) in &self.snapshot.sources {
            let EndpointSource::Service { name, via: Via::Service, .. } = source else { continue };
            let is_headless =
                snapshot.service.as_ref().is_some_and(|service| service.cluster_ip.is_none());
            let ready = addresses(&self.ready_endpoints(source, snapshot));
            if is_headless && !ready.is_empty() {
                wanted.entry(name.clone()).or_default().extend(ready);
            }
        }
        self.lookups.set(wanted, now);
    }

    fn source_status(&self, source: &EndpointSource, snapshot: &SourceSnapshot) -> SourceStatus {
        let EndpointSource::Service { via, port, .. } = source else {
            return SourceStatus::default();
        };
        let port = snapshot.service.as_ref().and_then(|service| service.port(port));
        let protocol = port.map(|port| port.protocol).unwrap_or_default();
        let pods = self.ready_endpoints(source, snapshot);
        let pods = if pods.is_empty() { self.last_resort(snapshot) } else { pods };
        let (ready, ordinals) = match via {
            Via::Pod => (addresses(&pods), self.ordinals(&pods)),
            Via::Service if self.has_ready(source, snapshot) => {
                let address = self.service_address(source, snapshot);
                (address.into_iter().collect(), BTreeMap::new())
            }
            Via::Service => (Vec::new(), BTreeMap::new()),
        };
        let not_ready =
            if ready.is_empty() { self.source_not_ready(source, snapshot) } else { None };
        SourceStatus { ready, ordinals, protocol, not_ready }
    }

    /// Which pods of a StatefulSet these are, by address.
    fn ordinals(&self, endpoints: &[Endpoint]) -> BTreeMap<SocketAddr, u32> {
        let WorkloadId { kind, name, .. } = &self.spec.id;
        if *kind != WorkloadKind::StatefulSet {
            return BTreeMap::new();
        }
        let of_endpoint = |endpoint: &Endpoint| {
            let pod = endpoint.pod.as_ref()?;
            Some((endpoint.address, ordinal(&pod.name, name)?))
        };
        endpoints.iter().filter_map(of_endpoint).collect()
    }

    fn has_ready(&self, source: &EndpointSource, snapshot: &SourceSnapshot) -> bool {
        !self.ready_endpoints(source, snapshot).is_empty()
    }

    /// The endpoints of ready pods: what the EndpointSlices list, and what the pods of the wake report.
    fn ready_endpoints(&self, source: &EndpointSource, snapshot: &SourceSnapshot) -> Vec<Endpoint> {
        if self.is_asleep() {
            return Vec::new();
        }
        let mut ready = self.routable(&snapshot.ready);
        let of_pods = self.wake.as_ref().map(|wake| wake.endpoints(source, snapshot));
        for endpoint in self.routable(&of_pods.unwrap_or_default()) {
            if !ready.iter().any(|known| known.address == endpoint.address) {
                ready.push(endpoint);
            }
        }
        ready
    }

    /// Whether agimo owns the workload, it has no replicas, and no wake was requested. Endpoints that its Services have
    /// nevertheless belong to other workloads, and the next request is to wake this one, too.
    fn is_asleep(&self) -> bool {
        let is_waking = matches!(self.desired, DesiredScale::Awake(_)) || self.wake.is_some();
        self.authority.wakes()
            && self.replicas() == Some(0)
            && !is_waking
            && self.in_flight.is_none_or(|replicas| replicas == 0)
    }

    /// Endpoints that terminate and still serve: used only where the next pods start without a wake by agimo.
    fn last_resort(&self, snapshot: &SourceSnapshot) -> Vec<Endpoint> {
        let is_sleeping = self.desired == DesiredScale::Exactly(0);
        if !is_sleeping && (!self.authority.wakes() || self.replicas() > Some(0)) {
            self.routable(&snapshot.last_resort)
        } else {
            Vec::new()
        }
    }

    /// Endpoints of pods that were told to end, by agimo or by others.
    fn terminating_addresses(&self) -> BTreeSet<SocketAddr> {
        let of_agimo = self.snapshot.ready().filter(|endpoint| self.terminating.contains(endpoint));
        let listed = self.snapshot.sources.values().flat_map(|source| &source.terminating);
        of_agimo.map(|endpoint| endpoint.address).chain(listed.copied()).collect()
    }

    fn routable(&self, endpoints: &[Endpoint]) -> Vec<Endpoint> {
        let routable = endpoints.iter().filter(|endpoint| !self.terminating.contains(endpoint));
        routable.cloned().collect()
    }

    /// The Service's own address: its cluster IP, or that of its name where it has none.
    fn service_address(
        &self,
        source: &EndpointSource,
        snapshot: &SourceSnapshot,
    ) -> Option<SocketAddr> {
        let EndpointSource::Service { name, port, .. } = source else { return None };
        let service = snapshot.service.as_ref()?;
        let port = service.port(port)?.number;
        let address = service.cluster_ip.or_else(|| self.lookups.address(name))?;
        Some(SocketAddr::new(address, port))
    }

    // --- reasons

    fn source_not_ready(
        &self,
        source: &EndpointSource,
        snapshot: &SourceSnapshot,
    ) -> Option<NotReadyReason> {
        let EndpointSource::Service { name, .. } = source else { return None };
        if !self.health.is_synced || self.snapshot.is_unwatched {
            return None;
        }
        let selector = snapshot.service.as_ref().and_then(|service| service.selector.as_deref());
        let has_pods = |wake: &Wake| selector.is_some_and(|selector| wake.has_pods(selector));
        let is_selecting = self.wake.as_ref().is_some_and(has_pods);
        let template = self.snapshot.workload.as_ref().map(|workload| &*workload.template);
        not_ready::unusable_source(&self.spec.id, source, snapshot, template, is_selecting)
            .or_else(|| self.lookups.not_ready(name))
    }

    /// Why the workload as a whole is not ready, the most specific reason first.
    fn not_ready(
        &self,
        sources: &BTreeMap<EndpointSource, SourceStatus>,
    ) -> Option<NotReadyReason> {
        if sources.values().any(|source| !source.ready.is_empty()) {
            return None;
        }
        let id = &self.spec.id;
        let missing = not_ready::missing_workload(id, &self.health, &self.snapshot);
        if missing.is_some() {
            return missing;
        }
        // No replica helps sources that cannot have endpoints; their own reasons say more.
        let explains_itself = |source: &SourceStatus| source.not_ready.is_some();
        if !sources.is_empty() && sources.values().all(explains_itself) {
            return None;
        }
        let wake = self.wake.as_ref()?;
        if self.is_contested() {
            return Some(not_ready::contested(id, &self.snapshot));
        }
        let no_pods = || {
            let terminating = wake.terminating_pod();
            wake.lacks_pods().then(|| not_ready::no_pods(id, &self.snapshot, terminating))?
        };
        self.write_failure
            .clone()
            .or_else(|| wake.not_ready())
            .or_else(|| not_ready::delayed_wake(id, &self.health, &self.snapshot))
            .or_else(no_pods)
    }
}

fn addresses(endpoints: &[Endpoint]) -> Vec<SocketAddr> {
    endpoints.iter().map(|endpoint| endpoint.address).collect()
}
