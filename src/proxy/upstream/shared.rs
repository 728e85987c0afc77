//! Connections to one endpoint that serve many requests at once, as one core keeps them.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use futures_util::FutureExt;
use http::uri::Scheme;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::http::codec::Downstream;
use crate::http::http2::client::{ClientConnection, ClientStream};
use crate::proxy::client::Client;
use crate::proxy::core::Core;
use crate::proxy::endpoints::Endpoint;

use super::{ConnectError, connect_stream, until};

/// The connections to one endpoint.
#[derive(Default)]
pub struct SharedConnections {
    open: RefCell<Vec<SharedConnection>>,
    /// The connection that is being made. Requests wait for it, so that a crowd makes one and not one each.
    attempt: RefCell<Option<Rc<Attempt>>>,
}

struct SharedConnection {
    connection: ClientConnection,
    /// It is closed when it has been idle for so long.
    idle_for: Duration,
    idle_since: Option<Instant>,
}

#[derive(Default)]
struct Attempt {
    ended: Notify,
    error: Cell<Option<ConnectError>>,
}

/// The attempt has ended when this is dropped.
struct AttemptGuard<'a> {
    connections: &'a SharedConnections,
    attempt: Rc<Attempt>,
}

/// What a request wants of a connection.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// It may have served other requests.
    pub reuse: bool,
    /// How long it may be idle afterwards; absent where it is to serve this request alone.
    pub keep_for: Option<Duration>,
    /// It must accept requests to switch protocols.
    pub upgrade: bool,
}

/// A stream on a connection to the endpoint, made before `deadline`. `None` where the endpoint does not accept what is
/// wanted.
pub async fn open_stream<D: Downstream>(
    client: &mut Client<D>,
    endpoint: &Endpoint,
    deadline: Instant,
    wanted: Wanted,
) -> Result<Option<ClientStream>, ConnectError> {
    let connections = &endpoint.shared_connections;
    let mut reuse = wanted.reuse;
    loop {
        if let Some(connection) = connections.with_room().filter(|_| reuse) {
            if wanted.upgrade {
                until(client, deadline, settled(&connection)).await?;
                return Ok(connection.accepts_upgrades().then(|| connection.open_stream()));
            }
            return Ok(Some(connection.open_stream()));
        }
        // A connection that is made now has served nobody.
        reuse = true;
        let attempt = connections.attempt.borrow().clone();
        if let Some(attempt) = attempt {
            until(client, deadline, attempt.ended.notified().map(Ok)).await?;
            if let Some(error) = attempt.error.get() {
                return Err(error);
            }
            continue;
        }
        let guard = connections.begin_attempt();
        let core = client.core.clone();
        let connected = until(client, deadline, connect(endpoint, &core)).await;
        match (connected, wanted.keep_for) {
            (Err(error), _) => {
                // The others wait for themselves: their clients are still there, and their time is not over.
                let concerns_all = !matches!(error, ConnectError::ClientDisconnected);
                guard.attempt.error.set(concerns_all.then_some(error));
                return Err(error);
            }
            (Ok(connection), Some(idle_for)) => connections.add(connection, idle_for),
            (Ok(connection), None) => return Ok(Some(connection.open_stream())),
        }
    }
}

async fn connect(endpoint: &Endpoint, core: &Core) -> Result<ClientConnection, ConnectError> {
    let stream = connect_stream(endpoint).await?;
    let begun = ClientConnection::handshake(stream, Scheme::HTTP).await;
    let (connection, drive) = begun.map_err(|_| ConnectError::Refused)?;
    core.upstream_tasks.spawn_local(drive);
    Ok(connection)
}

/// Waits for the settings of the endpoint.
async fn settled(connection: &ClientConnection) -> Result<(), ConnectError> {
    connection.settled().await;
    if connection.is_closed() { Err(ConnectError::Refused) } else { Ok(()) }
}

// === impl SharedConnections ===

impl SharedConnections {
    /// Closes those that have been idle for too long, and forgets those that have ended.
    pub fn sweep(&self, now: Instant) {
        self.open.borrow_mut().retain_mut(|shared| {
            if !shared.connection.is_idle() {
                shared.idle_since = None;
                return !shared.connection.is_closed();
            }
            let since = *shared.idle_since.get_or_insert(now);
            !shared.connection.is_closed() && now < since + shared.idle_for
        });
    }

    /// Closes those that are idle.
    pub fn close_idle(&self) {
        self.open.borrow_mut().retain(|shared| !shared.connection.is_idle());
    }

    fn with_room(&self) -> Option<ClientConnection> {
        let open = self.open.borrow();
        open.iter().find(|shared| shared.connection.has_room()).map(|s| s.connection.clone())
    }

    fn add(&self, connection: ClientConnection, idle_for: Duration) {
        let mut open = self.open.borrow_mut();
        open.retain(|shared| !shared.connection.is_closed());
        // The newest first: the older ones are full, or about to end.
        open.insert(0, SharedConnection { connection, idle_for, idle_since: None });
    }

    fn begin_attempt(&self) -> AttemptGuard<'_> {
        let attempt = Rc::<Attempt>::default();
        self.attempt.replace(Some(attempt.clone()));
        AttemptGuard { connections: self, attempt }
    }
}

impl Drop for AttemptGuard<'_> {
    fn drop(&mut self) {
        self.connections.attempt.take();
        self.attempt.ended.notify_waiters();
    }
}
