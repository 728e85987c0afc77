//! Sends the trace of each cold start to a collector of OpenTelemetry, over OTLP with HTTP and Protocol Buffers.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode, Uri};
use http_body_util::Full;
use prost::Message;
use ring::rand::{SecureRandom, SystemRandom};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tracing::{debug, warn};

use self::messages::{
    ExportTraceServiceRequest, InstrumentationScope, KeyValue, Resource, ResourceSpans, ScopeSpans,
    Span,
};
use crate::ledger::record::Record;
use crate::net::dns::Resolver;
use crate::net::http_client::{self, HttpClient};
use crate::version;

pub mod cold_start;
pub mod messages;

/// Where traces go.
pub struct Exporter {
    url: Uri,
    headers: HeaderMap,
    client: HttpClient,
    /// Names this replica.
    instance: String,
}

/// Of connecting, and of a whole answer. A collector that is slower loses traces, and nothing else waits for it.
const TIMEOUT: Duration = Duration::from_secs(10);
const MAX_ANSWER: usize = 64 * 1024;
/// The path of traces below the endpoint (OpenTelemetry, OTLP Exporter Configuration).
const PATH: &str = "/v1/traces";

// === impl Exporter ===

impl Exporter {
    /// `endpoint` is a URL such as http://collector:4318, `headers` are fields such as `authorization=Bearer%20…,tenant=a`, as
    /// OpenTelemetry writes them in a variable.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn new(endpoint: &str, headers: &str, instance: String) -> Result<Self, String> {
        let url = format!("{}{PATH}", endpoint.trim_end_matches('/'));
        let url: Uri = url.parse().map_err(|error| format!("{endpoint} is no URL: {error}"))?;
        if url.authority().is_some_and(|authority| authority.as_str().contains('@')) {
            return Err("write a name and a password as a header, not in the URL".to_owned());
        }
        let client = http_client::build(&url, Resolver::default(), TIMEOUT)
            .map_err(|error| format!("the authorities for TLS cannot be read: {error}"))?;
        Ok(Self { url, headers: parse_headers(headers)?, client, instance })
    }

    /// Sends traces until no record can come any more.
    pub async fn run(self, mut finished: Receiver<Arc<Record>>) {
        let mut is_failing = false;
        loop {
            let record = match finished.recv().await {
                Ok(record) => record,
                Err(RecvError::Lagged(lost)) => {
                    warn!(
                        lost,
                        "traces are lost: cold starts came faster than the collector accepts them"
                    );
                    continue;
                }
                Err(RecvError::Closed) => return,
            };
            let spans = cold_start::spans(&record, &mut random_id);
            if spans.is_empty() {
                continue;
            }
            match self.send(spans).await {
                Ok(()) => is_failing = false,
                Err(error) if is_failing => debug!(url = %self.url, error, "a trace is lost"),
                Err(error) => {
                    warn!(url = %self.url, error, "traces of cold starts are lost: the collector does not accept them");
                    is_failing = true;
                }
            }
        }
    }

    async fn send(&self, spans: Vec<Span>) -> Result<(), String> {
        let body = Bytes::from(self.message(spans).encode_to_vec());
        let mut request =
            Request::post(&self.url).body(Full::new(body)).map_err(|error| error.to_string())?;
        *request.headers_mut() = self.headers.clone();
        let media_type = HeaderValue::from_static("application/x-protobuf");
        request.headers_mut().insert(CONTENT_TYPE, media_type);
        match http_client::exchange(&self.client, request, TIMEOUT, MAX_ANSWER).await? {
            (StatusCode::OK, _) => Ok(()),
            (status, _) => Err(format!("status {status}")),
        }
    }

    fn message(&self, spans: Vec<Span>) -> ExportTraceServiceRequest {
        let attributes = vec![
            KeyValue::new("service.name", "agimo"),
            KeyValue::new("service.version", version::VERSION),
            KeyValue::new("service.instance.id", &*self.instance),
        ];
        let scope =
            InstrumentationScope { name: "agimo".to_owned(), version: version::VERSION.to_owned() };
        let scope_spans = vec![ScopeSpans { scope: Some(scope), spans }];
        let resource = Some(Resource { attributes });
        ExportTraceServiceRequest { resource_spans: vec![ResourceSpans { resource, scope_spans }] }
    }
}

fn parse_headers(text: &str) -> Result<HeaderMap, String> {
    let pairs = text.split(',').map(str::trim).filter(|pair| !pair.is_empty());
    let parse = |pair: &str| {
        let (name, value) = pair.split_once('=')?;
        let value = percent_encoding::percent_decode_str(value.trim()).decode_utf8().ok()?;
        let name = HeaderName::try_from(name.trim()).ok()?;
        Some((name, HeaderValue::try_from(&*value).ok()?))
    };
    pairs
        .map(|pair| {
            parse(pair).ok_or_else(|| {
                // The value may be a secret.
                let name = pair.split('=').next().unwrap_or_default();
                format!("`{name}` is no header: write name=value, several with commas between them")
            })
        })
        .collect()
}

/// A random number that is not 0.
fn random_id() -> u64 {
    let mut bytes = [0; 8];
    // Without randomness the trace is still one.
    let _ = SystemRandom::new().fill(&mut bytes);
    u64::from_be_bytes(bytes).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_read_as_the_variable_of_opentelemetry_writes_them() {
        let headers = parse_headers("authorization=Bearer%20abc, x-tenant = a,").unwrap();
        assert_eq!(headers["authorization"], "Bearer abc");
        assert_eq!((&headers["x-tenant"], headers.len()), (&HeaderValue::from_static("a"), 2));
        assert!(parse_headers("").unwrap().is_empty());
        for wrong in ["secret", "a b=c", "=c"] {
            assert!(parse_headers(wrong).is_err(), "{wrong}");
        }
        assert!(!parse_headers("a b=hidden").unwrap_err().contains("hidden"));
    }

    #[test]
    fn traces_go_below_the_endpoint() {
        let exporter = Exporter::new("http://collector:4318/", "", "agimo-1".to_owned()).unwrap();
        assert_eq!(exporter.url, "http://collector:4318/v1/traces");
        assert_ne!(random_id(), random_id());
    }
}
