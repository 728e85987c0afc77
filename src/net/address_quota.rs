//! Counts what the clients of each address have at once.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

/// A count per address; an address without any takes no memory.
#[derive(Debug, Default)]
pub struct AddressQuota(Mutex<HashMap<IpAddr, u32>>);

// === impl AddressQuota ===

impl AddressQuota {
    /// Counts one more for the address, unless it has `most`.
    pub fn acquire(&self, address: IpAddr, most: u32) -> bool {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(address).or_default();
        let is_free = *count < most;
        *count += u32::from(is_free);
        is_free
    }

    /// Takes back one that was counted.
    pub fn release(&self, address: IpAddr) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&address);
            }
        }
    }

    /// Addresses that are counted.
    #[cfg(test)]
    pub fn addresses(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}
