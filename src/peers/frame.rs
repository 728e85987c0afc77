//! What one replica sends to another: one JSON object in each line.

use std::collections::HashMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::coordination::Report;
use crate::workload::{WorkloadId, WorkloadKind};

/// One line. Without reports it only shows that the replica is there.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Frame {
    /// Of the sender.
    pub instance: u64,
    /// What has changed since the last line; in the first one, everything.
    pub reports: Vec<WorkloadReport>,
}

/// What a replica says about one workload.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WorkloadReport {
    kind: String,
    namespace: String,
    name: String,
    #[serde(flatten)]
    report: Report,
}

/// Finds what has changed since the last line.
#[derive(Default)]
pub struct Changes {
    sent: HashMap<Arc<WorkloadId>, Report>,
}

// === impl WorkloadReport ===

impl WorkloadReport {
    fn new(id: &WorkloadId, report: Report) -> Self {
        Self {
            kind: id.kind.as_str().to_owned(),
            namespace: id.namespace.clone(),
            name: id.name.clone(),
            report,
        }
    }

    /// `None` where this version of agimo does not know the kind.
    pub fn into_parts(self) -> Option<(WorkloadId, Report)> {
        let kind = WorkloadKind::in_cluster(&self.kind)?;
        Some((WorkloadId { kind, namespace: self.namespace, name: self.name }, self.report))
    }
}

// === impl Changes ===

impl Changes {
    /// The reports that differ from those of the last call.
    pub fn next(&mut self, reports: Vec<(Arc<WorkloadId>, Report)>) -> Vec<WorkloadReport> {
        let mut changed = Vec::new();
        for (id, report) in reports {
            if self.sent.get(&id) != Some(&report) {
                changed.push(WorkloadReport::new(&id, report.clone()));
                self.sent.insert(id, report);
            }
        }
        changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coordination::Announcement;

    #[test]
    fn only_changes_are_sent_and_a_line_is_read_as_it_was_written() {
        let id = Arc::new(WorkloadId {
            kind: WorkloadKind::Deployment,
            namespace: "a".into(),
            name: "web".into(),
        });
        let report = Report {
            arrivals: 7,
            announcement: Some(Announcement { id: u64::MAX, is_done: false }),
            withdrawn: vec![3],
            ..Report::default()
        };
        let mut changes = Changes::default();
        let reports = changes.next(vec![(id.clone(), report.clone())]);
        assert_eq!(changes.next(vec![(id.clone(), report.clone())]), []);
        let line = serde_json::to_string(&Frame { instance: 1, reports }).unwrap();
        let read: Frame = serde_json::from_str(&line).unwrap();
        let [read] = <[_; 1]>::try_from(read.reports).unwrap();
        assert_eq!(read.into_parts(), Some(((*id).clone(), report)));
    }

    #[test]
    fn arbitrary_lines_never_panic() {
        for line in [
            "",
            "{}",
            "[]",
            "{\"instance\":-1,\"reports\":[]}",
            "{\"instance\":1,\"reports\":[{}]}",
        ] {
            assert!(serde_json::from_str::<Frame>(line).is_err(), "{line}");
        }
        let newer = "{\"instance\":1,\"reports\":[{\"kind\":\"rollout\",\"namespace\":\"a\",\"name\":\"b\",\
                     \"arrivals\":1,\"in_flight\":0,\"more\":[]}]}";
        let read: Frame = serde_json::from_str(newer).unwrap();
        assert!(read.reports.into_iter().all(|report| report.into_parts().is_none()));
    }
}
