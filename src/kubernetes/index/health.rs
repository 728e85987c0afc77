//! How far the watches of the cluster are, for each namespace.

use std::collections::BTreeMap;

/// How far the watches are that concern one namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WatchHealth {
    /// Every watch was listed once; before that, a missing object may only be unknown.
    pub is_synced: bool,
    /// Why a watch cannot be read now.
    pub fault: Option<String>,
    /// The watches of other scalers. Nothing else depends on them.
    pub scalers: ListHealth,
}

/// How far all watches are: a namespace that cannot be read does not stop the others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClusterHealth {
    /// `None` stands for watches of the whole cluster.
    by_namespace: BTreeMap<Option<String>, NamespaceHealth>,
    /// The namespace of agimo's own replicas, where they are counted.
    peers: Option<String>,
}

/// How far the watches of one namespace are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct NamespaceHealth {
    objects: ListHealth,
    scalers: ListHealth,
}

/// How far some watches are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListHealth {
    /// Every watch was listed once. What it has listed stays known while it is interrupted.
    pub is_synced: bool,
    pub fault: Option<String>,
}

// === impl ClusterHealth ===

impl ClusterHealth {
    /// No watches; `peers` is the namespace of agimo's own replicas.
    pub(super) fn new(peers: Option<String>) -> Self {
        Self { by_namespace: BTreeMap::new(), peers }
    }

    /// Adds a watch.
    pub(super) fn add(
        &mut self,
        namespace: &Option<String>,
        is_of_scalers: bool,
        is_listed: bool,
        fault: Option<&String>,
    ) {
        let health = self.by_namespace.entry(namespace.clone()).or_default();
        let health = if is_of_scalers { &mut health.scalers } else { &mut health.objects };
        health.is_synced &= is_listed;
        health.fault = health.fault.take().or_else(|| fault.cloned());
    }

    /// The health of the watches that concern a workload in this namespace, and of the count of agimo's own replicas.
    pub fn of(&self, namespace: &str) -> WatchHealth {
        let [own, peers] = [Some(namespace), self.peers.as_deref()].map(|namespace| {
            let everywhere = self.by_namespace.get(&None);
            everywhere.or_else(|| self.by_namespace.get(&Some(namespace?.to_owned())))
        });
        let objects = [own, peers].into_iter().flatten().map(|health| &health.objects);
        WatchHealth {
            is_synced: own.is_some() && objects.clone().all(|health| health.is_synced),
            fault: objects.into_iter().find_map(|health| health.fault.clone()),
            scalers: own.map(|own| own.scalers.clone()).unwrap_or_default(),
        }
    }

    /// Whether every namespace was listed once, or cannot be read, and at least one was listed.
    pub fn is_usable(&self) -> bool {
        let mut namespaces = self.by_namespace.values();
        namespaces.clone().any(|health| health.objects.is_synced)
            && namespaces.all(|health| health.objects.is_known() && health.scalers.is_known())
    }
}

// === impl ListHealth ===

impl Default for ListHealth {
    /// Of no watches.
    fn default() -> Self {
        Self { is_synced: true, fault: None }
    }
}

impl ListHealth {
    /// Listed once, or known to be unreadable.
    fn is_known(&self) -> bool {
        self.is_synced || self.fault.is_some()
    }
}
