//! Bounds how many requests are held at once: for each route, and for agimo as a whole.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// The held requests of all routes, and how many there may be (`max_held_total`).
#[derive(Debug, Default)]
pub struct TotalHoldQuota {
    held: AtomicU32,
    limit: AtomicU32,
}

/// The held requests of one route. Clones share the counts.
#[derive(Clone, Debug)]
pub struct HoldQuota {
    held: Arc<AtomicU32>,
    total: Arc<TotalHoldQuota>,
}

/// One held request; it is counted until this is dropped.
#[derive(Debug)]
pub struct HoldPermit(HoldQuota);

// === impl TotalHoldQuota ===

impl TotalHoldQuota {
    pub fn set_limit(&self, limit: u32) {
        self.limit.store(limit, Ordering::Relaxed);
    }
}

// === impl HoldQuota ===

impl HoldQuota {
    pub fn new(total: Arc<TotalHoldQuota>) -> Self {
        Self { held: Arc::default(), total }
    }

    /// A permit to hold one request, unless the route has `limit` held already or agimo has its total.
    pub fn acquire(&self, limit: u32) -> Option<HoldPermit> {
        // Both counts are raised before either is checked: dropping the permit lowers both.
        let permit = HoldPermit(self.clone());
        let held = self.held.fetch_add(1, Ordering::Relaxed);
        let total = self.total.held.fetch_add(1, Ordering::Relaxed);
        (held < limit && total < self.total.limit.load(Ordering::Relaxed)).then_some(permit)
    }

    /// Requests of the route that are held now.
    pub fn held(&self) -> u32 {
        self.held.load(Ordering::Relaxed)
    }
}

// === impl HoldPermit ===

impl Drop for HoldPermit {
    fn drop(&mut self) {
        self.0.held.fetch_sub(1, Ordering::Relaxed);
        self.0.total.held.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_request_is_not_counted() {
        let total = Arc::new(TotalHoldQuota::default());
        total.set_limit(3);
        let (one, other) = (HoldQuota::new(total.clone()), HoldQuota::new(total));
        let permits: Vec<_> = (0..2).filter_map(|_| one.acquire(2)).collect();
        assert_eq!(permits.len(), 2);
        assert!(one.acquire(2).is_none(), "the route is full");
        let last = other.acquire(2).expect("the third of all");
        assert!(other.acquire(2).is_none(), "the total is reached");
        assert_eq!((one.held(), other.held()), (2, 1));
        drop((permits, last));
        assert_eq!((one.held(), other.held()), (0, 0));
    }
}
