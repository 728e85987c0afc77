//! Accepts connections: one thread, one runtime and one listener per core.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::net::TcpStream;
use tokio::runtime::LocalOptions;
use tokio::sync::{broadcast, watch};
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::task::TaskTracker;
use tracing::warn;

use crate::catalog::Snapshot;
use crate::shutdown::Shutdown;

use super::connection;
use super::connection_quota::{ConnectionQuota, NoPermit};
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
    connections: Arc<ConnectionQuota>,
    /// Connections of clients where the configuration names no limit.
    most_connections: usize,
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
        // The other half is for connections to applications, for the admin port and for wakes.
        let files = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
        let most_connections = files.map_or(usize::MAX, |files| (files / 2) as usize);
        let connections = Arc::default();
        Self { snapshots, shutdown, access_log, cores, close_idle, connections, most_connections }
    }

    /// Serves a connection, unless there are too many; one that is idle makes room for it.
    fn serve(&self, stream: TcpStream, peer: SocketAddr, core: &Rc<Core>, tasks: &TaskTracker) {
        let view = core.view();
        let config = &view.snapshot.config;
        let most = config.client.max_connections.unwrap_or(self.most_connections);
        let ip = peer.ip().to_canonical();
        let is_trusted = || config.trusted_proxies.iter().any(|net| net.contains(&ip));
        let of_address = config.client.max_connections_per_address;
        let of_address = of_address.filter(|_| !is_trusted()).map(|most| (ip, most));
        let permit = self.connections.acquire(most, of_address).or_else(|refused| match refused {
            NoPermit::Total if core.connections.shed_idle() => {
                self.connections.acquire(usize::MAX, of_address)
            }
            refused => Err(refused),
        });
        match permit {
            Ok(permit) => {
                tasks.spawn_local(connection::serve(stream, peer, core.clone(), permit));
            }
            Err(refused) => {
                let key = match refused {
                    NoPermit::Total => "max_connections",
                    NoPermit::Address => "max_connections_per_address",
                };
                if let Some(suppressed) = core.errors.admit(None, key, Instant::now()) {
                    warn!(client = %ip, limit = key, suppressed, "too many connections, closing the new one");
                }
            }
        }
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
                    Ok((stream, peer)) => self.serve(stream, peer, &core, &connections),
                    Err(error) => {
                        if let Some(suppressed) = core.errors.admit(None, "accept", Instant::now()) {
                            warn!(%error, suppressed, "cannot accept a connection");
                        }
                        core.connections.shed_idle();
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
        self.drain(&core, listener, &connections).await;
        Ok(())
    }

    /// Serves the connections that were made before the drain, and waits until all have ended.
    async fn drain(
        &self,
        core: &Rc<Core>,
        listener: tokio::net::TcpListener,
        connections: &TaskTracker,
    ) {
        // Closing the listener resets the connections in its queue, so they are accepted first.
        while let Ok(Ok((stream, peer))) =
            tokio::time::timeout(Duration::ZERO, listener.accept()).await
        {
            self.serve(stream, peer, core, connections);
        }
        drop(listener);
        core.begin_drain();
        connections.close();
        core.tasks.close();
        tokio::select! {
            () = async { connections.wait().await; core.tasks.wait().await } => {}
            () = self.shutdown.aborted() => {}
        }
    }
}
