//! The endpoints of what was put to sleep: they may be listed as ready a little longer, and nothing is sent there. Pure,
//! time passed in; it writes nothing.

use std::collections::HashSet;
use std::time::Duration;

use tokio::time::Instant;

use super::index::Endpoint;

/// What was put to sleep and may still be seen as ready.
#[derive(Debug)]
pub struct Leaving {
    endpoints: HashSet<Endpoint>,
    until: Instant,
    /// The workload has been seen to have no replicas since: they leave, even if it is wanted again.
    is_certain: bool,
}

/// The old pods' endpoints are waited for to leave before the workload is woken again; usually they do
/// within a few hundredths of a second.
const TIMEOUT: Duration = Duration::from_secs(2);

// === impl Leaving ===

impl Leaving {
    pub fn new(now: Instant) -> Self {
        Self { endpoints: HashSet::new(), until: now, is_certain: false }
    }

    /// These are to be put to sleep.
    pub fn put<'a>(&mut self, endpoints: impl Iterator<Item = &'a Endpoint>, now: Instant) {
        self.add(endpoints);
        self.is_certain = false;
        self.wait_from(now);
    }

    /// These go with those that were put to sleep.
    pub fn add<'a>(&mut self, endpoints: impl Iterator<Item = &'a Endpoint>) {
        self.endpoints.extend(endpoints.cloned());
    }

    /// The workload is wanted again, and what leaves has this long to do so.
    pub fn wait_from(&mut self, now: Instant) {
        self.until = now + TIMEOUT;
    }

    /// When they are not waited for any longer.
    pub fn until(&self) -> Instant {
        self.until
    }

    pub fn contains(&self, endpoint: &Endpoint) -> bool {
        self.endpoints.contains(endpoint)
    }

    pub fn has_any(&self, of: &[Endpoint]) -> bool {
        of.iter().any(|endpoint| self.endpoints.contains(endpoint))
    }

    /// The workload has no replicas.
    pub fn confirm(&mut self) {
        self.is_certain = true;
    }

    /// The workload is to stay awake: nothing leaves, unless it had been put to sleep already.
    pub fn take_back(&mut self) {
        if !self.is_certain {
            self.endpoints.clear();
        }
    }

    /// Those have not left in time, so they stay.
    pub fn give_up(&mut self, on: &[Endpoint]) {
        for endpoint in on {
            self.endpoints.remove(endpoint);
        }
    }

    /// Lets go of what is listed no more. A pod that was ready may come into the slices only after it was
    /// put to sleep, so that pods are remembered for a while all the same; an address without a pod is
    /// whoever has it next.
    pub fn forget_gone(&mut self, is_listed: impl Fn(&Endpoint) -> bool, now: Instant) {
        let is_late = now >= self.until;
        self.endpoints
            .retain(|endpoint| is_listed(endpoint) || (endpoint.pod.is_some() && !is_late));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(pod: Option<&str>) -> Endpoint {
        Endpoint { address: "10.0.0.7:80".parse().unwrap(), pod: pod.map(Into::into) }
    }

    #[test]
    fn a_pod_that_comes_into_the_slices_late_is_still_known_to_leave() {
        let (old, new) = (endpoint(Some("old")), endpoint(Some("new")));
        let now = Instant::now();
        let mut leaving = Leaving::new(now);
        leaving.put([&old].into_iter(), now);
        leaving.forget_gone(|_| false, now + TIMEOUT / 2);
        assert!(leaving.contains(&old) && !leaving.contains(&new), "{leaving:?}");
        leaving.forget_gone(|listed| *listed == old, now + TIMEOUT);
        assert!(leaving.contains(&old), "it is listed, however late");
        leaving.forget_gone(|_| false, now + TIMEOUT);
        assert!(!leaving.contains(&old));
    }

    #[test]
    fn what_was_put_to_sleep_leaves_even_if_the_workload_is_wanted_again() {
        let old = endpoint(Some("old"));
        let mut leaving = Leaving::new(Instant::now());
        leaving.put([&old].into_iter(), Instant::now());
        leaving.take_back();
        assert!(!leaving.contains(&old), "nothing had been written yet");
        leaving.put([&old].into_iter(), Instant::now());
        leaving.confirm();
        leaving.take_back();
        assert!(leaving.has_any(std::slice::from_ref(&old)));
        leaving.give_up(std::slice::from_ref(&old));
        assert!(!leaving.contains(&old), "its controllers never saw that it slept");
    }

    #[test]
    fn an_address_without_a_pod_leaves_with_its_listing() {
        let now = Instant::now();
        let mut leaving = Leaving::new(now);
        leaving.put([&endpoint(None)].into_iter(), now);
        leaving.forget_gone(|_| true, now);
        assert!(leaving.contains(&endpoint(None)));
        leaving.forget_gone(|_| false, now);
        assert!(!leaving.contains(&endpoint(None)));
    }
}
