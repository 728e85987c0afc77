//! Runs the requested number of processes of one workload, one wake after the other.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::cause::{Cause, NotReadyReason};
use crate::shutdown::Shutdown;

use super::ScaleRequest;
use super::replica::{Replica, ReplicaContext, ReplicaOutcome, ready_endpoints};

/// Runs the processes of one workload.
pub struct Supervisor {
    context: ReplicaContext,
    requests: watch::Receiver<ScaleRequest>,
    shutdown: Shutdown,
    /// Every replica that has not ended yet, including replicas of earlier wakes that are terminating.
    replicas: JoinSet<(ReplicaId, ReplicaOutcome)>,
    wakes: u64,
    /// The sequence number of the last scale request that was handled.
    handled: u64,
    /// When the last wake began.
    started: Option<Instant>,
    /// The last wake ended because its last replica ended by itself.
    has_crashed: bool,
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

/// Delay before a replica that ended by itself, while others run, is started again.
const RESTART_DELAY: Duration = Duration::from_secs(1);
/// A workload that crashes is not started more often than once in this time. Requests are held meanwhile.
const CRASH_INTERVAL: Duration = Duration::from_millis(100);

// === impl Supervisor ===

impl Supervisor {
    pub(super) fn new(
        context: ReplicaContext,
        requests: watch::Receiver<ScaleRequest>,
        shutdown: Shutdown,
    ) -> Self {
        Self {
            context,
            requests,
            shutdown,
            replicas: JoinSet::new(),
            wakes: 0,
            handled: 0,
            started: None,
            has_crashed: false,
        }
    }

    /// Runs until the backend is dropped or agimo aborts. Every process has ended when it returns.
    pub async fn run(mut self) {
        while let Some(request) = self.next_scale_request().await {
            self.handled = request.sequence;
            if request.replicas == 0 {
                continue;
            }
            self.wait_for_earlier_replicas().await;
            // Nothing is started for a request that another one has replaced meanwhile.
            if self.requests.borrow().sequence == self.handled {
                self.run_replicas(request.replicas).await;
            }
        }
        while self.replicas.join_next().await.is_some() {}
    }

    /// Old and new replicas never run at the same time: they may share a port, a lock or a folder.
    async fn wait_for_earlier_replicas(&mut self) {
        if !self.replicas.is_empty() {
            let grace = humantime::format_duration(self.context.config.stop_grace);
            let detail = format!("the previous process is still stopping (stop_grace {grace})");
            let reason = NotReadyReason { cause: Cause::NotReady, detail };
            self.context.status.send_modify(|status| status.not_ready = Some(reason));
        }
        while let Some(ended) = self.replicas.join_next().await {
            self.note_end(ended.as_ref().ok().map(|(_, outcome)| outcome));
        }
        self.context.status.send_if_modified(|status| status.not_ready.take().is_some());
        if let (true, Some(started)) = (self.has_crashed, self.started) {
            tokio::select! {
                () = self.shutdown.aborted() => {}
                () = tokio::time::sleep_until(started + CRASH_INTERVAL) => {}
            }
        }
    }

    /// The next scale request, while replicas of earlier wakes terminate.
    async fn next_scale_request(&mut self) -> Option<ScaleRequest> {
        let handled = self.handled;
        loop {
            tokio::select! {
                () = self.shutdown.aborted() => return None,
                request = next_after(&mut self.requests, handled) => return request,
                Some(ended) = self.replicas.join_next() => {
                    self.note_end(ended.as_ref().ok().map(|(_, outcome)| outcome));
                }
            }
        }
    }

    fn note_end(&mut self, outcome: Option<&ReplicaOutcome>) {
        self.has_crashed |= matches!(outcome, Some(ReplicaOutcome::Crashed(_)));
    }

    /// One wake: from the start of its replicas until they are to stop or have all ended.
    async fn run_replicas(&mut self, replicas: u32) {
        self.wakes += 1;
        self.started = Some(Instant::now());
        self.has_crashed = false;
        let mut wake = Wake { number: self.wakes, stops: BTreeMap::new(), next_replica: 0 };
        self.context.status.send_modify(|status| {
            ready_endpoints(status).clear();
            status.started = None;
            status.is_starting = true;
        });
        self.scale_to(replicas, &mut wake);
        loop {
            let handled = self.handled;
            tokio::select! {
                () = self.shutdown.aborted() => break,
                request = next_after(&mut self.requests, handled) => {
                    let Some(request) = request else { break };
                    let (is_ready, is_starting) = {
                        let status = self.context.status.borrow();
                        (status.is_ready(), status.is_starting)
                    };
                    // `run` handles this request: it stops these replicas, or starts new ones if none is ready.
                    if request.replicas == 0 || !(is_ready || is_starting) {
                        break;
                    }
                    self.handled = request.sequence;
                    if request.is_exact {
                        self.scale_to(request.replicas, &mut wake);
                    }
                    // A sleep may have been withdrawn before any replica was stopped: publish the unchanged state again.
                    self.context.status.send_modify(|_| ());
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
        self.context.status.send_modify(|status| {
            ready_endpoints(status).clear();
            status.is_starting = false;
        });
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
        let others_ready = self.context.status.borrow().is_ready();
        match outcome {
            ReplicaOutcome::Stopped => return !wake.stops.is_empty(),
            ReplicaOutcome::Failed(logged) => {
                // The replicas that were ready when it failed may not be any more.
                if let (Some((cause, detail)), false) = (logged, others_ready) {
                    self.context.publish_failure(false, cause, detail);
                }
            }
            ReplicaOutcome::Crashed(detail) => {
                // The activation may have missed that it was ready for a moment, so publish the end. If it has noticed
                // it, it has sent a new scale request.
                if !others_ready && self.requests.borrow().sequence == self.handled {
                    self.context.publish_failure(true, Cause::Exited, detail);
                }
                self.has_crashed = true;
            }
        }
        if others_ready {
            self.start(wake, RESTART_DELAY);
        }
        others_ready
    }

    fn start(&mut self, wake: &mut Wake, delay: Duration) {
        let stop = watch::Sender::new(false);
        let replica = Replica { context: self.context.clone(), stop: stop.subscribe() };
        let id = ReplicaId { wake: wake.number, replica: wake.next_replica };
        wake.next_replica += 1;
        wake.stops.insert(id.replica, stop);
        self.replicas.spawn(async move { (id, replica.run_after(delay).await) });
    }
}

/// The first scale request after the one with sequence number `handled`; `None` when the backend has been dropped.
async fn next_after(
    requests: &mut watch::Receiver<ScaleRequest>,
    handled: u64,
) -> Option<ScaleRequest> {
    requests.wait_for(|request| request.sequence > handled).await.ok().map(|request| *request)
}
