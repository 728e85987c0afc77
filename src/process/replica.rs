//! One replica: starts a process, publishes its endpoint while it is ready, and reports how it ended.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tracing::warn;

use crate::activation::events::{EventKind, EventPublisher};
use crate::backend::{BackendStatus, EndpointSource, Lifecycle, WakeFailure};
use crate::cause::Cause;
use crate::config::ProcessConfig;

use super::child::{Child, Exit};
use super::ports::{Ports, ReservedPort};
use super::readiness::Checker;

/// What all replicas of a workload share.
#[derive(Clone)]
pub struct ReplicaContext {
    pub config: Arc<ProcessConfig>,
    /// The host that readiness checks name.
    pub host: Arc<str>,
    pub status: Arc<watch::Sender<BackendStatus>>,
    pub ports: Ports,
    pub events: EventPublisher,
    /// A connection was refused: check again whether the process is ready.
    pub recheck: Arc<Notify>,
}

/// The task of one replica.
pub(super) struct Replica {
    pub(super) context: ReplicaContext,
    pub(super) stop: watch::Receiver<bool>,
}

/// How a replica ended.
pub(super) enum ReplicaOutcome {
    /// It was stopped on request.
    Stopped,
    /// It did not become ready. `Some` where that was only logged, since other replicas were ready.
    Failed(Option<(Cause, String)>),
    /// It was ready, and ended by itself or had to be ended. That has been published as an event already.
    Crashed(String),
}

/// How long a process that refuses connections may take to accept them again, before it is restarted.
const RECOVERY_TIMEOUT: Duration = Duration::from_secs(5);
/// Limit for the look whether something listens in place of an ended program.
const LEFTOVER_TIMEOUT: Duration = Duration::from_millis(100);

// === impl ReplicaContext ===

impl ReplicaContext {
    /// Publishes that the wake has failed, or that the last replica of a wake that had succeeded has ended.
    pub(super) fn publish_failure(&self, was_ready: bool, cause: Cause, detail: String) {
        self.status.send_modify(|status| {
            let last = match &status.lifecycle {
                Lifecycle::Owned(Some(failure)) => failure.sequence,
                Lifecycle::Owned(None) | Lifecycle::Shared => 0,
            };
            let failure = WakeFailure { sequence: last + 1, was_ready, cause, detail };
            status.lifecycle = Lifecycle::Owned(Some(failure));
        });
    }
}

/// The endpoints of the processes.
pub(super) fn ready_endpoints(status: &mut BackendStatus) -> &mut Vec<SocketAddr> {
    &mut status.sources.entry(EndpointSource::Processes).or_default().ready
}

// === impl Replica ===

impl Replica {
    /// Runs the process after this delay, until it ends or is to stop.
    pub(super) async fn run_after(mut self, delay: Duration) -> ReplicaOutcome {
        tokio::select! {
            _ = self.stop.wait_for(|stop| *stop), if !delay.is_zero() => return ReplicaOutcome::Stopped,
            () = tokio::time::sleep(delay) => {}
        }
        self.run().await
    }

    async fn run(mut self) -> ReplicaOutcome {
        let child = match self.reserve_port().await {
            Ok(Some(port)) => Child::start(&self.context.config, port),
            Ok(None) => return ReplicaOutcome::Stopped,
            Err(error) => Err(error),
        };
        let mut child = match child {
            Ok(child) => child,
            Err(error) => return self.failed(Cause::NotStarted, error),
        };
        let started = Instant::now();
        self.context.status.send_modify(|status| {
            status.started.get_or_insert(started);
        });
        let end = match self.until_ready(&mut child).await {
            Ok(address) => self.serve(&mut child, address).await,
            Err(end) => end,
        };
        self.context.status.send_modify(|status| status.is_starting = false);
        self.end(child, end).await
    }

    /// Reports how the process ended, or ends it.
    async fn end(&self, child: Child, end: End) -> ReplicaOutcome {
        let grace = self.context.config.stop_grace;
        match end {
            End::Stopped => {
                child.stop(grace).await;
                self.context.events.publish(EventKind::ProcessStopped);
                ReplicaOutcome::Stopped
            }
            End::NotReady(detail) => {
                let outcome = self.failed(Cause::NotReady, detail);
                child.stop(grace).await;
                outcome
            }
            End::Unresponsive(detail) => {
                let unresponsive = EventKind::ProcessUnresponsive { detail: detail.clone() };
                self.context.events.publish(unresponsive);
                child.stop(grace).await;
                ReplicaOutcome::Crashed(detail)
            }
            End::Exited { was_ready } => {
                let left_behind = still_listens(child.port()).await;
                let exit = child.into_exit().await;
                let cause = if exit.is_not_started() { Cause::NotStarted } else { Cause::Exited };
                let detail = describe(&exit, left_behind);
                if was_ready {
                    self.context
                        .events
                        .publish(EventKind::ProcessExited { detail: detail.clone() });
                    ReplicaOutcome::Crashed(detail)
                } else {
                    self.failed(cause, detail)
                }
            }
        }
    }

    /// Reserves the configured port, as soon as no other process has it, or any free port. `None` if the replica is to
    /// stop.
    async fn reserve_port(&mut self) -> Result<Option<ReservedPort>, String> {
        let ReplicaContext { config, ports, .. } = &self.context;
        let Some(number) = config.port else {
            if *self.stop.borrow() {
                return Ok(None);
            }
            let port = ports.reserve_any();
            return port.map(Some).map_err(|error| format!("no free port: {error}"));
        };
        let port = tokio::select! {
            biased;
            _ = self.stop.wait_for(|stop| *stop) => return Ok(None),
            port = ports.reserve(number) => port,
            () = tokio::time::sleep(config.start_timeout) => {
                return Err(format!("port {number} is still in use by another process that agimo runs"));
            }
        };
        let port = port.ok_or_else(|| {
            format!("agimo itself listens on port {number}; configure another port for the service")
        })?;
        if port.is_in_use() {
            let process = &config.name;
            warn!(
                process,
                port = number,
                "another program already listens on this port and may receive the requests for this process"
            );
        }
        Ok(Some(port))
    }

    /// The address of the process, when it is ready.
    async fn until_ready(&self, child: &mut Child) -> Result<SocketAddr, End> {
        let limit = self.context.config.start_timeout;
        let mut checker = self.checker(child);
        let mut stop = self.stop.clone();
        tokio::select! {
            biased;
            () = child.ended() => Err(End::Exited { was_ready: false }),
            _ = stop.wait_for(|stop| *stop) => Err(End::Stopped),
            address = checker.until_ready() => Ok(address),
            () = tokio::time::sleep(limit) => {
                let waited = humantime::format_duration(limit);
                let failure = &checker.last_failure;
                let listening = listening_addresses(child);
                Err(End::NotReady(format!("not ready within start_timeout, {waited}: {failure}{listening}")))
            }
        }
    }

    /// Publishes the endpoint while the process is ready.
    async fn serve(&mut self, child: &mut Child, address: SocketAddr) -> End {
        let context = self.context.clone();
        let mut stop = self.stop.clone();
        let publish = |is_ready: bool| {
            context.status.send_modify(|status| {
                status.is_starting = !is_ready;
                ready_endpoints(status).retain(|ready| *ready != address);
                if is_ready {
                    ready_endpoints(status).push(address);
                }
            });
        };
        publish(true);
        let end = loop {
            let recheck = context.recheck.notified();
            let end = tokio::select! {
                biased;
                () = child.ended() => Some(End::Exited { was_ready: true }),
                _ = stop.wait_for(|stop| *stop) => Some(End::Stopped),
                () = recheck => None,
            };
            if let Some(end) = end {
                break end;
            }
            let mut checker = self.checker(child);
            if checker.check_once().await.is_some() {
                continue;
            }
            publish(false);
            let end = tokio::select! {
                biased;
                () = child.ended() => End::Exited { was_ready: true },
                _ = stop.wait_for(|stop| *stop) => End::Stopped,
                _ = checker.until_ready() => {
                    publish(true);
                    continue;
                }
                () = tokio::time::sleep(RECOVERY_TIMEOUT) => {
                    let failure = &checker.last_failure;
                    End::Unresponsive(format!("not ready any more for {RECOVERY_TIMEOUT:?}: {failure}"))
                }
            };
            break end;
        };
        context.status.send_modify(|status| {
            status.is_starting = false;
            ready_endpoints(status).retain(|ready| *ready != address);
        });
        end
    }

    fn checker(&self, child: &Child) -> Checker<'_> {
        let ReplicaContext { config, host, .. } = &self.context;
        let last_failure = String::new();
        Checker { port: child.port(), check: &config.readiness, host, last_failure }
    }

    /// Reports the failure before the process is stopped. While other replicas are ready, the wake has not failed.
    fn failed(&self, cause: Cause, detail: String) -> ReplicaOutcome {
        if self.context.status.borrow().is_ready() {
            let process = &self.context.config.name;
            warn!(process, detail, "process did not become ready");
            return ReplicaOutcome::Failed(Some((cause, detail)));
        }
        // A replica that was told to stop belongs to a wake that has ended.
        if !*self.stop.borrow() {
            self.context.publish_failure(false, cause, detail);
        }
        ReplicaOutcome::Failed(None)
    }
}

/// Why a process is not to run any more.
enum End {
    Stopped,
    /// It ended by itself.
    Exited {
        was_ready: bool,
    },
    NotReady(String),
    /// It was ready, refused connections, and did not recover.
    Unresponsive(String),
}

/// Whether something that an ended program has left behind accepts connections in its place.
async fn still_listens(port: u16) -> bool {
    let connect = TcpStream::connect(("127.0.0.1", port));
    // A listener with a full queue does not answer at all.
    tokio::time::timeout(LEFTOVER_TIMEOUT, connect).await.is_ok_and(|connected| connected.is_ok())
}

fn describe(exit: &Exit, left_behind: bool) -> String {
    if exit.is_success() && left_behind {
        let advice = "the program went into the background: configure it to run in the foreground";
        return format!("{}; {advice}", exit.description);
    }
    exit.description.clone()
}

/// Where the process listens instead, for people.
fn listening_addresses(child: &Child) -> String {
    let addresses = super::process_tree::listening_addresses(&child.processes());
    if addresses.is_empty() {
        return "; the process does not listen anywhere".to_owned();
    }
    let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    let port = child.port();
    format!("; the process listens on {}, and PORT is {port}", addresses.join(", "))
}
