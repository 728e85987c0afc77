//! Connections to one endpoint that serve many requests at once, as one core keeps them.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use futures_util::FutureExt;
use http::uri::Scheme;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::http::codec::Downstream;
use crate::http::http2::client::{UpstreamConnection, UpstreamRequest};
use crate::proxy::client::Client;
use crate::proxy::core::Core;

use super::{ConnectError, Target, before_deadline, connect_stream, encrypt};

/// A connection whose endpoint acknowledges nothing for so long has failed (tcp(7), TCP_USER_TIMEOUT): it takes requests of many
/// clients, and without this the kernel would try for a quarter of an hour.
const UNACKNOWLEDGED: Duration = Duration::from_secs(20);

/// The connections to one endpoint.
#[derive(Default)]
pub struct MultiplexedConnections {
    open: RefCell<Vec<PooledConnection>>,
    /// The connection that is being made. Requests wait for it, so that concurrent requests open one connection.
    attempt: RefCell<Option<Rc<Attempt>>>,
}

struct PooledConnection {
    connection: UpstreamConnection,
    /// It is closed when it has been idle for so long.
    idle_for: Duration,
    idle_since: Option<Instant>,
}

#[derive(Default)]
struct Attempt {
    ended: Notify,
    error: RefCell<Option<ConnectError>>,
}

/// The attempt has ended when this is dropped.
struct AttemptGuard<'a> {
    connections: &'a MultiplexedConnections,
    attempt: Rc<Attempt>,
}

/// What a request needs of a connection.
#[derive(Clone, Copy, Debug)]
pub struct StreamRequirements {
    /// It may have served other requests.
    pub reuse: bool,
    /// How long it may be idle afterwards; absent where it is to serve this request alone.
    pub keep_for: Option<Duration>,
    /// The endpoint must support extended CONNECT (RFC 8441).
    pub upgrade: bool,
}

/// A stream on a connection to the endpoint, made before `deadline`. `None` if `upgrade` is set and the endpoint does not
/// support extended CONNECT.
///
/// Fails where no connection could be made, or the client disconnected.
pub async fn open_stream<D: Downstream>(
    client: &mut Client<D>,
    target: Target<'_>,
    deadline: Instant,
    requirements: StreamRequirements,
) -> Result<Option<UpstreamRequest>, ConnectError> {
    let connections = &target.endpoint.multiplexed;
    let mut reuse = requirements.reuse;
    let connection = loop {
        if let Some(connection) = connections.with_room().filter(|_| reuse) {
            break connection;
        }
        // What is made from now on is not the connection that has just failed.
        reuse = true;
        let attempt = connections.attempt.borrow().clone();
        if let Some(attempt) = attempt {
            before_deadline(client, deadline, attempt.ended.notified().map(Ok)).await?;
            if let Some(error) = &*attempt.error.borrow() {
                return Err(error.clone());
            }
            continue;
        }
        let guard = connections.begin_attempt();
        let core = client.core.clone();
        let connected = before_deadline(client, deadline, connect(target, &core)).await;
        match (connected, requirements.keep_for) {
            (Err(error), _) => {
                // The client and the deadline are those of this request: the others try for themselves.
                let concerns_all =
                    !matches!(error, ConnectError::ClientDisconnected | ConnectError::TimedOut);
                guard.attempt.error.replace(concerns_all.then(|| error.clone()));
                return Err(error);
            }
            (Ok(connection), Some(idle_for)) => connections.add(connection, idle_for),
            (Ok(connection), None) => break connection,
        }
    };
    if requirements.upgrade {
        before_deadline(client, deadline, settings(&connection)).await?;
        if !connection.accepts_upgrades() {
            return Ok(None);
        }
    }
    Ok(Some(connection.open_stream()))
}

async fn connect(target: Target<'_>, core: &Core) -> Result<UpstreamConnection, ConnectError> {
    let stream = connect_stream(target.endpoint, Some(UNACKNOWLEDGED)).await?;
    let (stream, scheme) = match target.tls {
        Some(service) => (encrypt(stream, service, core, true).await?, Scheme::HTTPS),
        None => (stream, Scheme::HTTP),
    };
    let begun = UpstreamConnection::handshake(stream, scheme).await;
    let (connection, drive) = begun.map_err(|_| ConnectError::Refused)?;
    core.upstream_tasks.spawn_local(drive);
    Ok(connection)
}

/// Waits for the settings of the endpoint.
async fn settings(connection: &UpstreamConnection) -> Result<(), ConnectError> {
    connection.settings_received().await;
    if connection.is_closed() { Err(ConnectError::Refused) } else { Ok(()) }
}

// === impl MultiplexedConnections ===

impl MultiplexedConnections {
    /// Closes those that have been idle for too long, and forgets those that have ended.
    pub fn sweep(&self, now: Instant) {
        self.open.borrow_mut().retain_mut(|pooled| {
            if !pooled.connection.is_idle() {
                pooled.idle_since = None;
                return !pooled.connection.is_closed();
            }
            let since = *pooled.idle_since.get_or_insert(now);
            !pooled.connection.is_closed() && now < since + pooled.idle_for
        });
    }

    /// Closes those that are idle.
    pub fn close_idle(&self) {
        self.open.borrow_mut().retain(|pooled| !pooled.connection.is_idle());
    }

    fn with_room(&self) -> Option<UpstreamConnection> {
        let open = self.open.borrow();
        open.iter().find(|pooled| pooled.connection.has_room()).map(|s| s.connection.clone())
    }

    fn add(&self, connection: UpstreamConnection, idle_for: Duration) {
        let mut open = self.open.borrow_mut();
        open.retain(|pooled| !pooled.connection.is_closed());
        // The newest first: the older ones are full, or about to end.
        open.insert(0, PooledConnection { connection, idle_for, idle_since: None });
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
