//! An operation in progress against the API server or a name server, awaited beside other inputs. It is not retried here.

use std::future::{Future, pending};
use std::pin::Pin;

/// A request that was begun and has not been answered yet.
pub type PendingOperation<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Waits for the result, and forever where no operation is in progress. Cancel-safe: the operation continues with the
/// next call.
pub async fn result_of<T>(operation: &mut Option<PendingOperation<T>>) -> T {
    let Some(running) = operation else { return pending().await };
    let result = running.await;
    *operation = None;
    result
}
