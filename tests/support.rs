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
#[path = "support/documentation.rs"]
pub(crate) mod documentation;
#[path = "support/node.rs"]
pub(crate) mod node;
#[path = "support/python.rs"]
pub(crate) mod python;
#[path = "support/tls.rs"]
pub(crate) mod tls;

/// Longest wait for any condition. Generous, because the machine may be busy.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// Polls `condition` until it returns a value; panics with `what` after `DEADLINE`.
pub(crate) async fn eventually<T, F: Future<Output = Option<T>>>(
    what: &str,
    condition: impl FnMut() -> F,
) -> T {
    let value = poll_until(DEADLINE, condition).await;
    value.unwrap_or_else(|| panic!("timed out after {DEADLINE:?}: {what}"))
}

/// Polls `condition` until it returns a value; `None` if it does not within this time.
pub(crate) async fn poll_until<T, F: Future<Output = Option<T>>>(
    limit: Duration,
    mut condition: impl FnMut() -> F,
) -> Option<T> {
    let deadline = tokio::time::Instant::now() + limit;
    loop {
        if let Some(value) = condition().await {
            return Some(value);
        }
        if tokio::time::Instant::now() >= deadline {
            return None;
        }
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
