//! The metrics of the coordination.

use super::Coordination;
use crate::telemetry::{Exposition, Labels, MetricKind};

/// Writes the metric families of the coordination.
pub fn collect(page: &mut Exposition, coordination: &Coordination) {
    let none = Labels::default();
    page.family(
        "agimo_leader",
        MetricKind::Gauge,
        "Whether this replica scales workloads to zero.",
    );
    page.sample(&none, u64::from(coordination.is_leader()));
    page.family(
        "agimo_peers_known",
        MetricKind::Gauge,
        "Whether the demand of every other replica of agimo is known.",
    );
    page.sample(&none, u64::from(coordination.are_peers_known()));
}
