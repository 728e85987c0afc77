//! Counts the phases of complete wakes in the metrics of the service whose request caused them.

use std::sync::Arc;

use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::watch;

use super::Snapshot;
use crate::ledger::record::{Record, Wake, WakeCause, WakePhase};
use crate::routing::host_and_path;

/// Phases that are counted where they are reached, and the one that is counted from the arrival of a request.
const COUNTED_ELSEWHERE: [WakePhase; 4] =
    [WakePhase::Started, WakePhase::Ready, WakePhase::Connected, WakePhase::Answered];

/// Counts until no record can come any more.
pub async fn count_phases(
    mut finished: Receiver<Arc<Record>>,
    snapshots: watch::Receiver<Arc<Snapshot>>,
) {
    loop {
        match finished.recv().await {
            Ok(record) => {
                if let Some(wake) = record.wake() {
                    count(wake, &snapshots.borrow());
                }
            }
            // Some wakes are missing in the histograms.
            Err(RecvError::Lagged(_)) => {}
            Err(RecvError::Closed) => return,
        }
    }
}

fn count(wake: &Wake, snapshot: &Snapshot) {
    let WakeCause::Request { service, .. } = &wake.cause else { return };
    let (host, path) = host_and_path(service);
    let Some(route) = snapshot.table.find(host.as_bytes(), path.as_bytes()) else { return };
    // The configuration may have changed since.
    if route.requester.service != *service {
        return;
    }
    for (phase, after) in &wake.phases {
        if !COUNTED_ELSEWHERE.contains(phase) {
            route.requester.cold_start.reached(phase.as_str(), *after);
        }
    }
}
