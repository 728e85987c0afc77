//! Local processes as workloads: starts them, checks that they are ready, stops them. It sees no request.

use tokio::sync::watch;

use crate::backend::{Backend, Observed};
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
    observed: watch::Receiver<Observed>,
}

/// A wish for a number of replicas. Each is a wish of its own, even for the same number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Order {
    pub sequence: u64,
    pub replicas: u32,
}

/// A workload, and the supervisor whose `run` the caller must own as a task.
pub fn new(config: ProcessConfig, ports: Ports, shutdown: Shutdown) -> (Processes, Supervisor) {
    let (orders, orders_receiver) = watch::channel(Order::default());
    let (observed_sender, observed) = watch::channel(Observed::default());
    (
        Processes { orders, observed },
        Supervisor::new(config, orders_receiver, observed_sender, ports, shutdown),
    )
}

// === impl Processes ===

impl Backend for Processes {
    fn observe(&self) -> watch::Receiver<Observed> {
        self.observed.clone()
    }

    fn scale(&self, replicas: u32) {
        self.orders.send_modify(|order| *order = Order { sequence: order.sequence + 1, replicas });
    }

    fn is_ours(&self) -> bool {
        true
    }
}
