//! The two stages of an end: drain, then abort. It closes nothing itself.

use tokio_util::sync::CancellationToken;

/// Told to everything that must end; clones share one state.
#[derive(Clone, Debug, Default)]
pub struct Shutdown {
    drain: CancellationToken,
    abort: CancellationToken,
}

// === impl Shutdown ===

impl Shutdown {
    /// Asks all to take nothing new and finish what runs.
    pub fn drain(&self) {
        self.drain.cancel();
    }

    /// Asks all to end now.
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
