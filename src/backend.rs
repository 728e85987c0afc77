//! What agimo needs of the place where workloads run: see their endpoints, scale them. It knows no such place.

use std::net::SocketAddr;

use tokio::sync::watch;
use tokio::time::Instant;

/// Runs one workload: local processes, or (to come) a Deployment or StatefulSet.
pub trait Backend: Send + Sync + 'static {
    /// The workload's condition, now and as it changes.
    fn observe(&self) -> watch::Receiver<Observed>;

    /// Asks for this many replicas and returns at once; what becomes of it is observed.
    fn scale(&self, replicas: u32);
}

/// What is known of a workload.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Observed {
    /// The endpoints that passed their readiness check.
    pub ready: Vec<SocketAddr>,
    /// When the first replica of the present wake was started.
    pub started: Option<Instant>,
    /// The last failure to become ready.
    pub failure: Option<Failure>,
}

/// A wake that came to nothing.
#[derive(Clone, Debug, PartialEq)]
pub struct Failure {
    /// Counts this workload's failures, so that each is seen once.
    pub sequence: u64,
    pub cause: Cause,
    /// For the log: the exit status and the last lines of stderr, say.
    pub detail: String,
}

/// Causes of a failed wake, a closed set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The program could not be started at all.
    NotStarted,
    /// It ended before it was ready.
    Exited,
    /// It was not ready in time.
    NotReady,
}
