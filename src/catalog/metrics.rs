//! The metric families of all routes of a snapshot.

use std::collections::BTreeSet;

use crate::activation::cold_start;
use crate::demand;
use crate::telemetry::{Exposition, Labels, MetricKind};

use crate::workload::WorkloadId;

use super::Snapshot;

/// Writes them to the metrics page.
pub fn collect(page: &mut Exposition, snapshot: &Snapshot) {
    let routes = &snapshot.routes;
    let counters: Vec<_> = routes.iter().map(|r| (r.labels.clone(), r.counters.clone())).collect();
    demand::metrics::collect(page, &counters);
    let with_activation = routes.iter().filter(|route| route.workload.activation.is_some());
    let cold_starts: Vec<_> = with_activation
        .map(|route| (route.labels.clone(), route.requester.cold_start.clone()))
        .collect();
    cold_start::collect(page, &cold_starts);
    scalers(page, snapshot);
}

/// Who scales each workload, and why.
fn scalers(page: &mut Exposition, snapshot: &Snapshot) {
    let help = "Who scales the workload (agimo or external), and why; always 1.";
    page.family("agimo_workload_scaler", MetricKind::Gauge, help);
    let mut shown = BTreeSet::new();
    for route in &snapshot.routes {
        let WorkloadId { kind, namespace, name } = &*route.workload.id;
        let Some(activation) = &route.workload.activation else { continue };
        if !shown.insert(&route.workload.id) {
            continue;
        }
        let ownership = activation.status().ownership;
        let labels = Labels::default()
            .with("kind", kind.as_str())
            .with("namespace", namespace)
            .with("name", name)
            .with("scaler", ownership.authority.as_str())
            .with("reason", ownership.reason.token());
        page.sample(&labels, 1);
    }
}
