//! Feeds the catalog: joins the configuration file with the annotated workloads of the cluster whenever one of them changes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use crate::activation::events::{EventBus, EventKind};
use crate::catalog::sources::{Joined, Sources};
use crate::config::Config;
use crate::kubernetes::Cluster;
use crate::workload::WorkloadId;

/// Joins the sources.
pub struct Configuration {
    pub sources: Sources,
    /// New versions of the file.
    pub files: mpsc::Receiver<Config>,
    pub cluster: Option<Cluster>,
    pub catalog: mpsc::Sender<Config>,
    pub events: EventBus,
    /// Set when the annotated workloads have been read once.
    pub is_joined: Arc<AtomicBool>,
}

/// Changes of annotations that come together are applied together.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(20);

// === impl Configuration ===

impl Configuration {
    /// Runs until the catalog has ended.
    pub async fn run(mut self) {
        let mut problems = BTreeMap::new();
        let mut changes = self.cluster.as_ref().map(Cluster::annotated_changes);
        let mut is_listed = false;
        loop {
            let is_annotated = self.cluster.is_some() && self.sources.has_annotations();
            tokio::select! {
                Some(file) = self.files.recv() => self.sources.set_file(file),
                () = until_listed(self.cluster.as_ref()), if is_annotated && !is_listed => {
                    is_listed = true;
                }
                () = changed(&mut changes), if is_annotated && is_listed => {}
                else => return std::future::pending().await,
            }
            let began = Instant::now();
            if let Some(cluster) = self.cluster.as_ref().filter(|_| is_listed) {
                mark_seen(&mut changes);
                self.sources.set_annotated(cluster.annotated());
            }
            let Some(Joined { config, problems: found }) = self.sources.join() else { continue };
            self.publish_problems(&problems, &found);
            problems = found;
            if self.catalog.send(config).await.is_err() {
                return;
            }
            if is_listed {
                self.is_joined.store(true, Ordering::Relaxed);
            }
            // A large configuration takes at most half of the time of this thread.
            tokio::time::sleep(SHORTEST_INTERVAL.max(began.elapsed())).await;
        }
    }

    /// Publishes what is newly wrong with annotations.
    fn publish_problems(
        &self,
        before: &BTreeMap<WorkloadId, Vec<String>>,
        now: &BTreeMap<WorkloadId, Vec<String>>,
    ) {
        for (workload, problems) in now {
            if before.get(workload) == Some(problems) {
                continue;
            }
            let publisher = self.events.publisher(Arc::new(workload.clone()));
            for problem in problems {
                let problem = problem.as_str().into();
                publisher.publish(EventKind::AnnotationRejected { problem });
            }
        }
    }
}

/// Waits until the annotated workloads have been read once.
async fn until_listed(cluster: Option<&Cluster>) {
    match cluster {
        Some(cluster) => {
            cluster.require();
            cluster.until_listed().await;
        }
        None => std::future::pending().await,
    }
}

fn mark_seen(changes: &mut Option<watch::Receiver<u64>>) {
    if let Some(changes) = changes {
        changes.mark_unchanged();
    }
}

async fn changed(changes: &mut Option<watch::Receiver<u64>>) {
    if let Some(changes) = changes
        && changes.changed().await.is_ok()
    {
        return;
    }
    std::future::pending().await
}
