//! The client connections of one core: which of them can be closed to make room, and what their incomplete heads hold.

use std::cell::{Cell, OnceCell, RefCell, RefMut};
use std::rc::{Rc, Weak};
use std::task::{Context, Waker};

use tokio::time::Instant;

use super::connection_quota::{AddressPermit, ConnectionPermit};

/// All client connections of a core.
#[derive(Default)]
pub struct ClientConnections {
    all: RefCell<Vec<Weak<ClientConnection>>>,
    /// Connections on which HTTP has not begun.
    opening: Cell<usize>,
    /// Bytes of incomplete heads.
    partial: Cell<usize>,
    most_partial: Cell<usize>,
}

/// One connection, as others may close it.
#[derive(Default)]
pub struct ClientConnection {
    waits: Cell<Option<Waits>>,
    /// Counts it as long as it exists.
    _permit: Option<ConnectionPermit>,
    /// The same for the client that a header of the PROXY protocol has named.
    address_permit: OnceCell<Box<AddressPermit>>,
    /// What has arrived of a head that is not complete. Whoever closes the connection frees it at once.
    partial: RefCell<Vec<u8>>,
    /// Its length, as it is counted.
    counted: Cell<usize>,
    is_shed: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

/// What a connection waits for, and since when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Waits {
    since: Instant,
    until: Awaited,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Awaited {
    /// HTTP begins: the handshake of TLS is complete.
    Opening,
    /// The next request.
    Request,
    /// The rest of a head.
    Head,
}

/// Counts a connection on which HTTP has not begun, until this is dropped.
pub struct OpeningConnection<'a> {
    connections: &'a ClientConnections,
    connection: &'a ClientConnection,
}

/// So many connections of a core may be opening. A handshake holds buffers, and whoever begins many can take all memory.
const MOST_OPENING: usize = 1024;

/// Connections that have ended are forgotten when so many more have begun.
const FORGET_EACH: usize = 64;

// === impl ClientConnections ===

impl ClientConnections {
    pub fn set_most_partial(&self, bytes: usize) {
        self.most_partial.set(bytes);
    }

    /// Adds a connection, which is forgotten when its owner drops it.
    pub fn add(&self, permit: Option<ConnectionPermit>) -> Rc<ClientConnection> {
        let connection =
            Rc::new(ClientConnection { _permit: permit, ..ClientConnection::default() });
        let mut all = self.all.borrow_mut();
        if all.len() == all.capacity() || all.len().is_multiple_of(FORGET_EACH) {
            all.retain(|known| known.strong_count() > 0);
        }
        all.push(Rc::downgrade(&connection));
        connection
    }

    /// Closes the connection that has been idle for longest; false where none is idle.
    pub fn shed_idle(&self) -> bool {
        self.shed(|awaited| awaited == Awaited::Request)
    }

    /// HTTP begins later on this connection. Where too many are opening, the oldest of them is closed.
    pub fn begin_opening<'a>(
        &'a self,
        connection: &'a ClientConnection,
        now: Instant,
    ) -> OpeningConnection<'a> {
        connection.waits.set(Some(Waits { since: now, until: Awaited::Opening }));
        self.opening.set(self.opening.get() + 1);
        if self.opening.get() > MOST_OPENING {
            self.shed(|awaited| awaited == Awaited::Opening);
        }
        OpeningConnection { connections: self, connection }
    }

    /// Counts the bytes of the head that is not complete yet, and closes connections with older ones while there are too
    /// many.
    pub fn count_partial(&self, connection: &ClientConnection) {
        let bytes = connection.partial.borrow().len();
        let before = connection.counted.replace(bytes);
        self.partial.set(self.partial.get() - before + bytes);
        while self.partial.get() > self.most_partial.get()
            && self.shed(|awaited| awaited == Awaited::Head)
        {}
    }

    fn shed(&self, is_candidate: impl Fn(Awaited) -> bool) -> bool {
        let all = self.all.borrow();
        let candidates = all.iter().filter_map(Weak::upgrade).filter(|known| !known.is_shed.get());
        let waiting = candidates.filter_map(|known| {
            let waits = known.waits.get().filter(|waits| is_candidate(waits.until))?;
            Some((waits.since, known))
        });
        let Some((_, oldest)) = waiting.min_by_key(|(since, _)| *since) else { return false };
        oldest.is_shed.set(true);
        self.partial.set(self.partial.get() - oldest.counted.take());
        oldest.partial.take();
        if let Some(waker) = oldest.waker.take() {
            waker.wake();
        }
        true
    }
}

// === impl OpeningConnection ===

impl Drop for OpeningConnection<'_> {
    fn drop(&mut self) {
        self.connections.opening.set(self.connections.opening.get() - 1);
        self.connection.waits.set(None);
    }
}

// === impl ClientConnection ===

impl ClientConnection {
    /// Counts the connection for the client that a header has named.
    pub fn set_address_permit(&self, permit: AddressPermit) {
        // There is one header.
        let _ = self.address_permit.set(Box::new(permit));
    }

    /// The connection is idle from now on.
    pub fn begin_idle(&self, now: Instant) {
        self.waits.set(Some(Waits { since: now, until: Awaited::Request }));
    }

    /// A part of a head has arrived.
    pub fn begin_head(&self, now: Instant) {
        self.waits.set(Some(Waits { since: now, until: Awaited::Head }));
    }

    /// The connection serves a request.
    pub fn begin_request(&self) {
        self.waits.set(None);
        self.partial.take();
    }

    /// The connection has become a tunnel, which is never closed to make room. What remembers its task is freed.
    pub fn begin_tunnel(&self) {
        self.waits.set(None);
        self.waker.take();
    }

    /// What has arrived of the next head.
    pub fn partial(&self) -> RefMut<'_, Vec<u8>> {
        self.partial.borrow_mut()
    }

    /// Whether a part of a head has arrived.
    pub fn has_begun(&self) -> bool {
        self.waits.get().is_some_and(|waits| waits.until == Awaited::Head)
    }

    /// Wakes the task that looks whether it is to end.
    pub fn wake(&self) {
        if let Some(waker) = self.waker.borrow().as_ref() {
            waker.wake_by_ref();
        }
    }

    /// Whether it is to end, to make room. The task is woken when that changes.
    pub fn is_shed(&self, cx: &Context<'_>) -> bool {
        if !self.is_shed.get() {
            let mut waker = self.waker.borrow_mut();
            match &mut *waker {
                Some(known) => known.clone_from(cx.waker()),
                None => *waker = Some(cx.waker().clone()),
            }
        }
        self.is_shed.get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn the_connection_that_has_been_idle_for_longest_is_closed_first() {
        let connections = ClientConnections::default();
        let now = Instant::now();
        let made: Vec<_> = (0..3).map(|_| connections.add(None)).collect();
        let cx = Context::from_waker(Waker::noop());
        made[0].begin_request();
        made[1].begin_idle(now);
        made[2].begin_idle(now - Duration::from_secs(1));
        let shed = || made.iter().map(|one| one.is_shed(&cx)).collect::<Vec<_>>();
        assert!(connections.shed_idle());
        assert_eq!(shed(), [false, false, true]);
        assert!(connections.shed_idle());
        assert_eq!(shed(), [false, true, true]);
        assert!(!connections.shed_idle(), "a request is not cut");
    }

    #[test]
    fn incomplete_heads_are_bounded_by_closing_the_oldest() {
        let connections = ClientConnections::default();
        connections.set_most_partial(100);
        let now = Instant::now();
        let cx = Context::from_waker(Waker::noop());
        let made: Vec<_> = (0..4).map(|_| connections.add(None)).collect();
        for (age, one) in made.iter().enumerate() {
            one.begin_head(now + Duration::from_millis(age as u64));
            one.partial().resize(40, 0);
            connections.count_partial(one);
        }
        let shed: Vec<bool> = made.iter().map(|one| one.is_shed(&cx)).collect();
        assert_eq!(shed, [true, true, false, false]);
        assert_eq!(connections.partial.get(), 80);
        assert_eq!((made[0].partial().len(), made[2].partial().len()), (0, 40), "freed at once");
        made[2].begin_request();
        connections.count_partial(&made[2]);
        assert_eq!(connections.partial.get(), 40);
    }

    #[test]
    fn too_many_handshakes_end_the_oldest() {
        let connections = ClientConnections::default();
        let (now, cx) = (Instant::now(), Context::from_waker(Waker::noop()));
        let made: Vec<_> = (0..MOST_OPENING as u64 + 2).map(|_| connections.add(None)).collect();
        made[0].begin_idle(now - Duration::from_secs(1));
        let mut places = Vec::new();
        for (age, one) in made.iter().enumerate().skip(1) {
            places.push(connections.begin_opening(one, now + Duration::from_millis(age as u64)));
        }
        let shed: Vec<_> = (0..4).map(|at| made[at].is_shed(&cx)).collect();
        assert_eq!(shed, [false, true, false, false], "an idle connection stays");
        drop(places);
        assert_eq!(connections.opening.get(), 0);
    }

    #[test]
    fn connections_that_ended_are_forgotten() {
        let connections = ClientConnections::default();
        for _ in 0..10_000 {
            drop(connections.add(None));
        }
        assert!(connections.all.borrow().len() <= FORGET_EACH);
    }
}
