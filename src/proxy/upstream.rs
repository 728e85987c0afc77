//! Connections to endpoints, idle or new, and the codec that is spoken on them.

use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use rustls::pki_types::ServerName;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::config::ServiceConfig;
use crate::http::codec::Downstream;
use crate::http::http1::client::ClientConnection;
use crate::http::http2::client::UpstreamRequest;
use crate::http::http2::tunnel::TunnelStream;
use crate::net::stream::Stream;
use crate::net::tls::{failure, handshake};

use super::client::Client;
use super::core::Core;
use super::endpoints::Endpoint;

pub mod multiplexed;

/// A connection that serves one request at a time (HTTP/1).
pub type ExclusiveConnection = ClientConnection;
/// A stream of a connection that serves others at the same time (HTTP/2).
pub type MultiplexedStream = UpstreamRequest;

/// What is left of a connection to an endpoint once its request has switched protocols.
pub enum UpstreamStream {
    /// The whole connection.
    Exclusive(Stream),
    /// One stream of a connection that goes on serving others.
    Multiplexed(Box<TunnelStream>),
}

/// Why there is no connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConnectError {
    /// The endpoint refused it.
    Refused,
    /// agimo has no file descriptor left.
    NoFiles,
    /// The endpoint did not accept it in time.
    TimedOut,
    /// The client disconnected first.
    ClientDisconnected,
    /// The two cannot agree on TLS, or the certificate of the endpoint is not valid; for people.
    Tls(String),
}

/// An endpoint, and how connections to it are encrypted.
#[derive(Clone, Copy)]
pub struct Target<'a> {
    pub endpoint: &'a Endpoint,
    /// The service that says how; absent for cleartext.
    pub tls: Option<&'a ServiceConfig>,
}

// === impl ConnectError ===

impl ConnectError {
    fn from_io(error: &io::Error) -> Self {
        use rustix::io::Errno;
        match Errno::from_io_error(error) {
            Some(Errno::MFILE | Errno::NFILE) => Self::NoFiles,
            _ => Self::Refused,
        }
    }
}

/// When probes start on a silent connection; a host that vanished is noticed after a few of them.
pub const KEEPALIVE: Duration = Duration::from_secs(60);
/// A request that could not be repeated uses only a connection that was used within this time: the server is least likely
/// to close it at the same moment.
const FRESH_FOR: Duration = Duration::from_millis(500);

/// An idle connection, if there is a suitable one; `repeatable` says whether the request could be sent again.
pub fn idle(endpoint: &Endpoint, repeatable: bool) -> Option<ExclusiveConnection> {
    let within = if repeatable { None } else { Some(FRESH_FOR) };
    endpoint.idle.take(within).map(|stream| ClientConnection::new(stream, true))
}

/// A new connection for one request at a time, made before `deadline`.
pub async fn connect<D: Downstream>(
    client: &mut Client<D>,
    target: Target<'_>,
    deadline: Instant,
) -> Result<ExclusiveConnection, ConnectError> {
    let core = client.core.clone();
    let connecting = async {
        let stream = connect_stream(target.endpoint, None).await?;
        match target.tls {
            // Boxed: most connections are in cleartext.
            Some(service) => Box::pin(encrypt(stream, service, &core, false)).await,
            None => Ok(stream),
        }
    };
    let stream = before_deadline(client, deadline, connecting).await?;
    Ok(ClientConnection::new(stream, false))
}

/// A connection that fails when nothing is acknowledged for as long as `unacknowledged` says.
async fn connect_stream(
    endpoint: &Endpoint,
    unacknowledged: Option<Duration>,
) -> Result<Stream, ConnectError> {
    let connected = TcpStream::connect(endpoint.address).await;
    let socket = connected.map_err(|error| ConnectError::from_io(&error))?;
    // Where nothing listens, a connection to an ephemeral port can connect to itself.
    if socket.local_addr().is_ok_and(|own| own == endpoint.address) {
        return Err(ConnectError::Refused);
    }
    // Heads and small bodies are written at once; to wait for more would only delay them.
    let _ = socket.set_nodelay(true);
    // A tunnel to a host that vanished without closing must end at some point.
    let _ = SockRef::from(&socket).set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE));
    if unacknowledged.is_some() {
        let _ = SockRef::from(&socket).set_tcp_user_timeout(unacknowledged);
    }
    Ok(Stream::new(socket))
}

/// The same connection over TLS, for HTTP/2 or HTTP/1.1.
async fn encrypt(
    stream: Stream,
    service: &ServiceConfig,
    core: &Core,
    is_http2: bool,
) -> Result<Stream, ConnectError> {
    let configs = core.tls().endpoint(&service.tls.trust).cloned();
    let name = ServerName::try_from(service.server_name());
    let (Some(configs), Ok(name)) = (configs, name) else {
        let problem = format!("agimo has no TLS settings for {}", service.server_name());
        return Err(ConnectError::Tls(problem));
    };
    let config = if is_http2 { configs.http2 } else { configs.http1 };
    let connection = handshake::connect(stream, config, name).await.map_err(|error| {
        match error.kind() {
            io::ErrorKind::InvalidData => ConnectError::Tls(match failure::describe(&error) {
                Some(meaning) => format!("{meaning}: {error}"),
                None => error.to_string(),
            }),
            // An application that is starting may close connections.
            _ => ConnectError::from_io(&error),
        }
    })?;
    if is_http2 && !connection.is_http2 {
        let problem = "the application does not offer HTTP/2 over TLS (ALPN `h2`)";
        return Err(ConnectError::Tls(problem.to_owned()));
    }
    Ok(connection.stream)
}

/// Runs `operation` until the deadline or until the client disconnects.
async fn before_deadline<D: Downstream, T>(
    client: &mut Client<D>,
    deadline: Instant,
    operation: impl Future<Output = Result<T, ConnectError>>,
) -> Result<T, ConnectError> {
    let Client { downstream, timer, .. } = client;
    timer.set(deadline);
    let mut operation = pin!(operation);
    let connected = poll_fn(|cx| {
        if let Poll::Ready(connected) = operation.as_mut().poll(cx) {
            return Poll::Ready(connected);
        }
        if downstream.poll_closed(cx).is_ready() {
            return Poll::Ready(Err(ConnectError::ClientDisconnected));
        }
        timer.poll(cx).map(|()| Err(ConnectError::TimedOut))
    })
    .await;
    timer.clear();
    connected
}

// === impl UpstreamStream ===

impl From<Stream> for UpstreamStream {
    fn from(stream: Stream) -> Self {
        Self::Exclusive(stream)
    }
}

impl From<TunnelStream> for UpstreamStream {
    fn from(stream: TunnelStream) -> Self {
        Self::Multiplexed(Box::new(stream))
    }
}
