//! Assigns ports to processes, so that no two of them share one and none gets a port of agimo itself.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::net::{Ipv4Addr, TcpListener};
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// The ports assigned to processes; clones share them.
#[derive(Clone, Debug, Default)]
pub struct Ports {
    /// The ports of agimo's own listeners. An endpoint there would send requests back to agimo in a loop.
    own: Arc<HashSet<u16>>,
    reserved: Arc<Mutex<HashSet<u16>>>,
}

/// A port that is reserved until this is dropped.
#[derive(Debug)]
pub struct ReservedPort {
    number: u16,
    reserved: Arc<Mutex<HashSet<u16>>>,
}

/// Below Linux's ephemeral ports, which an outgoing connection of any program may occupy before the process listens,
/// and below the node ports of Kubernetes.
const PORT_RANGE: RangeInclusive<u16> = 20_000..=29_999;
/// Interval of the check whether a reserved port has been released.
const CHECK_INTERVAL: Duration = Duration::from_millis(20);

// === impl Ports ===

impl Ports {
    /// `own` are the ports that agimo itself listens on.
    pub fn new(own: impl IntoIterator<Item = u16>) -> Self {
        Self { own: Arc::new(own.into_iter().collect()), reserved: Arc::default() }
    }

    /// Reserves a port on which no program listens. The search begins at a random port, so that two agimo processes
    /// on one machine rarely choose the same.
    ///
    /// # Errors
    /// When no port of the range is free.
    pub fn reserve_any(&self) -> std::io::Result<ReservedPort> {
        let ports = PORT_RANGE.end() - PORT_RANGE.start();
        let start = RandomState::new().hash_one(()) as u16 % ports;
        let mut last_error = std::io::Error::from(std::io::ErrorKind::AddrInUse);
        for step in 0..ports {
            let number = PORT_RANGE.start() + (start + step) % ports;
            match TcpListener::bind((Ipv4Addr::LOCALHOST, number)) {
                Ok(_) => {
                    if let Some(port) = self.try_reserve(number) {
                        return Ok(port);
                    }
                }
                Err(error) => last_error = error,
            }
        }
        Err(last_error)
    }

    /// Reserves this port, as soon as no other process has it reserved. `None` if it is a port of agimo itself.
    pub async fn reserve(&self, number: u16) -> Option<ReservedPort> {
        if self.own.contains(&number) {
            return None;
        }
        loop {
            if let Some(port) = self.try_reserve(number) {
                return Some(port);
            }
            tokio::time::sleep(CHECK_INTERVAL).await;
        }
    }

    fn try_reserve(&self, number: u16) -> Option<ReservedPort> {
        let mut reserved = self.reserved.lock().unwrap_or_else(PoisonError::into_inner);
        let is_new = reserved.insert(number);
        is_new.then(|| ReservedPort { number, reserved: self.reserved.clone() })
    }
}

// === impl ReservedPort ===

impl ReservedPort {
    pub fn number(&self) -> u16 {
        self.number
    }

    /// Whether some program already listens on the port.
    pub fn is_in_use(&self) -> bool {
        TcpListener::bind((Ipv4Addr::LOCALHOST, self.number))
            .is_err_and(|error| error.kind() == std::io::ErrorKind::AddrInUse)
    }
}

impl Drop for ReservedPort {
    fn drop(&mut self) {
        self.reserved.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_port_is_reserved_once_and_agimos_own_ports_never() {
        let ports = Ports::new([8080]);
        assert!(ports.reserve(8080).await.is_none());
        let first = ports.reserve(1234).await.unwrap();
        let second = tokio::time::timeout(Duration::from_secs(1), ports.reserve(1234)).await;
        assert!(second.is_err(), "reserved twice");
        drop(first);
        assert_eq!(ports.reserve(1234).await.unwrap().number(), 1234);
    }

    #[test]
    fn reserved_ports_are_all_different() {
        let ports = Ports::default();
        let held: Vec<ReservedPort> = (0..300).map(|_| ports.reserve_any().unwrap()).collect();
        let numbers: HashSet<u16> = held.iter().map(ReservedPort::number).collect();
        assert_eq!(numbers.len(), held.len());
    }
}
