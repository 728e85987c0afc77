//! A workload under test: what the watches and the engine tell it, and what its steps put out.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::super::{Input, Output, State};
use crate::backend::{EndpointSource, Placement, ScaleCommand, SourceStatus, WorkloadSpec};
use crate::cause::{Cause, NotReadyReason};
use crate::config::scaling::{Mode, Scaler};
use crate::config::{ServicePort, Via};
use crate::kubernetes::index::health::WatchHealth;
use crate::kubernetes::index::{Endpoint, SourceSnapshot, WorkloadSnapshot};
use crate::kubernetes::objects::workload::{PodTemplate, WorkloadObject};
use crate::kubernetes::objects::{PodIdentity, PortObject, ServiceObject};
use crate::kubernetes::pods::PodState;
use crate::kubernetes::scale::{ScaleFailure, ScaleRead, ScaleResult};
use crate::kubernetes::step::wake::PodChange;
use crate::workload::{WorkloadId, WorkloadKind};

pub(super) const SECOND: Duration = Duration::from_secs(1);
pub(super) const SELECTOR: &str = "app=web";

/// A Deployment `a/web` with a state under test.
pub(super) struct Fixture {
    pub(super) state: State,
    pub(super) now: Instant,
    pub(super) health: WatchHealth,
    pub(super) snapshot: WorkloadSnapshot,
    pub(super) version: u64,
    pub(super) template: PodTemplate,
}

pub(super) fn http() -> EndpointSource {
    source("web", 80, Via::Pod)
}

pub(super) fn admin() -> EndpointSource {
    source("admin", 81, Via::Pod)
}

pub(super) fn source(name: &str, port: u16, via: Via) -> EndpointSource {
    EndpointSource::Service { name: name.to_owned(), port: ServicePort::Number(port), via }
}

pub(super) fn spec(scaler: Scaler, sources: &[EndpointSource]) -> WorkloadSpec {
    WorkloadSpec {
        id: WorkloadId {
            kind: WorkloadKind::Deployment,
            namespace: "a".to_owned(),
            name: "web".to_owned(),
        },
        host: "a.test".to_owned(),
        scaler,
        mode: Mode::Enforce,
        sleep_after: SECOND,
        awake: Vec::new(),
        early_ready: false,
        wake_replicas: 1,
        autoscaling: None,
        placement: Placement::Kubernetes { sources: sources.to_vec() },
    }
}

pub(super) fn service(port: u16) -> ServiceObject {
    let port = PortObject {
        name: String::new(),
        number: port,
        target: ServicePort::Number(port),
        protocol: Default::default(),
    };
    ServiceObject {
        ports: vec![port],
        selector: Some(SELECTOR.to_owned()),
        ..ServiceObject::default()
    }
}

/// A pod's endpoint for a source: pod `n` has the address `10.0.0.n`.
pub(super) fn endpoint(source: &EndpointSource, pod: u8) -> Endpoint {
    let EndpointSource::Service { port: ServicePort::Number(port), .. } = source else {
        panic!("{source:?}")
    };
    let identity = PodIdentity { name: pod_name(pod).into(), uid: format!("uid-{pod}").into() };
    Endpoint { address: ([10, 0, 0, pod], *port).into(), pod: Some(identity) }
}

/// The name that the ReplicaSet controller would give to this pod.
pub(super) fn pod_name(number: u8) -> String {
    let letter = |digit: u8| char::from(b"bcdfghjklm"[usize::from(digit % 10)]);
    let [hundreds, tens, ones] = [number / 100, number / 10, number].map(letter);
    format!("web-7d4b9c6f58-xx{hundreds}{tens}{ones}")
}

pub(super) fn pod(number: u8, is_ready: bool) -> PodState {
    PodState {
        name: pod_name(number),
        uid: Some(format!("uid-{number}").into()),
        is_scheduled: true,
        is_started: true,
        is_ready,
        addresses: vec![[10, 0, 0, number].into()],
        ..PodState::default()
    }
}

impl Fixture {
    /// The Deployment has `replicas`, and nothing is ready.
    pub(super) fn new(scaler: Scaler, sources: &[EndpointSource], replicas: u32) -> Self {
        let now = Instant::now();
        let of_source = |source: &EndpointSource| {
            let EndpointSource::Service { port: ServicePort::Number(port), .. } = source else {
                panic!("{source:?}")
            };
            let service = Some(Arc::new(service(*port)));
            (source.clone(), SourceSnapshot { service, ..SourceSnapshot::default() })
        };
        let mut fixture = Self {
            state: State::new(spec(scaler, sources), now),
            now,
            health: WatchHealth { is_synced: true, ..WatchHealth::default() },
            snapshot: WorkloadSnapshot {
                sources: sources.iter().map(of_source).collect(),
                ..WorkloadSnapshot::default()
            },
            version: 0,
            template: PodTemplate {
                labels: [("app".to_owned(), "web".to_owned())].into(),
                ..PodTemplate::default()
            },
        };
        fixture.replicas(replicas);
        fixture
    }

    pub(super) fn step(&mut self, input: Input) -> Output {
        self.state.step(input, self.now)
    }

    pub(super) fn after(&mut self, time: Duration) -> Output {
        self.now += time;
        self.step(Input::TimePassed)
    }

    pub(super) fn command(&mut self, command: ScaleCommand) -> Output {
        self.step(Input::Command { command, saved_replicas: 1 })
    }

    pub(super) fn observe(&mut self) -> Output {
        self.step(Input::Observed { health: self.health.clone(), snapshot: self.snapshot.clone() })
    }

    /// The watch reads this number, in a new version.
    pub(super) fn replicas(&mut self, replicas: u32) -> Output {
        self.version += 1;
        self.snapshot.workload = Some(Arc::new(WorkloadObject {
            replicas,
            resource_version: self.version.to_string(),
            template: Arc::new(self.template.clone()),
            ..WorkloadObject::default()
        }));
        self.observe()
    }

    /// The EndpointSlices list these pods as ready.
    pub(super) fn listed(&mut self, source: &EndpointSource, pods: &[u8]) -> Output {
        let ready = pods.iter().map(|pod| endpoint(source, *pod)).collect();
        self.snapshot.sources.get_mut(source).unwrap().ready = ready;
        self.observe()
    }

    /// The API server accepted a write.
    pub(super) fn accepted(&mut self, replicas: u32) -> Output {
        self.version += 1;
        let read = ScaleRead { replicas, resource_version: self.version.to_string() };
        self.step(Input::Written(Ok(ScaleResult { read, is_conflict: false })))
    }

    pub(super) fn failed(&mut self, retry_after: Duration) -> Output {
        let reason = NotReadyReason { cause: Cause::ScaleRefused, detail: "no right".to_owned() };
        self.step(Input::Written(Err(ScaleFailure { reason, retry_after })))
    }

    pub(super) fn pod_changed(&mut self, pod: PodState) -> Output {
        self.step(Input::PodsChanged(PodChange::Updated { selector: SELECTOR.to_owned(), pod }))
    }
}

impl Output {
    pub(super) fn written(&self) -> Option<u32> {
        self.write.as_ref().map(|write| write.replicas)
    }

    pub(super) fn ready(&self, source: &EndpointSource) -> Vec<String> {
        let of_source = |source: &SourceStatus| source.ready.clone();
        let ready = self.status.sources.get(source).map(of_source).unwrap_or_default();
        ready.iter().map(ToString::to_string).collect()
    }

    pub(super) fn cause(&self, source: &EndpointSource) -> Option<Cause> {
        self.status.not_ready_reason(source).map(|reason| reason.cause)
    }
}
