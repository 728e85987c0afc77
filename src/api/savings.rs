//! `/api/v1/savings`: what sleeping workloads have not requested of the cluster.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::catalog::Route;
use crate::savings::{Saved, Savings};
use crate::telemetry::durations::since_1970;

/// As one replica of agimo has counted since it started.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SavingsReport {
    pub replica: String,
    /// In seconds since 1970.
    pub since_unix: f64,
    pub workloads: Vec<WorkloadSavings>,
    pub total: Amounts,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WorkloadSavings {
    pub workload: String,
    /// How much of the time it was asleep, from 0 to 1.
    pub asleep_share: f64,
    #[serde(flatten)]
    pub amounts: Amounts,
}

/// What did not run: requests of pods, not money.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Amounts {
    pub replica_hours: f64,
    pub cpu_core_hours: f64,
    pub memory_gib_hours: f64,
}

const HOUR: f64 = 3600.0;
const GIB: f64 = 1_073_741_824.0;

// === impl SavingsReport ===

impl SavingsReport {
    /// Of the workloads of these routes, each once.
    pub fn new(routes: &[Arc<Route>], savings: &Savings, replica: &str) -> Self {
        let mut ids: Vec<_> = routes.iter().map(|route| route.workload.id.clone()).collect();
        ids.sort();
        ids.dedup();
        let of_workload = |id| {
            let saved = savings.of(id);
            let known = saved.known.as_secs_f64();
            let asleep_share = if known > 0.0 { saved.asleep.as_secs_f64() / known } else { 0.0 };
            WorkloadSavings { workload: id.to_string(), asleep_share, amounts: Amounts::of(&saved) }
        };
        let workloads: Vec<_> = ids.iter().map(|id| of_workload(id)).collect();
        let amounts = workloads.iter().map(|workload| workload.amounts);
        Self {
            replica: replica.to_owned(),
            since_unix: since_1970(savings.since()).as_secs_f64().round(),
            total: amounts.fold(Amounts::default(), Amounts::plus),
            workloads,
        }
    }
}

// === impl Amounts ===

impl Amounts {
    fn of(saved: &Saved) -> Self {
        Self {
            replica_hours: saved.replica_seconds / HOUR,
            cpu_core_hours: saved.cpu_seconds / HOUR,
            memory_gib_hours: saved.memory_byte_seconds / GIB / HOUR,
        }
    }

    fn plus(self, other: Self) -> Self {
        Self {
            replica_hours: self.replica_hours + other.replica_hours,
            cpu_core_hours: self.cpu_core_hours + other.cpu_core_hours,
            memory_gib_hours: self.memory_gib_hours + other.memory_gib_hours,
        }
    }
}
