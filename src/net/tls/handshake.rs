//! The handshakes by which a stream over TCP becomes one over TLS.

use std::io;
use std::sync::Arc;

use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, CommonState, HandshakeKind};
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

use crate::net::stream::Stream;
use crate::net::transport::Transport;
use crate::net::transport::tls::TlsTransport;

use super::alpn::HTTP2;
use super::server::Server;

/// A stream over TLS, and what the peers have told each other.
pub struct TlsConnection {
    pub stream: Stream,
    /// Both speak HTTP/2 (RFC 7301).
    pub is_http2: bool,
    /// The verified certificate of a client, where it has presented one.
    pub client_certificate: Option<CertificateDer<'static>>,
}

/// Serves a client.
///
/// # Errors
/// When the client disconnects, or the two cannot agree.
pub async fn accept(stream: Stream, server: &Server) -> io::Result<TlsConnection> {
    let session = TlsAcceptor::from(server.config.clone()).accept(stream).await?;
    let state = session.get_ref().1;
    let chain = state.peer_certificates().unwrap_or_default();
    if state.handshake_kind() == Some(HandshakeKind::Resumed) {
        let verified = server.verify_resumed(chain);
        verified.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
    }
    let client_certificate = chain.first().map(|leaf| leaf.clone().into_owned());
    Ok(TlsConnection { client_certificate, ..TlsConnection::new(TlsStream::Server(session)) })
}

/// Connects to a server, whose certificate must be for `name`.
///
/// # Errors
/// [`io::ErrorKind::InvalidData`] when the two cannot agree or the certificate is not valid; otherwise the connection failed.
pub async fn connect(
    stream: Stream,
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
) -> io::Result<TlsConnection> {
    let session = TlsConnector::from(config).connect(name, stream).await?;
    Ok(TlsConnection::new(TlsStream::Client(session)))
}

// === impl TlsConnection ===

impl TlsConnection {
    fn new(session: TlsStream<Stream>) -> Self {
        let state: &CommonState = session.get_ref().1;
        let is_http2 = state.alpn_protocol() == Some(HTTP2);
        let transport = Transport::Tls(Box::new(TlsTransport::new(session)));
        Self { stream: Stream::over(transport), is_http2, client_certificate: None }
    }
}
