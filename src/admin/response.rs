//! The responses of the admin port: whole pages, and streams without end.

use std::convert::Infallible;

use bytes::Bytes;
use futures_util::stream::{BoxStream, Stream, StreamExt};
use http_body_util::{Either, Full, StreamBody};
use hyper::body::Frame;
use hyper::{Response, StatusCode, header};

/// A whole page, or a stream of events.
pub type AdminBody =
    Either<Full<Bytes>, StreamBody<BoxStream<'static, Result<Frame<Bytes>, Infallible>>>>;

pub type AdminResponse = Response<AdminBody>;

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
