//! Shows requests as they end to whoever watches. While nobody does, a request costs one look at a number that does not change.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use crate::api::requests::EndedRequest;

/// Where requests are shown. Clones share the watchers.
#[derive(Clone, Debug)]
pub struct Tap {
    shared: Arc<Shared>,
}

/// Sees requests until it is dropped.
pub struct Watcher {
    shared: Arc<Shared>,
    receiver: broadcast::Receiver<Arc<EndedRequest>>,
}

#[derive(Debug)]
struct Shared {
    watchers: AtomicUsize,
    sender: broadcast::Sender<Arc<EndedRequest>>,
}

/// Requests that a slow watcher may fall behind before it loses the oldest.
const CAPACITY: usize = 1024;

// === impl Tap ===

impl Default for Tap {
    fn default() -> Self {
        let sender = broadcast::Sender::new(CAPACITY);
        Self { shared: Arc::new(Shared { watchers: AtomicUsize::new(0), sender }) }
    }
}

impl Tap {
    /// Whether anybody watches.
    pub fn is_watched(&self) -> bool {
        self.shared.watchers.load(Ordering::Relaxed) > 0
    }

    /// Shows a request to all watchers.
    pub fn show(&self, request: EndedRequest) {
        // The last watcher may just have left.
        let _ = self.shared.sender.send(Arc::new(request));
    }

    pub fn watch(&self) -> Watcher {
        self.shared.watchers.fetch_add(1, Ordering::Relaxed);
        Watcher { shared: self.shared.clone(), receiver: self.shared.sender.subscribe() }
    }
}

// === impl Watcher ===

impl Watcher {
    /// The next request, or how many were lost because this watcher was too slow.
    pub async fn next(&mut self) -> Result<Arc<EndedRequest>, u64> {
        match self.receiver.recv().await {
            Ok(request) => Ok(request),
            Err(RecvError::Lagged(lost)) => Err(lost),
            // The sender is as old as this watcher.
            Err(RecvError::Closed) => std::future::pending().await,
        }
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.shared.watchers.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn requests_are_shown_while_somebody_watches() {
        let tap = Tap::default();
        assert!(!tap.is_watched());
        let mut watcher = tap.watch();
        assert!(tap.is_watched());
        let request = EndedRequest {
            at_unix: 1.0,
            method: "GET".to_owned(),
            host: "a.test".to_owned(),
            path: "/".to_owned(),
            service: "a.test".to_owned(),
            network: None,
            client_kind: "browser".to_owned(),
            status: 200,
            reason: None,
            end: "complete".to_owned(),
            held_ms: 0.0,
            total_ms: 1.0,
        };
        tap.show(request.clone());
        assert_eq!(*watcher.next().await.unwrap(), request);
        for _ in 0..=CAPACITY {
            tap.show(request.clone());
        }
        assert_eq!(watcher.next().await, Err(1));
        drop(watcher);
        assert!(!tap.is_watched());
    }
}
