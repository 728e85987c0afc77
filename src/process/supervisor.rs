//! Keeps one workload's processes as they are wanted, and says which are ready. It decides no sleep.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tracing::warn;

use crate::activation::events::{EventKind, EventPublisher};
use crate::backend::{BackendStatus, EndpointSource, Lifecycle, WakeFailure};
use crate::cause::Cause;
use crate::config::ProcessConfig;
use crate::shutdown::Shutdown;

use super::Order;
use super::child::Child;
use super::ports::{Port, Ports};
use super::readiness;

/// Runs the processes of one workload.
pub struct Supervisor {
    config: Arc<ProcessConfig>,
    orders: watch::Receiver<Order>,
    status: Arc<watch::Sender<BackendStatus>>,
    shutdown: Shutdown,
    /// Every replica that has not ended yet, those of earlier wakes that still stop included.
    replicas: JoinSet<(Wake, Ended)>,
    wake: Wake,
    /// The last order that was carried out.
    done: u64,
    ports: Ports,
    events: EventPublisher,
}

/// Counts the wakes, to tell their replicas apart.
type Wake = u64;

/// What became of a replica.
enum Ended {
    /// It was asked to stop.
    Stopped,
    /// It never became ready; that has been observed already.
    Failed,
    /// It had been ready and went away by itself.
    Crashed(String),
}

/// What a replica's task needs.
struct Replica {
    config: Arc<ProcessConfig>,
    status: Arc<watch::Sender<BackendStatus>>,
    ports: Ports,
    events: EventPublisher,
    stop: watch::Receiver<bool>,
}

/// A replica that ends by itself while others run is started again after this.
const RESTART_PAUSE: Duration = Duration::from_secs(1);

// === impl Supervisor ===

impl Supervisor {
    pub(super) fn new(
        config: ProcessConfig,
        orders: watch::Receiver<Order>,
        status: watch::Sender<BackendStatus>,
        ports: Ports,
        events: EventPublisher,
        shutdown: Shutdown,
    ) -> Self {
        Self {
            config: Arc::new(config),
            orders,
            status: Arc::new(status),
            shutdown,
            replicas: JoinSet::new(),
            wake: 0,
            done: 0,
            ports,
            events,
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
        self.status.send_modify(|status| {
            ready_of(status).clear();
            status.started = None;
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
                    if order.replicas == 0 || !self.status.borrow().is_ready() {
                        break;
                    }
                    self.done = order.sequence;
                    // Asleep and awake again before anything was stopped: it still runs, say so.
                    self.status.send_modify(|_| ());
                }
                Some(ended) = self.replicas.join_next() => {
                    let Ok((wake, ended)) = ended else { break };
                    if wake == self.wake && !self.goes_on(ended, &stop) {
                        break;
                    }
                }
            }
        }
        self.status.send_modify(|status| ready_of(status).clear());
        stop.send_replace(true);
    }

    /// Whether the wake goes on after a replica of it has ended.
    fn goes_on(&mut self, ended: Ended, stop: &watch::Sender<bool>) -> bool {
        let others = self.status.borrow().is_ready();
        match ended {
            Ended::Stopped => return false,
            Ended::Failed => {}
            Ended::Crashed(detail) => {
                self.events.publish(EventKind::ProcessExited { detail: detail.clone() });
                // It may have been ready too briefly for anyone to see. Whoever has seen its end
                // has given an order since, whose wake has not failed.
                if !others && self.orders.borrow().sequence == self.done {
                    fail(&self.status, Cause::Exited, detail);
                }
            }
        }
        if others {
            self.start(stop, RESTART_PAUSE);
        }
        others
    }

    fn start(&mut self, stop: &watch::Sender<bool>, pause: Duration) {
        let wake = self.wake;
        let replica = Replica {
            config: self.config.clone(),
            status: self.status.clone(),
            ports: self.ports.clone(),
            events: self.events.clone(),
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

/// Makes a failed wake observed.
fn fail(status: &watch::Sender<BackendStatus>, cause: Cause, detail: String) {
    status.send_modify(|status| {
        let last = match &status.lifecycle {
            Lifecycle::Owned(failure) => failure.as_ref().map_or(0, |failure| failure.sequence),
            Lifecycle::Shared => 0,
        };
        status.lifecycle =
            Lifecycle::Owned(Some(WakeFailure { sequence: last + 1, cause, detail }));
    });
}

/// The endpoints of the processes.
fn ready_of(status: &mut BackendStatus) -> &mut Vec<SocketAddr> {
    &mut status.sources.entry(EndpointSource::Processes).or_default().ready
}

// === impl Replica ===

impl Replica {
    /// From start to end: starts the process, waits until it is ready, and stops it when told to.
    async fn live(mut self) -> Ended {
        let child = match self.port().await {
            Ok(Some(port)) => Child::start(&self.config, port),
            Ok(None) => return Ended::Stopped,
            Err(error) => Err(error),
        };
        let mut child = match child {
            Ok(child) => child,
            Err(error) => return self.failed(Cause::NotStarted, error),
        };
        let started = Instant::now();
        self.status.send_modify(|status| {
            status.started.get_or_insert(started);
        });
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, child.port()));
        let ended = match self.becomes_ready(&mut child, address).await {
            Ok(()) => {
                self.status.send_modify(|status| ready_of(status).push(address));
                self.serves(&mut child, address).await
            }
            Err(ended) => ended,
        };
        child.stop(self.config.stop_grace).await;
        if matches!(ended, Ended::Stopped) {
            self.events.publish(EventKind::ProcessStopped);
        }
        ended
    }

    /// The configured port once no other process of agimo has it, or any; `None` when told to stop.
    async fn port(&mut self) -> Result<Option<Port>, String> {
        let Some(number) = self.config.port else {
            let stopped = *self.stop.borrow();
            let free =
                || self.ports.any().map(Some).map_err(|error| format!("no free port: {error}"));
            return if stopped { Ok(None) } else { free() };
        };
        let port = tokio::select! {
            biased;
            _ = self.stop.wait_for(|stop| *stop) => return Ok(None),
            port = self.ports.this(number) => port,
            () = tokio::time::sleep(self.config.start_timeout) => {
                return Err(format!("port {number} is still held by another process of agimo's"));
            }
        };
        let port =
            port.ok_or_else(|| format!("port {number} is agimo's own; give the service another"))?;
        if port.is_in_use() {
            let process = &self.config.name;
            warn!(
                process,
                port = number,
                "something listens on this port already and may be taken for this process"
            );
        }
        Ok(Some(port))
    }

    async fn becomes_ready(&mut self, child: &mut Child, address: SocketAddr) -> Result<(), Ended> {
        let limit = self.config.start_timeout;
        let mut stop = self.stop.clone();
        tokio::select! {
            biased;
            exit = child.exited() => {
                let cause = if exit.not_started { Cause::NotStarted } else { Cause::Exited };
                Err(self.failed(cause, exit.words))
            }
            _ = stop.wait_for(|stop| *stop) => Err(Ended::Stopped),
            () = readiness::passed(address, &self.config.readiness) => Ok(()),
            () = tokio::time::sleep(limit) => {
                let waited = humantime::format_duration(limit);
                Err(self.failed(Cause::NotReady, format!("not ready within start_timeout, {waited}")))
            }
        }
    }

    async fn serves(&mut self, child: &mut Child, address: SocketAddr) -> Ended {
        let ended = tokio::select! {
            exit = child.exited() => Ended::Crashed(exit.words),
            _ = self.stop.wait_for(|stop| *stop) => Ended::Stopped,
        };
        self.status.send_modify(|status| ready_of(status).retain(|ready| *ready != address));
        ended
    }

    /// Said at once, before the process is stopped; beside others that are ready it fails no wake.
    fn failed(&self, cause: Cause, detail: String) -> Ended {
        if !self.status.borrow().is_ready() {
            fail(&self.status, cause, detail);
        } else {
            warn!(process = self.config.name, detail, "a process did not become ready");
        }
        Ended::Failed
    }
}
