//! The rooms of `src/`: their order, and what the rooms of the model do not know.

/// Every room of `src/` in order: a room imports only from rooms above it.
pub(super) const ORDER: [&[&str]; 3] = [ABOVE_EDGES, EDGES, COMPOSITION];
pub(super) const ABOVE_EDGES: &[&str] = &[
    "version",
    "backoff",
    "file_version",
    "pending_operation",
    "shutdown",
    "telemetry",
    "net",
    "http",
    "kube_client",
    "findings",
    "control_port",
    "workload",
    "cause",
    "schedule",
    "config",
    "certificates",
    "routing",
    "demand",
    "ownership",
    "autoscaler",
    "backend",
    "coordination",
    "activation",
    "ledger",
    "catalog",
    "status",
    "savings",
    "api",
    "tap",
    "request_spans",
    "scaling_signal",
    "simulation",
    "cli",
];

/// Rooms that connect agimo to the outside. None of them imports another.
pub(super) const EDGES: &[&str] = &[
    "admin",
    "commands",
    "config_file",
    "external_metrics",
    "keda",
    "kubernetes",
    "otlp",
    "peers",
    "process",
    "prometheus",
    "proxy",
];

pub(super) const COMPOSITION: &[&str] = &["app", "demo", "lib", "main"];

/// Rooms that know neither a protocol nor a place where workloads run.
pub(super) const MODEL: &[&str] = &[
    "workload",
    "cause",
    "schedule",
    "config",
    "routing",
    "demand",
    "ownership",
    "autoscaler",
    "backend",
    "coordination",
    "activation",
    "ledger",
    "catalog",
    "status",
    "scaling_signal",
    "simulation",
];

/// Names that no room of the model mentions: it serves any protocol and any cluster.
pub(super) const UNKNOWN_TO_THE_MODEL: &[&str] =
    &["http1", "httparse", "hyper", "hyper_util", "kube", "k8s_openapi", "tonic", "prost"];
