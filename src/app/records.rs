//! What follows the complete records of the ledger: the metrics of cold starts, and the export of their traces.

use std::sync::Arc;

use anyhow::anyhow;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::catalog::{Snapshot, cold_starts};
use crate::coordination::Coordination;
use crate::ledger::Ledger;
use crate::otlp::Exporter;

/// Follows them in tasks whose values are their names. `otlp` is a collector of OpenTelemetry: its endpoint, and further fields of
/// requests.
///
/// # Errors
/// When the collector is named wrongly.
pub(super) fn follow(
    ledger: &Ledger,
    otlp: Option<(String, String)>,
    coordination: &Coordination,
    snapshots: &watch::Receiver<Arc<Snapshot>>,
    tasks: &mut JoinSet<&'static str>,
) -> anyhow::Result<()> {
    let (finished, snapshots) = (ledger.finished(), snapshots.clone());
    tasks.spawn(async move {
        cold_starts::count_phases(finished, snapshots).await;
        "the metrics of cold starts"
    });
    if let Some((endpoint, headers)) = otlp {
        let exporter = Exporter::new(&endpoint, &headers, coordination.name());
        let exporter = exporter.map_err(|error| anyhow!("--otlp-endpoint: {error}"))?;
        let finished = ledger.finished();
        tasks.spawn(async move {
            exporter.run(finished).await;
            "the export of traces"
        });
    }
    Ok(())
}
