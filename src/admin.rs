//! The admin port: metrics, health, the status of services, lifecycle events and the effective configuration. It changes
//! nothing.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::BoxStream;
use http_body_util::{Either, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode, header};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};

use crate::activation::events::EventBus;
use crate::catalog::Snapshot;
use crate::control_port::pages::PageQueue;
use crate::control_port::{ControlPort, Protocol};
use crate::shutdown::Shutdown;
use crate::status;
use crate::telemetry::{EXPOSITION_TYPE, Exposition};

pub mod events;
pub mod services;
pub mod v1;

/// Writes one room's metrics.
pub type Collector = Box<dyn Fn(&mut Exposition) + Send + Sync>;

/// What the admin port shows.
pub struct Admin {
    pub snapshots: watch::Receiver<Arc<Snapshot>>,
    pub collectors: Vec<Collector>,
    pub events: EventBus,
    /// What `/api/v1` answers from.
    pub own: Box<dyn Fn() -> v1::Own + Send + Sync>,
    /// Absent where this replica is the only one.
    pub ask_others: Option<v1::AskOthers>,
    /// Lets few ask the other replicas at a time, whose ports have other work.
    pub asking: Semaphore,
    /// Whether endpoints are known: not before the first list of every watch.
    pub is_ready: Box<dyn Fn() -> bool + Send + Sync>,
    pub shutdown: Shutdown,
    pub pages: PageQueue,
    pub streams: EventStreams,
}

/// Streams of events that may be open at once.
pub type EventStreams = Arc<Semaphore>;

/// How many may ask the other replicas at a time.
pub const MOST_ASKING: usize = 2;
/// As many as people and programs need.
pub const MOST_EVENT_STREAMS: usize = 64;

/// A whole page, or a stream of events.
type AdminBody =
    Either<Full<Bytes>, StreamBody<BoxStream<'static, Result<Frame<Bytes>, Infallible>>>>;

/// The paths of the API begin so.
const API: &str = "/api/v1/";
const EVENTS: &str = "/api/v1/events";
/// An idle or slow connection does not stay.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
const MOST_CONNECTIONS: usize = 1024;

// === impl Admin ===

impl Admin {
    /// Serves until agimo is aborted; it answers on while draining, so that probes see it.
    pub async fn run(self, listener: TcpListener) {
        let port = ControlPort {
            listener,
            name: "admin",
            protocol: Protocol::Http1 { head_timeout: HEAD_TIMEOUT },
            most_connections: MOST_CONNECTIONS,
            tls: None,
            shutdown: self.shutdown.clone(),
        };
        let admin = Arc::new(self);
        port.serve(service_fn(move |request| {
            let admin = admin.clone();
            async move { Ok::<_, Infallible>(admin.respond_to(&request).await) }
        }))
        .await;
    }

    async fn respond_to(self: Arc<Self>, request: &Request<Incoming>) -> Response<AdminBody> {
        const TEXT: &str = "text/plain; charset=utf-8";
        if request.method() != Method::GET && request.method() != Method::HEAD {
            return respond(StatusCode::METHOD_NOT_ALLOWED, TEXT, "only GET is answered here\n");
        }
        match request.uri().path() {
            "/" | "/metrics" => {
                let admin = self.clone();
                page(EXPOSITION_TYPE, self.pages.make(move || admin.metrics()).await)
            }
            "/livez" => respond(StatusCode::OK, TEXT, "ok\n"),
            "/readyz" if self.shutdown.is_draining() => {
                respond(StatusCode::SERVICE_UNAVAILABLE, TEXT, "draining\n")
            }
            "/readyz" if !(self.is_ready)() => respond(
                StatusCode::SERVICE_UNAVAILABLE,
                TEXT,
                "waiting for the first answers of the Kubernetes API; the log says what is missing\n",
            ),
            "/readyz" => respond(StatusCode::OK, TEXT, "ok\n"),
            "/config" => {
                let snapshot = self.snapshots.borrow().clone();
                let text = move || format!("{:#}\n", snapshot.config.effective());
                page("application/json", self.pages.make(text).await)
            }
            "/services" => {
                let snapshot = self.snapshots.borrow().clone();
                let text =
                    move || format!("{:#}\n", services::services(&status::services(&snapshot)));
                page("application/json", self.pages.make(text).await)
            }
            path if path.starts_with(API) && path != EVENTS => {
                let query = request.uri().query().unwrap_or_default();
                match self.api(&path[API.len()..], query).await {
                    Some((status, text)) => respond(status, "application/json", text),
                    None => page("application/json", None),
                }
            }
            "/events" | EVENTS => {
                // Probes must find a free connection.
                let Ok(place) = self.streams.clone().try_acquire_owned() else {
                    return respond(
                        StatusCode::SERVICE_UNAVAILABLE,
                        TEXT,
                        "too many streams are open\n",
                    );
                };
                let frames: BoxStream<'static, _> =
                    Box::pin(events::frames(self.events.subscribe(), place));
                response(StatusCode::OK, events::MEDIA_TYPE, Either::Right(StreamBody::new(frames)))
            }
            _ => respond(
                StatusCode::NOT_FOUND,
                TEXT,
                "there are /metrics (also at /), /livez, /readyz, /services, /events, /config and /api/v1/\n",
            ),
        }
    }

    /// The answer of this replica and, where each knows only a part, of the others.
    async fn api(&self, path: &str, query: &str) -> Option<v1::Answer> {
        let own = (self.own)();
        let (wanted, parameters) = (path.to_owned(), query.to_owned());
        let answered = self.pages.make(move || v1::answer(&wanted, &parameters, &own)).await?;
        let others = match (&answered, &self.ask_others) {
            (v1::Answered::Records { .. }, Some(ask)) => {
                let _turn = self.asking.acquire().await.ok()?;
                ask(format!("{path}?{query}")).await
            }
            _ => Vec::new(),
        };
        self.pages.make(move || answered.complete(others)).await
    }

    fn metrics(&self) -> String {
        let mut page = Exposition::default();
        for collect in &self.collectors {
            collect(&mut page);
        }
        page.into_page()
    }
}

fn page(media_type: &'static str, page: Option<String>) -> Response<AdminBody> {
    match page {
        Some(page) => respond(StatusCode::OK, media_type, page),
        None => respond(
            StatusCode::SERVICE_UNAVAILABLE,
            "text/plain; charset=utf-8",
            "too many pages are asked for at once\n",
        ),
    }
}

fn respond(
    status: StatusCode,
    media_type: &'static str,
    page: impl Into<Bytes>,
) -> Response<AdminBody> {
    response(status, media_type, Either::Left(Full::new(page.into())))
}

fn response(status: StatusCode, media_type: &'static str, body: AdminBody) -> Response<AdminBody> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, header::HeaderValue::from_static(media_type));
    response
}
