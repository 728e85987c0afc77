//! What a reload keeps, changes and lets go of, with a fake backend that runs nothing.

use std::sync::Mutex;
use std::time::Duration;

use super::*;
use crate::backend::{Backend, BackendAndTask, BackendStatus, ScaleCommand};
use crate::config::parse::parse;

/// A fake: it reports no endpoint and accepts every command.
struct FakeBackend(watch::Sender<BackendStatus>);

/// A catalog, and the specifications that its backends were started with.
struct Fixture {
    catalog: Catalog,
    snapshots: watch::Receiver<Arc<Snapshot>>,
    started: Arc<Mutex<Vec<WorkloadSpec>>>,
}

impl Backend for FakeBackend {
    fn status(&self) -> watch::Receiver<BackendStatus> {
        self.0.subscribe()
    }

    fn command(&self, _: ScaleCommand) {}
}

impl Fixture {
    fn new(text: &str) -> Self {
        let started = Arc::<Mutex<Vec<WorkloadSpec>>>::default();
        let factory = || -> backends::BackendFactory {
            let started = started.clone();
            Box::new(move |context| {
                started.lock().unwrap().push(context.spec.borrow().clone());
                let backend = Arc::new(FakeBackend(watch::Sender::default()));
                Some(BackendAndTask { backend, task: Box::pin(std::future::ready(())) })
            })
        };
        let backends = Backends { processes: factory(), kubernetes: Some(factory()) };
        let (catalog, snapshots) = Catalog::new(
            parse(text).unwrap(),
            1,
            backends,
            Coordination::default(),
            EventBus::default(),
            Shutdown::default(),
        );
        Self { catalog, snapshots, started }
    }

    fn reload(&mut self, text: &str) {
        self.catalog.apply(parse(text).unwrap());
    }

    fn route(&self, host: &str) -> Arc<Route> {
        let snapshot = self.snapshots.borrow().clone();
        snapshot.table.find(host.as_bytes(), b"/").expect("a route").clone()
    }

    fn started(&self) -> usize {
        self.started.lock().unwrap().len()
    }

    /// How many activations run.
    fn running(&mut self) -> usize {
        while self.catalog.tasks.try_join_next().is_some() {}
        self.catalog.tasks.len()
    }
}

fn deployment(host: &str, more: &str) -> String {
    format!(
        "[[services]]\nhost = '{host}'\ntype = 'deploy'\nnamespace = 'n'\nname = 'web'\n\
         service_name = 'web'\nservice_port = 80\n{more}\n"
    )
}

fn process(host: &str, more: &str) -> String {
    format!("[[services]]\nhost = '{host}'\ntype = 'process'\ncommand = ['x']\n{more}\n")
}

async fn settle() {
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn two_hosts_of_one_deployment_share_its_activation_and_its_demand() {
    let fixture = Fixture::new(&(deployment("a", "") + &deployment("b", "sleep_after = '1h'")));
    assert_eq!(fixture.started(), 1);
    let (a, b) = (fixture.route("a"), fixture.route("b"));
    assert!(Arc::ptr_eq(&a.workload, &b.workload));
    assert_ne!(a.slot, b.slot);
    a.counters.core(0).count_arrival(tokio::time::Instant::now());
    b.counters.core(0).count_arrival(tokio::time::Instant::now());
    let running = fixture.catalog.workloads.values().next().unwrap();
    assert_eq!(running.demand.in_flight(), 2);
    assert_eq!(running.spec.borrow().sleep_after, Duration::from_secs(3600));
}

#[tokio::test]
async fn an_unchanged_route_is_the_same_object_after_a_reload() {
    let mut fixture = Fixture::new(&(process("a", "") + &process("b", "")));
    let (a, b) = (fixture.route("a"), fixture.route("b"));
    fixture.reload(&(process("a", "") + &process("b", "timeout = '1s'")));
    assert!(Arc::ptr_eq(&a, &fixture.route("a")) && a.is_current());
    let changed = fixture.route("b");
    assert!(!b.is_current() && !b.is_removed(), "held requests of the old object go on");
    assert!(Arc::ptr_eq(&b.workload, &changed.workload));
    assert!(Arc::ptr_eq(&b.counters, &changed.counters));
    assert_eq!((b.slot, fixture.started()), (changed.slot, 2));
}

#[tokio::test]
async fn a_changed_process_is_another_workload_and_its_held_requests_are_routed_anew() {
    let mut fixture = Fixture::new(&process("a", ""));
    let old = fixture.route("a");
    fixture.reload(&process("a", "env = { A = 'b' }"));
    let new = fixture.route("a");
    assert!(old.is_removed() && new.is_current());
    assert!(!Arc::ptr_eq(&old.workload, &new.workload));
    assert_eq!(fixture.started(), 2);
}

#[tokio::test]
async fn a_changed_port_or_scaler_of_a_deployment_does_not_restart_its_backend() {
    let mut fixture = Fixture::new(&deployment("a", ""));
    let old = fixture.route("a");
    fixture.reload(&deployment("a", "scaler = 'agimo'").replace("= 80", "= 81"));
    let new = fixture.route("a");
    assert!(Arc::ptr_eq(&old.workload, &new.workload));
    assert!(old.is_removed(), "its requests must go to the other port");
    assert_eq!(fixture.started(), 1);
    let spec = fixture.catalog.workloads.values().next().unwrap().spec.borrow().clone();
    assert_eq!(spec.scaler, crate::config::scaling::Scaler::Agimo);
}

#[tokio::test]
async fn an_activation_ends_when_no_route_and_no_request_uses_its_workload() {
    let mut fixture =
        Fixture::new(&(deployment("a", "") + &deployment("b", "") + &process("c", "")));
    settle().await;
    assert_eq!(fixture.running(), 2);
    let in_flight = fixture.route("b");
    fixture.reload(&(deployment("a", "") + &process("c", "")));
    settle().await;
    assert!(in_flight.is_removed());
    assert_eq!(fixture.running(), 2, "another route leads to the workload");
    fixture.reload(&process("c", ""));
    settle().await;
    assert_eq!(fixture.running(), 2, "a request is in flight");
    drop(in_flight);
    settle().await;
    assert_eq!(fixture.running(), 1);
}
