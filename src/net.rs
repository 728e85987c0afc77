//! Connections below HTTP: quotas per address, streams over TCP and TLS, the PROXY protocol, the buffers that a core lends, timers, DNS.

pub mod address_quota;
pub mod dns;
pub mod http_client;
pub mod lent_buffers;
pub mod proxy_protocol;
pub mod stream;
pub mod timer;
pub mod tls;
mod transport;
