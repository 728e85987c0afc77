//! HTTP on the ports beside the request path: the admin port, the exchange between replicas, the port for KEDA. They share
//! one way to accept connections.

use std::convert::Infallible;
use std::error::Error;
use std::io::Cursor;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use hyper::body::{Body, Incoming};
use hyper::server::conn::{http1, http2};
use hyper::service::{HttpService, Service, service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tracing::warn;

use self::tls::{ClientCertificate, Tls};
use crate::shutdown::Shutdown;

pub mod pages;
pub mod tls;
pub mod tokens;

/// A port and how it is served.
pub struct ControlPort {
    pub listener: TcpListener,
    /// Names it in the log.
    pub name: &'static str,
    pub protocol: Protocol,
    pub most_connections: usize,
    /// Cleartext where it is absent.
    pub tls: Option<Tls>,
    pub shutdown: Shutdown,
}

/// The version of HTTP, and how long a connection stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1, until agimo is aborted. A request head must arrive within this time.
    Http1 { head_timeout: Duration },
    /// HTTP/2 with prior knowledge or ALPN, until agimo drains: clients find another replica.
    Http2,
}

const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// A client that does not answer a ping in time is gone (RFC 9113 section 6.7).
const PING_INTERVAL: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(10);

// === impl ControlPort ===

impl ControlPort {
    /// Serves until agimo is aborted.
    pub async fn serve<S, B>(self, service: S)
    where
        S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>
            + Clone
            + Send
            + 'static,
        S::Future: Send + 'static,
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn Error + Send + Sync>>,
    {
        let Self { listener, name, protocol, most_connections, tls, shutdown } = self;
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                () = shutdown.aborted() => return,
                Some(_) = connections.join_next() => {}
                accepted = listener.accept(), if connections.len() < most_connections => match accepted {
                    Ok((stream, _)) => {
                        let (service, tls, shutdown) = (service.clone(), tls.clone(), shutdown.clone());
                        connections.spawn(async move {
                            let _ = stream.set_nodelay(true);
                            connection(stream, protocol, tls, service, shutdown).await;
                        });
                    }
                    Err(error) => {
                        warn!(%error, port = name, "cannot accept a connection");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
            }
        }
    }
}

async fn connection<S, B>(
    stream: TcpStream,
    protocol: Protocol,
    tls: Option<Tls>,
    service: S,
    shutdown: Shutdown,
) where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Send + 'static,
    S::Future: Send + 'static,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let Some(tls) = tls else { return serve(stream, protocol, service, shutdown).await };
    let handshake = async { tls.acceptor().await?.accept(stream).await.ok() };
    let Ok(Some(stream)) = tokio::time::timeout(HANDSHAKE_TIMEOUT, handshake).await else { return };
    let certificates = stream.get_ref().1.peer_certificates();
    match certificates.and_then(|chain| chain.first()).map(|leaf| leaf.clone().into_owned()) {
        Some(certificate) => {
            let service = service_fn(move |mut request: Request<Incoming>| {
                request.extensions_mut().insert(ClientCertificate(certificate.clone()));
                service.call(request)
            });
            serve(stream, protocol, service, shutdown).await;
        }
        None => serve(stream, protocol, service, shutdown).await,
    }
}

/// What goes wrong here is the client's connection.
async fn serve<IO, S, B>(mut stream: IO, protocol: Protocol, service: S, shutdown: Shutdown)
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: HttpService<Incoming, ResBody = B> + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Into<Box<dyn Error + Send + Sync>>,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    match protocol {
        Protocol::Http1 { head_timeout } => {
            let _ = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(head_timeout)
                .serve_connection(TokioIo::new(stream), service)
                .await;
        }
        Protocol::Http2 => {
            // hyper bounds no time before the client has sent its preface, and pings only after it.
            let first = tokio::time::timeout(HANDSHAKE_TIMEOUT, stream.read_u8()).await;
            let Ok(Ok(first)) = first else { return };
            let (reader, writer) = tokio::io::split(stream);
            let reader = Cursor::new([first]).chain(reader);
            let stream = TokioIo::new(tokio::io::join(reader, writer));
            let mut builder = http2::Builder::new(TokioExecutor::new());
            builder.timer(TokioTimer::new());
            builder.keep_alive_interval(PING_INTERVAL).keep_alive_timeout(PING_TIMEOUT);
            let mut connection = std::pin::pin!(builder.serve_connection(stream, service));
            tokio::select! {
                _ = connection.as_mut() => return,
                () = shutdown.draining() => connection.as_mut().graceful_shutdown(),
            }
            let _ = connection.await;
        }
    }
}
