//! Joins the EndpointSlices of a Service to the endpoints of one of its ports. Pure.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::net::SocketAddr;

use super::{Endpoint, SourceSnapshot};
use crate::kubernetes::objects::Slice;

/// The endpoints of a Service's port, of the address family that the Service prefers as far as it has any.
pub(super) fn endpoints<'a>(
    slices: impl Iterator<Item = &'a Slice>,
    port: &str,
    prefers_ipv6: bool,
) -> SourceSnapshot {
    let mut families: [(Vec<Endpoint>, Vec<Endpoint>); 2] = Default::default();
    let mut all_terminating = Vec::new();
    // An endpoint may be in two slices while it moves (EndpointSlice concepts, duplicates).
    let mut known = HashSet::new();
    for slice in slices {
        let Some((_, port)) = slice.ports.iter().find(|(name, _)| name == port) else {
            continue;
        };
        let (ready, last_resort) = &mut families[usize::from(slice.is_ipv6 != prefers_ipv6)];
        for endpoint in &slice.endpoints {
            let address = SocketAddr::new(endpoint.address, *port);
            if endpoint.terminating {
                all_terminating.push(address);
            }
            let list = if endpoint.ready {
                &mut *ready
            } else if endpoint.last_resort {
                &mut *last_resort
            } else {
                continue;
            };
            let endpoint = Endpoint { address, pod: endpoint.pod.clone() };
            if known.insert(endpoint.clone()) {
                list.push(endpoint);
            }
        }
    }
    let [preferred, other] = families;
    SourceSnapshot {
        service: None,
        ready: if preferred.0.is_empty() { other.0 } else { preferred.0 },
        last_resort: if preferred.1.is_empty() { other.1 } else { preferred.1 },
        terminating: all_terminating,
    }
}

/// One address for each endpoint of a Service with one port, whatever its conditions. A pod may have one of each family, and
/// an endpoint may have no pod.
pub(super) fn peer_addresses<'a>(slices: impl Iterator<Item = &'a Slice>) -> BTreeSet<SocketAddr> {
    let mut by_pod = BTreeMap::new();
    for slice in slices {
        let port = slice.ports.first().map_or(0, |(_, number)| *number);
        for endpoint in &slice.endpoints {
            let address = SocketAddr::new(endpoint.address, port);
            let pod = endpoint.pod.as_ref().map(|pod| pod.uid.clone());
            by_pod.entry(pod.ok_or(endpoint.address)).or_insert(address);
        }
    }
    by_pod.into_values().collect()
}
