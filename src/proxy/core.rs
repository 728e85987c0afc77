//! What one core sees: its own view of services and endpoints, its own idle connections. Nothing here is shared.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::activation::Refusal;
use crate::catalog::{Service, Snapshot};
use crate::demand::CoreCounters;
use crate::http::http1::head::RequestHead;
use crate::net::stream::Stream;
use crate::routing::Table;

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
}

/// One configuration as this core sees it.
pub struct View {
    pub snapshot: Arc<Snapshot>,
    /// Counts the views of this core.
    pub number: u64,
    table: Table<Rc<CoreService>>,
    services: Vec<Rc<CoreService>>,
}

/// A service as this core sees it.
pub struct CoreService {
    pub service: Arc<Service>,
    pub traffic: Arc<CoreCounters>,
    endpoints: Rc<Endpoints>,
}

/// A workload's endpoints, looked up again only when they have changed.
#[derive(Default)]
struct Endpoints {
    generation: Cell<u64>,
    ready: RefCell<Vec<Rc<Endpoint>>>,
    refusal: Cell<Option<Refusal>>,
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
    Refused(Refusal),
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
            view: RefCell::new(Rc::new(View::new(index, snapshot, None))),
            updated: Notify::new(),
        }
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

    /// Takes over a new configuration. What runs is not touched.
    pub fn update(&self, snapshot: Arc<Snapshot>) {
        let old = self.view();
        self.view.replace(Rc::new(View::new(self.index, snapshot, Some(&old))));
        self.updated.notify_waiters();
    }

    /// Closes connections that have been idle too long or lead nowhere any more.
    pub fn sweep(&self, now: Instant) {
        for service in &self.view().services {
            service.look();
            for endpoint in service.endpoints.ready.borrow().iter() {
                endpoint.sweep(now);
            }
        }
    }
}

// === impl View ===

impl View {
    fn new(core: usize, snapshot: Arc<Snapshot>, old: Option<&Self>) -> Self {
        let mut table = Table::default();
        let mut services = Vec::with_capacity(snapshot.services.len());
        let mut known: std::collections::HashMap<_, _> = old
            .into_iter()
            .flat_map(|old| &old.services)
            .map(|known| (Arc::as_ptr(&known.service.traffic), known.clone()))
            .collect();
        for service in &snapshot.services {
            let known = known.remove(&Arc::as_ptr(&service.traffic));
            let seen = match known {
                Some(known) if Arc::ptr_eq(&known.service, service) => known,
                known => Rc::new(CoreService {
                    service: service.clone(),
                    traffic: service.traffic.core(core),
                    endpoints: known
                        .filter(|known| known.service.has_workload_of(service))
                        .map(|known| known.endpoints.clone())
                        .unwrap_or_default(),
                }),
            };
            table.insert(&service.config.host, &service.config.path_prefix, seen.clone());
            services.push(seen);
        }
        let number = old.map_or(0, |old| old.number + 1);
        Self { snapshot, number, table, services }
    }

    /// The service that a request is for.
    pub fn find(&self, head: &RequestHead) -> Option<&Rc<CoreService>> {
        let path = match head.target().path {
            b"*" => b"/",
            path => path,
        };
        self.table.find(head.authority()?, path)
    }
}

// === impl CoreService ===

impl CoreService {
    /// The less loaded of two ready endpoints, or why there is none. Warm, this is one atomic load.
    pub fn choose(&self) -> Choice {
        self.look();
        let endpoints = &*self.endpoints;
        if let Some(refusal) = endpoints.refusal.get() {
            return Choice::Refused(refusal);
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

    /// Looks again if the endpoints have changed, keeping those that are still there.
    fn look(&self) {
        let Some(activation) = &self.service.activation else { return };
        let endpoints = &*self.endpoints;
        let generation = activation.generation();
        if endpoints.generation.replace(generation) == generation {
            return;
        }
        let published = activation.published();
        let mut ready = endpoints.ready.borrow_mut();
        let old = std::mem::take(&mut *ready);
        ready.extend(published.ready.iter().map(|address| {
            let known = old.iter().find(|endpoint| endpoint.address == *address);
            known.cloned().unwrap_or_else(|| Rc::new(Endpoint::new(*address)))
        }));
        endpoints.refusal.set(published.refusal);
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
