//! Bounds how many requests are held at once: for each route, and for agimo as a whole.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

use crate::net::address_quota::AddressQuota;

/// The held requests of all routes, and how many there may be (`max_held_total`).
#[derive(Debug, Default)]
pub struct TotalHoldQuota {
    held: AtomicU32,
    limit: AtomicU32,
}

/// The held requests of one route. Clones share the counts.
#[derive(Clone, Debug)]
pub struct HoldQuota {
    of_route: Arc<RouteHolds>,
    total: Arc<TotalHoldQuota>,
}

#[derive(Debug, Default)]
struct RouteHolds {
    held: AtomicU32,
    begun: Mutex<Begun>,
    /// Counted only where `max_held_per_address` is set.
    by_address: AddressQuota,
}

/// When each request began to be held, by its number: the first one is the oldest.
#[derive(Debug, Default)]
struct Begun {
    next: u64,
    times: BTreeMap<u64, Instant>,
}

/// One held request; it is counted until this is dropped.
#[derive(Debug)]
pub struct HoldPermit {
    quota: HoldQuota,
    number: u64,
    address: Option<IpAddr>,
}

// === impl TotalHoldQuota ===

impl TotalHoldQuota {
    pub fn set_limit(&self, limit: u32) {
        self.limit.store(limit, Ordering::Relaxed);
    }
}

// === impl HoldQuota ===

impl HoldQuota {
    pub fn new(total: Arc<TotalHoldQuota>) -> Self {
        Self { of_route: Arc::default(), total }
    }

    /// A permit to hold one request, unless the route has `limit` held already or agimo has its total; `of_address` bounds
    /// those of the client's own address.
    pub fn acquire(&self, limit: u32, of_address: Option<(IpAddr, u32)>) -> Option<HoldPermit> {
        // Both counts are raised before either is checked: dropping the permit lowers both.
        let number = self.begun().add(Instant::now());
        let mut permit = HoldPermit { quota: self.clone(), number, address: None };
        let held = self.of_route.held.fetch_add(1, Ordering::Relaxed);
        let total = self.total.held.fetch_add(1, Ordering::Relaxed);
        if held >= limit || total >= self.total.limit.load(Ordering::Relaxed) {
            return None;
        }
        if let Some((address, most)) = of_address {
            if !self.of_route.by_address.acquire(address, most) {
                return None;
            }
            permit.address = Some(address);
        }
        Some(permit)
    }

    /// Requests of the route that are held now.
    pub fn held(&self) -> u32 {
        self.of_route.held.load(Ordering::Relaxed)
    }

    /// When the oldest of them began to be held.
    pub fn oldest(&self) -> Option<Instant> {
        self.begun().times.values().next().copied()
    }

    fn begun(&self) -> MutexGuard<'_, Begun> {
        self.of_route.begun.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Begun ===

impl Begun {
    fn add(&mut self, now: Instant) -> u64 {
        self.next += 1;
        self.times.insert(self.next, now);
        self.next
    }
}

// === impl HoldPermit ===

impl Drop for HoldPermit {
    fn drop(&mut self) {
        self.quota.begun().times.remove(&self.number);
        self.quota.of_route.held.fetch_sub(1, Ordering::Relaxed);
        self.quota.total.held.fetch_sub(1, Ordering::Relaxed);
        if let Some(address) = self.address {
            self.quota.of_route.by_address.release(address);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_has_its_share_only() {
        let total = Arc::new(TotalHoldQuota::default());
        total.set_limit(9);
        let quota = HoldQuota::new(total);
        let [one, other]: [IpAddr; 2] = [[127, 0, 0, 1].into(), [127, 0, 0, 2].into()];
        let acquire = |address| quota.acquire(9, Some((address, 2)));
        let permits: Vec<_> = (0..2).map(|_| acquire(one).unwrap()).collect();
        assert!(acquire(one).is_none());
        assert!(acquire(other).is_some() && quota.acquire(9, None).is_some());
        drop(permits);
        assert_eq!((quota.held(), quota.of_route.by_address.addresses()), (0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn the_oldest_held_request_is_known() {
        let total = Arc::new(TotalHoldQuota::default());
        total.set_limit(9);
        let quota = HoldQuota::new(total);
        assert_eq!(quota.oldest(), None);
        let start = Instant::now();
        let first = quota.acquire(2, None);
        tokio::time::advance(std::time::Duration::from_secs(3)).await;
        let second = quota.acquire(2, None);
        assert!(quota.acquire(2, None).is_none(), "the route is full");
        assert_eq!(quota.oldest(), Some(start));
        drop(first);
        assert_eq!(quota.oldest(), Some(Instant::now()));
        drop(second);
        assert_eq!(quota.oldest(), None);
    }

    #[test]
    fn a_refused_request_is_not_counted() {
        let total = Arc::new(TotalHoldQuota::default());
        total.set_limit(3);
        let (one, other) = (HoldQuota::new(total.clone()), HoldQuota::new(total));
        let permits: Vec<_> = (0..2).filter_map(|_| one.acquire(2, None)).collect();
        assert_eq!(permits.len(), 2);
        assert!(one.acquire(2, None).is_none(), "the route is full");
        let last = other.acquire(2, None).expect("the third of all");
        assert!(other.acquire(2, None).is_none(), "the total is reached");
        assert_eq!((one.held(), other.held()), (2, 1));
        drop((permits, last));
        assert_eq!((one.held(), other.held()), (0, 0));
    }
}
