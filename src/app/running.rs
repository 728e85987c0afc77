//! Runs until agimo is asked to end, and then ends everything in order.

use std::time::Duration;

use anyhow::anyhow;
use tokio::sync::mpsc;
use tokio::task::{JoinError, JoinHandle, JoinSet};
use tracing::{info, warn};

use crate::kubernetes::Cluster;
use crate::request_spans::RequestSpans;
use crate::shutdown::Shutdown;

/// Everything that runs until agimo ends.
pub(super) struct Running {
    pub(super) shutdown: Shutdown,
    pub(super) end_requests: mpsc::Receiver<()>,
    pub(super) tasks: JoinSet<&'static str>,
    pub(super) threads: JoinSet<anyhow::Result<()>>,
    pub(super) workloads: JoinHandle<Result<(), JoinError>>,
    /// Takes part in the election of a leader.
    pub(super) elector: Option<Cluster>,
    /// Where the spans of requests go.
    pub(super) spans: Option<RequestSpans>,
}

/// How long processes have between SIGTERM and SIGKILL after a second signal, whatever their `stop_grace`.
const GRACE_AFTER_SECOND_SIGNAL: Duration = Duration::from_millis(500);

// === impl Running ===

impl Running {
    /// Waits for a request to end, or for a task that should not have ended, and ends everything in order:
    /// requests, then tunnels, then the processes of workloads.
    pub(super) async fn until_ended(mut self, drain_timeout: Duration) -> anyhow::Result<()> {
        let outcome = tokio::select! {
            _ = self.end_requests.recv() => Ok(()),
            Some(ended) = self.tasks.join_next() => Err(anyhow!("{} ended by itself", ended?)),
            Some(ended) = self.threads.join_next() => {
                Err(ended?.err().unwrap_or_else(|| anyhow!("a core ended by itself")))
            }
            ended = &mut self.workloads => {
                ended??;
                Err(anyhow!("the tasks of the workloads ended by themselves"))
            }
        };
        info!("draining");
        self.shutdown.drain();
        let (threads, workloads) = (&mut self.threads, &mut self.workloads);
        let in_order = async {
            let drained = async { while threads.join_next().await.is_some() {} };
            if tokio::time::timeout(drain_timeout, drained).await.is_err() {
                warn!("not all requests and tunnels ended within --drain-timeout");
            }
            if let Some(elector) = &self.elector {
                // Each attempt has its deadline.
                elector.lease_released().await;
            }
            if let Some(spans) = &self.spans {
                // It has a deadline, too.
                spans.flush().await;
            }
            self.shutdown.abort();
            if workloads.is_finished() { Ok(()) } else { workloads.await? }
        };
        tokio::select! {
            ended = in_order => ended?,
            Some(()) = self.end_requests.recv() => self.end_now().await,
        }
        outcome
    }

    /// Ends everything now. Processes that do not stop at once are killed when the runtime is dropped.
    async fn end_now(self) {
        warn!("second signal, ending now");
        self.shutdown.abort();
        if !self.workloads.is_finished() {
            let _ = tokio::time::timeout(GRACE_AFTER_SECOND_SIGNAL, self.workloads).await;
        }
    }
}
