//! Connections below HTTP: quotas per address, streams, the buffers that a core lends, timers, DNS.

pub mod address_quota;
pub mod dns;
pub mod lent_buffers;
pub mod stream;
mod tcp;
pub mod timer;
