//! The request path without a binary: the catalog with a fake backend, and a core on a listener of the test.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::{Arc, Mutex};

use agimo::activation::events::EventBus;
use agimo::backend::{
    Backend, BackendAndTask, BackendStatus, EndpointSource, ScaleCommand, SourceStatus,
};
use agimo::catalog::backends::Backends;
use agimo::catalog::{Catalog, Snapshot};
use agimo::certificates::Certificates;
use agimo::config::parse;
use agimo::coordination::Coordination;
use agimo::proxy::accept::{CoreListeners, Observers, Proxy, listen};
use agimo::proxy::core::Core;
use agimo::shutdown::Shutdown;
use tokio::sync::watch;

use crate::support::client::Client;
use crate::support::eventually;

/// One service, `a.test`, whose workload does what the test says.
pub(super) struct RequestPath {
    pub(super) backend: Arc<FakeBackend>,
    snapshots: watch::Receiver<Arc<Snapshot>>,
    shutdown: Shutdown,
    /// Owns the tasks of the workload.
    _catalog: Catalog,
}

/// A workload that neither starts nor stops anything.
pub(super) struct FakeBackend {
    status: watch::Sender<BackendStatus>,
    commands: Mutex<Vec<ScaleCommand>>,
}

// === impl RequestPath ===

impl RequestPath {
    /// The workload has no endpoint. `keys` are further keys of the service.
    pub(super) fn cold(keys: &str) -> Self {
        let service = "host = \"a.test\"\ntype = \"process\"\ncommand = [\"unused\"]";
        let config = parse::parse(&format!("[[services]]\n{service}\n{keys}\n")).unwrap();
        let backend = Arc::new(FakeBackend {
            status: watch::Sender::new(BackendStatus::default()),
            commands: Mutex::default(),
        });
        let started = backend.clone();
        let processes = Box::new(move |_| {
            let task = Box::pin(std::future::pending());
            Some(BackendAndTask { backend: started.clone(), task })
        });
        let backends = Backends { processes, kubernetes: None };
        let shutdown = Shutdown::default();
        let (catalog, snapshots) = Catalog::new(
            config,
            1,
            backends,
            Coordination::default(),
            EventBus::default(),
            shutdown.clone(),
        );
        Self { backend, snapshots, shutdown, _catalog: catalog }
    }

    /// The workload has one endpoint.
    pub(super) async fn warm(endpoint: SocketAddr, keys: &str) -> Self {
        let path = Self::cold(keys);
        path.backend.set_ready(&[endpoint]);
        let route = path.snapshots.borrow().routes[0].clone();
        eventually("the endpoint to be published", || async {
            let activation = route.workload.activation.as_ref().unwrap();
            (!activation.published().endpoints.is_empty()).then_some(())
        })
        .await;
        path
    }

    /// A core for requests that the test brings itself.
    pub(super) fn core(&self) -> Rc<Core> {
        Rc::new(Core::new(0, &self.proxy()))
    }

    /// Serves connections on a thread of its own, as long as the fixture lives.
    pub(super) fn serve(&self) -> SocketAddr {
        let listener = listen((Ipv4Addr::LOCALHOST, 0).into(), 1).unwrap().remove(0);
        let address = listener.local_addr().unwrap();
        let listeners = CoreListeners { cleartext: listener, tls: None };
        self.proxy().start(0, listeners).unwrap();
        address
    }

    fn proxy(&self) -> Proxy {
        Proxy::new(
            self.snapshots.clone(),
            1,
            Observers::default(),
            Certificates::default().subscribe(),
            self.shutdown.clone(),
        )
    }

    /// A client of a thread that serves connections.
    pub(super) async fn connect(&self) -> Client {
        Client::connect(self.serve()).await
    }

    /// Waits until this many requests are in flight, and this many of them held.
    pub(super) async fn wait_for(&self, in_flight: u64, held: u32) {
        let route = self.snapshots.borrow().routes[0].clone();
        eventually("the number of requests in flight and held", || async {
            let counted = (route.counters.in_flight(), route.held());
            (counted == (in_flight, held)).then_some(())
        })
        .await;
    }
}

impl Drop for RequestPath {
    fn drop(&mut self) {
        self.shutdown.abort();
    }
}

// === impl FakeBackend ===

impl FakeBackend {
    pub(super) fn set_ready(&self, endpoints: &[SocketAddr]) {
        let source = SourceStatus { ready: endpoints.to_vec(), ..SourceStatus::default() };
        let sources = BTreeMap::from([(EndpointSource::Processes, source)]);
        self.status.send_modify(|status| status.sources = sources);
    }

    /// How often a wake was asked for.
    pub(super) fn wakes(&self) -> usize {
        let is_wake = |command: &&ScaleCommand| {
            matches!(command, ScaleCommand::WakeToAtLeast(_) | ScaleCommand::ExpectReady)
        };
        self.commands.lock().unwrap().iter().filter(is_wake).count()
    }
}

impl Backend for FakeBackend {
    fn status(&self) -> watch::Receiver<BackendStatus> {
        self.status.subscribe()
    }

    fn command(&self, command: ScaleCommand) {
        self.commands.lock().unwrap().push(command);
    }
}
