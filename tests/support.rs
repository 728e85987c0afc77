//! Fixtures of the integration tests: agimo itself, applications, an HTTP client, a browser, and waiting with a deadline.

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

/// Longest wait for any condition. Generous, because the machine may be busy.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// Polls `condition` until it returns a value; panics with `what` after `DEADLINE`.
pub(crate) async fn eventually<T, F: Future<Output = Option<T>>>(
    what: &str,
    mut condition: impl FnMut() -> F,
) -> T {
    let deadline = tokio::time::Instant::now() + DEADLINE;
    loop {
        if let Some(value) = condition().await {
            return value;
        }
        assert!(tokio::time::Instant::now() < deadline, "timed out after {DEADLINE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Awaits `future`; panics with `what` after `DEADLINE`.
pub(crate) async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(DEADLINE, future).await {
        Ok(value) => value,
        Err(_) => panic!("timed out after {DEADLINE:?}: {what}"),
    }
}
