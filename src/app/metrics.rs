//! The metrics of every room on one page.

use std::sync::Arc;

use tokio::sync::watch;

use crate::admin::Collector;
use crate::catalog::{self, Snapshot};
use crate::certificates::Certificates;
use crate::config_file;
use crate::coordination::{self, Coordination};
use crate::external_metrics::Registered;
use crate::request_spans::SpanCounters;
use crate::savings::Savings;
use crate::telemetry::{self, Exposition, Labels, MetricKind};
use crate::version;

/// What has metrics.
pub(super) struct Collected {
    pub(super) snapshots: watch::Receiver<Arc<Snapshot>>,
    pub(super) reloads: Arc<config_file::ReloadStatus>,
    pub(super) coordination: Coordination,
    pub(super) certificates: Certificates,
    pub(super) savings: Savings,
    /// With a collector of traces.
    pub(super) spans: Option<SpanCounters>,
    /// Where HorizontalPodAutoscalers are served.
    pub(super) registered: Option<Registered>,
}

/// The metrics of every room, in the order of the page.
pub(super) fn collectors(collected: Collected) -> Vec<Collector> {
    let Collected { snapshots, reloads, coordination, certificates, savings, spans, registered } =
        collected;
    let mut collectors: Vec<Collector> = vec![
        Box::new(move |page| catalog::metrics::collect(page, &snapshots.borrow().clone())),
        Box::new(move |page| savings.collect(page)),
        Box::new(move |page| reloads.collect(page)),
        Box::new(move |page| coordination::metrics::collect(page, &coordination)),
        Box::new(build_info),
        Box::new(telemetry::process::collect),
        Box::new(telemetry::panics::collect),
        Box::new(move |page| certificates.collect(page)),
    ];
    if let Some(spans) = spans {
        collectors.push(Box::new(move |page| spans.collect(page)));
    }
    if let Some(registered) = registered {
        collectors.push(Box::new(move |page| registered.collect(page)));
    }
    collectors
}

fn build_info(page: &mut Exposition) {
    page.family("agimo_build_info", MetricKind::Gauge, "The version of this agimo; always 1.");
    page.sample(
        &Labels::default().with("version", version::VERSION).with("commit", version::COMMIT),
        1,
    );
}
