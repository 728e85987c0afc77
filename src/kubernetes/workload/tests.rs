//! A runner between the engine's commands, the index and the API server.

use std::time::Duration;

use kube::runtime::watcher::Event;
use serde_json::{Value, json};

use super::super::fake_api::{self, Log, Received};
use super::super::index::{Index, Object};
use super::super::objects::workload::WorkloadObject;
use super::super::objects::{
    ObjectName, PodIdentity, PortObject, ServiceObject, Slice, SliceEndpoint,
};
use super::super::watch_scope::{ObjectKind, WatchScope};
use super::super::watches::SharedIndex;
use super::*;
use crate::activation::events::{EventBus, EventKind, LifecycleEvent};
use crate::backend::EndpointSource;
use crate::cause::Cause;
use crate::config::scaling::{Mode, Scaler};
use crate::config::{ServicePort, Via};
use crate::workload::WorkloadKind;

const KINDS: [ObjectKind; 4] = [
    ObjectKind::EndpointSlice,
    ObjectKind::Service,
    ObjectKind::Deployment,
    ObjectKind::StatefulSet,
];

/// The Deployment `a/web` with its Service, run by a runner.
struct Running {
    index: SharedIndex,
    workload: Workload,
    spec: watch::Sender<WorkloadSpec>,
    state_store: StateStore,
    events: tokio::sync::broadcast::Receiver<LifecycleEvent>,
    log: Log,
}

fn source(port: u16) -> EndpointSource {
    EndpointSource::Service {
        name: "web".to_owned(),
        port: ServicePort::Number(port),
        via: Via::Pod,
    }
}

impl Running {
    fn start(answer: impl Fn(&Received) -> (u16, Value) + Clone + Send + 'static) -> Self {
        let index = SharedIndex::new(Index::new(KINDS.map(scope), None));
        let (client, log) = fake_api::client(answer);
        let id = WorkloadId {
            kind: WorkloadKind::Deployment,
            namespace: "a".to_owned(),
            name: "web".to_owned(),
        };
        let (spec, spec_receiver) = watch::channel(WorkloadSpec {
            id: id.clone(),
            host: "a.test".to_owned(),
            scaler: Scaler::Agimo,
            mode: Mode::Enforce,
            sleep_after: Duration::from_secs(1),
            awake: Vec::new(),
            early_ready: false,
            wake_replicas: 1,
            autoscaling: None,
            placement: Placement::Kubernetes { sources: vec![source(80)] },
        });
        let bus = EventBus::default();
        let state_store = StateStore::new(None);
        let health = index.lock().health();
        let (workload, runner) = Workload::new(RunnerContext {
            client,
            resolver: Resolver::default(),
            spec: spec_receiver,
            events: bus.publisher(Arc::new(id.clone())),
            following: index.follow(&id, &[source(80)]),
            health,
            state_store: state_store.clone(),
        });
        tokio::spawn(Box::new(runner).run());
        let running = Self { index, workload, spec, state_store, events: bus.subscribe(), log };
        running.synced();
        running
    }

    fn put(&self, kind: ObjectKind, object: Object) {
        let event = Event::Apply((ObjectName::new("a", "web"), Some(object)));
        self.index.lock().apply(&scope(kind), event);
    }

    fn synced(&self) {
        for kind in KINDS {
            self.index.lock().apply(&scope(kind), Event::Init);
            self.index.lock().apply(&scope(kind), Event::InitDone);
        }
        let port = |number| PortObject {
            name: format!("p{number}"),
            number,
            target: ServicePort::Number(number),
            protocol: Default::default(),
        };
        let ports = vec![port(80), port(81)];
        let service = ServiceObject { ports, ..ServiceObject::default() };
        self.put(ObjectKind::Service, Object::Service(service));
    }

    fn replicas(&self, replicas: u32, version: u32) {
        let resource_version = version.to_string();
        let workload = WorkloadObject { replicas, resource_version, ..WorkloadObject::default() };
        self.put(ObjectKind::Deployment, Object::Workload(workload));
    }

    fn listed(&self, pods: &[u8]) {
        let endpoint = |pod: &u8| SliceEndpoint {
            address: [10, 0, 0, *pod].into(),
            pod: Some(PodIdentity {
                name: format!("web-7d4b9c6f58-xxxx{}", char::from(b'a' + pod)).into(),
                uid: format!("uid-{pod}").into(),
            }),
            ready: true,
            terminating: false,
            last_resort: false,
        };
        let slice = Slice {
            service: ObjectName::new("a", "web"),
            is_ipv6: false,
            ports: vec![("p80".to_owned(), 80), ("p81".to_owned(), 81)],
            endpoints: pods.iter().map(endpoint).collect(),
        };
        self.put(ObjectKind::EndpointSlice, Object::Slice(slice));
    }

    async fn until(&self, condition: impl FnMut(&BackendStatus) -> bool) -> BackendStatus {
        let mut status = self.workload.status();
        let reached = status.wait_for(condition);
        let reached = tokio::time::timeout(Duration::from_secs(60), reached).await;
        reached.expect("the status is reached").unwrap().clone()
    }

    async fn next_event(&mut self) -> EventKind {
        let event = tokio::time::timeout(Duration::from_secs(60), self.events.recv()).await;
        event.expect("an event is published").unwrap().kind
    }
}

fn scope(kind: ObjectKind) -> WatchScope {
    WatchScope { kind, namespace: None }
}

/// Accepts a write of `replicas` as version 10.
fn accepted(request: &Received) -> (u16, Value) {
    let scale = json!({
        "kind": "Scale", "apiVersion": "autoscaling/v1",
        "metadata": { "name": "web", "namespace": "a", "resourceVersion": "10" },
        "spec": request.body["spec"],
    });
    (200, scale)
}

#[tokio::test(start_paused = true)]
async fn a_wake_is_written_through_the_scale_subresource_and_ends_when_an_endpoint_is_listed() {
    let mut running = Running::start(accepted);
    running.replicas(0, 5);
    running.state_store.save_replicas(&running.spec.borrow().id, 3);
    running.workload.command(ScaleCommand::WakeToAtLeast(1));
    assert_eq!(running.next_event().await, EventKind::ScaleWritten { replicas: 3 });
    running.listed(&[1]);
    assert_eq!(running.next_event().await, EventKind::EndpointSliceReady);
    running.until(BackendStatus::is_ready).await;
    let log = running.log.lock().unwrap();
    let [write] = log.as_slice() else { panic!("{log:?}") };
    assert_eq!(write.method, "PATCH");
    assert_eq!(write.path, "/apis/apps/v1/namespaces/a/deployments/web/scale");
    assert_eq!(write.query, "&fieldManager=agimo");
    let expected = json!({
        "metadata": { "resourceVersion": "5" }, "spec": { "replicas": 3 },
    });
    assert_eq!(write.body, expected);
}

#[tokio::test(start_paused = true)]
async fn sleep_withdraws_the_endpoints_and_saves_the_replicas() {
    let mut running = Running::start(accepted);
    running.replicas(4, 5);
    running.listed(&[1]);
    running.until(BackendStatus::is_ready).await;
    running.workload.command(ScaleCommand::Sleep);
    running.until(|status| !status.is_ready()).await;
    assert_eq!(running.next_event().await, EventKind::ScaleWritten { replicas: 0 });
    assert_eq!(running.state_store.replicas(&running.spec.borrow().id), 4);
}

#[tokio::test(start_paused = true)]
async fn a_forbidden_write_is_reported_and_a_workload_that_cannot_sleep_stays_ready() {
    let mut running = Running::start(|_| fake_api::forbidden());
    running.replicas(0, 5);
    running.workload.command(ScaleCommand::WakeToAtLeast(1));
    let status = running.until(|status| status.not_ready.is_some()).await;
    assert_eq!(status.not_ready.unwrap().cause, Cause::ScaleRefused);
    running.replicas(1, 6);
    running.listed(&[1]);
    running.until(BackendStatus::is_ready).await;
    assert_eq!(running.next_event().await, EventKind::EndpointSliceReady);
    running.workload.command(ScaleCommand::Sleep);
    assert!(matches!(running.next_event().await, EventKind::SleepFailed { .. }));
    running.until(BackendStatus::is_ready).await;
}

#[tokio::test(start_paused = true)]
async fn sources_are_added_and_removed_while_the_workload_runs() {
    let running = Running::start(accepted);
    running.replicas(1, 5);
    running.listed(&[1]);
    running.until(BackendStatus::is_ready).await;
    let placement = |ports: &[u16]| Placement::Kubernetes {
        sources: ports.iter().map(|port| source(*port)).collect(),
    };
    running.spec.send_modify(|spec| spec.placement = placement(&[80, 81]));
    let is_ready =
        |status: &BackendStatus| status.sources.values().all(|source| !source.ready.is_empty());
    running.until(|status| status.sources.len() == 2 && is_ready(status)).await;
    running.spec.send_modify(|spec| spec.placement = placement(&[81]));
    let status = running.until(|status| status.sources.len() == 1).await;
    assert_eq!(status.sources.into_keys().collect::<Vec<_>>(), [source(81)]);
    assert!(running.log.lock().unwrap().is_empty(), "nothing is written");
}
