//! What follows the complete records of the ledger: the metrics of cold starts, and the export of traces.

use std::sync::Arc;

use anyhow::anyhow;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::catalog::{Snapshot, cold_starts};
use crate::cli::serving::OtlpProtocol;
use crate::coordination::Coordination;
use crate::ledger::Ledger;
use crate::otlp::Exporter;
use crate::otlp::transport::Transport;
use crate::request_spans::{RequestSpans, SpanCounters};

/// A collector of OpenTelemetry, and what it receives.
#[derive(Clone)]
pub struct OtlpSettings {
    pub protocol: OtlpProtocol,
    /// A URL.
    pub endpoint: String,
    /// Further fields of requests to it, as `AGIMO_OTLP_HEADERS` has them; they may be secret.
    pub headers: String,
    /// The share of requests that have a span, from 0 to 1.
    pub sample_ratio: f64,
}

/// Follows them in tasks whose values are their names. Returns where the spans of requests go.
///
/// # Errors
/// When the collector is named wrongly.
pub(super) fn follow(
    ledger: &Ledger,
    otlp: Option<(OtlpSettings, SpanCounters)>,
    coordination: &Coordination,
    snapshots: &watch::Receiver<Arc<Snapshot>>,
    tasks: &mut JoinSet<&'static str>,
) -> anyhow::Result<Option<RequestSpans>> {
    let (finished, snapshots) = (ledger.finished(), snapshots.clone());
    tasks.spawn(async move {
        cold_starts::count_phases(finished, snapshots).await;
        "the metrics of cold starts"
    });
    let Some((OtlpSettings { protocol, endpoint, headers, sample_ratio }, counters)) = otlp else {
        return Ok(None);
    };
    let transport = Transport::new(protocol, &endpoint, &headers);
    let transport =
        transport.map_err(|error| anyhow!("the collector of traces (--otlp-endpoint): {error}"))?;
    let exporter = Exporter::new(transport, coordination.name(), counters.clone());
    let (spans, ended) = RequestSpans::new(sample_ratio, counters);
    let finished = ledger.finished();
    tasks.spawn(async move {
        exporter.run(finished, ended).await;
        "the export of traces"
    });
    Ok(Some(spans))
}
