//! The metrics of every room on one page.

use std::sync::Arc;

use tokio::sync::watch;

use crate::admin::Collector;
use crate::catalog::{self, Snapshot};
use crate::config_file;
use crate::coordination::{self, Coordination};
use crate::telemetry::{self, Exposition, Labels, MetricKind};
use crate::version;

/// The metrics of every room, in the order of the page.
pub(super) fn collectors(
    snapshots: watch::Receiver<Arc<Snapshot>>,
    status: Arc<config_file::ReloadStatus>,
    coordination: Coordination,
) -> Vec<Collector> {
    vec![
        Box::new(move |page| catalog::metrics::collect(page, &snapshots.borrow().clone())),
        Box::new(move |page| status.collect(page)),
        Box::new(move |page| coordination::metrics::collect(page, &coordination)),
        Box::new(build_info),
        Box::new(telemetry::process::collect),
        Box::new(telemetry::panics::collect),
    ]
}

fn build_info(page: &mut Exposition) {
    page.family("agimo_build_info", MetricKind::Gauge, "The version of this agimo; always 1.");
    page.sample(
        &Labels::default().with("version", version::VERSION).with("commit", version::COMMIT),
        1,
    );
}
