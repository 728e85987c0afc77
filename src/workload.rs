//! Identifies a workload: the unit that is woken, scaled and put to sleep as one, however many routes lead to it.

use std::fmt;

/// What runs a workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum WorkloadKind {
    /// A Kubernetes Deployment.
    Deployment,
    /// A Kubernetes StatefulSet.
    StatefulSet,
    /// Processes on this machine.
    Process,
}

/// A workload's identity. It stays the same across configurations and restarts of agimo.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WorkloadId {
    pub kind: WorkloadKind,
    /// Empty for processes, which have no namespace.
    pub namespace: String,
    pub name: String,
}

/// The ordinal of a replica with this name in a StatefulSet (Kubernetes, StatefulSet, ordinal index).
pub fn ordinal(replica: &str, stateful_set: &str) -> Option<u32> {
    let ordinal = replica.strip_prefix(stateful_set)?.strip_prefix('-')?;
    let is_canonical = ordinal == "0" || !ordinal.starts_with(['0', '+']);
    ordinal.parse().ok().filter(|_| is_canonical)
}

// === impl WorkloadKind ===

impl WorkloadKind {
    /// The kind as the configuration and the status name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Deployment => "deployment",
            Self::StatefulSet => "statefulset",
            Self::Process => "process",
        }
    }

    /// The kind of a workload in Kubernetes that has this name.
    pub fn in_cluster(name: &str) -> Option<Self> {
        [Self::Deployment, Self::StatefulSet].into_iter().find(|kind| kind.as_str() == name)
    }

    /// The kind as Kubernetes writes it.
    pub fn kubernetes_name(self) -> &'static str {
        match self {
            Self::Deployment => "Deployment",
            Self::StatefulSet => "StatefulSet",
            Self::Process => "Process",
        }
    }
}

// === impl WorkloadId ===

impl fmt::Display for WorkloadId {
    /// `deployment default/web` or `process app`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind.as_str())?;
        f.write_str(" ")?;
        if !self.namespace.is_empty() {
            write!(f, "{}/", self.namespace)?;
        }
        f.write_str(&self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_names_kind_namespace_and_name() {
        let id = |kind, namespace: &str| WorkloadId {
            kind,
            namespace: namespace.to_owned(),
            name: "web".to_owned(),
        };
        assert_eq!(id(WorkloadKind::StatefulSet, "shop").to_string(), "statefulset shop/web");
        assert_eq!(id(WorkloadKind::Process, "").to_string(), "process web");
    }
}
