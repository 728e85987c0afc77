//! Something under way to the API server or a name server, beside whatever else its owner waits for. It is not tried
//! again here.

use std::future::{Future, pending};
use std::pin::Pin;

/// A question or a write that has been begun.
pub type Attempt<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// What came of it, once; for ever where nothing is under way. It goes on if this is dropped while it waits.
pub async fn outcome<T>(attempt: &mut Option<Attempt<T>>) -> T {
    let Some(running) = attempt else { return pending().await };
    let outcome = running.await;
    *attempt = None;
    outcome
}
