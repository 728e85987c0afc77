//! What is awaited beside other inputs, if it is there at all: an operation in progress, a point in time.

use std::future::{Future, pending};
use std::pin::Pin;

use tokio::time::Instant;

/// A request to another program that was begun and has not been answered yet. It is not retried here.
pub type PendingOperation<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Waits for the result, and forever where no operation is in progress. Cancel-safe: the operation continues with the
/// next call.
pub async fn result_of<T>(operation: &mut Option<PendingOperation<T>>) -> T {
    let Some(running) = operation else { return pending().await };
    let result = running.await;
    *operation = None;
    result
}

/// Waits until this time, and forever where there is none.
pub async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => pending().await,
    }
}
