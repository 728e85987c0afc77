//! Asks Prometheus' query API over HTTP. It knows no workload.

use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::{Request, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

use super::answer::{self, AnswerError, Sample};
use crate::net::dns::Resolver;

/// Prometheus' query API at one address.
pub struct Api {
    /// Without a slash at its end.
    address: String,
    client: Client<HttpsConnector<HttpConnector<Resolver>>, Full<Bytes>>,
}

/// A question without an answer; another time there may be one.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    #[error("{0} is no address; write --prometheus-address http://prometheus:9090")]
    Address(String),
    #[error("TLS cannot be used: {0}; mount certificates and name them with SSL_CERT_FILE")]
    Tls(String),
    #[error("Prometheus at {address} cannot be asked: {words}")]
    Unreachable { address: String, words: String },
    #[error("Prometheus at {address} answers {status}")]
    Status { address: String, status: http::StatusCode },
    #[error(transparent)]
    Answer(#[from] AnswerError),
}

/// Longer than Prometheus takes for an instant query of one metric, shorter than most holds.
const QUERY_TIMEOUT: Duration = Duration::from_secs(3);
/// An answer of ten thousand series is about 3 MiB.
const LARGEST_ANSWER: usize = 64 * 1024 * 1024;

// === impl Api ===

impl Api {
    pub fn new(address: &str, resolver: Resolver) -> Result<Self, QueryError> {
        let address = address.trim_end_matches('/').to_owned();
        let uri: Uri = address.parse().map_err(|_| QueryError::Address(address.clone()))?;
        let mut connector = HttpConnector::new_with_resolver(resolver);
        connector.enforce_http(false);
        connector.set_connect_timeout(Some(QUERY_TIMEOUT));
        let tls = HttpsConnectorBuilder::new();
        let builder = if uri.scheme_str() == Some("https") {
            tls.with_native_roots().map_err(|error| QueryError::Tls(error.to_string()))?
        } else {
            // An image without certificates is no hindrance to plain HTTP.
            let none = rustls::RootCertStore::empty();
            tls.with_tls_config(
                rustls::ClientConfig::builder().with_root_certificates(none).with_no_client_auth(),
            )
        };
        let connector = builder.https_or_http().enable_http1().wrap_connector(connector);
        Ok(Self { address, client: Client::builder(TokioExecutor::new()).build(connector) })
    }

    /// The answer to an instant query (Prometheus, HTTP API, instant queries).
    pub async fn ask(&self, query: &str) -> Result<Vec<Sample>, QueryError> {
        let unreachable =
            |words: String| QueryError::Unreachable { address: self.address.clone(), words };
        // In a body a query may be of any length.
        let body = form_body(query);
        let request = Request::post(format!("{}/api/v1/query", self.address))
            .header(
                header::CONTENT_TYPE,
                HeaderValue::from_static("application/x-www-form-urlencoded"),
            )
            .body(Full::from(body))
            .map_err(|error| unreachable(error.to_string()))?;
        let answered = async {
            let response = self.client.request(request).await.map_err(|error| {
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                unreachable(cause.unwrap_or_else(|| error.to_string()))
            })?;
            let status = response.status();
            let body = Limited::new(response.into_body(), LARGEST_ANSWER).collect().await;
            let body = body.map_err(|error| unreachable(error.to_string()))?.to_bytes();
            // Its own errors come with a status of 4xx or 5xx and words in the body.
            match answer::read(&body) {
                Err(AnswerError::Malformed(_)) if !status.is_success() => {
                    Err(QueryError::Status { address: self.address.clone(), status })
                }
                read => Ok(read?),
            }
        };
        match tokio::time::timeout(QUERY_TIMEOUT, answered).await {
            Ok(outcome) => outcome,
            Err(_) => Err(unreachable(format!("no answer within {} s", QUERY_TIMEOUT.as_secs()))),
        }
    }
}

/// The query as a form (WHATWG URL, application/x-www-form-urlencoded).
fn form_body(query: &str) -> String {
    form_urlencoded::Serializer::new(String::new()).append_pair("query", query).finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_encoded_as_a_form() {
        assert_eq!(form_body("up{a=~\"b|c\"} or x"), "query=up%7Ba%3D%7E%22b%7Cc%22%7D+or+x");
    }

    #[tokio::test]
    async fn nobody_there_is_said_with_the_address() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        drop(listener);
        let error = Api::new(&address, Resolver::default()).unwrap().ask("up").await.unwrap_err();
        assert!(error.to_string().contains(&address), "{error}");
    }
}
