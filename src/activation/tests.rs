//! Hold and sleep on a paused clock, with a fake backend whose workload does what the test says.

use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::events::EventBus;
use super::runner::Runner;
use super::*;
use crate::backend::{Lifecycle, Placement, ScaleCommand, WakeFailure, WorkloadSpec};
use crate::config::scaling::{Mode, Scaler};
use crate::coordination::Coordination;
use crate::demand::{CoreCounters, RouteCounters, WorkloadDemand};
use crate::shutdown::Shutdown;
use crate::workload::{WorkloadId, WorkloadKind};

mod directives;
mod orders;
mod owners;
mod replicas;
mod scaling;

/// A fake: no process, no cluster; it records the commands and shows the status that the test sets.
struct FakeBackend {
    commands: Mutex<Vec<ScaleCommand>>,
    status: watch::Sender<BackendStatus>,
}

/// A workload with its activation running.
struct Fixture {
    backend: Arc<FakeBackend>,
    activation: Arc<Activation>,
    demand: Arc<WorkloadDemand>,
    route: Arc<RouteCounters>,
    spec: watch::Sender<WorkloadSpec>,
    events: tokio::sync::broadcast::Receiver<LifecycleEvent>,
    in_use: DropGuard,
    coordination: Coordination,
}

const SLEEP_AFTER: Duration = Duration::from_secs(60);
const WAKE: ScaleCommand = ScaleCommand::WakeToAtLeast(2);
const SOURCE: EndpointSource = EndpointSource::Processes;

fn id() -> WorkloadId {
    WorkloadId { kind: WorkloadKind::Deployment, namespace: "n".into(), name: "web".into() }
}

impl Backend for FakeBackend {
    fn status(&self) -> watch::Receiver<BackendStatus> {
        self.status.subscribe()
    }

    fn command(&self, command: ScaleCommand) {
        self.commands.lock().unwrap().push(command);
        if command == ScaleCommand::Sleep {
            self.status.send_modify(|status| status.sources.clear());
        }
    }
}

impl Fixture {
    /// A workload that agimo alone starts and stops.
    fn owned() -> Self {
        Self::new(Lifecycle::Owned(None), Scaler::Agimo)
    }

    /// A workload whose replicas other controllers restart.
    fn shared(scaler: Scaler) -> Self {
        Self::new(Lifecycle::Shared, scaler)
    }

    fn new(lifecycle: Lifecycle, scaler: Scaler) -> Self {
        let status = BackendStatus { lifecycle, ..BackendStatus::default() };
        let backend = Arc::new(FakeBackend {
            commands: Mutex::default(),
            status: watch::Sender::new(status),
        });
        let id = id();
        let bus = EventBus::default();
        let events = bus.subscribe();
        let publisher = bus.publisher(Arc::new(id.clone()));
        let activation = Arc::new(Activation::new(backend.clone(), publisher));
        let route = Arc::new(RouteCounters::new(1));
        let demand = Arc::new(WorkloadDemand::default());
        demand.set_routes(vec![route.clone()]);
        let (spec, spec_receiver) = watch::channel(WorkloadSpec {
            id: id.clone(),
            host: "a.test".into(),
            scaler,
            mode: Mode::Enforce,
            sleep_after: SLEEP_AFTER,
            awake: Vec::new(),
            early_ready: false,
            wake_replicas: 2,
            autoscaling: None,
            placement: Placement::Kubernetes { sources: vec![SOURCE] },
        });
        let unused = CancellationToken::new();
        let coordination = Coordination::default();
        let membership = coordination.join(Arc::new(id.clone()), demand.clone());
        let pins = coordination.pins().of(Arc::new(id.clone()));
        let runner =
            Runner::new(activation.clone(), demand.clone(), spec_receiver, membership, pins);
        tokio::spawn(Box::new(runner).run(unused.clone(), Shutdown::default()));
        let in_use = unused.drop_guard();
        Self { backend, activation, demand, route, spec, events, in_use, coordination }
    }

    async fn set_status(&self, change: impl FnOnce(&mut BackendStatus)) {
        self.backend.status.send_modify(change);
        self.settle().await;
    }

    async fn become_ready(&self) {
        let address: SocketAddr = "127.0.0.1:1".parse().unwrap();
        self.set_status(|status| status.sources.entry(SOURCE).or_default().ready = vec![address])
            .await;
    }

    async fn become_unready(&self) {
        self.set_status(|status| status.sources.clear()).await;
    }

    async fn fail_wake(&self, sequence: u64) {
        let failure = WakeFailure {
            sequence,
            was_ready: false,
            cause: Cause::Exited,
            detail: "exit status: 1".to_owned(),
        };
        self.set_status(|status| status.lifecycle = Lifecycle::Owned(Some(failure))).await;
    }

    async fn request_wake(&self) {
        self.activation.request_wake(&requester(), WakingRequest::default);
        self.settle().await;
    }

    /// Lets the activation act on what it was told; no time passes.
    async fn settle(&self) {
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
    }

    fn commands(&self) -> Vec<ScaleCommand> {
        self.backend.commands.lock().unwrap().clone()
    }

    fn wakes(&self) -> usize {
        self.commands().iter().filter(|command| **command == WAKE).count()
    }

    fn core(&self) -> Arc<CoreCounters> {
        self.route.core(0)
    }

    fn has_endpoints(&self) -> bool {
        !self.activation.published().endpoints.is_empty()
    }

    fn state(&self) -> &'static str {
        self.activation.status().state.as_str()
    }

    /// The names of the events so far.
    fn event_names(&mut self) -> Vec<&'static str> {
        std::iter::from_fn(|| self.events.try_recv().ok()).map(|event| event.kind.name()).collect()
    }
}

fn requester() -> WakeRequester {
    WakeRequester { service: "a.test".into(), cold_start: Arc::default() }
}

#[tokio::test(start_paused = true)]
async fn many_requests_wake_once_and_all_are_released_in_arrival_order() {
    let fixture = Fixture::owned();
    let order = Arc::new(Mutex::new(Vec::new()));
    for number in 0..100 {
        let (activation, order) = (fixture.activation.clone(), order.clone());
        tokio::spawn(async move {
            let changed = activation.endpoints_changed();
            activation.request_wake(&requester(), WakingRequest::default);
            changed.await;
            order.lock().unwrap().push(number);
        });
    }
    fixture.settle().await;
    assert_eq!(fixture.commands(), [WAKE]);
    assert!(order.lock().unwrap().is_empty(), "no request is released before an endpoint is ready");
    fixture.become_ready().await;
    assert_eq!(*order.lock().unwrap(), (0..100).collect::<Vec<_>>());
    assert_eq!(fixture.activation.published().endpoints[&SOURCE].len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_cold_start_publishes_its_events_in_order() {
    let mut fixture = Fixture::owned();
    fixture.request_wake().await;
    let started = Instant::now();
    fixture.set_status(|status| status.started = Some(started)).await;
    fixture.become_ready().await;
    for _ in 0..2 {
        // Only the first request of a wake is an event.
        fixture.activation.note_connected();
        fixture.activation.note_forwarded();
        fixture.activation.note_answered(Some(started));
    }
    tokio::time::sleep(SLEEP_AFTER + Duration::from_secs(4)).await;
    let expected =
        ["wake_requested", "started", "ready", "connected", "forwarded", "first_answer", "asleep"];
    assert_eq!(fixture.event_names(), expected);
}

#[tokio::test(start_paused = true)]
async fn it_sleeps_after_the_idle_time_and_not_before() {
    let fixture = Fixture::owned();
    fixture.request_wake().await;
    fixture.become_ready().await;
    tokio::time::sleep(SLEEP_AFTER - Duration::from_secs(2)).await;
    fixture.core().count_arrival(Instant::now());
    fixture.core().count_end(Instant::now());
    tokio::time::sleep(SLEEP_AFTER - Duration::from_secs(2)).await;
    assert_eq!(fixture.commands(), [WAKE], "an arrival, however short, restarts the clock");
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert_eq!(fixture.commands(), [WAKE, ScaleCommand::Sleep]);
    assert!(!fixture.has_endpoints());
}

#[tokio::test(start_paused = true)]
async fn a_request_in_flight_keeps_it_awake_however_long_it_lasts() {
    let fixture = Fixture::owned();
    fixture.core().count_arrival(Instant::now());
    fixture.request_wake().await;
    fixture.become_ready().await;
    tokio::time::sleep(SLEEP_AFTER * 100).await;
    assert_eq!(fixture.commands(), [WAKE]);
    fixture.core().count_end(Instant::now());
    tokio::time::sleep(SLEEP_AFTER + Duration::from_secs(4)).await;
    assert_eq!(fixture.commands(), [WAKE, ScaleCommand::Sleep]);
}

#[tokio::test(start_paused = true)]
async fn a_request_on_any_route_keeps_the_workload_awake() {
    let fixture = Fixture::owned();
    let other = Arc::new(RouteCounters::new(1));
    fixture.demand.set_routes(vec![fixture.route.clone(), other.clone()]);
    other.core(0).count_arrival(Instant::now());
    fixture.request_wake().await;
    fixture.become_ready().await;
    tokio::time::sleep(SLEEP_AFTER * 10).await;
    fixture.demand.set_routes(vec![fixture.route.clone()]);
    tokio::time::sleep(SLEEP_AFTER * 10).await;
    assert_eq!(fixture.commands(), [WAKE], "a stream of a removed route is still open");
    other.core(0).count_end(Instant::now());
    tokio::time::sleep(SLEEP_AFTER + Duration::from_secs(4)).await;
    assert_eq!(fixture.commands(), [WAKE, ScaleCommand::Sleep]);
}

#[tokio::test(start_paused = true)]
async fn a_slow_start_is_not_idleness() {
    let fixture = Fixture::owned();
    fixture.request_wake().await;
    tokio::time::sleep(SLEEP_AFTER * 10).await;
    assert_eq!(fixture.commands(), [WAKE], "not put to sleep before it has been ready");
    fixture.become_ready().await;
    tokio::time::sleep(SLEEP_AFTER / 2).await;
    assert_eq!(fixture.commands(), [WAKE], "its idle time begins when it is ready");
}

#[tokio::test(start_paused = true)]
async fn a_failed_wake_is_tried_again_after_a_growing_backoff() {
    let fixture = Fixture::owned();
    for (sequence, seconds) in [(1, 1), (2, 2), (3, 4)] {
        fixture.request_wake().await;
        fixture.fail_wake(sequence).await;
        let rejection = fixture.activation.published().rejection.expect("a rejection");
        assert!(!rejection.has_ended());
        let wakes = fixture.wakes();
        tokio::time::sleep(Duration::from_millis(seconds * 1000 - 10)).await;
        fixture.request_wake().await;
        assert_eq!(fixture.wakes(), wakes, "no wake within the backoff");
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert!(rejection.has_ended());
    }
    fixture.request_wake().await;
    fixture.become_ready().await;
    assert_eq!(fixture.activation.published().rejection, None);
    assert_eq!(fixture.wakes(), 4);
}

#[tokio::test(start_paused = true)]
async fn an_unused_workload_is_stopped_and_not_before() {
    let mut fixture = Fixture::owned();
    fixture.core().count_arrival(Instant::now());
    fixture.request_wake().await;
    fixture.become_ready().await;
    tokio::time::sleep(SLEEP_AFTER * 10).await;
    assert_eq!(fixture.commands(), [WAKE], "a stream still uses it");
    let Fixture { in_use, .. } = fixture;
    drop(in_use);
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    assert_eq!(*fixture.backend.commands.lock().unwrap(), [WAKE, ScaleCommand::Sleep]);
    let names: Vec<_> =
        std::iter::from_fn(|| fixture.events.try_recv().ok()).map(|e| e.kind.name()).collect();
    assert_eq!(names.last(), Some(&"removed"));
}

#[tokio::test(start_paused = true)]
async fn a_shorter_idle_time_takes_effect_while_awake() {
    let fixture = Fixture::owned();
    fixture.request_wake().await;
    fixture.become_ready().await;
    fixture.spec.send_modify(|spec| spec.sleep_after = Duration::from_secs(2));
    tokio::time::sleep(Duration::from_secs(8)).await;
    assert_eq!(fixture.commands(), [WAKE, ScaleCommand::Sleep]);
}

#[tokio::test(start_paused = true)]
async fn frequent_changes_of_status_do_not_keep_it_awake() {
    let fixture = Fixture::owned();
    fixture.request_wake().await;
    fixture.become_ready().await;
    for _ in 0..700 {
        // As when one replica of several starts and ends again and again.
        tokio::time::sleep(Duration::from_millis(100)).await;
        fixture.backend.status.send_modify(|_| ());
    }
    assert_eq!(fixture.commands(), [WAKE, ScaleCommand::Sleep]);
}

#[tokio::test(start_paused = true)]
async fn a_workload_of_an_external_scaler_is_never_scaled_by_agimo() {
    let fixture = Fixture::shared(Scaler::External);
    fixture.core().count_arrival(Instant::now());
    fixture.request_wake().await;
    fixture.become_ready().await;
    fixture.core().count_end(Instant::now());
    tokio::time::sleep(SLEEP_AFTER * 10).await;
    assert_eq!(fixture.commands(), [ScaleCommand::ExpectReady]);
    assert_eq!(fixture.state(), "awake");
    fixture.become_unready().await;
    assert_eq!(fixture.commands(), [ScaleCommand::ExpectReady], "its scaler put it to sleep");
    assert_eq!(fixture.state(), "asleep");
}

#[tokio::test(start_paused = true)]
async fn a_wake_by_an_external_scaler_is_cancelled_when_no_request_waits() {
    let fixture = Fixture::shared(Scaler::External);
    fixture.core().count_arrival(Instant::now());
    fixture.request_wake().await;
    tokio::time::sleep(SLEEP_AFTER * 2).await;
    assert_eq!(fixture.state(), "waking", "a request waits");
    fixture.core().count_end(Instant::now());
    tokio::time::sleep(SLEEP_AFTER).await;
    assert_eq!(fixture.state(), "asleep");
    assert_eq!(fixture.commands(), [ScaleCommand::ExpectReady, ScaleCommand::CancelWake]);
}

#[tokio::test(start_paused = true)]
async fn a_wake_is_handed_over_when_the_owner_changes() {
    let fixture = Fixture::shared(Scaler::External);
    fixture.core().count_arrival(Instant::now());
    fixture.request_wake().await;
    fixture.spec.send_modify(|spec| spec.scaler = Scaler::Agimo);
    fixture.settle().await;
    assert_eq!(fixture.commands(), [ScaleCommand::ExpectReady, WAKE]);
}

#[tokio::test(start_paused = true)]
async fn requests_are_held_however_often_others_restart_the_replicas() {
    let fixture = Fixture::shared(Scaler::Agimo);
    for _ in 0..5 {
        fixture.request_wake().await;
        fixture.become_ready().await;
        fixture.become_unready().await;
        assert_eq!(fixture.activation.published().rejection, None);
    }
    assert_eq!(fixture.commands(), [WAKE; 5], "woken each time, and never stopped");
}
