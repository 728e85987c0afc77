//! Sends spans to a collector: OTLP with Protocol Buffers, over HTTP or over gRPC (OpenTelemetry Protocol Specification 1.9).

use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Full, Limited};
use prost::Message;
use tonic::metadata::MetadataMap;
use tonic::{Code, Status};
use tonic_prost::ProstCodec;

use super::messages::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use crate::cli::serving::OtlpProtocol;
use crate::net::dns::Resolver;
use crate::net::http_client::{self, HttpClient};

/// The way to a collector.
pub enum Transport {
    Http { url: Uri, headers: HeaderMap, client: HttpClient },
    Grpc { origin: Uri, metadata: MetadataMap, client: HttpClient<tonic::body::Body> },
}

/// What became of spans that were sent.
pub type SendResult = Result<Rejected, SendError>;

/// The spans that a collector has rejected among those that it has accepted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rejected {
    pub count: u64,
    pub reason: String,
}

/// A collector has accepted no span.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SendError {
    pub reason: String,
    pub retry: Retry,
}

/// Whether the collector may accept spans later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    Never,
    Later,
    /// Not before this time has passed, as the collector says.
    After(Duration),
}

/// Spans in the form in which they are sent.
pub enum Payload {
    Encoded(Bytes),
    Message(ExportTraceServiceRequest),
}

/// Of connecting, and of a whole answer.
const TIMEOUT: Duration = Duration::from_secs(10);
const MAX_ANSWER: usize = 64 * 1024;
/// The path of traces below the endpoint (OpenTelemetry, OTLP Exporter Configuration).
const HTTP_PATH: &str = "/v1/traces";
const GRPC_METHOD: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";

// === impl Transport ===

impl Transport {
    /// `endpoint` is a URL such as http://collector:4318, `headers` are fields such as `authorization=Bearer%20…,tenant=a`, as
    /// OpenTelemetry writes them in a variable.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn new(protocol: OtlpProtocol, endpoint: &str, headers: &str) -> Result<Self, String> {
        let endpoint = endpoint.trim_end_matches('/');
        let parse =
            |url: &str| url.parse::<Uri>().map_err(|error| format!("{url} is not a URL: {error}"));
        let origin = parse(endpoint)?;
        if origin.authority().is_some_and(|authority| authority.as_str().contains('@')) {
            return Err("write a name and a password as a header, not in the URL".to_owned());
        }
        let headers = parse_headers(headers)?;
        let no_roots = |error| format!("the root certificates for TLS cannot be loaded: {error}");
        Ok(match protocol {
            OtlpProtocol::Http => Self::Http {
                url: parse(&format!("{endpoint}{HTTP_PATH}"))?,
                headers,
                client: http_client::build(&origin, Resolver::default(), TIMEOUT)
                    .map_err(no_roots)?,
            },
            OtlpProtocol::Grpc => Self::Grpc {
                client: http_client::build_http2(&origin, Resolver::default(), TIMEOUT)
                    .map_err(no_roots)?,
                metadata: MetadataMap::from_headers(headers),
                origin,
            },
        })
    }

    /// The URL of the collector.
    pub fn url(&self) -> &Uri {
        match self {
            Self::Http { url, .. } => url,
            Self::Grpc { origin, .. } => origin,
        }
    }

    /// Prepares spans, which may be sent several times.
    pub fn payload(&self, message: ExportTraceServiceRequest) -> Payload {
        match self {
            Self::Http { .. } => Payload::Encoded(message.encode_to_vec().into()),
            Self::Grpc { .. } => Payload::Message(message),
        }
    }

    /// # Errors
    /// When the collector has accepted none.
    pub async fn send(&self, payload: &Payload) -> SendResult {
        let response = match (self, payload) {
            (Self::Http { url, headers, client }, Payload::Encoded(body)) => {
                send_http(client, url, headers, body.clone()).await?
            }
            (Self::Grpc { origin, metadata, client }, Payload::Message(message)) => {
                send_grpc(client, origin, metadata, message.clone()).await?
            }
            // No payload is made for another transport.
            _ => return Ok(Rejected::default()),
        };
        let partial = response.partial_success.unwrap_or_default();
        let count = u64::try_from(partial.rejected_spans).unwrap_or(0);
        Ok(Rejected { count, reason: partial.error_message })
    }
}

async fn send_http(
    client: &HttpClient,
    url: &Uri,
    headers: &HeaderMap,
    body: Bytes,
) -> Result<ExportTraceServiceResponse, SendError> {
    let mut request = Request::new(Full::new(body));
    *request.method_mut() = http::Method::POST;
    *request.uri_mut() = url.clone();
    *request.headers_mut() = headers.clone();
    request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"));
    let exchange = async {
        let response = http_client::send(client, request).await?;
        let (head, body) = response.into_parts();
        let body = Limited::new(body, MAX_ANSWER).collect().await;
        body.map(|body| (head, body.to_bytes())).map_err(|error| error.to_string())
    };
    let answer = tokio::time::timeout(TIMEOUT, exchange).await;
    let answer =
        answer.unwrap_or_else(|_| Err(format!("no answer within {} s", TIMEOUT.as_secs())));
    let (head, body) = answer.map_err(|reason| SendError { reason, retry: Retry::Later })?;
    if head.status.is_success() {
        // A body that is none of these messages says nothing about spans.
        return Ok(ExportTraceServiceResponse::decode(body).unwrap_or_default());
    }
    let retry = retry_of(head.status, &head.headers);
    Err(SendError { reason: format!("status {}", head.status), retry })
}

/// The specification, "Retryable Response Codes" and "OTLP/HTTP Throttling".
fn retry_of(status: StatusCode, headers: &HeaderMap) -> Retry {
    let is_retryable = matches!(
        status,
        StatusCode::TOO_MANY_REQUESTS
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT
    );
    // A date instead of seconds is rare, and then the usual pause is made.
    let after = headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse().ok());
    match (is_retryable, after) {
        (false, _) => Retry::Never,
        (true, None) => Retry::Later,
        (true, Some(seconds)) => Retry::After(Duration::from_secs(seconds)),
    }
}

async fn send_grpc(
    client: &HttpClient<tonic::body::Body>,
    origin: &Uri,
    metadata: &MetadataMap,
    message: ExportTraceServiceRequest,
) -> Result<ExportTraceServiceResponse, SendError> {
    let mut request = tonic::Request::new(message);
    *request.metadata_mut() = metadata.clone();
    let mut grpc = tonic::client::Grpc::with_origin(client.clone(), origin.clone());
    let call = async {
        grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
        grpc.unary(request, PathAndQuery::from_static(GRPC_METHOD), ProstCodec::default()).await
    };
    let answer = tokio::time::timeout(TIMEOUT, call).await;
    let answer = answer.unwrap_or_else(|_| {
        Err(Status::deadline_exceeded(format!("no answer within {} s", TIMEOUT.as_secs())))
    });
    answer.map(tonic::Response::into_inner).map_err(|status| {
        // A failure on this side, such as a refused connection, has a source.
        let is_local = std::error::Error::source(&status).is_some();
        let is_retryable = is_local || is_retryable(status.code());
        let retry = if is_retryable { Retry::Later } else { Retry::Never };
        SendError { retry, reason: format!("{:?}: {}", status.code(), status.message()) }
    })
}

/// The specification, the table of retryable codes; RESOURCE_EXHAUSTED is one only with details that tonic does not decode.
fn is_retryable(code: Code) -> bool {
    matches!(
        code,
        Code::Cancelled
            | Code::DeadlineExceeded
            | Code::Aborted
            | Code::OutOfRange
            | Code::Unavailable
            | Code::DataLoss
    )
}

fn parse_headers(text: &str) -> Result<HeaderMap, String> {
    let pairs = text.split(',').map(str::trim).filter(|pair| !pair.is_empty());
    let parse = |pair: &str| {
        let (name, value) = pair.split_once('=')?;
        let value = percent_encoding::percent_decode_str(value.trim()).decode_utf8().ok()?;
        let name = HeaderName::try_from(name.trim()).ok()?;
        let mut value = HeaderValue::try_from(&*value).ok()?;
        value.set_sensitive(true);
        Some((name, value))
    };
    pairs
        .map(|pair| {
            parse(pair).ok_or_else(|| {
                // The value may be a secret.
                let name = pair.split('=').next().unwrap_or_default();
                format!("AGIMO_OTLP_HEADERS: `{name}` is not a header: write name=value, several with commas between them")
            })
        })
        .collect()
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
    fn what_may_pass_is_sent_again_and_not_before_the_collector_says() {
        let with = |after: &str| {
            let value = HeaderValue::from_str(after).unwrap();
            HeaderMap::from_iter([(RETRY_AFTER, value)])
        };
        for (status, headers, expected) in [
            (StatusCode::BAD_REQUEST, HeaderMap::new(), Retry::Never),
            (StatusCode::INTERNAL_SERVER_ERROR, with("3"), Retry::Never),
            (StatusCode::BAD_GATEWAY, HeaderMap::new(), Retry::Later),
            (StatusCode::TOO_MANY_REQUESTS, with("3"), Retry::After(Duration::from_secs(3))),
            (StatusCode::SERVICE_UNAVAILABLE, with("tomorrow"), Retry::Later),
        ] {
            assert_eq!(retry_of(status, &headers), expected, "{status}");
        }
        assert!(is_retryable(Code::Unavailable) && !is_retryable(Code::Unknown));
    }

    #[test]
    fn traces_go_below_the_endpoint_over_http_and_to_the_service_over_grpc() {
        let of = |protocol| Transport::new(protocol, "http://collector:4318/", "").unwrap();
        assert_eq!(of(OtlpProtocol::Http).url(), "http://collector:4318/v1/traces");
        assert_eq!(of(OtlpProtocol::Grpc).url(), "http://collector:4318/");
        assert!(Transport::new(OtlpProtocol::Http, "http://a:b@collector", "").is_err());
    }
}
