//! Tests on a real Kubernetes cluster. `cargo xtask test` starts one and runs them inside of it; they never pass where
//! there is none.

// The integration tests use the rest of it.
#[allow(dead_code)]
#[path = "../support.rs"]
mod support;

mod fixtures;

mod chart;
mod external;
mod failures;
mod manifests;
mod many;
mod moment;
mod outside;
mod peers;
mod readiness;
mod replicas;
mod rights;
mod roles;
mod rollout;
mod scaling;
mod seed;
mod smoke;
mod stateful;
mod updates;
mod websocket;
mod without;
