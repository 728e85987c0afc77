//! The scalers other than agimo, found by the workload that they target.

use super::grouped::Grouped;
use super::{Index, WorkloadKey, workload_key};
use crate::kubernetes::objects::ObjectName;
use crate::kubernetes::objects::scaler::ScalerObject;
use crate::kubernetes::watch_scope::ObjectKind;
use crate::ownership::OtherScaler;

/// The scalers of each kind.
#[derive(Default)]
pub(super) struct Scalers {
    hpas: Grouped<WorkloadKey, OtherScaler>,
    scaled_objects: Grouped<WorkloadKey, OtherScaler>,
    /// HPAs read the metrics of agimo from agimo itself.
    has_external_metrics: bool,
}

// === impl Scalers ===

impl Scalers {
    /// Stores or removes a scaler, and returns the workloads whose scalers have changed.
    pub(super) fn put(
        &mut self,
        kind: ObjectKind,
        name: ObjectName,
        scaler: Option<ScalerObject>,
    ) -> Vec<WorkloadKey> {
        let scaler = scaler.map(|ScalerObject { target: (kind, target), scaler }| {
            (workload_key(kind, target), scaler)
        });
        let of_kind = if kind == ObjectKind::ScaledObject {
            &mut self.scaled_objects
        } else {
            &mut self.hpas
        };
        of_kind.put(name, scaler)
    }

    pub(super) fn of(&self, workload: &WorkloadKey) -> Vec<OtherScaler> {
        let mut scalers: Vec<_> =
            self.scaled_objects.of(workload).chain(self.hpas.of(workload)).cloned().collect();
        for scaler in &mut scalers {
            if let OtherScaler::HorizontalPodAutoscaler(hpa) = scaler {
                // Otherwise somebody else serves metrics of these names.
                hpa.reads_agimo &= self.has_external_metrics;
            }
        }
        scalers
    }

    /// The workload that a ScaledObject targets.
    pub(super) fn scaled_object_target(&self, name: &ObjectName) -> Option<&WorkloadKey> {
        self.scaled_objects.parent_of(name)
    }

    /// The names of all scalers of a kind.
    pub(super) fn names(&self, kind: ObjectKind) -> impl Iterator<Item = &ObjectName> {
        let of_kind =
            if kind == ObjectKind::ScaledObject { &self.scaled_objects } else { &self.hpas };
        of_kind.names()
    }
}

// === impl Index ===

impl Index {
    /// Whether HPAs read the metrics of agimo from agimo itself.
    pub fn set_external_metrics(&mut self, has_external_metrics: bool) {
        if self.scalers.has_external_metrics == has_external_metrics {
            return;
        }
        self.scalers.has_external_metrics = has_external_metrics;
        let workloads: Vec<WorkloadKey> = self.scalers.hpas.all_parents().cloned().collect();
        for key in workloads {
            self.followers.publish_scalers(&key, self.scalers.of(&key));
        }
    }
}
