//! A ready endpoint as all cores share it: how fast requests may be released to it while it is fresh, and what has been
//! learned about the connections that it serves.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::ramp::Ramp;

/// An endpoint that is published as ready. It is fresh again after each time that it was not.
#[derive(Clone, Debug)]
pub struct ReadyEndpoint {
    pub address: SocketAddr,
    pub shared: Arc<SharedEndpoint>,
}

/// The state of an endpoint over all cores. None of it is written on the warm path, except where `keep_alive` bounds the
/// number of idle connections.
#[derive(Debug, Default)]
pub struct SharedEndpoint {
    pub ramp: Arc<Ramp>,
    /// Idle connections of all cores; counted only where their number is bounded.
    idle: AtomicU32,
    /// How often in a row a new connection was served as soon as idle ones had been closed.
    blocked_by_idle: AtomicU32,
    /// How often idle connections were closed to find that out.
    probes: AtomicU32,
}

/// After so many observations in a row an endpoint is known to serve one connection at a time.
const CERTAIN: u32 = 3;

// === impl ReadyEndpoint ===

impl ReadyEndpoint {
    pub fn new(address: SocketAddr) -> Self {
        Self { address, shared: Arc::default() }
    }
}

impl PartialEq for ReadyEndpoint {
    fn eq(&self, other: &Self) -> bool {
        self.address == other.address
    }
}

// === impl SharedEndpoint ===

impl SharedEndpoint {
    /// Counts an idle connection, unless there are `most` already.
    pub fn add_idle(&self, most: u32) -> bool {
        let add = |idle: u32| (idle < most).then_some(idle + 1);
        self.idle.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add).is_ok()
    }

    pub fn remove_idle(&self) {
        self.idle.fetch_sub(1, Ordering::Relaxed);
    }

    /// Whether the endpoint serves a connection only when the one before has ended, so that idle connections block it.
    pub fn serves_one_connection(&self) -> bool {
        self.blocked_by_idle.load(Ordering::Relaxed) >= CERTAIN
    }

    /// Idle connections are closed, to see whether a new one is then served.
    pub fn begin_probe(&self) {
        self.probes.fetch_add(1, Ordering::Relaxed);
    }

    /// How many probes have been in vain.
    pub fn probes(&self) -> u32 {
        self.probes.load(Ordering::Relaxed)
    }

    /// Idle connections were closed; `is_served` tells whether the new one was served right then.
    pub fn note_probe(&self, is_served: bool) {
        if is_served {
            self.blocked_by_idle.fetch_add(1, Ordering::Relaxed);
            // The next probe comes as early as the first.
            self.probes.store(0, Ordering::Relaxed);
        } else if !self.serves_one_connection() {
            self.blocked_by_idle.store(0, Ordering::Relaxed);
        }
    }
}
