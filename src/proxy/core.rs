//! The state of one core: its view of the configuration, and of the routes and endpoints that its requests use. Nothing
//! here is shared with another core.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::activation::Rejection;
use crate::backend::EndpointSource;
use crate::catalog::{Route, Snapshot, Workload};
use crate::config::ServiceConfig;
use crate::demand::CoreCounters;
use crate::http::http1::head::RequestHead;
use crate::net::stream::Stream;

/// One core's state.
pub struct Core {
    pub index: usize,
    pub access_log: bool,
    /// This core's own drain signal, so that waiting for it touches no other core.
    pub drain: CancellationToken,
    pub draining: Cell<bool>,
    /// Upgraded connections; they outlive the task that accepted them.
    pub tunnels: TaskTracker,
    view: RefCell<Rc<View>>,
    updated: Notify,
    /// The routes that requests of this core have used, by their slots.
    routes: RefCell<Vec<Option<Rc<CoreRoute>>>>,
    /// What routes to the same endpoints share.
    endpoints: RefCell<HashMap<EndpointsKey, Weak<Endpoints>>>,
}

/// One configuration as this core holds it.
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

/// A workload that lives, and one of its sources.
type EndpointsKey = (*const Workload, EndpointSource);

/// The endpoints of one source of a workload, read again only when they have changed.
#[derive(Default)]
struct Endpoints {
    generation: Cell<u64>,
    ready: RefCell<Vec<Rc<Endpoint>>>,
    rejection: Cell<Option<Rejection>>,
    /// State of a xorshift generator: which two endpoints are compared.
    random: Cell<u32>,
}

/// An endpoint, with this core's load on it and idle connections to it.
pub struct Endpoint {
    pub address: SocketAddr,
    in_flight: Cell<u32>,
    gone_until: Cell<Option<Instant>>,
    idle: RefCell<Vec<Idle>>,
}

struct Idle {
    wire: Stream,
    since: Instant,
}

/// A request under way to an endpoint; its load ends with it.
pub struct Flight(Rc<Endpoint>);

/// Where a request may go now.
pub enum Choice {
    To(Flight),
    /// Nowhere yet; when endpoints are only gone for the moment, until then.
    Wait(Option<Instant>),
    /// The last wake failed; the next may begin when the rejection ends.
    Rejected(Rejection),
}

/// An endpoint that refused or reset a connection is left alone for this long.
const GONE_FOR: Duration = Duration::from_millis(100);
/// Idle connections kept per endpoint and core.
const MOST_IDLE: usize = 1024;
/// An idle connection is closed after this; below the keep-alive of common servers.
const IDLE_FOR: Duration = Duration::from_secs(60);
/// A request that could not be repeated takes only a connection that was used this recently: the
/// server is least likely to close it at the same moment.
pub const FRESH_FOR: Duration = Duration::from_millis(500);

// === impl Core ===

impl Core {
    pub fn new(index: usize, access_log: bool, snapshot: Arc<Snapshot>) -> Self {
        Self {
            index,
            access_log,
            drain: CancellationToken::new(),
            draining: Cell::new(false),
            tunnels: TaskTracker::new(),
            view: RefCell::new(Rc::new(View { snapshot, number: 0 })),
            updated: Notify::new(),
            routes: RefCell::default(),
            endpoints: RefCell::default(),
        }
    }

    /// The route of a request. Warm, this allocates nothing.
    pub fn route(&self, head: &RequestHead) -> Option<Rc<CoreRoute>> {
        let path = match head.target().path {
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

    /// This core's first request on a route, or on a new version of it.
    fn begin_route(&self, route: &Arc<Route>) -> Rc<CoreRoute> {
        let key = (Arc::as_ptr(&route.workload), route.source.clone());
        let mut shared = self.endpoints.borrow_mut();
        // Whoever holds the endpoints holds the workload too: its address is not used again meanwhile.
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

    /// The newest configuration. Whoever waits lets go of it: it holds every service in it.
    pub fn view(&self) -> Rc<View> {
        self.view.borrow().clone()
    }

    /// The view that follows the one with this number, whose successor is known to come; the same
    /// again while draining.
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

    /// Tells everyone on this core that it takes nothing new.
    pub fn begin_drain(&self) {
        self.draining.set(true);
        self.drain.cancel();
        self.updated.notify_waiters();
    }

    /// Takes over a new configuration. Requests in flight are not touched, and routes that stay keep their state.
    pub fn update(&self, snapshot: Arc<Snapshot>) {
        let number = self.view().number + 1;
        self.view.replace(Rc::new(View { snapshot, number }));
        self.forget_routes();
        self.updated.notify_waiters();
    }

    /// Closes connections that have been idle too long, and forgets routes that are gone.
    pub fn sweep(&self, now: Instant) {
        self.forget_routes();
        let mut shared = self.endpoints.borrow_mut();
        shared.retain(|_, endpoints| endpoints.strong_count() > 0);
        for route in self.routes.borrow().iter().flatten() {
            route.refresh();
            for endpoint in route.endpoints.ready.borrow().iter() {
                endpoint.sweep(now);
            }
        }
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
    /// The less loaded of two ready endpoints, or why there is none. Warm, this is one atomic load.
    pub fn choose(&self) -> Choice {
        self.refresh();
        let endpoints = &*self.endpoints;
        if let Some(rejection) = endpoints.rejection.get() {
            return Choice::Rejected(rejection);
        }
        let ready = endpoints.ready.borrow();
        let chosen = match ready.as_slice() {
            [] => return Choice::Wait(None),
            [only] => only,
            many => {
                let (one, other) = endpoints.two_of(many.len());
                let (one, other) = (&many[one], &many[other]);
                match (one.is_gone(), other.is_gone()) {
                    (false, true) => one,
                    (true, false) => other,
                    (true, true) => many.iter().find(|endpoint| !endpoint.is_gone()).unwrap_or(one),
                    _ if other.in_flight.get() < one.in_flight.get() => other,
                    _ => one,
                }
            }
        };
        match chosen.gone_until.get() {
            Some(_) if chosen.is_gone() => {
                Choice::Wait(ready.iter().filter_map(|endpoint| endpoint.gone_until.get()).min())
            }
            _ => Choice::To(Flight::begin(chosen.clone())),
        }
    }

    pub fn config(&self) -> &ServiceConfig {
        &self.route.config
    }

    /// Reads the endpoints again if they have changed, keeping the state of those that are still there.
    fn refresh(&self) {
        let Some(activation) = &self.route.workload.activation else { return };
        let endpoints = &*self.endpoints;
        let generation = activation.generation();
        if endpoints.generation.replace(generation) == generation {
            return;
        }
        let published = activation.published();
        let of_source = published.endpoints.get(&self.route.source);
        let mut ready = endpoints.ready.borrow_mut();
        let old = std::mem::take(&mut *ready);
        ready.extend(of_source.into_iter().flat_map(|addresses| addresses.iter()).map(|address| {
            let known = old.iter().find(|endpoint| endpoint.address == *address);
            known.cloned().unwrap_or_else(|| Rc::new(Endpoint::new(*address)))
        }));
        endpoints.rejection.set(published.rejection);
    }
}

// === impl Endpoints ===

impl Endpoints {
    /// Two different indexes below `length`, which is at least 2.
    fn two_of(&self, length: usize) -> (usize, usize) {
        let mut random = self.random.get().max(1);
        random ^= random << 13;
        random ^= random >> 17;
        random ^= random << 5;
        self.random.set(random);
        let one = random as usize % length;
        let step = 1 + (random as usize / length) % (length - 1);
        (one, (one + step) % length)
    }
}

// === impl Endpoint ===

impl Endpoint {
    fn new(address: SocketAddr) -> Self {
        Self {
            address,
            in_flight: Cell::new(0),
            gone_until: Cell::new(None),
            idle: RefCell::default(),
        }
    }

    /// It refused or reset a connection: leave it alone for the moment.
    pub fn gone(&self) {
        self.gone_until.set(Some(Instant::now() + GONE_FOR));
        self.idle.borrow_mut().clear();
    }

    /// An open connection that was last used less than `within` ago.
    pub fn take_idle(&self, within: Option<Duration>) -> Option<Stream> {
        let mut idle = self.idle.borrow_mut();
        while let Some(latest) = idle.pop() {
            if within.is_some_and(|within| latest.since.elapsed() > within) {
                idle.push(latest);
                return None;
            }
            if latest.wire.is_quiet() {
                return Some(latest.wire);
            }
        }
        None
    }

    /// Keeps a connection for the next request.
    pub fn keep_idle(&self, wire: Stream, now: Instant) {
        let mut idle = self.idle.borrow_mut();
        if idle.len() < MOST_IDLE {
            idle.push(Idle { wire, since: now });
        }
    }

    fn is_gone(&self) -> bool {
        match self.gone_until.get() {
            None => false,
            Some(until) if Instant::now() < until => true,
            Some(_) => {
                self.gone_until.set(None);
                false
            }
        }
    }

    fn sweep(&self, now: Instant) {
        self.idle.borrow_mut().retain(|idle| {
            now.saturating_duration_since(idle.since) < IDLE_FOR && idle.wire.is_quiet()
        });
    }
}

// === impl Flight ===

impl Flight {
    fn begin(endpoint: Rc<Endpoint>) -> Self {
        endpoint.in_flight.set(endpoint.in_flight.get() + 1);
        Self(endpoint)
    }

    pub fn endpoint(&self) -> &Endpoint {
        &self.0
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.0.in_flight.set(self.0.in_flight.get() - 1);
    }
}
