//! Local processes as workloads: starts them, checks that they are ready, stops them. It sees no request.

use tokio::sync::watch;

use crate::activation::events::EventPublisher;
use crate::backend::{Backend, BackendStatus, ScaleCommand};
use crate::config::ProcessConfig;
use crate::shutdown::Shutdown;

use self::ports::Ports;
use self::supervisor::Supervisor;

pub mod child;
pub mod exec;
pub mod ports;
pub mod readiness;
pub mod supervisor;

/// The backend's handle on one workload; its `Supervisor` does the work.
pub struct Processes {
    orders: watch::Sender<Order>,
    status: watch::Receiver<BackendStatus>,
}

/// A wish for a number of replicas. Each is a wish of its own, even for the same number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Order {
    pub sequence: u64,
    pub replicas: u32,
}

/// A workload, and the supervisor whose `run` the caller must own as a task.
pub fn new(
    config: ProcessConfig,
    ports: Ports,
    events: EventPublisher,
    shutdown: Shutdown,
) -> (Processes, Supervisor) {
    let (orders, orders_receiver) = watch::channel(Order::default());
    let (status_sender, status) = watch::channel(BackendStatus::default());
    (
        Processes { orders, status },
        Supervisor::new(config, orders_receiver, status_sender, ports, events, shutdown),
    )
}

// === impl Processes ===

impl Backend for Processes {
    fn status(&self) -> watch::Receiver<BackendStatus> {
        self.status.clone()
    }

    fn command(&self, command: ScaleCommand) {
        let replicas = match command {
            ScaleCommand::WakeToAtLeast(replicas) | ScaleCommand::SetReplicas(replicas) => replicas,
            ScaleCommand::Sleep => 0,
            // agimo alone scales processes: no external scaler is waited for.
            ScaleCommand::ExpectReady | ScaleCommand::CancelWake => return,
        };
        self.orders.send_modify(|order| *order = Order { sequence: order.sequence + 1, replicas });
    }
}
