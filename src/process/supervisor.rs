//! Runs the requested number of processes of one workload, and publishes which of them are ready.

use std::collections::BTreeMap;
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

use super::ScaleRequest;
use super::child::Child;
use super::ports::{Ports, ReservedPort};
use super::readiness;

/// Runs the processes of one workload.
pub struct Supervisor {
    config: Arc<ProcessConfig>,
    requests: watch::Receiver<ScaleRequest>,
    status: Arc<watch::Sender<BackendStatus>>,
    shutdown: Shutdown,
    /// Every replica that has not ended yet, including replicas of earlier wakes that are terminating.
    replicas: JoinSet<(ReplicaId, ReplicaOutcome)>,
    wakes: u64,
    /// The sequence number of the last scale request that was handled.
    handled: u64,
    ports: Ports,
    events: EventPublisher,
}

/// The replicas of one wake.
struct Wake {
    number: u64,
    /// Stops each replica that has not ended, by its number.
    stops: BTreeMap<u64, watch::Sender<bool>>,
    next_replica: u64,
}

/// Tells a replica apart from all others, those of earlier wakes included.
#[derive(Clone, Copy)]
struct ReplicaId {
    wake: u64,
    replica: u64,
}

/// How a replica ended.
enum ReplicaOutcome {
    /// It was stopped on request.
    Stopped,
    /// It did not become ready; this has been published or logged already.
    Failed,
    /// It was ready, and ended by itself.
    Crashed(String),
}

/// The task of one replica.
struct Replica {
    config: Arc<ProcessConfig>,
    status: Arc<watch::Sender<BackendStatus>>,
    ports: Ports,
    events: EventPublisher,
    stop: watch::Receiver<bool>,
}

/// Delay before a replica that ended by itself, while others run, is started again.
const RESTART_DELAY: Duration = Duration::from_secs(1);

// === impl Supervisor ===

impl Supervisor {
    pub(super) fn new(
        config: Arc<ProcessConfig>,
        requests: watch::Receiver<ScaleRequest>,
        status: watch::Sender<BackendStatus>,
        ports: Ports,
        events: EventPublisher,
        shutdown: Shutdown,
    ) -> Self {
        Self {
            config,
            requests,
            status: Arc::new(status),
            shutdown,
            replicas: JoinSet::new(),
            wakes: 0,
            handled: 0,
            ports,
            events,
        }
    }

    /// Runs until the backend is dropped or agimo aborts. Every process has ended when it returns.
    pub async fn run(mut self) {
        while let Some(request) = self.next_scale_request().await {
            self.handled = request.sequence;
            if request.replicas > 0 {
                // With a fixed port, old and new replicas cannot run at the same time.
                if self.config.port.is_some() {
                    while self.replicas.join_next().await.is_some() {}
                }
                self.run_replicas(request.replicas).await;
            }
        }
        while self.replicas.join_next().await.is_some() {}
    }

    /// The next scale request, while replicas of earlier wakes terminate.
    async fn next_scale_request(&mut self) -> Option<ScaleRequest> {
        let handled = self.handled;
        loop {
            tokio::select! {
                () = self.shutdown.aborted() => return None,
                request = next_after(&mut self.requests, handled) => return request,
                Some(_) = self.replicas.join_next() => {}
            }
        }
    }

    /// One wake: from the start of its replicas until they are to stop or have all ended.
    async fn run_replicas(&mut self, replicas: u32) {
        self.wakes += 1;
        let mut wake = Wake { number: self.wakes, stops: BTreeMap::new(), next_replica: 0 };
        self.status.send_modify(|status| {
            ready_endpoints(status).clear();
            status.started = None;
        });
        self.scale_to(replicas, &mut wake);
        loop {
            let handled = self.handled;
            tokio::select! {
                () = self.shutdown.aborted() => break,
                request = next_after(&mut self.requests, handled) => {
                    let Some(request) = request else { break };
                    // `run` handles this request: it stops these replicas, or starts new ones if none is ready.
                    if request.replicas == 0 || !self.status.borrow().is_ready() {
                        break;
                    }
                    self.handled = request.sequence;
                    if request.is_exact {
                        self.scale_to(request.replicas, &mut wake);
                    }
                    // A sleep may have been withdrawn before any replica was stopped: publish the unchanged state again.
                    self.status.send_modify(|_| ());
                }
                Some(ended) = self.replicas.join_next() => {
                    let Ok((id, outcome)) = ended else { break };
                    if id.wake == wake.number {
                        wake.stops.remove(&id.replica);
                        if !self.continues_after(outcome, &mut wake) {
                            break;
                        }
                    }
                }
            }
        }
        self.status.send_modify(|status| ready_endpoints(status).clear());
        for stop in wake.stops.values() {
            stop.send_replace(true);
        }
    }

    /// Starts or stops replicas until the wake has so many.
    fn scale_to(&mut self, replicas: u32, wake: &mut Wake) {
        while wake.stops.len() < replicas as usize {
            self.start(wake, Duration::ZERO);
        }
        while wake.stops.len() > replicas as usize {
            if let Some((_, stop)) = wake.stops.pop_last() {
                stop.send_replace(true);
            }
        }
    }

    /// Whether the wake continues after one of its replicas has ended. Restarts the replica if others are ready.
    fn continues_after(&mut self, outcome: ReplicaOutcome, wake: &mut Wake) -> bool {
        let others_ready = self.status.borrow().is_ready();
        match outcome {
            ReplicaOutcome::Stopped => return !wake.stops.is_empty(),
            ReplicaOutcome::Failed => {}
            ReplicaOutcome::Crashed(detail) => {
                self.events.publish(EventKind::ProcessExited { detail: detail.clone() });
                // The activation may have missed that it was ready for a moment, so publish a failure. If it has
                // noticed the end, it has sent a new scale request, and that wake has not failed.
                if !others_ready && self.requests.borrow().sequence == self.handled {
                    publish_failure(&self.status, Cause::Exited, detail);
                }
            }
        }
        if others_ready {
            self.start(wake, RESTART_DELAY);
        }
        others_ready
    }

    fn start(&mut self, wake: &mut Wake, delay: Duration) {
        let stop = watch::Sender::new(false);
        let replica = Replica {
            config: self.config.clone(),
            status: self.status.clone(),
            ports: self.ports.clone(),
            events: self.events.clone(),
            stop: stop.subscribe(),
        };
        let id = ReplicaId { wake: wake.number, replica: wake.next_replica };
        wake.next_replica += 1;
        wake.stops.insert(id.replica, stop);
        self.replicas.spawn(async move {
            tokio::time::sleep(delay).await;
            (id, replica.run().await)
        });
    }
}

/// The first scale request after the one with sequence number `handled`; `None` when the backend has been dropped.
async fn next_after(
    requests: &mut watch::Receiver<ScaleRequest>,
    handled: u64,
) -> Option<ScaleRequest> {
    requests.wait_for(|request| request.sequence > handled).await.ok().map(|request| *request)
}

/// Publishes that the wake has failed.
fn publish_failure(status: &watch::Sender<BackendStatus>, cause: Cause, detail: String) {
    status.send_modify(|status| {
        let last = match &status.lifecycle {
            Lifecycle::Owned(Some(failure)) => failure.sequence,
            Lifecycle::Owned(None) | Lifecycle::Shared => 0,
        };
        status.lifecycle =
            Lifecycle::Owned(Some(WakeFailure { sequence: last + 1, cause, detail }));
    });
}

/// The endpoints of the processes.
fn ready_endpoints(status: &mut BackendStatus) -> &mut Vec<SocketAddr> {
    &mut status.sources.entry(EndpointSource::Processes).or_default().ready
}

// === impl Replica ===

impl Replica {
    /// Starts the process, publishes its endpoint when it is ready, and stops the process on request.
    async fn run(mut self) -> ReplicaOutcome {
        let child = match self.reserve_port().await {
            Ok(Some(port)) => Child::start(&self.config, port),
            Ok(None) => return ReplicaOutcome::Stopped,
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
        let outcome = match self.wait_until_ready(&mut child, address).await {
            Ok(()) => {
                self.status.send_modify(|status| ready_endpoints(status).push(address));
                self.wait_for_end(&mut child, address).await
            }
            Err(outcome) => outcome,
        };
        child.stop(self.config.stop_grace).await;
        if matches!(outcome, ReplicaOutcome::Stopped) {
            self.events.publish(EventKind::ProcessStopped);
        }
        outcome
    }

    /// Reserves the configured port, as soon as no other process has it, or any free port. `None` if the replica is to
    /// stop.
    async fn reserve_port(&mut self) -> Result<Option<ReservedPort>, String> {
        let Some(number) = self.config.port else {
            if *self.stop.borrow() {
                return Ok(None);
            }
            let port = self.ports.reserve_any();
            return port.map(Some).map_err(|error| format!("no free port: {error}"));
        };
        let port = tokio::select! {
            biased;
            _ = self.stop.wait_for(|stop| *stop) => return Ok(None),
            port = self.ports.reserve(number) => port,
            () = tokio::time::sleep(self.config.start_timeout) => {
                return Err(format!("port {number} is still in use by another process that agimo runs"));
            }
        };
        let port = port.ok_or_else(|| {
            format!("agimo itself listens on port {number}; configure another port for the service")
        })?;
        if port.is_in_use() {
            let process = &self.config.name;
            warn!(
                process,
                port = number,
                "another program already listens on this port and may receive the requests for this process"
            );
        }
        Ok(Some(port))
    }

    async fn wait_until_ready(
        &mut self,
        child: &mut Child,
        address: SocketAddr,
    ) -> Result<(), ReplicaOutcome> {
        let limit = self.config.start_timeout;
        let mut stop = self.stop.clone();
        tokio::select! {
            biased;
            exit = child.exited() => {
                let cause = if exit.not_started { Cause::NotStarted } else { Cause::Exited };
                Err(self.failed(cause, exit.description))
            }
            _ = stop.wait_for(|stop| *stop) => Err(ReplicaOutcome::Stopped),
            () = readiness::wait_until_ready(address, &self.config.readiness) => Ok(()),
            () = tokio::time::sleep(limit) => {
                let waited = humantime::format_duration(limit);
                Err(self.failed(Cause::NotReady, format!("not ready within start_timeout, {waited}")))
            }
        }
    }

    /// Waits until the process ends by itself or is to stop, and removes its endpoint.
    async fn wait_for_end(&mut self, child: &mut Child, address: SocketAddr) -> ReplicaOutcome {
        let outcome = tokio::select! {
            exit = child.exited() => ReplicaOutcome::Crashed(exit.description),
            _ = self.stop.wait_for(|stop| *stop) => ReplicaOutcome::Stopped,
        };
        self.status.send_modify(|status| ready_endpoints(status).retain(|ready| *ready != address));
        outcome
    }

    /// Reports the failure before the process is stopped. While other replicas are ready, the wake has not failed.
    fn failed(&self, cause: Cause, detail: String) -> ReplicaOutcome {
        if self.status.borrow().is_ready() {
            warn!(process = self.config.name, detail, "process did not become ready");
        } else {
            publish_failure(&self.status, cause, detail);
        }
        ReplicaOutcome::Failed
    }
}
