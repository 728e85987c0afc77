//! The state of one core: its view of the configuration, and of the routes and endpoints that its requests use. Nothing
//! here is shared with another core.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::{Rc, Weak};
use std::sync::Arc;

use tokio::sync::{Notify, broadcast, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::backend::EndpointSource;
use crate::catalog::{Route, Snapshot, Workload};
use crate::certificates::TlsSettings;
use crate::config::protocol::EndpointProtocol;
use crate::config::tls::EndpointTls;
use crate::config::{KeepAlive, ServiceConfig};
use crate::demand::CoreCounters;
use crate::http::message::RequestHead;
use crate::net::stream::Stream;
use crate::request_spans::{RequestSpans, Sampler};
use crate::tap::Tap;

use super::accept::Proxy;
use super::affinity::Preference;
use super::client_connections::ClientConnections;
use super::endpoints::{Endpoint, EndpointChoice, Endpoints};
use super::error_log::ErrorLog;
use super::idle_connections::IdleBudget;

/// The state of one core.
pub struct Core {
    pub index: usize,
    pub access_log: bool,
    pub tap: Tap,
    /// Absent where no request has a span.
    pub sampler: Option<Sampler>,
    /// The drain signal of this core alone, so that to wait for it touches no other core.
    pub drain: CancellationToken,
    pub draining: Cell<bool>,
    /// Tunnels and requests on HTTP/2 streams: they run beside the task that accepted them.
    pub tasks: TaskTracker,
    /// Connections to endpoints that serve many requests at once. They end when nobody uses them, or with the core.
    pub upstream_tasks: TaskTracker,
    pub errors: ErrorLog,
    pub connections: ClientConnections,
    /// Has every core close its idle connections to an endpoint.
    close_idle: broadcast::Sender<SocketAddr>,
    idle_budget: Rc<IdleBudget>,
    cores: usize,
    tls: watch::Receiver<Arc<TlsSettings>>,
    view: RefCell<Rc<View>>,
    updated: Notify,
    /// The routes that requests of this core have used, indexed by slot.
    routes: RefCell<Vec<Option<Rc<CoreRoute>>>>,
    /// Shared by routes to the same endpoints.
    endpoints: RefCell<HashMap<EndpointsKey, Weak<Endpoints>>>,
}

/// One configuration as this core uses it.
pub struct View {
    pub snapshot: Arc<Snapshot>,
    /// Counts the views of this core.
    pub number: u64,
}

/// A route as this core uses it.
pub struct CoreRoute {
    pub route: Arc<Route>,
    pub counters: Arc<CoreCounters>,
    endpoints: Rc<Endpoints>,
}

/// A workload that is in use, one of its sources, and what the service says of connections to it: one that another service
/// would not make is not used for it.
type EndpointsKey = (*const Workload, EndpointSource, EndpointProtocol, Arc<EndpointTls>);

// === impl Core ===

impl Core {
    pub fn new(index: usize, proxy: &Proxy) -> Self {
        let snapshot = proxy.snapshots.borrow().clone();
        let core = Self {
            index,
            access_log: proxy.observers.access_log,
            tap: proxy.observers.tap.clone(),
            sampler: proxy.observers.spans.as_ref().and_then(RequestSpans::sampler),
            drain: CancellationToken::new(),
            draining: Cell::new(false),
            tasks: TaskTracker::new(),
            upstream_tasks: TaskTracker::new(),
            errors: ErrorLog::default(),
            connections: ClientConnections::default(),
            close_idle: proxy.close_idle.clone(),
            idle_budget: Rc::default(),
            cores: proxy.cores,
            tls: proxy.tls.clone(),
            view: RefCell::new(Rc::new(View { snapshot, number: 0 })),
            updated: Notify::new(),
            routes: RefCell::default(),
            endpoints: RefCell::default(),
        };
        core.apply_limits();
        core
    }

    /// The route of a request. For a route that this core has used, this allocates nothing.
    pub fn route(&self, head: &RequestHead) -> Option<Rc<CoreRoute>> {
        let path = match head.path() {
            b"*" => b"/",
            path => path,
        };
        let view = self.view.borrow();
        let route = view.snapshot.table.find(head.authority()?, path)?;
        let known = self.routes.borrow().get(route.slot).cloned().flatten();
        match known {
            Some(known) if Arc::ptr_eq(&known.route, route) => Some(known),
            _ => Some(self.begin_route(route)),
        }
    }

    /// Adds a route, or a new version of it, at its first request on this core.
    fn begin_route(&self, route: &Arc<Route>) -> Rc<CoreRoute> {
        let ServiceConfig { protocol, tls, .. } = &route.config;
        let key = (Arc::as_ptr(&route.workload), route.source.clone(), *protocol, tls.clone());
        let mut shared = self.endpoints.borrow_mut();
        // Every owner of the endpoints owns the workload too, so its address is not reused as long as they live.
        let endpoints = shared.get(&key).and_then(Weak::upgrade).unwrap_or_default();
        shared.insert(key, Rc::downgrade(&endpoints));
        let counters = route.counters.core(self.index);
        let begun = Rc::new(CoreRoute { route: route.clone(), counters, endpoints });
        let mut routes = self.routes.borrow_mut();
        if routes.len() <= route.slot {
            routes.resize(route.slot + 1, None);
        }
        routes[route.slot] = Some(begun.clone());
        begun
    }

    /// The newest configuration. It holds every route, so it is not kept while a request waits.
    pub fn view(&self) -> Rc<View> {
        self.view.borrow().clone()
    }

    /// How connections are encrypted.
    pub fn tls(&self) -> Arc<TlsSettings> {
        self.tls.borrow().clone()
    }

    /// The view after the one with this number, which has a successor or is about to; the same view while draining.
    pub async fn view_after(&self, number: u64) -> Rc<View> {
        loop {
            let mut updated = pin!(self.updated.notified());
            updated.as_mut().enable();
            let view = self.view();
            if self.draining.get() || view.number != number {
                return view;
            }
            drop(view);
            updated.await;
        }
    }

    /// Tells every connection of this core that it shall take no further request.
    pub fn begin_drain(&self) {
        self.draining.set(true);
        self.drain.cancel();
        self.updated.notify_waiters();
    }

    /// Applies a new configuration. Requests in flight are not affected, and routes that stay keep their state.
    pub fn update(&self, snapshot: Arc<Snapshot>) {
        let number = self.view().number + 1;
        self.view.replace(Rc::new(View { snapshot, number }));
        self.apply_limits();
        self.forget_routes();
        self.updated.notify_waiters();
    }

    /// Closes connections that have been idle for too long, and removes routes that have left the configuration.
    pub fn sweep(&self, now: Instant) {
        self.forget_routes();
        let mut shared = self.endpoints.borrow_mut();
        shared.retain(|_, endpoints| endpoints.strong_count() > 0);
        for route in self.routes.borrow().iter().flatten() {
            route.refresh();
            route.endpoints.sweep(now);
        }
    }

    /// Keeps a connection to the endpoint for another request.
    pub fn keep_idle(
        &self,
        endpoint: &Endpoint,
        stream: Stream,
        keep_alive: KeepAlive,
        now: Instant,
    ) {
        endpoint.idle.keep(stream, keep_alive, &endpoint.shared, &self.idle_budget, now);
    }

    /// Has every core close its idle connections to an endpoint.
    pub fn close_idle_on_all_cores(&self, endpoint: SocketAddr) {
        // This core receives it too.
        let _ = self.close_idle.send(endpoint);
    }

    /// Closes all idle connections of this core to endpoints: no file descriptor is left for a new one.
    pub fn close_all_idle(&self) {
        for route in self.routes.borrow().iter().flatten() {
            route.endpoints.close_all_idle();
        }
    }

    /// Closes the idle connections of this core to an endpoint.
    pub fn close_idle(&self, endpoint: SocketAddr) {
        for route in self.routes.borrow().iter().flatten() {
            route.endpoints.close_idle(endpoint);
        }
    }

    /// Takes this core's share of the limits of the configuration.
    fn apply_limits(&self) {
        let view = self.view();
        let config = &view.snapshot.config;
        self.idle_budget.set_limit(config.max_idle_upstream.div_ceil(self.cores));
        self.connections.set_most_partial(config.client.max_head_memory / self.cores);
    }

    fn forget_routes(&self) {
        for known in self.routes.borrow_mut().iter_mut() {
            if known.as_ref().is_some_and(|known| !known.route.is_current()) {
                *known = None;
            }
        }
    }
}

// === impl CoreRoute ===

impl CoreRoute {
    pub fn config(&self) -> &ServiceConfig {
        &self.route.config
    }

    /// An endpoint for a request, or why there is none.
    pub fn choose(&self, preference: Preference) -> EndpointChoice {
        self.refresh();
        self.endpoints.choose(preference)
    }

    /// Whether the workload has answered a request since its last wake.
    pub fn has_answered(&self) -> bool {
        let activation = self.route.workload.activation.as_ref();
        activation.is_none_or(|activation| activation.has_answered())
    }

    /// Whether a request can go to another endpoint than this one.
    pub fn has_other_endpoint(&self, address: SocketAddr) -> bool {
        self.endpoints.has_other(address)
    }

    /// Keeps requests of this core away from an endpoint for a moment.
    pub fn mark_refused(&self, endpoint: SocketAddr) {
        self.endpoints.mark_refused(endpoint);
    }

    fn refresh(&self) {
        if let Some(activation) = &self.route.workload.activation {
            self.endpoints.refresh(activation, &self.route.source);
        }
    }
}
