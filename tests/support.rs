//! What the integration tests are written with. It asserts nothing about agimo by itself.

use std::future::Future;
use std::time::Duration;

#[path = "support/agimo.rs"]
pub(crate) mod agimo;
#[path = "support/application.rs"]
pub(crate) mod application;
#[path = "support/chromium.rs"]
pub(crate) mod chromium;
#[path = "support/client.rs"]
pub(crate) mod client;
#[path = "support/python.rs"]
pub(crate) mod python;

/// Generous, for a busy machine; conditions are met long before.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Waits until `condition` gives a value, looking often; panics with `what` after `PATIENCE`.
pub(crate) async fn eventually<T, F: Future<Output = Option<T>>>(
    what: &str,
    mut condition: impl FnMut() -> F,
) -> T {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        if let Some(value) = condition().await {
            return value;
        }
        assert!(tokio::time::Instant::now() < deadline, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Fails instead of hanging.
pub(crate) async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_) => panic!("not in time: {what}"),
    }
}
