//! Why a workload is not ready or a wake failed: a closed set, so that it can be a metric label and a header value.

/// Why a workload has no ready endpoint, or why a wake failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The program could not be started.
    NotStarted,
    /// The process ended before it was ready.
    Exited,
    /// The process or pod was not ready in time.
    NotReady,
    /// The container image cannot be pulled.
    ImageUnavailable,
    /// The container is crash-looping.
    CrashLoop,
    /// No node has room for the pod.
    Unschedulable,
    /// A quota or an admission rule rejects the pods.
    PodsRefused,
    /// The container cannot be created: for example, a ConfigMap or Secret is missing.
    ContainerRefused,
    /// The Deployment or StatefulSet does not exist.
    WorkloadMissing,
    /// The Service does not exist.
    ServiceMissing,
    /// The Service has no such port, or its port has a target that the pods lack.
    PortMissing,
    /// The Service selects no pod of the workload.
    SelectorMismatch,
    /// The Service is an alias of a name in DNS.
    ServiceExternalName,
    /// A readiness gate of the pod is not met.
    ReadinessGate,
    /// The Deployment is paused and has no pods.
    DeploymentPaused,
    /// An earlier pod has not ended yet, and no new one was created.
    PodTerminating,
    /// Another writer scales the workload to zero.
    ScaledDown,
    /// This agimo does not watch the workload's namespace.
    NamespaceUnwatched,
    /// The API server or Prometheus does not answer, so readiness is unknown.
    Unknown,
    /// `replicas` could not be written.
    ScaleRefused,
    /// An annotation keeps the workload asleep.
    PinnedAsleep,
}

/// Why a workload is not ready now; it may still become ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotReadyReason {
    pub cause: Cause,
    /// One line for people: the objects concerned, and the message of Kubernetes or of the process.
    pub detail: String,
}

// === impl Cause ===

impl Cause {
    /// The value of `x-agimo-reason` and of `reason` in `/services`.
    pub fn token(self) -> &'static str {
        match self {
            Self::NotStarted => "wake-not-started",
            Self::Exited => "wake-exited",
            Self::NotReady => "wake-not-ready",
            Self::ImageUnavailable => "image-unavailable",
            Self::CrashLoop => "crash-loop",
            Self::Unschedulable => "unschedulable",
            Self::PodsRefused => "pods-refused",
            Self::ContainerRefused => "container-refused",
            Self::WorkloadMissing => "workload-missing",
            Self::ServiceMissing => "service-missing",
            Self::PortMissing => "port-missing",
            Self::SelectorMismatch => "selector-mismatch",
            Self::ServiceExternalName => "service-external-name",
            Self::ReadinessGate => "readiness-gate",
            Self::DeploymentPaused => "deployment-paused",
            Self::PodTerminating => "pod-terminating",
            Self::ScaledDown => "scaled-down",
            Self::NamespaceUnwatched => "namespace-unwatched",
            Self::Unknown => "readiness-unknown",
            Self::ScaleRefused => "scale-refused",
            Self::PinnedAsleep => "pinned-asleep",
        }
    }

    /// A sentence for people, without a final stop.
    pub fn description(self) -> &'static str {
        match self {
            Self::NotStarted => "the application could not be started",
            Self::Exited => "the application exited before it was ready",
            Self::NotReady => "the application was not ready in time",
            Self::ImageUnavailable => "the container image cannot be pulled",
            Self::CrashLoop => "the container is crash-looping",
            Self::Unschedulable => "no node has room for the pod",
            Self::PodsRefused => "Kubernetes rejects the pods of the workload",
            Self::ContainerRefused => "the container cannot be created",
            Self::WorkloadMissing => "the workload does not exist",
            Self::ServiceMissing => "the Service of the workload does not exist",
            Self::PortMissing => "the Service or the pods have no such port",
            Self::SelectorMismatch => "the Service selects no pod of the workload",
            Self::ServiceExternalName => "the Service has the type ExternalName",
            Self::ReadinessGate => "a readiness gate of the pod is not met",
            Self::DeploymentPaused => "the Deployment is paused",
            Self::PodTerminating => "an earlier pod is still terminating",
            Self::ScaledDown => "another writer scales the workload to zero",
            Self::NamespaceUnwatched => "agimo does not watch the namespace of the workload",
            Self::Unknown => "the readiness of the workload is unknown",
            Self::ScaleRefused => "the workload could not be scaled",
            Self::PinnedAsleep => "the workload is pinned asleep",
        }
    }
}
