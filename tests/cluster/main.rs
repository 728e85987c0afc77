//! Tests on a real Kubernetes cluster. `cargo xtask test` starts one and runs them inside of it; they never pass where
//! there is none.

// The integration tests use the rest of it.
#[allow(dead_code)]
#[path = "../support.rs"]
mod support;

mod fixtures;

mod readiness;
mod scaling;
mod smoke;
