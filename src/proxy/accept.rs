//! Accepts connections: one thread, one runtime and one listener per core.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::runtime::LocalOptions;
use tokio::sync::{broadcast, watch};
use tokio::time::MissedTickBehavior;
use tokio_util::task::TaskTracker;
use tracing::warn;

use crate::catalog::Snapshot;
use crate::shutdown::Shutdown;

use super::connection;
use super::core::Core;
use super::upstream::KEEPALIVE;

/// What each core needs.
#[derive(Clone)]
pub struct Proxy {
    pub snapshots: watch::Receiver<Arc<Snapshot>>,
    pub shutdown: Shutdown,
    pub access_log: bool,
    pub cores: usize,
    /// Endpoints to which all cores are to close their idle connections.
    pub close_idle: broadcast::Sender<SocketAddr>,
}

/// Connections that may wait to be accepted; the kernel caps it at net.core.somaxconn.
const BACKLOG: i32 = 4096;
/// Pause after a failed accept: when no file descriptor is left, some must be closed first.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// As many listeners on one address as there are cores; the kernel spreads connections over them.
pub fn listen(address: SocketAddr, cores: usize) -> io::Result<Vec<TcpListener>> {
    // With SO_REUSEPORT two instances of agimo could share a port without notice: check that it is free.
    drop(TcpListener::bind(address)?);
    let first = listen_one(address)?;
    // With port 0 the kernel chooses a port; the other listeners share it.
    let address = first.local_addr()?;
    let mut listeners = vec![first];
    for _ in 1..cores {
        listeners.push(listen_one(address)?);
    }
    Ok(listeners)
}

fn listen_one(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    // Accepted sockets inherit these two options.
    socket.set_tcp_nodelay(true)?;
    SockRef::from(&socket).set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE))?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Endpoints that a slow core may fall behind; those that it misses keep their connections for a while.
const CLOSE_IDLE_CAPACITY: usize = 64;

// === impl Proxy ===

impl Proxy {
    /// A proxy for this many cores.
    pub fn new(
        snapshots: watch::Receiver<Arc<Snapshot>>,
        cores: usize,
        access_log: bool,
        shutdown: Shutdown,
    ) -> Self {
        let close_idle = broadcast::Sender::new(CLOSE_IDLE_CAPACITY);
        Self { snapshots, shutdown, access_log, cores, close_idle }
    }

    /// Starts the thread of a core. It ends when the core is drained, or immediately when aborted.
    pub fn start(
        self,
        index: usize,
        listener: TcpListener,
    ) -> io::Result<JoinHandle<io::Result<()>>> {
        std::thread::Builder::new().name(format!("core-{index}")).spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build_local(LocalOptions::default())?;
            runtime.block_on(self.run(index, listener))
        })
    }

    async fn run(mut self, index: usize, listener: TcpListener) -> io::Result<()> {
        let listener = tokio::net::TcpListener::from_std(listener)?;
        self.snapshots.mark_unchanged();
        let core = Rc::new(Core::new(index, &self));
        let mut close_idle = self.close_idle.subscribe();
        let connections = TaskTracker::new();
        let mut sweep = tokio::time::interval(SWEEP_EVERY);
        sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                accepted = listener.accept() => match accepted {
                    Ok((stream, peer)) => {
                        connections.spawn_local(connection::serve(stream, peer, core.clone()));
                    }
                    Err(error) => {
                        warn!(%error, "cannot accept a connection");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
                Ok(()) = self.snapshots.changed() => {
                    core.update(self.snapshots.borrow_and_update().clone());
                }
                Ok(endpoint) = close_idle.recv() => core.close_idle(endpoint),
                now = sweep.tick() => core.sweep(now),
                () = self.shutdown.draining() => break,
            }
        }
        drain(&core, listener, &connections, &self.shutdown).await;
        Ok(())
    }
}

/// Serves the connections that were made before the drain, and waits until all have ended.
async fn drain(
    core: &Rc<Core>,
    listener: tokio::net::TcpListener,
    connections: &TaskTracker,
    shutdown: &Shutdown,
) {
    // Closing the listener resets the connections in its queue, so they are accepted first.
    while let Ok(Ok((stream, peer))) = tokio::time::timeout(Duration::ZERO, listener.accept()).await
    {
        connections.spawn_local(connection::serve(stream, peer, core.clone()));
    }
    drop(listener);
    core.begin_drain();
    connections.close();
    core.tunnels.close();
    tokio::select! {
        () = async { connections.wait().await; core.tunnels.wait().await } => {}
        () = shutdown.aborted() => {}
    }
}
