//! Keeps one workload's processes as they are wanted, and says which are ready. It decides no sleep.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tracing::{info, warn};

use crate::backend::{Cause, Failure, Observed};
use crate::config::ProcessConfig;
use crate::shutdown::Shutdown;

use super::Order;
use super::child::Child;
use super::readiness;

/// Runs the processes of one workload.
pub struct Supervisor {
    config: Arc<ProcessConfig>,
    orders: watch::Receiver<Order>,
    observed: Arc<watch::Sender<Observed>>,
    shutdown: Shutdown,
    /// Every replica that has not ended yet, those of earlier wakes that still stop included.
    replicas: JoinSet<(Wake, Ended)>,
    wake: Wake,
    /// The last order that was carried out.
    done: u64,
    failures: u64,
}

/// Counts the wakes, to tell their replicas apart.
type Wake = u64;

/// What became of a replica.
enum Ended {
    /// It was asked to stop.
    Stopped,
    /// It never became ready.
    Failed(Cause, String),
    /// It had been ready and went away by itself.
    Crashed(String),
}

/// What a replica's task needs.
struct Replica {
    config: Arc<ProcessConfig>,
    observed: Arc<watch::Sender<Observed>>,
    stop: watch::Receiver<bool>,
}

/// A replica that ends by itself while others run is started again after this.
const RESTART_PAUSE: Duration = Duration::from_secs(1);

// === impl Supervisor ===

impl Supervisor {
    pub(super) fn new(
        config: ProcessConfig,
        orders: watch::Receiver<Order>,
        observed: watch::Sender<Observed>,
        shutdown: Shutdown,
    ) -> Self {
        Self {
            config: Arc::new(config),
            orders,
            observed: Arc::new(observed),
            shutdown,
            replicas: JoinSet::new(),
            wake: 0,
            done: 0,
            failures: 0,
        }
    }

    /// Runs until the handle is dropped or agimo is aborted. Every process has ended when it returns.
    pub async fn run(mut self) {
        while let Some(order) = self.next_order().await {
            self.done = order.sequence;
            if order.replicas > 0 {
                // Only a port of their own choosing lets old and new run side by side.
                if self.config.port.is_some() {
                    while self.replicas.join_next().await.is_some() {}
                }
                self.awake(order.replicas).await;
            }
        }
        while self.replicas.join_next().await.is_some() {}
    }

    /// The next order; replicas of earlier wakes end meanwhile.
    async fn next_order(&mut self) -> Option<Order> {
        let done = self.done;
        loop {
            tokio::select! {
                () = self.shutdown.aborted() => return None,
                order = next_after(&mut self.orders, done) => return order,
                Some(_) = self.replicas.join_next() => {}
            }
        }
    }

    /// One wake: from the start of its replicas until they are told to stop or are all gone.
    async fn awake(&mut self, replicas: u32) {
        self.wake += 1;
        let stop = watch::Sender::new(false);
        self.observed.send_modify(|observed| {
            observed.ready.clear();
            observed.started = None;
        });
        for _ in 0..replicas {
            self.start(&stop, Duration::ZERO);
        }
        loop {
            let done = self.done;
            tokio::select! {
                () = self.shutdown.aborted() => break,
                order = next_after(&mut self.orders, done) => {
                    let Some(order) = order else { break };
                    // Left for `run`, which begins anew where nothing is there to go on with.
                    if order.replicas == 0 || self.observed.borrow().ready.is_empty() {
                        break;
                    }
                    self.done = order.sequence;
                    // Asleep and awake again before anything was stopped: it still runs, say so.
                    self.observed.send_modify(|_| ());
                }
                Some(ended) = self.replicas.join_next() => {
                    let Ok((wake, ended)) = ended else { break };
                    if wake == self.wake && !self.goes_on(ended, &stop) {
                        break;
                    }
                }
            }
        }
        self.observed.send_modify(|observed| observed.ready.clear());
        stop.send_replace(true);
    }

    /// Whether the wake goes on after a replica of it has ended.
    fn goes_on(&mut self, ended: Ended, stop: &watch::Sender<bool>) -> bool {
        let others = !self.observed.borrow().ready.is_empty();
        let detail = match ended {
            Ended::Stopped => return false,
            Ended::Failed(cause, detail) if !others => {
                self.fail(cause, detail);
                return false;
            }
            Ended::Failed(_, detail) => detail,
            Ended::Crashed(detail) => {
                // It may have been ready too briefly for anyone to see. Whoever has seen its end
                // has given an order since, whose wake has not failed.
                if !others && self.orders.borrow().sequence == self.done {
                    self.fail(Cause::Exited, detail.clone());
                }
                detail
            }
        };
        warn!(process = self.config.name, detail, "a process ended by itself");
        if others {
            self.start(stop, RESTART_PAUSE);
        }
        others
    }

    fn fail(&mut self, cause: Cause, detail: String) {
        self.failures += 1;
        let failure = Some(Failure { sequence: self.failures, cause, detail });
        self.observed.send_modify(|observed| observed.failure = failure);
    }

    fn start(&mut self, stop: &watch::Sender<bool>, pause: Duration) {
        let wake = self.wake;
        let replica = Replica {
            config: self.config.clone(),
            observed: self.observed.clone(),
            stop: stop.subscribe(),
        };
        self.replicas.spawn(async move {
            tokio::time::sleep(pause).await;
            (wake, replica.live().await)
        });
    }
}

/// The first order after the one numbered `done`; `None` when nobody can give one any more.
async fn next_after(orders: &mut watch::Receiver<Order>, done: u64) -> Option<Order> {
    orders.wait_for(|order| order.sequence > done).await.ok().map(|order| *order)
}

// === impl Replica ===

impl Replica {
    /// From start to end: starts the process, waits until it is ready, and stops it when told to.
    async fn live(mut self) -> Ended {
        if *self.stop.borrow() {
            return Ended::Stopped;
        }
        let mut child = match Child::start(&self.config) {
            Ok(child) => child,
            Err(error) => return Ended::Failed(Cause::NotStarted, error),
        };
        let started = Instant::now();
        self.observed.send_modify(|observed| {
            observed.started.get_or_insert(started);
        });
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, child.port()));
        let ended = match self.becomes_ready(&mut child, address).await {
            Ok(()) => {
                self.observed.send_modify(|observed| observed.ready.push(address));
                self.serves(&mut child, address).await
            }
            Err(ended) => ended,
        };
        child.stop(self.config.stop_grace).await;
        if matches!(ended, Ended::Stopped) {
            info!(process = self.config.name, "stopped");
        }
        ended
    }

    async fn becomes_ready(&mut self, child: &mut Child, address: SocketAddr) -> Result<(), Ended> {
        let limit = self.config.start_timeout;
        tokio::select! {
            biased;
            last_words = child.exited() => Err(Ended::Failed(Cause::Exited, last_words)),
            _ = self.stop.wait_for(|stop| *stop) => Err(Ended::Stopped),
            () = readiness::passed(address, &self.config.readiness) => Ok(()),
            () = tokio::time::sleep(limit) => {
                let waited = humantime::format_duration(limit);
                Err(Ended::Failed(Cause::NotReady, format!("not ready within start_timeout, {waited}")))
            }
        }
    }

    async fn serves(&mut self, child: &mut Child, address: SocketAddr) -> Ended {
        let ended = tokio::select! {
            last_words = child.exited() => Ended::Crashed(last_words),
            _ = self.stop.wait_for(|stop| *stop) => Ended::Stopped,
        };
        self.observed.send_modify(|observed| observed.ready.retain(|ready| *ready != address));
        ended
    }
}
