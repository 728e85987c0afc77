//! Which objects are watched, and where.

/// The kinds of objects that are watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ObjectKind {
    EndpointSlice,
    Service,
    Deployment,
    StatefulSet,
    HorizontalPodAutoscaler,
    ScaledObject,
}

/// One watch: its kind, and its namespace unless it covers all of them.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WatchScope {
    pub kind: ObjectKind,
    pub namespace: Option<String>,
}

// === impl ObjectKind ===

impl ObjectKind {
    /// Whether it only tells who else scales a workload: the rest of agimo works without it.
    pub fn is_scaler(self) -> bool {
        matches!(self, Self::HorizontalPodAutoscaler | Self::ScaledObject)
    }
}
