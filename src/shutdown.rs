//! The two stages of shutdown: drain, then abort.

use tokio_util::sync::CancellationToken;

/// Signals both stages to every task; clones share one state.
#[derive(Clone, Debug, Default)]
pub struct Shutdown {
    drain: CancellationToken,
    abort: CancellationToken,
}

// === impl Shutdown ===

impl Shutdown {
    /// Tells every task to accept no new work and to finish what is in flight.
    pub fn drain(&self) {
        self.drain.cancel();
    }

    /// Tells every task to end now.
    pub fn abort(&self) {
        self.drain.cancel();
        self.abort.cancel();
    }

    pub fn is_draining(&self) -> bool {
        self.drain.is_cancelled()
    }

    pub async fn draining(&self) {
        self.drain.cancelled().await;
    }

    pub async fn aborted(&self) {
        self.abort.cancelled().await;
    }
}
