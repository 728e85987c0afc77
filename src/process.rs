//! Local processes as workloads: starts them, checks their readiness, and stops them.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::sync::{Notify, watch};

use crate::activation::events::EventPublisher;
use crate::backend::{Backend, BackendStatus, ScaleCommand};
use crate::config::ProcessConfig;
use crate::shutdown::Shutdown;

use self::ports::Ports;
use self::replica::ReplicaContext;
use self::supervisor::Supervisor;

pub mod advice;
pub mod child;
pub mod exec;
pub mod keeper;
pub mod ports;
pub mod process_tree;
pub mod readiness;
pub mod replica;
pub mod supervisor;

/// The backend of one workload; its `Supervisor` runs the processes.
pub struct ProcessBackend {
    requests: watch::Sender<ScaleRequest>,
    status: watch::Receiver<BackendStatus>,
    /// Has every replica check its readiness again.
    recheck: Arc<Notify>,
}

/// The number of replicas that the workload should have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScaleRequest {
    /// Tells apart two requests for the same number of replicas.
    pub sequence: u64,
    pub replicas: u32,
    /// Not at least, but exactly so many.
    pub is_exact: bool,
}

/// The backend of a workload, and the supervisor whose `run` the caller must spawn as a task. `host` is the host of a
/// service that leads to it.
pub fn new(
    config: Arc<ProcessConfig>,
    host: &str,
    ports: Ports,
    events: EventPublisher,
    shutdown: Shutdown,
) -> (ProcessBackend, Supervisor) {
    let (requests, requests_receiver) = watch::channel(ScaleRequest::default());
    let (status_sender, status) = watch::channel(BackendStatus::default());
    let recheck = Arc::new(Notify::new());
    let context = ReplicaContext {
        config,
        host: host.replace('*', "agimo").into(),
        status: Arc::new(status_sender),
        ports,
        events,
        recheck: recheck.clone(),
    };
    (
        ProcessBackend { requests, status, recheck },
        Supervisor::new(context, requests_receiver, shutdown),
    )
}

// === impl ProcessBackend ===

impl Backend for ProcessBackend {
    fn status(&self) -> watch::Receiver<BackendStatus> {
        self.status.clone()
    }

    fn command(&self, command: ScaleCommand) {
        let (replicas, is_exact) = match command {
            ScaleCommand::WakeToAtLeast(replicas) => (replicas, false),
            ScaleCommand::SetReplicas(replicas) => (replicas, true),
            ScaleCommand::Sleep => (0, true),
            // agimo alone scales processes: there is no external scaler to wait for.
            ScaleCommand::ExpectReady | ScaleCommand::CancelWake => return,
        };
        self.requests.send_modify(|request| {
            *request = ScaleRequest { sequence: request.sequence + 1, replicas, is_exact };
        });
    }

    fn report_refused(&self, _: SocketAddr) {
        self.recheck.notify_waiters();
    }
}
