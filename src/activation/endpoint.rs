//! A ready endpoint as all cores share it: how fast requests may be released to it while it is fresh, and what has been
//! learned about the connections that it serves.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use super::ramp::Ramp;
use crate::config::protocol::EndpointProtocol;

/// An endpoint that is published as ready. It is fresh again after each time that it was not.
#[derive(Clone, Debug)]
pub struct ReadyEndpoint {
    pub address: SocketAddr,
    /// Which replica of a StatefulSet answers there.
    pub ordinal: Option<u32>,
    /// From `appProtocol` of the port of the Service; `Auto` if unknown.
    pub protocol: EndpointProtocol,
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
    is_probing: AtomicBool,
    /// Counts the times that a core had idle connections to close.
    closed_idle: AtomicU32,
}

/// A probe that has begun.
#[derive(Debug)]
pub struct Probe {
    closed_before: u32,
}

/// After so many observations in a row an endpoint is known to serve one connection at a time.
const CERTAIN: u32 = 3;

// === impl ReadyEndpoint ===

impl ReadyEndpoint {
    pub fn new(address: SocketAddr, ordinal: Option<u32>, protocol: EndpointProtocol) -> Self {
        Self { address, ordinal, protocol, shared: Arc::default() }
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

    /// Idle connections are to be closed, to see whether a new one is then served. `None` while another probe lasts.
    pub fn begin_probe(&self) -> Option<Probe> {
        if self.is_probing.swap(true, Ordering::Relaxed) {
            return None;
        }
        self.probes.fetch_add(1, Ordering::Relaxed);
        Some(Probe { closed_before: self.closed_idle.load(Ordering::Relaxed) })
    }

    /// A core has closed idle connections because of a probe.
    pub fn note_closed_idle(&self) {
        self.closed_idle.fetch_add(1, Ordering::Relaxed);
    }

    /// How many probes have been in vain.
    pub fn probes(&self) -> u32 {
        self.probes.load(Ordering::Relaxed)
    }

    /// `is_served` tells whether the new connection was served as soon as the idle ones had been closed.
    pub fn end_probe(&self, probe: Probe, is_served: bool) {
        let has_closed = self.closed_idle.load(Ordering::Relaxed) != probe.closed_before;
        if is_served && has_closed {
            self.blocked_by_idle.fetch_add(1, Ordering::Relaxed);
            // The next probe comes as early as the first.
            self.probes.store(0, Ordering::Relaxed);
        } else if !self.serves_one_connection() {
            self.blocked_by_idle.store(0, Ordering::Relaxed);
        }
        self.is_probing.store(false, Ordering::Relaxed);
    }
}
