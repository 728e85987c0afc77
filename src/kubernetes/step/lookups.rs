//! The lookups of headless Services' names that a workload needs, and their results. Pure: time is passed in.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::time::Instant;

use crate::cause::{Cause, NotReadyReason};

/// A name to look up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lookup {
    /// The name of the Service.
    pub service: String,
    /// Its ready endpoints. When they change, the name may have another address.
    pub endpoints: Vec<SocketAddr>,
}

/// The result of a lookup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LookupResult {
    pub lookup: Lookup,
    pub address: Result<IpAddr, String>,
}

/// The names of one workload's Services.
#[derive(Debug, Default)]
pub struct Lookups {
    by_service: BTreeMap<String, State>,
}

#[derive(Debug)]
struct State {
    endpoints: Vec<SocketAddr>,
    address: Option<Result<IpAddr, String>>,
    /// When to look up the name again after a failure.
    retry_at: Instant,
}

/// After a failed lookup.
const RETRY_DELAY: Duration = Duration::from_secs(1);

// === impl Lookups ===

impl Lookups {
    /// Keeps exactly these names.
    pub fn set(&mut self, wanted: BTreeMap<String, Vec<SocketAddr>>, now: Instant) {
        self.by_service.retain(|service, state| wanted.get(service) == Some(&state.endpoints));
        for (service, endpoints) in wanted {
            let state = || State { endpoints, address: None, retry_at: now };
            self.by_service.entry(service).or_insert_with(state);
        }
    }

    /// Takes a result, unless the Service's endpoints have changed since the lookup began.
    pub fn finish(&mut self, result: LookupResult, now: Instant) {
        if let Some(state) = self.by_service.get_mut(&result.lookup.service)
            && state.endpoints == result.lookup.endpoints
        {
            state.address = Some(result.address);
            state.retry_at = now + RETRY_DELAY;
        }
    }

    pub fn address(&self, service: &str) -> Option<IpAddr> {
        self.by_service.get(service)?.address.clone()?.ok()
    }

    pub fn not_ready(&self, service: &str) -> Option<NotReadyReason> {
        let error = self.by_service.get(service)?.address.clone()?.err()?;
        let detail = format!("cannot look up the name of Service {service}: {error}");
        Some(NotReadyReason { cause: Cause::Unknown, detail })
    }

    /// The lookups that are to be in progress now.
    pub fn due(&self, now: Instant) -> Vec<Lookup> {
        let due = self.by_service.iter().filter(|(_, state)| match &state.address {
            None => true,
            Some(Err(_)) => now >= state.retry_at,
            Some(Ok(_)) => false,
        });
        due.map(|(service, state)| Lookup {
            service: service.clone(),
            endpoints: state.endpoints.clone(),
        })
        .collect()
    }

    /// When the next failed lookup is repeated.
    pub fn retry_at(&self, now: Instant) -> Option<Instant> {
        let failed = self.by_service.values().filter(|state| matches!(state.address, Some(Err(_))));
        failed.map(|state| state.retry_at).filter(|at| *at > now).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_looked_up_again_after_a_failure_and_when_its_endpoints_change() {
        let now = Instant::now();
        let mut lookups = Lookups::default();
        let wanted =
            |port: u16| BTreeMap::from([("web".to_owned(), vec![([10, 0, 0, 1], port).into()])]);
        let finish = |lookups: &mut Lookups, address| {
            let lookup = lookups.due(now).pop().unwrap();
            lookups.finish(LookupResult { lookup, address }, now);
        };
        lookups.set(wanted(1), now);
        finish(&mut lookups, Err("no answer".to_owned()));
        assert!(lookups.not_ready("web").unwrap().detail.contains("no answer"));
        assert_eq!(lookups.due(now), []);
        assert_eq!(lookups.retry_at(now), Some(now + RETRY_DELAY));
        let later = now + RETRY_DELAY;
        let lookup = lookups.due(later).pop().unwrap();
        let address: IpAddr = [10, 0, 0, 9].into();
        lookups.finish(LookupResult { lookup: lookup.clone(), address: Ok(address) }, later);
        assert_eq!((lookups.address("web"), lookups.due(later)), (Some(address), Vec::new()));
        lookups.set(wanted(2), later);
        lookups.finish(LookupResult { lookup, address: Ok(address) }, later);
        assert_eq!(lookups.address("web"), None, "the result belongs to other endpoints");
        assert_eq!(lookups.due(later).len(), 1);
    }
}
