//! One wake of a workload: its pods, and how far they are. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::activation::events::EventKind;
use crate::backend::EndpointSource;
use crate::cause::NotReadyReason;
use crate::config::Via;
use crate::kubernetes::early_readiness::ProbedPod;
use crate::kubernetes::index::{Endpoint, SourceSnapshot};
use crate::kubernetes::pods::PodState;
use crate::kubernetes::warning_events::UnreadyPod;

/// A wake, from its request until the EndpointSlices list its pods.
#[derive(Debug, Default)]
pub struct Wake {
    /// By label selector and name.
    pods: BTreeMap<String, BTreeMap<String, PodState>>,
    /// Pods that terminate, by label selector.
    terminating: BTreeMap<String, BTreeSet<String>>,
    /// Pods whose readiness probes have passed when agimo ran them.
    early: BTreeSet<Arc<str>>,
    newest_warning: Option<NotReadyReason>,
    /// It has lasted so long that warnings were read.
    is_delayed: bool,
    /// When the EndpointSlices first listed a ready endpoint of the workload.
    listed_at: Option<Instant>,
    /// The pods are watched.
    pub is_watched: bool,
    /// An endpoint was ready since the wake began.
    pub was_ready: bool,
}

/// A change of the pods with one label selector.
#[derive(Clone, Debug, PartialEq)]
pub enum PodChange {
    /// A new list begins.
    Cleared {
        selector: String,
    },
    Updated {
        selector: String,
        pod: PodState,
    },
    Terminating {
        selector: String,
        name: String,
    },
    /// The pod has ended or is gone.
    Removed {
        selector: String,
        name: String,
    },
}

// === impl PodChange ===

impl PodChange {
    /// The pod that has changed; a list that begins concerns them all.
    pub fn pod_name(&self) -> Option<&str> {
        match self {
            Self::Cleared { .. } => None,
            Self::Updated { pod, .. } => Some(&pod.name),
            Self::Terminating { name, .. } | Self::Removed { name, .. } => Some(name),
        }
    }
}

/// When the EndpointSlices list the pods of one source, those of the others get this much longer. Slices are at most
/// about a second late.
const LIST_DELAY: Duration = Duration::from_secs(2);

// === impl Wake ===

impl Wake {
    /// Applies a change, and returns what is new about the pods. `is_terminating` pods of an earlier scale-down are
    /// not news.
    pub fn apply(
        &mut self,
        change: PodChange,
        is_terminating: impl Fn(&PodState) -> bool,
    ) -> Vec<EventKind> {
        match change {
            PodChange::Cleared { selector } => {
                self.pods.remove(&selector);
                self.terminating.remove(&selector);
            }
            PodChange::Terminating { selector, name } => {
                self.remove_pod(&selector, &name);
                self.terminating.entry(selector).or_default().insert(name);
            }
            PodChange::Removed { selector, name } => self.remove_pod(&selector, &name),
            PodChange::Updated { selector, pod } => {
                let before = self.pod(&pod.name).cloned().unwrap_or_default();
                let events =
                    if is_terminating(&pod) { Vec::new() } else { new_stages(&before, &pod) };
                self.remove_pod(&selector, &pod.name);
                // A container that has ended begins anew.
                let has_ended = before.is_started && !pod.is_started;
                if let Some(uid) = pod.uid.as_ref().filter(|_| has_ended) {
                    self.early.remove(uid);
                }
                self.pods.entry(selector).or_default().insert(pod.name.clone(), pod);
                return events;
            }
        }
        Vec::new()
    }

    pub fn set_warning(&mut self, warning: Option<NotReadyReason>) {
        self.newest_warning = warning;
        self.is_delayed = true;
    }

    /// Whether a pod with this label selector was seen.
    pub fn has_pods(&self, selector: &str) -> bool {
        self.pods.get(selector).is_some_and(|pods| !pods.is_empty())
    }

    pub fn has_ready_pod(&self) -> bool {
        self.all_pods().any(|pod| pod.is_ready)
    }

    /// Whether the wake takes long and there is no pod yet.
    pub fn lacks_pods(&self) -> bool {
        self.is_delayed && self.all_pods().next().is_none()
    }

    /// A pod that terminates.
    pub fn terminating_pod(&self) -> Option<&str> {
        self.terminating.values().flatten().next().map(String::as_str)
    }

    /// Keeps only the pods of these label selectors.
    pub fn retain_selectors(&mut self, selectors: &BTreeSet<String>) {
        self.pods.retain(|selector, _| selectors.contains(selector));
        self.terminating.retain(|selector, _| selectors.contains(selector));
    }

    fn remove_pod(&mut self, selector: &str, name: &str) {
        if let Some(pods) = self.pods.get_mut(selector) {
            pods.remove(name);
        }
        if let Some(pods) = self.terminating.get_mut(selector) {
            pods.remove(name);
        }
    }

    /// Records that the EndpointSlices list a ready endpoint; true the first time.
    pub fn note_listed(&mut self, now: Instant) -> bool {
        let is_first = self.listed_at.is_none();
        self.listed_at.get_or_insert(now);
        is_first
    }

    /// When the pods are not needed any more, whatever the EndpointSlices list.
    pub fn ends_at(&self) -> Option<Instant> {
        self.listed_at.map(|at| at + LIST_DELAY)
    }

    /// The endpoints of ready pods for this source.
    pub fn endpoints(&self, source: &EndpointSource, snapshot: &SourceSnapshot) -> Vec<Endpoint> {
        let EndpointSource::Service { via, .. } = source else { return Vec::new() };
        self.endpoints_of(source, snapshot, |pod| {
            pod.is_ready || (*via == Via::Pod && self.is_early(pod))
        })
    }

    /// The endpoints of all pods for this source, those that start included.
    pub fn all_endpoints(
        &self,
        source: &EndpointSource,
        snapshot: &SourceSnapshot,
    ) -> Vec<Endpoint> {
        self.endpoints_of(source, snapshot, |_| true)
    }

    fn endpoints_of(
        &self,
        source: &EndpointSource,
        snapshot: &SourceSnapshot,
        is_wanted: impl Fn(&PodState) -> bool,
    ) -> Vec<Endpoint> {
        let EndpointSource::Service { port, .. } = source else { return Vec::new() };
        let Some(service) = &snapshot.service else { return Vec::new() };
        let pods = service.selector.as_ref().and_then(|selector| self.pods.get(selector));
        let Some((port, pods)) = service.port(port).zip(pods) else { return Vec::new() };
        let wanted = pods.values().filter(|pod| is_wanted(pod));
        wanted.filter_map(|pod| pod.endpoint(port, service.prefers_ipv6)).collect()
    }

    /// The probes of a pod have passed; the name of the pod, where that is news.
    pub fn note_probed(&mut self, uid: &Arc<str>) -> Option<String> {
        let pod = self.all_pods().find(|pod| pod.uid.as_ref() == Some(uid))?;
        let name = (!pod.is_ready).then(|| pod.name.clone())?;
        self.early.insert(uid.clone());
        Some(name)
    }

    fn is_early(&self, pod: &PodState) -> bool {
        pod.uid.as_ref().is_some_and(|uid| self.early.contains(uid))
    }

    /// The pods whose readiness agimo may find out before the kubelet.
    pub fn probed_pods(
        &self,
        sources: &BTreeMap<EndpointSource, SourceSnapshot>,
        is_terminating: impl Fn(&PodState) -> bool,
    ) -> Vec<ProbedPod> {
        let is_wanted =
            |pod: &&PodState| !pod.is_ready && !self.is_early(pod) && !is_terminating(pod);
        let probed = |pod: &PodState| {
            let endpoints = sources.iter().filter_map(|(source, snapshot)| {
                let EndpointSource::Service { port, via: Via::Pod, .. } = source else {
                    return None;
                };
                let service = snapshot.service.as_ref()?;
                pod.endpoint(service.port(port)?, service.prefers_ipv6)
            });
            let endpoints: Vec<_> = endpoints.map(|endpoint| endpoint.address).collect();
            Some(ProbedPod {
                uid: pod.uid.clone()?,
                address: endpoints.first()?.ip(),
                probes: pod.probes.clone()?,
                endpoints,
            })
        };
        self.all_pods().filter(is_wanted).filter_map(probed).collect()
    }

    /// The reason that a pod reports, or the newest warning event.
    pub fn not_ready(&self) -> Option<NotReadyReason> {
        let of_pods = self.all_pods().find_map(|pod| pod.not_ready.as_ref());
        of_pods.or(self.newest_warning.as_ref()).cloned()
    }

    /// Whether a container of the wake runs.
    pub fn has_started(&self, is_terminating: impl Fn(&PodState) -> bool) -> bool {
        self.all_pods().any(|pod| pod.is_started && !is_terminating(pod))
    }

    /// A pod that is not ready.
    pub fn unready_pod(&self) -> Option<UnreadyPod> {
        self.all_pods().find(|pod| !pod.is_ready).map(|pod| UnreadyPod {
            name: pod.name.clone(),
            uid: pod.uid.clone(),
            is_scheduled: pod.is_scheduled,
            is_started: pod.are_all_started,
        })
    }

    fn pod(&self, name: &str) -> Option<&PodState> {
        self.pods.values().find_map(|pods| pods.get(name))
    }

    fn all_pods(&self) -> impl Iterator<Item = &PodState> {
        self.pods.values().flat_map(BTreeMap::values)
    }
}

fn new_stages(before: &PodState, now: &PodState) -> Vec<EventKind> {
    let pod = || now.name.clone();
    let mut events = Vec::new();
    if !before.is_scheduled && now.is_scheduled {
        events.push(EventKind::PodScheduled { pod: pod() });
    }
    if !before.is_started && now.is_started {
        events.push(EventKind::ContainerStarted { pod: pod() });
    }
    if !before.is_ready && now.is_ready {
        events.push(EventKind::PodReady { pod: pod() });
    }
    events
}
