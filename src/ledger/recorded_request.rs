//! What the ledger keeps of a request that wakes a workload: little enough that it may be shown.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::activation::RequestDetails;

/// What is kept of the request that caused a wake.
#[derive(Clone, Debug, PartialEq)]
pub struct RecordedRequest {
    pub method: String,
    /// Without the query, and shortened.
    pub path: String,
    /// The network of the client: /24 for IPv4, /48 for IPv6.
    pub network: Option<IpNet>,
    pub client_kind: &'static str,
}

/// Longer paths are shortened.
const MOST_PATH_BYTES: usize = 200;

// === impl RecordedRequest ===

impl RecordedRequest {
    pub(super) fn of(request: &RequestDetails) -> Self {
        Self {
            method: cut(&request.method, MOST_PATH_BYTES),
            path: cut(&request.path, MOST_PATH_BYTES),
            network: request.client.parse().ok().and_then(client_network),
            client_kind: request.client_kind,
        }
    }
}

/// What is kept of the address of a client: /24 for IPv4, /48 for IPv6.
pub fn client_network(address: IpAddr) -> Option<IpNet> {
    let length = if address.is_ipv4() { 24 } else { 48 };
    IpNet::new(address, length).ok().map(|network| network.trunc())
}

/// At most so many bytes, and whole characters.
pub(super) fn cut(text: &str, most: usize) -> String {
    text[..text.floor_char_boundary(most)].to_owned()
}
