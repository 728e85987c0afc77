//! Feeds the catalog: joins the configuration file with the annotated workloads of the cluster whenever one of them changes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tracing::error;

use crate::activation::events::{EventBus, EventKind};
use crate::catalog::sources::{Joined, Sources};
use crate::certificates::Certificates;
use crate::config::Config;
use crate::kubernetes::Cluster;
use crate::pending_operation::sleep_until;
use crate::workload::WorkloadId;

/// Joins the sources.
pub struct Configuration {
    pub sources: Sources,
    /// New versions of the file.
    pub files: mpsc::Receiver<Config>,
    pub cluster: Option<Cluster>,
    pub catalog: mpsc::Sender<Config>,
    /// Published before the services that need them.
    pub certificates: Certificates,
    pub events: EventBus,
    /// Set when the annotated workloads have been read once.
    pub is_joined: Arc<AtomicBool>,
}

/// Changes of annotations that come together are applied together.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(20);

/// What is wrong with the annotations of workloads.
#[derive(Default)]
struct Problems {
    found: BTreeMap<WorkloadId, Problem>,
}

struct Problem {
    lines: Vec<String>,
    /// When to tell it; absent where that is done.
    due: Option<Instant>,
}

/// A workload and its Service are often applied one after the other.
const PATIENCE: Duration = Duration::from_secs(2);

// === impl Configuration ===

impl Configuration {
    /// Runs until the catalog has ended.
    pub async fn run(mut self) {
        let mut problems = Problems::default();
        let mut changes = self.cluster.as_ref().map(Cluster::annotated_changes);
        let mut is_listed = false;
        loop {
            let is_annotated = self.cluster.is_some() && self.sources.has_annotations();
            tokio::select! {
                Some(file) = self.files.recv() => {
                    if file.annotations.is_some() && self.cluster.is_none() {
                        error!("`annotations = true` needs the Kubernetes API: start agimo with access to a cluster");
                    }
                    self.sources.set_file(file);
                }
                () = sleep_until(problems.due()) => {
                    self.publish_problems(&mut problems);
                    continue;
                }
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
            problems.replace(found, Instant::now());
            if !apply_certificates(&self.certificates, &config).await {
                continue;
            }
            if self.catalog.send(config).await.is_err() {
                return;
            }
            if is_listed || !self.sources.has_annotations() {
                self.is_joined.store(true, Ordering::Relaxed);
            }
            // A large configuration takes at most half of the time of this thread.
            tokio::time::sleep(SHORTEST_INTERVAL.max(began.elapsed())).await;
        }
    }

    /// Publishes what has been wrong with annotations for a while.
    fn publish_problems(&self, problems: &mut Problems) {
        for (workload, lines) in problems.take_due(Instant::now()) {
            let publisher = self.events.publisher(Arc::new(workload));
            for line in lines {
                let problem = line.as_str().into();
                publisher.publish(EventKind::AnnotationRejected { problem });
            }
        }
    }
}

/// Publishes the certificates of a configuration; false where they cannot be read.
async fn apply_certificates(certificates: &Certificates, config: &Config) -> bool {
    if certificates.are_applied(config) {
        return true;
    }
    let (certificates, config) = (certificates.clone(), config.clone());
    // A file may be on a slow volume.
    let applied = tokio::task::spawn_blocking(move || certificates.apply(&config)).await;
    if let Ok(Err(problems)) = &applied {
        for problem in problems {
            error!("the configuration was not applied: {}", problem.message);
        }
    }
    matches!(applied, Ok(Ok(())))
}

// === impl Problems ===

impl Problems {
    /// What is wrong now.
    fn replace(&mut self, found: BTreeMap<WorkloadId, Vec<String>>, now: Instant) {
        let mut before = std::mem::take(&mut self.found);
        let entry = |(workload, lines): (WorkloadId, Vec<String>)| {
            let known = before.remove(&workload).filter(|known| known.lines == lines);
            let new = || Problem { lines, due: Some(now + PATIENCE) };
            (workload, known.unwrap_or_else(new))
        };
        self.found = found.into_iter().map(entry).collect();
    }

    fn due(&self) -> Option<Instant> {
        self.found.values().filter_map(|problem| problem.due).min()
    }

    fn take_due(&mut self, now: Instant) -> Vec<(WorkloadId, Vec<String>)> {
        let mut due = Vec::new();
        for (workload, problem) in &mut self.found {
            if problem.due.take_if(|at| now >= *at).is_some() {
                due.push((workload.clone(), problem.lines.clone()));
            }
        }
        due
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
