//! The admin port: metrics, health, the dashboard, and `/api/v1`: the status of services, lifecycle events, the effective
//! configuration, and changes by those who may make them.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{HeaderMap, Method, Request, StatusCode};
use tokio::net::TcpListener;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tracing::info;

use crate::activation::events::EventBus;
use crate::api::Changed;
use crate::catalog::Snapshot;
use crate::control_port::pages::PageQueue;
use crate::control_port::{ControlPort, Protocol};
use crate::shutdown::Shutdown;
use crate::status;
use crate::tap::Tap;
use crate::telemetry::{EXPOSITION_TYPE, Exposition};

use self::authorization::Authorization;
use self::changes::{Changes, OwnSource};
use self::control::Call;
use self::response::{
    AdminResponse, JSON, Refusal, TEXT, json, not_allowed, page, refused, respond, stream,
};
use self::v1::AskOthers;

pub mod authorization;
pub mod changes;
pub mod control;
pub mod events;
pub mod parameters;
pub mod requests;
pub mod response;
pub mod services;
pub mod ui;
pub mod v1;

/// Writes one room's metrics.
pub type Collector = Box<dyn Fn(&mut Exposition) + Send + Sync>;

/// What the admin port shows.
pub struct Admin {
    pub snapshots: watch::Receiver<Arc<Snapshot>>,
    pub collectors: Vec<Collector>,
    pub events: EventBus,
    /// What `/api/v1` answers from.
    pub own: OwnSource,
    /// Absent where this replica is the only one.
    pub ask_others: Option<AskOthers>,
    /// The same for changes.
    pub tell_others: Option<AskOthers>,
    /// Lets few ask the other replicas at a time, whose ports have other work.
    pub asking: Semaphore,
    pub authorization: Authorization,
    /// Whether endpoints are known: not before the first list of every watch.
    pub is_ready: Box<dyn Fn() -> bool + Send + Sync>,
    pub shutdown: Shutdown,
    pub pages: PageQueue,
    pub streams: EventStreams,
    pub tap: Tap,
}

/// Streams of events that may be open at once.
pub type EventStreams = Arc<Semaphore>;

/// How many may ask the other replicas at a time.
pub const MOST_ASKING: usize = 2;
/// As many as people and programs need.
pub const MOST_EVENT_STREAMS: usize = 64;

/// The paths of the API begin so.
const API: &str = "/api/v1/";
const EVENTS: &str = "/api/v1/events";
const CHANGES: &str = "/api/v1/services/changes";
const REQUESTS: &str = "/api/v1/requests";
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

    async fn respond_to(self: Arc<Self>, request: &Request<Incoming>) -> AdminResponse {
        let path = request.uri().path();
        match (request.method(), path.strip_prefix(API)) {
            (&Method::GET | &Method::HEAD, _) => {}
            (&Method::POST, Some(path)) => return self.change(path, request).await,
            _ => return not_allowed("GET, HEAD"),
        }
        match path {
            "/" | "/metrics" => {
                let admin = self.clone();
                page(EXPOSITION_TYPE, self.pages.make(move || admin.metrics()).await)
            }
            "/livez" => respond(StatusCode::OK, TEXT, "ok\n"),
            "/readyz" => self.readiness(),
            "/config" => {
                let snapshot = self.snapshots.borrow().clone();
                let text = move || format!("{:#}\n", snapshot.config.effective());
                page(JSON, self.pages.make(text).await)
            }
            "/services" => {
                let snapshot = self.snapshots.borrow().clone();
                let text =
                    move || format!("{:#}\n", services::services(&status::services(&snapshot)));
                page(JSON, self.pages.make(text).await)
            }
            "/events" | EVENTS => match self.stream_place() {
                Some(place) => stream(events::frames(self.events.subscribe(), place)),
                None => too_many_streams(),
            },
            CHANGES => match self.stream_place() {
                Some(place) => {
                    let (own, pages) = (self.own.clone(), self.pages.clone());
                    stream(Changes::new(own, pages, self.events.subscribe(), place).frames())
                }
                None => too_many_streams(),
            },
            REQUESTS => self.requests(request).await,
            path if path.strip_prefix(API).is_some_and(control::is_change) => not_allowed("POST"),
            path if path.starts_with(API) => {
                let query = request.uri().query().unwrap_or_default();
                match self.api(&path[API.len()..], query).await {
                    Some((status, text)) => respond(status, JSON, text),
                    None => page(JSON, None),
                }
            }
            path => ui::asset(path).unwrap_or_else(|| {
                respond(
                    StatusCode::NOT_FOUND,
                    TEXT,
                    "there are /ui, /metrics (also at /), /livez, /readyz, /services, /events, /config and /api/v1/\n",
                )
            }),
        }
    }

    fn readiness(&self) -> AdminResponse {
        let unavailable = |text: &'static str| respond(StatusCode::SERVICE_UNAVAILABLE, TEXT, text);
        if self.shutdown.is_draining() {
            return unavailable("draining\n");
        }
        if !(self.is_ready)() {
            return unavailable(
                "waiting for the first answers of the Kubernetes API; the log says what is missing\n",
            );
        }
        respond(StatusCode::OK, TEXT, "ok\n")
    }

    /// Requests as they end, for those who may change the workloads behind them.
    async fn requests(&self, request: &Request<Incoming>) -> AdminResponse {
        match self.watched_services(request).await {
            Err(refusal) => refused(refusal),
            Ok(services) => match self.stream_place() {
                Some(place) => stream(requests::frames(&self.tap, services, place)),
                None => too_many_streams(),
            },
        }
    }

    async fn watched_services(
        &self,
        request: &Request<Incoming>,
    ) -> Result<requests::Services, Refusal> {
        let headers = request.headers();
        self.authorization.check_token(headers)?;
        let own = (self.own)();
        let wanted = requests::Wanted::read(request.uri().query().unwrap_or_default(), &own)?;
        match &wanted.workloads {
            None => self.authorization.check_all(headers)?,
            Some(workloads) => {
                for workload in workloads {
                    self.authorization.check(headers, workload).await?;
                }
            }
        }
        Ok(wanted.services)
    }

    /// A place for a stream: probes must find a free connection.
    fn stream_place(&self) -> Option<OwnedSemaphorePermit> {
        self.streams.clone().try_acquire_owned().ok()
    }

    /// A POST below `/api/v1/`.
    async fn change(self: Arc<Self>, path: &str, request: &Request<Incoming>) -> AdminResponse {
        if !control::is_change(path) {
            let error = "what can be changed is /api/v1/wake, /sleep, /pin and /unpin".to_owned();
            return refused((StatusCode::NOT_FOUND, error));
        }
        let query = request.uri().query().unwrap_or_default();
        match self.carry_out(path, query, request.headers()).await {
            Ok(changed) => respond(StatusCode::OK, JSON, json(&changed)),
            Err(refusal) => refused(refusal),
        }
    }

    async fn carry_out(
        self: Arc<Self>,
        path: &str,
        query: &str,
        headers: &HeaderMap,
    ) -> Result<Changed, Refusal> {
        self.authorization.check_token(headers)?;
        let asked = Call::read(path, query, &(self.own)())?.workload.id.clone();
        let by = self.authorization.check(headers, &asked).await?;
        // Meanwhile the configuration or the state may have changed.
        let own = (self.own)();
        let call = Call::read(path, query, &own)?;
        if call.workload.id != asked {
            let error = "the configuration has just changed: ask again".to_owned();
            return Err((StatusCode::CONFLICT, error));
        }
        call.check(&own)?;
        info!(workload = %asked, change = path, by, "asked for through the admin port");
        // In a task of its own: all replicas are told, also if the client leaves.
        let admin = self.clone();
        let carried_out = tokio::spawn(async move {
            call.perform(&own, &by);
            let told = match &admin.tell_others {
                Some(tell) => tell(call.passed_on(&by)).await,
                None => Vec::new(),
            };
            let failed = told.into_iter().filter_map(|(address, told)| {
                told.err().map(|problem| format!("{address}: {problem}"))
            });
            let unreachable: Vec<_> = failed.collect();
            if !unreachable.is_empty() && call.needs_leader() && !own.coordination.is_leader() {
                let error = format!(
                    "the replica of agimo that puts workloads to sleep may not know of it: {}",
                    unreachable.join("; ")
                );
                return Err((StatusCode::SERVICE_UNAVAILABLE, error));
            }
            Ok(Changed { unreachable, ..call.outcome() })
        });
        let failed = || (StatusCode::INTERNAL_SERVER_ERROR, "the change has panicked".to_owned());
        carried_out.await.unwrap_or_else(|_| Err(failed()))
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

fn too_many_streams() -> AdminResponse {
    respond(StatusCode::SERVICE_UNAVAILABLE, TEXT, "too many streams are open\n")
}
