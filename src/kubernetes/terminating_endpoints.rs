//! Endpoints of pods that agimo scales to zero: EndpointSlices may still list them as ready for a moment, and no request
//! is routed to them. Pure: time is passed in.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::index::Endpoint;

/// The endpoints of a workload that must not be routed to.
#[derive(Debug)]
pub struct TerminatingEndpoints {
    endpoints: HashMap<EndpointKey, Certainty>,
    wait_until: Instant,
}

/// A pod has an endpoint for each source, and they all terminate together.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum EndpointKey {
    Pod(Arc<str>),
    /// No pod is known behind the address.
    Address(SocketAddr),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Certainty {
    /// The workload is about to be scaled to zero.
    Planned,
    /// The workload had no replicas since: these endpoints terminate even if it is scaled up again.
    Certain,
}

/// How long a scale-up waits for the old endpoints to leave the EndpointSlices. Usually they do within a few
/// hundredths of a second.
const WAIT: Duration = Duration::from_secs(2);

// === impl TerminatingEndpoints ===

impl TerminatingEndpoints {
    pub fn new(now: Instant) -> Self {
        Self { endpoints: HashMap::new(), wait_until: now }
    }

    /// Adds endpoints of a workload that is being scaled to zero.
    pub fn add<'a>(&mut self, endpoints: impl Iterator<Item = &'a Endpoint>) {
        for endpoint in endpoints {
            self.endpoints.entry(EndpointKey::of(endpoint)).or_insert(Certainty::Planned);
        }
    }

    /// Waits for the endpoints to leave the EndpointSlices from now on.
    pub fn wait_from(&mut self, now: Instant) {
        self.wait_until = now + WAIT;
    }

    /// When to stop waiting.
    pub fn wait_until(&self) -> Instant {
        self.wait_until
    }

    pub fn contains(&self, endpoint: &Endpoint) -> bool {
        self.endpoints.contains_key(&EndpointKey::of(endpoint))
    }

    pub fn contains_pod(&self, uid: &Arc<str>) -> bool {
        self.endpoints.contains_key(&EndpointKey::Pod(uid.clone()))
    }

    /// The workload was seen without replicas.
    pub fn confirm(&mut self) {
        for certainty in self.endpoints.values_mut() {
            *certainty = Certainty::Certain;
        }
    }

    /// The workload is not scaled to zero after all: forgets what was only planned.
    pub fn cancel_planned(&mut self) {
        self.endpoints.retain(|_, certainty| *certainty == Certainty::Certain);
    }

    /// These did not leave the EndpointSlices in time, so the workload's controller never saw the zero: they stay.
    pub fn give_up<'a>(&mut self, listed: impl Iterator<Item = &'a Endpoint>) {
        for endpoint in listed {
            self.endpoints.remove(&EndpointKey::of(endpoint));
        }
    }

    /// Forgets what is not listed any more. A slice may list a pod only after the pod was scaled down, so the caller
    /// keeps pods for a while; an address without a pod may get another owner at once.
    pub fn forget_unlisted<'a>(
        &mut self,
        listed: impl Iterator<Item = &'a Endpoint>,
        keep_pods: bool,
    ) {
        if self.endpoints.is_empty() {
            return;
        }
        let listed: HashSet<_> = listed.map(EndpointKey::of).collect();
        let is_kept = |key: &EndpointKey| keep_pods && matches!(key, EndpointKey::Pod(_));
        self.endpoints.retain(|key, _| listed.contains(key) || is_kept(key));
    }
}

// === impl EndpointKey ===

impl EndpointKey {
    fn of(endpoint: &Endpoint) -> Self {
        match &endpoint.pod {
            Some(pod) => Self::Pod(pod.uid.clone()),
            None => Self::Address(endpoint.address),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::objects::PodIdentity;
    use super::*;

    fn endpoint(pod: Option<&str>) -> Endpoint {
        let pod = pod.map(|uid| PodIdentity { name: uid.into(), uid: uid.into() });
        Endpoint { address: "10.0.0.7:80".parse().unwrap(), pod }
    }

    fn one(endpoint: &Endpoint) -> impl Iterator<Item = &Endpoint> {
        std::iter::once(endpoint)
    }

    #[test]
    fn a_pod_that_the_slices_list_late_is_still_terminating() {
        let (old, new) = (endpoint(Some("old")), endpoint(Some("new")));
        let mut terminating = TerminatingEndpoints::new(Instant::now());
        terminating.add(one(&old));
        terminating.forget_unlisted([].into_iter(), true);
        assert!(terminating.contains(&old) && !terminating.contains(&new), "{terminating:?}");
        terminating.forget_unlisted(one(&old), false);
        assert!(terminating.contains(&old), "it is listed, however late");
        terminating.forget_unlisted([].into_iter(), false);
        assert!(!terminating.contains(&old));
    }

    #[test]
    fn every_port_of_a_terminating_pod_is_terminating() {
        let mut terminating = TerminatingEndpoints::new(Instant::now());
        let http = endpoint(Some("old"));
        terminating.add(one(&http));
        let address = "10.0.0.7:81".parse().unwrap();
        assert!(terminating.contains(&Endpoint { address, ..http }));
    }

    #[test]
    fn only_a_planned_scale_down_is_cancelled() {
        let (old, new) = (endpoint(Some("old")), endpoint(Some("new")));
        let mut terminating = TerminatingEndpoints::new(Instant::now());
        terminating.add(one(&old));
        terminating.cancel_planned();
        assert!(!terminating.contains(&old), "nothing was written");
        terminating.add(one(&old));
        terminating.confirm();
        terminating.add([&old, &new].into_iter());
        terminating.cancel_planned();
        assert!(terminating.contains(&old) && !terminating.contains(&new), "{terminating:?}");
        terminating.give_up(one(&old));
        assert!(!terminating.contains(&old), "its controller never saw the zero");
    }

    #[test]
    fn an_address_without_a_pod_is_forgotten_when_it_is_not_listed() {
        let mut terminating = TerminatingEndpoints::new(Instant::now());
        terminating.add(one(&endpoint(None)));
        terminating.forget_unlisted(one(&endpoint(None)), true);
        assert!(terminating.contains(&endpoint(None)));
        terminating.forget_unlisted([].into_iter(), true);
        assert!(!terminating.contains(&endpoint(None)));
    }
}
