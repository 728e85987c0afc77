//! Clients for requests beside the request path: to Prometheus, and to the admin port of an agimo.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Body, Incoming};
use hyper_rustls::builderstates::WantsSchemes;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};

use super::dns::Resolver;

/// Keeps connections between requests.
pub type HttpClient<B = Full<Bytes>> = Client<HttpsConnector<HttpConnector<Resolver>>, B>;

/// How often an HTTP/2 connection in use is checked (RFC 9113 section 6.7).
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(5);

/// A client for the server of this URL. A connection must be made within `connect_timeout`.
///
/// # Errors
/// When the URL begins with https and the authorities that the system trusts cannot be read.
pub fn build(
    server: &Uri,
    resolver: Resolver,
    connect_timeout: Duration,
) -> io::Result<HttpClient> {
    let connector = tls_connector(server)?.https_or_http().enable_http1();
    let connector = connector.wrap_connector(tcp_connector(resolver, connect_timeout));
    Ok(Client::builder(TokioExecutor::new()).build(connector))
}

/// The same over HTTP/2, without TLS with prior knowledge (RFC 9113 section 3.3).
///
/// # Errors
/// As `build`.
pub fn build_http2<B>(
    server: &Uri,
    resolver: Resolver,
    connect_timeout: Duration,
) -> io::Result<HttpClient<B>>
where
    B: Body<Data: Send> + Send,
{
    let connector = tls_connector(server)?.https_or_http().enable_http2();
    let connector = connector.wrap_connector(tcp_connector(resolver, connect_timeout));
    let mut client = Client::builder(TokioExecutor::new());
    // A connection whose server has vanished would be used for as long as TCP tries to reach it.
    client.timer(TokioTimer::new()).http2_keep_alive_interval(KEEP_ALIVE_INTERVAL);
    client.http2_keep_alive_timeout(KEEP_ALIVE_TIMEOUT);
    Ok(client.http2_only(true).build(connector))
}

fn tcp_connector(resolver: Resolver, connect_timeout: Duration) -> HttpConnector<Resolver> {
    let mut connector = HttpConnector::new_with_resolver(resolver);
    connector.enforce_http(false);
    connector.set_connect_timeout(Some(connect_timeout));
    connector
}

fn tls_connector(server: &Uri) -> io::Result<HttpsConnectorBuilder<WantsSchemes>> {
    let tls = HttpsConnectorBuilder::new();
    if server.scheme_str() == Some("https") {
        return tls.with_native_roots();
    }
    // Plain HTTP also works in an image without certificates.
    let none = rustls::RootCertStore::empty();
    let config = rustls::ClientConfig::builder().with_root_certificates(none);
    Ok(tls.with_tls_config(config.with_no_client_auth()))
}

/// A response whose body is still to come.
///
/// # Errors
/// Why there is none.
pub async fn send(
    client: &HttpClient,
    request: Request<Full<Bytes>>,
) -> Result<Response<Incoming>, String> {
    client.request(request).await.map_err(|error| {
        let cause = std::error::Error::source(&error).map(ToString::to_string);
        cause.unwrap_or_else(|| error.to_string())
    })
}

/// The status and the body of a response.
///
/// # Errors
/// Why there is none within `timeout`, or with at most so many bytes.
pub async fn exchange(
    client: &HttpClient,
    request: Request<Full<Bytes>>,
    timeout: Duration,
    most_bytes: usize,
) -> Result<(StatusCode, Bytes), String> {
    let exchange = async {
        let response = send(client, request).await?;
        let status = response.status();
        let body = Limited::new(response.into_body(), most_bytes).collect().await;
        body.map(|body| (status, body.to_bytes())).map_err(|error| error.to_string())
    };
    let answer = tokio::time::timeout(timeout, exchange).await;
    answer.unwrap_or_else(|_| Err(format!("no answer within {} s", timeout.as_secs())))
}
