//! What sleeping workloads have not requested of the cluster: replicas, CPU and memory over time. It counts requests of pods that do not
//! run, not money: whether a node is saved depends on everything else that runs there.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::sync::watch;
use tokio::time::Instant;

use crate::activation::Activation;
use crate::catalog::Snapshot;
use crate::telemetry::{Exposition, Labels, MetricKind};
use crate::workload::WorkloadId;

/// The savings of all workloads since this replica of agimo has started. Clones share them.
#[derive(Clone)]
pub struct Savings {
    since: SystemTime,
    saved: Arc<Mutex<HashMap<Arc<WorkloadId>, Saved>>>,
}

/// What one workload has not used.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Saved {
    /// For how long the workload is known here, and for how long of that it was asleep.
    pub known: Duration,
    pub asleep: Duration,
    /// Each in units multiplied by seconds: of replicas, of CPU cores, of bytes.
    pub replica_seconds: f64,
    pub cpu_seconds: f64,
    pub memory_byte_seconds: f64,
    /// It was seen at the last count.
    is_current: bool,
}

/// Name, help and value of a metric.
type Family = (&'static str, &'static str, fn(&Saved) -> f64);

/// How often to look. A sleep that is shorter may be missed, and counts for as much as it is seen.
const INTERVAL: Duration = Duration::from_secs(5);

// === impl Savings ===

impl Default for Savings {
    fn default() -> Self {
        Self { since: SystemTime::now(), saved: Arc::default() }
    }
}

impl Savings {
    /// Counts forever.
    pub async fn run(self, snapshots: watch::Receiver<Arc<Snapshot>>) {
        let mut last = Instant::now();
        loop {
            tokio::time::sleep(INTERVAL).await;
            let now = Instant::now();
            self.count(&snapshots.borrow().clone(), now - last);
            last = now;
        }
    }

    fn count(&self, snapshot: &Snapshot, passed: Duration) {
        let mut saved = self.lock();
        saved.values_mut().for_each(|saved| saved.is_current = false);
        for route in &snapshot.routes {
            let Some(activation) = &route.workload.activation else { continue };
            let saved = saved.entry(route.workload.id.clone()).or_default();
            // Several routes may lead to one workload.
            if !std::mem::replace(&mut saved.is_current, true) {
                saved.add(activation, passed);
            }
        }
        saved.retain(|_, saved| saved.is_current);
    }

    pub fn since(&self) -> SystemTime {
        self.since
    }

    pub fn of(&self, workload: &WorkloadId) -> Saved {
        self.lock().get(workload).copied().unwrap_or_default()
    }

    /// Writes the metric families.
    pub fn collect(&self, page: &mut Exposition) {
        // Whoever counts does not wait until the page is written.
        let known = self.lock().clone();
        let mut saved: Vec<_> = known.iter().filter(|(_, saved)| !saved.asleep.is_zero()).collect();
        saved.sort_by_key(|(id, _)| *id);
        let families: [Family; 3] = [
            (
                "agimo_saved_replica_seconds_total",
                "Replicas that did not run because the workload was asleep, multiplied by seconds.",
                |saved| saved.replica_seconds,
            ),
            (
                "agimo_saved_cpu_core_seconds_total",
                "CPU cores that those replicas would have requested, multiplied by seconds.",
                |saved| saved.cpu_seconds,
            ),
            (
                "agimo_saved_memory_byte_seconds_total",
                "Bytes of memory that those replicas would have requested, multiplied by seconds.",
                |saved| saved.memory_byte_seconds,
            ),
        ];
        for (name, help, value) in families {
            page.family(name, MetricKind::Counter, help);
            for (id, saved) in &saved {
                let WorkloadId { kind, namespace, name } = &***id;
                let labels = Labels::default()
                    .with("kind", kind.as_str())
                    .with("namespace", namespace)
                    .with("name", name);
                page.sample(&labels, value(saved));
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Arc<WorkloadId>, Saved>> {
        self.saved.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Saved ===

impl Saved {
    fn add(&mut self, activation: &Activation, passed: Duration) {
        self.known += passed;
        let Some((replicas, requests)) = activation.sleeping() else { return };
        let replicas = f64::from(replicas) * passed.as_secs_f64();
        self.asleep += passed;
        self.replica_seconds += replicas;
        self.cpu_seconds += replicas * requests.cpu_millis as f64 / 1e3;
        self.memory_byte_seconds += replicas * requests.memory_bytes as f64;
    }
}
