//! The responses of the admin port: whole pages, and streams without end.

use std::convert::Infallible;

use bytes::Bytes;
use futures_util::stream::{BoxStream, Stream, StreamExt};
use http_body_util::{Either, Full, StreamBody};
use hyper::body::Frame;
use hyper::{Response, StatusCode, header};
use serde::Serialize;

use crate::api::Problem;

/// A whole page, or a stream of events.
pub type AdminBody =
    Either<Full<Bytes>, StreamBody<BoxStream<'static, Result<Frame<Bytes>, Infallible>>>>;

pub type AdminResponse = Response<AdminBody>;

/// Why a request is not answered with what it asks for.
pub type Refusal = (StatusCode, String);

pub const TEXT: &str = "text/plain; charset=utf-8";
pub const JSON: &str = "application/json";
/// Server-sent events (WHATWG HTML, section 9.2).
const EVENT_STREAM: &str = "text/event-stream";

/// A page that was made, or the answer that too many are.
pub fn page(media_type: &'static str, page: Option<String>) -> AdminResponse {
    match page {
        Some(page) => respond(StatusCode::OK, media_type, page),
        None => {
            respond(StatusCode::SERVICE_UNAVAILABLE, TEXT, "too many pages are asked for at once\n")
        }
    }
}

pub fn respond(
    status: StatusCode,
    media_type: &'static str,
    page: impl Into<Bytes>,
) -> AdminResponse {
    response(status, media_type, Either::Left(Full::new(page.into())))
}

/// The answer to a request of the API that is refused.
pub fn refused((status, error): Refusal) -> AdminResponse {
    let mut response = respond(status, JSON, json(&Problem { error }));
    if status == StatusCode::UNAUTHORIZED {
        let scheme = header::HeaderValue::from_static("Bearer");
        response.headers_mut().insert(header::WWW_AUTHENTICATE, scheme);
    }
    response
}

/// The answer to a method that the path does not have (RFC 9110 section 15.5.6).
pub fn not_allowed(allowed: &'static str) -> AdminResponse {
    let text = format!("allowed here: {allowed}\n");
    let mut response = respond(StatusCode::METHOD_NOT_ALLOWED, TEXT, text);
    response.headers_mut().insert(header::ALLOW, header::HeaderValue::from_static(allowed));
    response
}

/// In one line for each nested value, as people read it.
pub fn json(value: &impl Serialize) -> String {
    // The types of the API have no keys that are no strings.
    serde_json::to_string_pretty(value).unwrap_or_default() + "\n"
}

/// Server-sent events.
pub fn stream(
    frames: impl Stream<Item = Result<Frame<Bytes>, Infallible>> + Send + 'static,
) -> AdminResponse {
    response(StatusCode::OK, EVENT_STREAM, Either::Right(StreamBody::new(frames.boxed())))
}

fn response(status: StatusCode, media_type: &'static str, body: AdminBody) -> AdminResponse {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static(media_type));
    // What is shown is the state of this moment.
    headers.insert(header::CACHE_CONTROL, header::HeaderValue::from_static("no-store"));
    response
}
