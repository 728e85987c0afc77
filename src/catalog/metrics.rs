//! The metric families of all routes of a snapshot.

use crate::activation::cold_start;
use crate::demand;
use crate::telemetry::Exposition;

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
}
