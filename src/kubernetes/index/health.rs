//! How far the watches of the cluster are, for each namespace.

use std::collections::BTreeMap;

/// How far the watches are that concern one namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WatchHealth {
    /// Every watch was listed once; before that, a missing object may only be unknown.
    pub is_synced: bool,
    /// Why a watch cannot be read now.
    pub fault: Option<String>,
}

/// How far all watches are: a namespace that cannot be read does not stop the others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClusterHealth {
    /// `None` stands for watches of the whole cluster.
    pub(super) by_namespace: BTreeMap<Option<String>, WatchHealth>,
    /// The namespace of agimo's own replicas, where they are counted.
    pub(super) peers: Option<String>,
}

// === impl ClusterHealth ===

impl ClusterHealth {
    /// The health of the watches that concern a workload in this namespace, and of the count of agimo's own replicas.
    pub fn of(&self, namespace: &str) -> WatchHealth {
        let [own, peers] = [Some(namespace), self.peers.as_deref()].map(|namespace| {
            let everywhere = self.by_namespace.get(&None);
            everywhere.or_else(|| self.by_namespace.get(&Some(namespace?.to_owned())))
        });
        WatchHealth {
            is_synced: own.is_some_and(|own| own.is_synced)
                && peers.is_none_or(|peers| peers.is_synced),
            fault: [own, peers].into_iter().flatten().find_map(|health| health.fault.clone()),
        }
    }

    /// Whether every namespace was listed once, or cannot be read, and at least one was listed.
    pub fn is_usable(&self) -> bool {
        let mut namespaces = self.by_namespace.values();
        namespaces.clone().any(|health| health.is_synced)
            && namespaces.all(|health| health.is_synced || health.fault.is_some())
    }
}
