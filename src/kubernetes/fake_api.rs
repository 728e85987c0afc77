//! An API server for tests: a function answers each request, and every request is recorded.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};

/// A request as the API server received it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Received {
    pub(super) method: String,
    pub(super) path: String,
    pub(super) query: String,
    pub(super) body: Value,
}

/// The requests so far.
pub(super) type Log = Arc<Mutex<Vec<Received>>>;

/// A client whose requests `answer` answers with a status code and an object. Watches are opened and stay silent.
pub(super) fn client(
    answer: impl Fn(&Received) -> (u16, Value) + Clone + Send + 'static,
) -> (Client, Log) {
    let log = Log::default();
    let requests = log.clone();
    let service = tower::service_fn(move |request: Request<Body>| {
        let (answer, requests) = (answer.clone(), requests.clone());
        async move {
            let (head, body) = request.into_parts();
            let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
            let received = Received {
                method: head.method.to_string(),
                path: head.uri.path().to_owned(),
                query: head.uri.query().unwrap_or_default().to_owned(),
                body: serde_json::from_slice(&body).unwrap_or_default(),
            };
            let is_watch = received.query.contains("watch=true");
            requests.lock().unwrap_or_else(PoisonError::into_inner).push(received.clone());
            let (status, body) = if is_watch { (200, silent()) } else { full(answer(&received)) };
            let mut response = Response::new(body);
            *response.status_mut() = StatusCode::from_u16(status).unwrap_or_default();
            Ok::<_, Infallible>(response)
        }
    });
    (Client::new(service, "default"), log)
}

/// The answer to a request without a permission.
pub(super) fn forbidden() -> (u16, Value) {
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "reason": "Forbidden", "code": 403, "message": "no permission",
    });
    (403, status)
}

fn full((status, object): (u16, Value)) -> (u16, UnsyncBoxBody<Bytes, Infallible>) {
    (status, Full::new(Bytes::from(object.to_string())).boxed_unsync())
}

fn silent() -> UnsyncBoxBody<Bytes, Infallible> {
    StreamBody::new(futures_util::stream::pending()).boxed_unsync()
}
