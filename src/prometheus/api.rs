//! A client of the Prometheus query API.

use std::time::Duration;

use http::header::{self, HeaderValue};
use http::{Request, Uri};
use http_body_util::Full;

use super::response::{self, ResponseError, Sample};
use crate::net::dns::Resolver;
use crate::net::http_client::{self, HttpClient};

/// The Prometheus query API at one address.
pub struct QueryApi {
    /// Without a trailing slash.
    address: String,
    client: HttpClient,
}

/// Why a query has no result. `Unreachable`, `Status` and `Response` may succeed on a retry.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    #[error("{0} is not a URL; write --prometheus-address http://prometheus:9090")]
    Address(String),
    #[error(
        "the root certificates for TLS cannot be loaded: {0}; mount certificates and set SSL_CERT_FILE"
    )]
    Tls(String),
    #[error("Prometheus at {address} cannot be queried: {reason}")]
    Unreachable { address: String, reason: String },
    #[error("Prometheus at {address} answers with status {status}")]
    Status { address: String, status: http::StatusCode },
    #[error(transparent)]
    Response(#[from] ResponseError),
}

/// Longer than Prometheus takes for an instant query of one metric, shorter than most values of `hold_timeout`.
const QUERY_TIMEOUT: Duration = Duration::from_secs(3);
/// In bytes. A response with ten thousand series has about 3 MiB.
const MAX_RESPONSE_SIZE: usize = 64 * 1024 * 1024;

// === impl QueryApi ===

impl QueryApi {
    /// # Errors
    /// When the address is not a URL, or no root certificates can be loaded for an https URL.
    pub fn new(address: &str, resolver: Resolver) -> Result<Self, QueryError> {
        let address = address.trim_end_matches('/').to_owned();
        let uri: Uri = address.parse().map_err(|_| QueryError::Address(address.clone()))?;
        let client = http_client::build(&uri, resolver, QUERY_TIMEOUT)
            .map_err(|error| QueryError::Tls(error.to_string()))?;
        Ok(Self { address, client })
    }

    /// The result of an instant query (Prometheus, HTTP API, instant queries).
    pub async fn query(&self, query: &str) -> Result<Vec<Sample>, QueryError> {
        let unreachable =
            |reason: String| QueryError::Unreachable { address: self.address.clone(), reason };
        // As POST, because the length of a URL is limited.
        let body = form_body(query);
        let request = Request::post(format!("{}/api/v1/query", self.address))
            .header(
                header::CONTENT_TYPE,
                HeaderValue::from_static("application/x-www-form-urlencoded"),
            )
            .body(Full::from(body))
            .map_err(|error| unreachable(error.to_string()))?;
        let answer =
            http_client::exchange(&self.client, request, QUERY_TIMEOUT, MAX_RESPONSE_SIZE).await;
        let (status, body) = answer.map_err(unreachable)?;
        // Prometheus sends its errors with a status of 4xx or 5xx and the reason in the body.
        match response::parse(&body) {
            Err(ResponseError::Malformed(_)) if !status.is_success() => {
                Err(QueryError::Status { address: self.address.clone(), status })
            }
            parsed => Ok(parsed?),
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
    async fn a_refused_connection_is_an_error_with_the_address() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        drop(listener);
        let error =
            QueryApi::new(&address, Resolver::default()).unwrap().query("up").await.unwrap_err();
        assert!(error.to_string().contains(&address), "{error}");
    }
}
