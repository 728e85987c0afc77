//! Tests on a real Kubernetes cluster. `cargo xtask test` starts one and runs this binary on its node; without a cluster
//! every test fails.

// Shared with the integration tests, which use the parts that these tests do not.
#[allow(dead_code)]
#[path = "../support.rs"]
mod support;

mod fixtures;

// libtest runs tests in the order of their full names. `without_kubernetes_parts` must stay the last module by name: its
// file says why.
mod agimo_restart;
mod agimo_rollout;
mod annotations;
mod changes;
mod chart;
mod chart_rbac;
mod cluster_check;
mod documented_commands;
mod documented_manifests;
mod early_ready;
mod endpoint_discovery;
mod explained_wakes;
mod external_metrics;
mod external_scaler;
mod failed_wakes;
mod keda;
mod keda_push;
mod large_cluster;
mod many_wakes;
mod misconfigured_objects;
mod missing_objects;
mod other_writers;
mod own_scaler;
mod ownership;
mod peers;
mod pod_replacement;
mod prometheus_adapter;
mod prometheus_readiness;
mod rbac;
mod requests_while_falling_asleep;
mod routes_of_one_workload;
mod scale_to_zero;
mod service_shapes;
mod shared_service;
mod smoke;
mod stateful_set;
mod tls;
mod websocket;
mod without_kubernetes_parts;
