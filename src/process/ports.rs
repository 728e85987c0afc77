//! Gives each process a port of its own, so that none is taken for another. It listens on none.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::net::{Ipv4Addr, TcpListener};
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// The ports of this agimo's processes; clones share them.
#[derive(Clone, Debug, Default)]
pub struct Ports {
    /// agimo's own listeners: a process there would be agimo itself, endlessly.
    own: Arc<HashSet<u16>>,
    given: Arc<Mutex<HashSet<u16>>>,
}

/// A port that is given to nobody else until this is dropped.
#[derive(Debug)]
pub struct Port {
    number: u16,
    given: Arc<Mutex<HashSet<u16>>>,
}

/// Below Linux's ephemeral ports, which anyone's outgoing connection may take between choosing and
/// listening, and below Kubernetes' node ports.
const FREE: RangeInclusive<u16> = 20_000..=29_999;
/// How often to look whether a port has been given back.
const LOOK_EVERY: Duration = Duration::from_millis(20);

// === impl Ports ===

impl Ports {
    /// `own` are the ports that agimo itself listens on.
    pub fn new(own: impl IntoIterator<Item = u16>) -> Self {
        Self { own: Arc::new(own.into_iter().collect()), given: Arc::default() }
    }

    /// A port that nobody listens on. The start is random, to keep two agimos apart.
    pub fn any(&self) -> std::io::Result<Port> {
        let ports = FREE.end() - FREE.start();
        let start = RandomState::new().hash_one(()) as u16 % ports;
        let mut taken = std::io::Error::from(std::io::ErrorKind::AddrInUse);
        for step in 0..ports {
            let number = FREE.start() + (start + step) % ports;
            match TcpListener::bind((Ipv4Addr::LOCALHOST, number)) {
                Ok(_) => {
                    if let Some(port) = self.give(number) {
                        return Ok(port);
                    }
                }
                Err(error) => taken = error,
            }
        }
        Err(taken)
    }

    /// This very port, once no process of this agimo has it; `None` for one of agimo's own.
    pub async fn this(&self, number: u16) -> Option<Port> {
        if self.own.contains(&number) {
            return None;
        }
        loop {
            if let Some(port) = self.give(number) {
                return Some(port);
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    fn give(&self, number: u16) -> Option<Port> {
        let mut given = self.given.lock().unwrap_or_else(PoisonError::into_inner);
        given.insert(number).then(|| Port { number, given: self.given.clone() })
    }
}

// === impl Port ===

impl Port {
    pub fn number(&self) -> u16 {
        self.number
    }

    /// Whether something listens there already.
    pub fn is_in_use(&self) -> bool {
        TcpListener::bind((Ipv4Addr::LOCALHOST, self.number))
            .is_err_and(|error| error.kind() == std::io::ErrorKind::AddrInUse)
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        self.given.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_port_has_one_holder_at_a_time_and_agimos_own_has_none() {
        let ports = Ports::new([8080]);
        assert!(ports.this(8080).await.is_none());
        let first = ports.this(1234).await.unwrap();
        let second = tokio::time::timeout(Duration::from_secs(1), ports.this(1234)).await;
        assert!(second.is_err(), "given twice");
        drop(first);
        assert_eq!(ports.this(1234).await.unwrap().number(), 1234);
    }

    #[test]
    fn many_ports_are_all_different() {
        let ports = Ports::default();
        let held: Vec<Port> = (0..300).map(|_| ports.any().unwrap()).collect();
        let numbers: HashSet<u16> = held.iter().map(Port::number).collect();
        assert_eq!(numbers.len(), held.len());
    }
}
