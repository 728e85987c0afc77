//! Runs the readiness probes of the pods of a wake, faster than the kubelet does (`early_ready`).

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use tokio::task::{AbortHandle, JoinSet};

use super::readiness_probe::{self, ReadinessProbe};

/// A pod whose readiness is wanted as early as possible.
#[derive(Clone, Debug, PartialEq)]
pub struct ProbedPod {
    pub uid: Arc<str>,
    pub address: IpAddr,
    /// Empty where the pod declares none.
    pub probes: Arc<[ReadinessProbe]>,
    /// Where the routes of the workload would send requests.
    pub endpoints: Vec<SocketAddr>,
}

/// The probes that run now; dropping it ends them.
#[derive(Default)]
pub struct EarlyReadiness {
    running: HashMap<Arc<str>, (ProbedPod, AbortHandle)>,
    tasks: JoinSet<Arc<str>>,
}

// === impl EarlyReadiness ===

impl EarlyReadiness {
    /// Probes exactly these pods.
    pub fn set(&mut self, pods: Vec<ProbedPod>) {
        self.running.retain(|_, (known, task)| {
            let stays = pods.contains(known);
            if !stays {
                task.abort();
            }
            stays
        });
        for pod in pods {
            if self.running.contains_key(&pod.uid) {
                continue;
            }
            let (uid, probed) = (pod.uid.clone(), pod.clone());
            let task = self.tasks.spawn(async move {
                let ProbedPod { uid, address, probes, endpoints } = probed;
                readiness_probe::until_passed(&probes, address, &endpoints).await;
                uid
            });
            self.running.insert(uid, (pod, task));
        }
    }

    /// Waits for the next pod whose probes have passed. Cancel-safe.
    pub async fn next(&mut self) -> Arc<str> {
        loop {
            match self.tasks.join_next().await {
                Some(Ok(uid)) => {
                    // One that was aborted after it had passed is not wanted any more.
                    if self.running.remove(&uid).is_some() {
                        return uid;
                    }
                }
                Some(Err(_)) => {}
                None => std::future::pending().await,
            }
        }
    }
}
