//! agimo: an HTTP proxy that scales workloads to zero replicas and wakes them on the first request.

// A room imports only from rooms above it; `tests/it/tidy.rs` holds this order.
pub mod activation;
pub mod api;
pub mod autoscaler;
pub mod backend;
pub mod backoff;
pub mod catalog;
pub mod cause;
pub mod certificates;
pub mod cli;
pub mod config;
pub mod control_port;
pub mod coordination;
pub mod demand;
pub mod file_version;
pub mod findings;
pub mod http;
pub mod kube_client;
pub mod ledger;
pub mod net;
pub mod ownership;
pub mod pending_operation;
pub mod request_spans;
pub mod routing;
pub mod savings;
pub mod scaling_signal;
pub mod schedule;
pub mod shutdown;
pub mod simulation;
pub mod status;
pub mod tap;
pub mod telemetry;
pub mod version;
pub mod workload;

// Edges: none imports another.
pub mod admin;
pub mod commands;
pub mod config_file;
pub mod external_metrics;
pub mod keda;
pub mod kubernetes;
pub mod otlp;
pub mod peers;
pub mod process;
pub mod prometheus;
pub mod proxy;

// Composition.
pub mod app;
pub mod demo;
