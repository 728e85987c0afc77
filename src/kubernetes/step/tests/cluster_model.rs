//! Random interleavings of commands, writes, conflicts, late slices and pods against a small model of a cluster.

use std::collections::BTreeSet;
use std::time::Duration;

use proptest::prelude::*;

use super::*;

/// What can happen next.
#[derive(Clone, Copy, Debug)]
enum Action {
    Command(ScaleCommand),
    /// The API server carries out the write that is in flight.
    ServeWrite,
    /// Its answer arrives.
    AnswerWrite,
    /// The API server rejects the write that is in flight.
    RejectWrite,
    /// Another writer sets `replicas`.
    ForeignWrite(u32),
    /// The status of the Deployment changes, and with it the version.
    ChangeVersion,
    /// The watch of Deployments delivers the newest object.
    DeliverWorkload,
    /// The controller creates pods, or marks them as terminating.
    Reconcile,
    /// The oldest pod that starts becomes ready.
    PodReady,
    /// The oldest terminating pod is gone.
    PodGone,
    /// The slice controller reads the pods.
    UpdateSlices,
    /// The watch of EndpointSlices delivers what the slice controller wrote.
    DeliverSlices,
    /// The wake's pod watch delivers all pods.
    DeliverPods,
    Wait(u64),
}

#[derive(Clone, Debug)]
struct Pod {
    number: u8,
    is_ready: bool,
    is_terminating: bool,
    /// It ran when agimo's zero was accepted.
    is_scaled_down: bool,
    /// A slice or a pod event has shown it to agimo as ready or terminating.
    is_known: bool,
}

#[derive(Clone, Debug)]
enum Write {
    Sent(ScaleWrite),
    Answered(ScaleResult),
}

struct Model {
    fixture: Fixture,
    replicas: u32,
    version: u64,
    pods: Vec<Pod>,
    next_pod: u8,
    /// Pods that the slice controller saw last: numbers of ready ones and of terminating ones.
    slices: (Vec<u8>, Vec<u8>),
    write: Option<Write>,
    /// The newest read or written state that agimo was told.
    told: (u32, u64),
    output: Output,
    last_command: Option<ScaleCommand>,
    /// Agimo may wait for terminating endpoints until then.
    wait_until: Instant,
    /// Another writer was active near or since the last command, so its effect may be undone.
    is_interfered: bool,
    has_foreign_write_undelivered: bool,
    sleep_failed: bool,
    was_ready: bool,
}

impl Model {
    fn new(replicas: u32) -> Self {
        let mut fixture = Fixture::new(Scaler::Agimo, &[http()], replicas);
        let output = fixture.observe();
        let mut model = Self {
            version: fixture.version,
            told: (replicas, fixture.version),
            wait_until: fixture.now,
            fixture,
            replicas,
            pods: Vec::new(),
            next_pod: 1,
            slices: Default::default(),
            write: None,
            output,
            last_command: None,
            is_interfered: false,
            has_foreign_write_undelivered: false,
            sleep_failed: false,
            was_ready: false,
        };
        model.settle();
        model
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Command(command) => self.command(command),
            Action::ServeWrite => self.serve_write(),
            Action::AnswerWrite => {
                if let Some(Write::Answered(result)) = self.write.clone() {
                    self.write = None;
                    self.tell(result.read.replicas, result.read.resource_version.parse().unwrap());
                    if result.read.replicas == 0 {
                        self.wait_until = self.fixture.now + 2 * SECOND;
                    }
                    self.step(Input::Written(Ok(result)));
                }
            }
            Action::RejectWrite => {
                if let Some(Write::Sent(_)) = self.write {
                    self.write = None;
                    self.output = self.fixture.failed(SECOND);
                    self.check();
                }
            }
            Action::ForeignWrite(replicas) => {
                if replicas != self.replicas {
                    (self.replicas, self.version) = (replicas, self.version + 1);
                    self.is_interfered = true;
                    self.has_foreign_write_undelivered = true;
                }
            }
            Action::ChangeVersion => self.version += 1,
            Action::DeliverWorkload => {
                self.has_foreign_write_undelivered = false;
                self.tell(self.replicas, self.version);
                self.fixture.version = self.version - 1;
                self.output = self.fixture.replicas(self.replicas);
                self.check();
            }
            Action::Wait(milliseconds) => {
                self.fixture.now += Duration::from_millis(milliseconds);
                self.step(Input::TimePassed);
            }
            _ => self.act_on_pods(action),
        }
    }

    fn act_on_pods(&mut self, action: Action) {
        match action {
            Action::Reconcile => self.reconcile(),
            Action::PodReady => {
                let starting = |pod: &&mut Pod| !pod.is_ready && !pod.is_terminating;
                if let Some(pod) = self.pods.iter_mut().find(starting) {
                    pod.is_ready = true;
                }
            }
            Action::PodGone => {
                if let Some(index) = self.pods.iter().position(|pod| pod.is_terminating) {
                    self.pods.remove(index);
                }
            }
            Action::UpdateSlices => {
                let of = |is_terminating| {
                    let pods = self.pods.iter().filter(|pod| pod.is_ready);
                    let pods = pods.filter(|pod| pod.is_terminating == is_terminating);
                    pods.map(|pod| pod.number).collect::<Vec<_>>()
                };
                self.slices = (of(false), of(true));
            }
            Action::DeliverSlices => {
                let (ready, terminating) = self.slices.clone();
                let endpoints = terminating.iter().map(|pod| endpoint(&http(), *pod)).collect();
                self.fixture.snapshot.sources.get_mut(&http()).unwrap().last_resort = endpoints;
                self.mark_known(&[ready.clone(), terminating].concat());
                self.output = self.fixture.listed(&http(), &ready);
                self.check();
            }
            Action::DeliverPods => self.deliver_pods(),
            _ => unreachable!("{action:?}"),
        }
    }

    fn command(&mut self, command: ScaleCommand) {
        self.last_command = Some(command);
        self.is_interfered = self.has_foreign_write_undelivered;
        (self.sleep_failed, self.was_ready) = (false, false);
        let begins_wait = match command {
            ScaleCommand::Sleep | ScaleCommand::WakeToAtLeast(_) => true,
            ScaleCommand::SetReplicas(_) => self.told.0 == 0,
            ScaleCommand::ExpectReady | ScaleCommand::CancelWake => false,
        };
        if begins_wait {
            self.wait_until = self.fixture.now + 2 * SECOND;
        }
        self.output = self.fixture.command(command);
        self.check();
    }

    fn serve_write(&mut self) {
        let Some(Write::Sent(write)) = self.write.clone() else { return };
        let is_conflict = write.resource_version != self.version.to_string();
        if !is_conflict {
            (self.replicas, self.version) = (write.replicas, self.version + 1);
            for pod in &mut self.pods {
                // Those that agimo does not know by now cannot be told from new ones.
                pod.is_scaled_down = (pod.is_scaled_down || write.replicas == 0) && pod.is_known;
            }
        }
        let resource_version = self.version.to_string();
        let read = ScaleRead { replicas: self.replicas, resource_version };
        self.write = Some(Write::Answered(ScaleResult { read, is_conflict }));
    }

    /// The controller acts on the number that it reads now; it may never have seen the one before.
    fn reconcile(&mut self) {
        let alive = self.pods.iter().filter(|pod| !pod.is_terminating).count();
        let replicas = self.replicas as usize;
        for pod in self.pods.iter_mut().filter(|pod| !pod.is_terminating).skip(replicas) {
            pod.is_terminating = true;
        }
        for _ in alive..replicas {
            self.pods.push(Pod {
                number: self.next_pod,
                is_ready: false,
                is_terminating: false,
                is_scaled_down: false,
                is_known: false,
            });
            self.next_pod += 1;
        }
    }

    fn deliver_pods(&mut self) {
        if self.output.watch_pods.as_ref().is_none_or(BTreeSet::is_empty) {
            return;
        }
        for number in 1..self.next_pod {
            let alive = self.pods.iter().find(|pod| pod.number == number && !pod.is_terminating);
            let is_ready = alive.is_some_and(|pod| pod.is_ready);
            let selector = SELECTOR.to_owned();
            let change = match alive {
                Some(_) => PodChange::Updated { selector, pod: pod(number, is_ready) },
                None => PodChange::Removed { selector, name: pod_name(number) },
            };
            if is_ready {
                self.mark_known(&[number]);
            }
            self.step(Input::PodsChanged(change));
        }
    }

    fn mark_known(&mut self, numbers: &[u8]) {
        for pod in self.pods.iter_mut().filter(|pod| numbers.contains(&pod.number)) {
            pod.is_known = true;
        }
    }

    fn tell(&mut self, replicas: u32, version: u64) {
        if version >= self.told.1 {
            self.told = (replicas, version);
        }
    }

    fn step(&mut self, input: Input) {
        self.output = self.fixture.step(input);
        self.check();
    }

    /// What must hold after every step.
    fn check(&mut self) {
        self.sleep_failed |=
            self.output.events.iter().any(|event| matches!(event, EventKind::SleepFailed { .. }));
        if let Some(write) = self.output.write.clone() {
            assert!(self.write.is_none(), "a second write is begun: {write:?}");
            assert_ne!(write.replicas, self.told.0, "it is so already");
            assert_eq!(write.resource_version, self.told.1.to_string(), "the version is old");
            self.write = Some(Write::Sent(write));
        }
        let ready = self.output.ready(&http());
        self.was_ready |= !ready.is_empty();
        let is_sleeping = matches!(self.last_command, Some(ScaleCommand::Sleep))
            && !self.sleep_failed
            && !self.is_interfered;
        if is_sleeping {
            assert_eq!(ready, [""; 0], "endpoints of a workload that was put to sleep");
        }
        let gives_up = self.fixture.now >= self.wait_until && !is_sleeping;
        for pod in &mut self.pods {
            let address = endpoint(&http(), pod.number).address.to_string();
            let is_published = ready.contains(&address);
            assert!(!(is_published && pod.is_scaled_down && !gives_up), "{pod:?} is scaled down");
            // It did not leave the slices in time: its controller never saw the zero.
            pod.is_scaled_down &= !is_published;
        }
    }

    /// Everything is delivered and nothing else happens, until nothing changes any more.
    fn settle(&mut self) {
        for _ in 0..12 {
            for action in [
                Action::ServeWrite,
                Action::AnswerWrite,
                Action::DeliverWorkload,
                Action::Reconcile,
                Action::PodReady,
                Action::PodReady,
                Action::PodReady,
                Action::PodGone,
                Action::PodGone,
                Action::DeliverPods,
                Action::UpdateSlices,
                Action::DeliverSlices,
                Action::Wait(500),
            ] {
                self.act(action);
            }
        }
    }

    /// The workload is what was last commanded.
    fn check_settled(&mut self) {
        assert!(self.write.is_none(), "{:?}", self.write);
        let ready = self.output.ready(&http()).len();
        match self.last_command {
            Some(ScaleCommand::Sleep) if !self.sleep_failed && !self.is_interfered => {
                assert_eq!((self.replicas, ready), (0, 0));
            }
            Some(ScaleCommand::SetReplicas(replicas)) if !self.is_interfered => {
                assert_eq!((self.replicas, ready), (replicas, replicas as usize));
            }
            Some(ScaleCommand::WakeToAtLeast(replicas)) => {
                if ready == 0 && self.was_ready {
                    // The endpoints were lost after they had been ready: the engine wakes it again.
                    self.command(ScaleCommand::WakeToAtLeast(replicas));
                    self.settle();
                }
                let ready = self.output.ready(&http()).len();
                assert!(self.replicas > 0 && ready > 0, "{} {ready}", self.replicas);
            }
            _ => {}
        }
        assert!(self.output.ready(&http()).len() <= self.replicas as usize);
    }
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        3 => Just(Action::Command(ScaleCommand::Sleep)),
        3 => (1..3_u32).prop_map(|number| Action::Command(ScaleCommand::WakeToAtLeast(number))),
        1 => (1..4_u32).prop_map(|number| Action::Command(ScaleCommand::SetReplicas(number))),
        1 => Just(Action::Command(ScaleCommand::CancelWake)),
        4 => Just(Action::ServeWrite),
        4 => Just(Action::AnswerWrite),
        1 => Just(Action::RejectWrite),
        1 => (0..3_u32).prop_map(Action::ForeignWrite),
        1 => Just(Action::ChangeVersion),
        3 => Just(Action::DeliverWorkload),
        4 => Just(Action::Reconcile),
        4 => Just(Action::PodReady),
        2 => Just(Action::PodGone),
        4 => Just(Action::UpdateSlices),
        4 => Just(Action::DeliverSlices),
        4 => Just(Action::DeliverPods),
        3 => (1..1500_u64).prop_map(Action::Wait),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn commands_take_effect_and_no_terminating_endpoint_is_published(
        replicas in 0..3_u32,
        actions in prop::collection::vec(action(), 0..60),
    ) {
        let mut model = Model::new(replicas);
        for action in actions {
            model.act(action);
        }
        model.settle();
        model.check_settled();
    }
}
