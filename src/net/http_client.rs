//! Clients for requests beside the request path: to Prometheus, and to the admin port of an agimo.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

use super::dns::Resolver;

/// Keeps connections between requests.
pub type HttpClient = Client<HttpsConnector<HttpConnector<Resolver>>, Full<Bytes>>;

/// A client for the server of this URL. A connection must be made within `connect_timeout`.
///
/// # Errors
/// When the URL begins with https and the authorities that the system trusts cannot be read.
pub fn build(
    server: &Uri,
    resolver: Resolver,
    connect_timeout: Duration,
) -> io::Result<HttpClient> {
    let mut connector = HttpConnector::new_with_resolver(resolver);
    connector.enforce_http(false);
    connector.set_connect_timeout(Some(connect_timeout));
    let tls = HttpsConnectorBuilder::new();
    let builder = if server.scheme_str() == Some("https") {
        tls.with_native_roots()?
    } else {
        // Plain HTTP also works in an image without certificates.
        let none = rustls::RootCertStore::empty();
        tls.with_tls_config(
            rustls::ClientConfig::builder().with_root_certificates(none).with_no_client_auth(),
        )
    };
    let connector = builder.https_or_http().enable_http1().wrap_connector(connector);
    Ok(Client::builder(TokioExecutor::new()).build(connector))
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
