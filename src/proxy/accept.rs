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
use crate::certificates::TlsSettings;
use crate::http::forwarded::ClientIdentity;
use crate::net::stream::Stream;
use crate::request_spans::RequestSpans;
use crate::shutdown::Shutdown;
use crate::tap::Tap;

use super::connection;
use super::connection_quota::{ConnectionQuota, NoPermit};
use super::core::Core;
use super::opening::{self, Opening};
use super::upstream::KEEPALIVE;

/// What each core needs.
#[derive(Clone)]
pub struct Proxy {
    pub snapshots: watch::Receiver<Arc<Snapshot>>,
    pub shutdown: Shutdown,
    pub observers: Observers,
    pub cores: usize,
    /// Endpoints to which all cores are to close their idle connections.
    pub close_idle: broadcast::Sender<SocketAddr>,
    /// How connections are encrypted.
    pub tls: watch::Receiver<Arc<TlsSettings>>,
    connections: Arc<ConnectionQuota>,
    /// Connections of clients where the configuration names no limit.
    most_connections: usize,
}

/// Who is told of requests that have ended.
#[derive(Clone, Debug, Default)]
pub struct Observers {
    /// A line of the log for each request.
    pub access_log: bool,
    pub tap: Tap,
    /// Absent without a collector of traces.
    pub spans: Option<RequestSpans>,
}

/// Where one core accepts connections.
pub struct CoreListeners {
    pub cleartext: TcpListener,
    pub tls: Option<TcpListener>,
}

/// The same, registered with the runtime of the core.
struct Acceptor {
    cleartext: tokio::net::TcpListener,
    tls: Option<tokio::net::TcpListener>,
}

/// A connection that has been accepted.
struct Accepted {
    socket: TcpStream,
    peer: SocketAddr,
    is_tls: bool,
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

// === impl Acceptor ===

impl Acceptor {
    fn new(listeners: CoreListeners) -> io::Result<Self> {
        let CoreListeners { cleartext, tls } = listeners;
        Ok(Self {
            cleartext: tokio::net::TcpListener::from_std(cleartext)?,
            tls: tls.map(tokio::net::TcpListener::from_std).transpose()?,
        })
    }

    async fn accept(&self) -> io::Result<Accepted> {
        let over_tls = async {
            match &self.tls {
                Some(listener) => listener.accept().await,
                None => std::future::pending().await,
            }
        };
        let ((socket, peer), is_tls) = tokio::select! {
            accepted = self.cleartext.accept() => (accepted?, false),
            accepted = over_tls => (accepted?, true),
        };
        Ok(Accepted { socket, peer, is_tls })
    }
}

// === impl Proxy ===

impl Proxy {
    /// A proxy for this many cores.
    pub fn new(
        snapshots: watch::Receiver<Arc<Snapshot>>,
        cores: usize,
        observers: Observers,
        tls: watch::Receiver<Arc<TlsSettings>>,
        shutdown: Shutdown,
    ) -> Self {
        let close_idle = broadcast::Sender::new(CLOSE_IDLE_CAPACITY);
        // The other half is for connections to applications, for the admin port and for wakes.
        let files = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
        let most_connections = files.map_or(usize::MAX, |files| (files / 2) as usize);
        let connections = Arc::default();
        Self {
            snapshots,
            shutdown,
            observers,
            cores,
            close_idle,
            tls,
            connections,
            most_connections,
        }
    }

    /// Serves a connection, unless there are too many; one that is idle makes room for it.
    fn serve(&self, accepted: Accepted, core: &Rc<Core>, tasks: &TaskTracker) {
        let Accepted { socket, peer, is_tls } = accepted;
        let view = core.view();
        let config = &view.snapshot.config;
        let most = config.client.max_connections.unwrap_or(self.most_connections);
        let ip = peer.ip().to_canonical();
        let has_proxy_header = config.proxy_protocol.iter().any(|network| network.contains(&ip));
        let of_address = if has_proxy_header { None } else { config.most_connections_of(ip) };
        let of_address = of_address.map(|most| (ip, most));
        let permit = self.connections.acquire(most, of_address).or_else(|refused| match refused {
            NoPermit::Total if core.connections.shed_idle() => {
                self.connections.acquire(usize::MAX, of_address)
            }
            refused => Err(refused),
        });
        match permit {
            Ok(permit) => {
                let (core, connection) = (core.clone(), core.connections.add(Some(permit)));
                if is_tls || has_proxy_header {
                    let quota = self.connections.clone();
                    let opening = Opening { has_proxy_header, is_tls, quota };
                    tasks.spawn_local(opening::serve(socket, peer, opening, core, connection));
                } else {
                    let identity = ClientIdentity::new(ip, None);
                    let stream = Stream::new(socket);
                    tasks.spawn_local(connection::serve(stream, identity, core, connection));
                }
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
        listeners: CoreListeners,
    ) -> io::Result<JoinHandle<io::Result<()>>> {
        std::thread::Builder::new().name(format!("core-{index}")).spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build_local(LocalOptions::default())?;
            runtime.block_on(self.run(index, listeners))
        })
    }

    async fn run(mut self, index: usize, listeners: CoreListeners) -> io::Result<()> {
        let acceptor = Acceptor::new(listeners)?;
        self.snapshots.mark_unchanged();
        let core = Rc::new(Core::new(index, &self));
        let mut close_idle = self.close_idle.subscribe();
        let connections = TaskTracker::new();
        let mut sweep = tokio::time::interval(SWEEP_EVERY);
        sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                accepted = acceptor.accept() => match accepted {
                    Ok(accepted) => self.serve(accepted, &core, &connections),
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
        self.drain(&core, acceptor, &connections).await;
        Ok(())
    }

    /// Serves the connections that were made before the drain, and waits until all have ended.
    async fn drain(&self, core: &Rc<Core>, acceptor: Acceptor, connections: &TaskTracker) {
        // Closing the listener resets the connections in its queue, so they are accepted first.
        while let Ok(Ok(accepted)) = tokio::time::timeout(Duration::ZERO, acceptor.accept()).await {
            self.serve(accepted, core, connections);
        }
        drop(acceptor);
        core.begin_drain();
        connections.close();
        core.tasks.close();
        tokio::select! {
            () = async { connections.wait().await; core.tasks.wait().await } => {}
            () = self.shutdown.aborted() => {}
        }
    }
}
