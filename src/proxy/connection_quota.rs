//! Bounds the open client connections of all cores: in total and per address.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::net::address_quota::AddressQuota;

/// The open client connections.
#[derive(Debug, Default)]
pub struct ConnectionQuota {
    open: AtomicUsize,
    /// Counted only where `max_connections_per_address` is set.
    by_address: AddressQuota,
}

/// One open connection; it is counted until this is dropped.
#[derive(Debug)]
pub struct ConnectionPermit {
    quota: Arc<ConnectionQuota>,
    address: Option<IpAddr>,
}

/// One open connection of an address that a header has named; it is counted until this is dropped.
#[derive(Debug)]
pub struct AddressPermit {
    quota: Arc<ConnectionQuota>,
    address: IpAddr,
}

/// Why there is no permit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoPermit {
    /// There are as many connections as there may be.
    Total,
    /// The address has as many as it may have.
    Address,
}

// === impl ConnectionQuota ===

impl ConnectionQuota {
    /// A permit for a connection, unless `most` are open; `of_address` bounds those of its own address.
    pub fn acquire(
        self: &Arc<Self>,
        most: usize,
        of_address: Option<(IpAddr, u32)>,
    ) -> Result<ConnectionPermit, NoPermit> {
        // Counted before the limit is checked: dropping the permit takes it back.
        let mut permit = ConnectionPermit { quota: self.clone(), address: None };
        if self.open.fetch_add(1, Ordering::Relaxed) >= most {
            return Err(NoPermit::Total);
        }
        if let Some((address, most)) = of_address {
            if !self.by_address.acquire(address, most) {
                return Err(NoPermit::Address);
            }
            permit.address = Some(address);
        }
        Ok(permit)
    }

    /// A permit for another connection of an address, unless it has `most`.
    pub fn acquire_address(self: &Arc<Self>, address: IpAddr, most: u32) -> Option<AddressPermit> {
        let is_admitted = self.by_address.acquire(address, most);
        is_admitted.then(|| AddressPermit { quota: self.clone(), address })
    }
}

impl Drop for AddressPermit {
    fn drop(&mut self) {
        self.quota.by_address.release(self.address);
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        self.quota.open.fetch_sub(1, Ordering::Relaxed);
        if let Some(address) = self.address {
            self.quota.by_address.release(address);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_bounded_in_total_and_per_address() {
        let quota = Arc::<ConnectionQuota>::default();
        let [one, other]: [IpAddr; 2] = [[127, 0, 0, 1].into(), [127, 0, 0, 2].into()];
        let acquire = |address: IpAddr| quota.acquire(3, Some((address, 2)));
        let mut permits: Vec<_> = (0..2).map(|_| acquire(one).unwrap()).collect();
        assert_eq!(acquire(one).unwrap_err(), NoPermit::Address);
        permits.push(acquire(other).unwrap());
        assert_eq!(acquire(other).unwrap_err(), NoPermit::Total);
        assert_eq!(quota.acquire(3, None).unwrap_err(), NoPermit::Total);
        drop(permits);
        assert_eq!(quota.open.load(Ordering::Relaxed), 0, "refused ones are not counted");
        assert_eq!(quota.by_address.addresses(), 0);
    }
}
