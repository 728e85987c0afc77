//! What precedes HTTP on a connection: a header of the PROXY protocol, and the handshake of TLS.

use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tracing::warn;

use crate::http::forwarded::{ClientIdentity, TlsClient};
use crate::net::proxy_protocol;
use crate::net::stream::Stream;
use crate::net::timer::Timer;
use crate::net::tls::{handshake, subject};

use super::client_connections::ClientConnection;
use super::connection;
use super::connection_quota::{AddressPermit, ConnectionQuota};
use super::core::Core;

/// What a connection begins with.
pub struct Opening {
    /// The address of the client comes in a header.
    pub has_proxy_header: bool,
    pub is_tls: bool,
    /// Counts connections by the addresses of clients.
    pub quota: Arc<ConnectionQuota>,
}

/// A connection on which HTTP begins.
struct Opened {
    stream: Stream,
    identity: ClientIdentity,
    /// The client has chosen HTTP/2 in the handshake.
    is_http2: bool,
}

/// Why HTTP does not begin.
#[derive(Debug, thiserror::Error)]
enum OpeningError {
    #[error("the header of the PROXY protocol is missing or not valid")]
    ProxyHeader,
    #[error("the TLS handshake failed: {0}")]
    Handshake(io::Error),
    #[error("{0} has max_connections_per_address connections")]
    TooManyConnections(IpAddr),
    /// Not logged.
    #[error("the connection ended")]
    Ended,
}

/// How long all of it may take.
const OPENING_TIMEOUT: Duration = Duration::from_secs(10);

/// How long what has begun may go on when agimo drains.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(1);

/// Opens the connection, then serves it until it ends.
pub async fn serve(
    socket: TcpStream,
    peer: SocketAddr,
    opening: Opening,
    core: Rc<Core>,
    connection: Rc<ClientConnection>,
) {
    let stream = Stream::new(socket);
    // Boxed, so that the connection has no room for it later.
    let opened = Box::pin(open_in_time(stream, peer.ip(), opening, &core, &connection)).await;
    let Opened { stream, identity, is_http2 } = match opened {
        Ok(opened) => opened,
        Err(OpeningError::Ended) => return,
        Err(error) => {
            if let Some(suppressed) = core.errors.admit(None, error.key(), Instant::now()) {
                warn!(client = %peer.ip().to_canonical(), %error, suppressed, "closing a new connection");
            }
            return;
        }
    };
    if is_http2 {
        connection::serve_http2(stream, identity, core, connection).await;
    } else {
        connection::serve(stream, identity, core, connection).await;
    }
}

/// Opens the connection, unless that takes too long or it must make room for another one.
async fn open_in_time(
    stream: Stream,
    peer: IpAddr,
    opening: Opening,
    core: &Core,
    connection: &ClientConnection,
) -> Result<Opened, OpeningError> {
    let now = Instant::now();
    let _place = core.connections.begin_opening(connection, now);
    let mut timer = Timer::default();
    timer.set(now + OPENING_TIMEOUT);
    let mut drained = pin!(core.drain.cancelled());
    let mut is_draining = false;
    let mut opened = pin!(open(stream, peer, opening, core, connection));
    poll_fn(|cx| {
        if let Poll::Ready(opened) = opened.as_mut().poll(cx) {
            return Poll::Ready(opened);
        }
        if connection.is_shed(cx) {
            return Poll::Ready(Err(OpeningError::Ended));
        }
        if !is_draining && drained.as_mut().poll(cx).is_ready() {
            is_draining = true;
            timer.set((now + OPENING_TIMEOUT).min(Instant::now() + DRAIN_TIMEOUT));
        }
        timer.poll(cx).map(|()| Err(OpeningError::Ended))
    })
    .await
}

async fn open(
    mut stream: Stream,
    peer: IpAddr,
    opening: Opening,
    core: &Core,
    connection: &ClientConnection,
) -> Result<Opened, OpeningError> {
    let Opening { has_proxy_header, is_tls, quota } = opening;
    let mut address = peer;
    if has_proxy_header && let Some(named) = proxy_header(&mut stream).await? {
        address = named.to_canonical();
        if let Some(permit) = count_address(&quota, address, core)? {
            connection.set_address_permit(permit);
        }
    }
    if !is_tls {
        let identity = ClientIdentity::new(address, None);
        return Ok(Opened { stream, identity, is_http2: false });
    }
    let server = core.tls().server.clone().ok_or(OpeningError::Ended)?;
    let connection =
        handshake::accept(stream, &server).await.map_err(|error| match error.kind() {
            io::ErrorKind::InvalidData => OpeningError::Handshake(error),
            _ => OpeningError::Ended,
        })?;
    let certificate = connection.client_certificate.as_ref();
    let tls = TlsClient { certificate: certificate.and_then(subject::describe) };
    let identity = ClientIdentity::new(address, Some(tls));
    let (stream, is_http2) = (connection.stream, connection.is_http2);
    Ok(Opened { stream, identity, is_http2 })
}

/// The address of the client; `None` where the connection is the load balancer's own.
async fn proxy_header(stream: &mut Stream) -> Result<Option<IpAddr>, OpeningError> {
    let mut received = Vec::new();
    loop {
        let length = stream.read_buf(&mut received).await.map_err(|_| OpeningError::Ended)?;
        match proxy_protocol::parse(&received) {
            Ok(Some(header)) => {
                stream.unread(&received[header.length..]);
                return Ok(header.client);
            }
            Ok(None) if length > 0 => {}
            Ok(None) => return Err(OpeningError::Ended),
            Err(proxy_protocol::Invalid) => return Err(OpeningError::ProxyHeader),
        }
    }
}

/// Counts a connection of a client that a header has named, as far as there is a limit for it.
fn count_address(
    quota: &Arc<ConnectionQuota>,
    address: IpAddr,
    core: &Core,
) -> Result<Option<AddressPermit>, OpeningError> {
    let view = core.view();
    let config = &view.snapshot.config;
    match config.most_connections_of(address) {
        Some(most) => {
            let permit = quota.acquire_address(address, most);
            permit.map(Some).ok_or(OpeningError::TooManyConnections(address))
        }
        None => Ok(None),
    }
}

// === impl OpeningError ===

impl OpeningError {
    /// Under which the log suppresses repetitions.
    fn key(&self) -> &'static str {
        match self {
            Self::ProxyHeader => "proxy-header",
            Self::Handshake(_) => "tls-handshake",
            Self::TooManyConnections(_) => "max_connections_per_address",
            Self::Ended => "ended",
        }
    }
}
