//! Lifecycle events and the records that they make.

use std::time::{Duration, SystemTime};

use super::record::{Failure, WakeCause, WakeOutcome, WakePhase};
use super::*;
use crate::activation::{RequestDetails, WakingRequest};
use crate::cause::{Cause, NotReadyReason};
use crate::workload::WorkloadKind;

/// A ledger to which events of one workload are given, at times in milliseconds.
struct Fixture {
    ledger: Ledger,
    workload: Arc<WorkloadId>,
    begin: SystemTime,
}

impl Fixture {
    fn new() -> Self {
        Self { ledger: Ledger::default(), workload: workload("web"), begin: SystemTime::now() }
    }

    fn note(&self, at: u64, kind: EventKind) {
        let at = self.begin + Duration::from_millis(at);
        self.ledger.note(&LifecycleEvent { workload: self.workload.clone(), at, kind });
    }

    /// Newest first.
    fn records(&self) -> Vec<RecordKind> {
        let records = self.ledger.newest(10, |_| true).records;
        records.into_iter().map(|record| record.kind.clone()).collect()
    }
}

fn workload(name: &str) -> Arc<WorkloadId> {
    let (kind, namespace) = (WorkloadKind::Deployment, "default".to_owned());
    Arc::new(WorkloadId { kind, namespace, name: name.to_owned() })
}

fn requested(path: &str, client: &str) -> EventKind {
    let details = RequestDetails {
        method: "GET".to_owned(),
        path: path.to_owned(),
        client: client.to_owned(),
        client_kind: "browser",
    };
    let request = WakingRequest { details: Some(details), trace_parent: None };
    EventKind::WakeRequested { service: "a.test".into(), request }
}

fn asleep(idle_ms: u64) -> EventKind {
    EventKind::Asleep { idle: Duration::from_millis(idle_ms), asked_by: None }
}

fn ready(after: u64) -> EventKind {
    EventKind::Ready { after: Some(Duration::from_millis(after)), endpoints: 1 }
}

fn answered(after: u64) -> EventKind {
    EventKind::FirstAnswer { after: Duration::from_millis(after) }
}

#[test]
fn a_cold_start_has_its_cause_and_each_phase_once() {
    let fixture = Fixture::new();
    let mut finished = fixture.ledger.finished();
    let pod = || "web-1".to_owned();
    fixture.note(0, requested("/cart", "203.0.113.77"));
    fixture.note(4, EventKind::ScaleWritten { replicas: 1 });
    fixture.note(20, EventKind::PodScheduled { pod: pod() });
    fixture.note(30, EventKind::PodScheduled { pod: "web-2".to_owned() });
    // The images of two containers; the last one counts.
    for (at, image) in [(200, "proxy:1"), (450, "web:1")] {
        let (image, took) = (image.to_owned(), Duration::from_millis(100));
        fixture.note(at, EventKind::ImagePulled { pod: pod(), image, took });
    }
    fixture.note(500, EventKind::ContainerStarted { pod: pod() });
    fixture.note(501, EventKind::Started { after: Duration::from_millis(501) });
    fixture.note(600, EventKind::EndpointSliceReady);
    fixture.note(600, ready(600));
    let late =
        EventKind::ImagePulled { pod: pod(), image: "late:1".to_owned(), took: Duration::ZERO };
    fixture.note(600, late);
    fixture.note(601, EventKind::Connected);
    assert!(finished.is_empty(), "the request is not answered yet");
    fixture.note(610, answered(610));
    let records = fixture.records();
    let RecordKind::Wake(wake) = &records[0] else { panic!("{records:?}") };
    let WakeCause::Request { service, request: Some(request) } = &wake.cause else {
        panic!("{wake:?}")
    };
    let network = request.network.unwrap().to_string();
    let shown = (&**service, &*request.method, &*request.path, &*network, request.client_kind);
    assert_eq!(shown, ("a.test", "GET", "/cart", "203.0.113.0/24", "browser"));
    let phases: Vec<_> =
        wake.phases.iter().map(|(phase, after)| (phase.as_str(), after.as_millis())).collect();
    let expected = [
        ("scale_written", 4),
        ("pod_scheduled", 20),
        ("image_pulled", 450),
        ("container_started", 500),
        ("endpoint_slice_ready", 600),
        ("ready", 600),
        ("connected", 601),
        ("answered", 610),
    ];
    assert_eq!(phases, expected);
    assert_eq!(wake.outcome, WakeOutcome::Answered);
    let record = finished.try_recv().unwrap();
    assert_eq!(record.kind, records[0]);
    assert_eq!(
        record.summary(),
        "woken by GET /cart from 203.0.113.0/24 (browser) for a.test; scale written after 4.0 ms, pod scheduled after 20 ms, \
         image pulled after 450 ms, container started after 500 ms, endpoint slice ready after 600 ms, ready after 600 ms, \
         connected after 601 ms, answered after 610 ms"
    );
    assert!(finished.is_empty());
}

#[test]
fn a_request_is_recorded_with_no_more_than_the_network_of_its_client() {
    let fixture = Fixture::new();
    fixture.note(0, requested(&"/é".repeat(200), "2001:db8:1:2:3::4"));
    let RecordKind::Wake(wake) = &fixture.records()[0] else { panic!("a wake") };
    let WakeCause::Request { request: Some(request), .. } = &wake.cause else { panic!("{wake:?}") };
    assert_eq!(request.network.unwrap().to_string(), "2001:db8:1::/48");
    assert_eq!(request.path.len(), 200 - 200 % 3 + 1, "shortened between two characters");
    fixture.note(9, EventKind::WakeCancelled);
    fixture.note(
        10,
        EventKind::WakeRequested { service: "a.test".into(), request: WakingRequest::default() },
    );
    let RecordKind::Wake(wake) = &fixture.records()[0] else { panic!("a wake") };
    assert_eq!(wake.cause, WakeCause::Request { service: "a.test".into(), request: None });
}

#[test]
fn a_wake_that_fails_says_why_and_what_kept_it() {
    let fixture = Fixture::new();
    fixture.note(0, requested("/", "192.0.2.1"));
    let reason =
        NotReadyReason { cause: Cause::ImageUnavailable, detail: "no such image".to_owned() };
    fixture.note(5, EventKind::NotReady(reason.clone()));
    let (detail, retry_after) = ("exited with 1".to_owned(), Duration::from_secs(1));
    fixture.note(
        9,
        EventKind::WakeFailed { cause: Cause::Exited, detail: detail.clone(), retry_after },
    );
    // The next request is another wake.
    fixture.note(2000, requested("/", "192.0.2.1"));
    let records = fixture.records();
    let RecordKind::Wake(failed) = &records[1] else { panic!("{records:?}") };
    assert_eq!(failed.obstacle, Some(reason));
    assert_eq!(failed.outcome, WakeOutcome::Failed { reason: Cause::Exited.token(), detail });
    assert_eq!(failed.reached(WakePhase::Ready), None);
    assert!(matches!(&records[0], RecordKind::Wake(wake) if wake.outcome == WakeOutcome::Underway));
}

#[test]
fn a_workload_that_gets_ready_by_itself_was_woken_by_a_pin_or_elsewhere() {
    let fixture = Fixture::new();
    let elsewhere = || EventKind::Ready { after: None, endpoints: 1 };
    fixture.note(0, elsewhere());
    assert_eq!(fixture.records(), [], "it was awake when agimo started");
    fixture.note(1, asleep(1_000));
    fixture.note(2, elsewhere());
    fixture.note(3, asleep(1_000));
    fixture.note(4, EventKind::DirectiveChanged(Some(Directive::AwakeByPin)));
    fixture.note(5, EventKind::WakeBegun { asked_by: None });
    fixture.note(7, EventKind::ScaleWritten { replicas: 0 });
    fixture.note(8, EventKind::ScaleWritten { replicas: 1 });
    fixture.note(9, ready(4));
    fixture.note(10, EventKind::DirectiveChanged(Some(Directive::AsleepByPin)));
    fixture.note(11, asleep(0));
    let RecordKind::Wake(pinned) = &fixture.records()[1] else { panic!("a wake") };
    assert_eq!(pinned.reached(WakePhase::ScaleWritten), Some(Duration::from_millis(3)));
    let causes: Vec<_> = fixture
        .records()
        .into_iter()
        .map(|record| match record {
            RecordKind::Wake(wake) => format!("{:?} {:?}", wake.cause, wake.outcome),
            RecordKind::Sleep { cause, .. } => format!("sleep, {cause:?}"),
            other => panic!("{other:?}"),
        })
        .collect();
    let expected = [
        "sleep, Pin",
        "Directive(AwakeByPin) Ready",
        "sleep, Idle",
        "Elsewhere Ready",
        "sleep, Idle",
    ];
    assert_eq!(causes, expected);
}

#[test]
fn a_wake_whose_clients_have_left_ends_with_the_next_sleep() {
    let fixture = Fixture::new();
    fixture.note(0, requested("/", "192.0.2.1"));
    fixture.note(5, ready(5));
    fixture.note(900, asleep(895));
    let records = fixture.records();
    assert!(
        matches!(&records[1], RecordKind::Wake(wake) if wake.is_over && wake.outcome == WakeOutcome::Ready)
    );
    assert!(matches!(&records[0], RecordKind::Sleep { .. }));
    fixture.note(1000, requested("/", "192.0.2.1"));
    fixture.note(1001, EventKind::Removed);
    let records = fixture.records();
    assert!(
        matches!(&records[0], RecordKind::Wake(wake) if wake.outcome == WakeOutcome::Interrupted)
    );
}

#[test]
fn a_wake_whose_request_is_gone_ends_a_minute_after_it_was_ready() {
    let fixture = Fixture::new();
    let mut finished = fixture.ledger.finished();
    fixture.note(0, requested("/", "192.0.2.1"));
    fixture.note(5_000, ready(5_000));
    fixture.ledger.finish_unanswered(fixture.begin + Duration::from_secs(60));
    assert!(finished.is_empty());
    fixture.ledger.finish_unanswered(fixture.begin + Duration::from_secs(66));
    let record = finished.try_recv().unwrap();
    assert_eq!(record.wake().unwrap().outcome, WakeOutcome::Ready);
    fixture.note(90_000, answered(90_000));
    assert_eq!(fixture.records()[0], record.kind, "nothing is added any more");
}

#[test]
fn a_workload_that_loses_its_endpoints_for_a_moment_was_not_woken() {
    let fixture = Fixture::new();
    fixture.note(0, EventKind::EndpointsLost { scaled_down: Some(false) });
    fixture.note(9, EventKind::Ready { after: None, endpoints: 1 });
    fixture.note(10, asleep(0));
    fixture.note(11, EventKind::SleepFailed { detail: "é".repeat(1_000) });
    fixture.note(12, EventKind::Ready { after: None, endpoints: 1 });
    let names: Vec<_> = fixture.records().iter().map(RecordKind::name).collect();
    assert_eq!(names, ["failure", "sleep", "failure"]);
    let RecordKind::Failure(Failure::SleepFailed { detail }) = &fixture.records()[0] else {
        panic!("a failure")
    };
    assert_eq!(detail.len(), 500);
}

#[test]
fn failures_and_what_is_only_observed_are_records_too() {
    let fixture = Fixture::new();
    let detail = || "exit status: 1".to_owned();
    fixture.note(0, EventKind::ProcessExited { detail: detail() });
    fixture.note(1, EventKind::EndpointsLost { scaled_down: Some(false) });
    fixture.note(2, EventKind::EndpointsLost { scaled_down: Some(true) });
    fixture.note(3, EventKind::WakeObserved { replicas: 2 });
    fixture.note(4, EventKind::SleepObserved { idle: Duration::from_secs(60) });
    fixture.note(5, EventKind::SleepBlocked(None));
    fixture.note(6, EventKind::EndpointsLost { scaled_down: None });
    let expected = [
        RecordKind::SleepObserved { idle: Duration::from_secs(60) },
        RecordKind::WakeObserved { replicas: 2 },
        RecordKind::SleptElsewhere,
        RecordKind::Failure(Failure::EndpointsLost),
        RecordKind::Failure(Failure::ProcessExited { detail: detail() }),
    ];
    assert_eq!(fixture.records(), expected);
}

#[test]
fn the_number_of_records_is_bounded_for_each_workload_and_in_all() {
    let ledger = Ledger::default();
    let note = |name: &str| {
        let kind = asleep(0);
        ledger.note(&LifecycleEvent { workload: workload(name), at: SystemTime::now(), kind });
    };
    note("quiet");
    (0..3 * MOST_OF_A_WORKLOAD).for_each(|_| note("busy"));
    let of =
        |name: &'static str| ledger.newest(MOST, move |workload| workload.name == name).records;
    assert_eq!((of("quiet").len(), of("busy").len()), (1, MOST_OF_A_WORKLOAD));
    assert_eq!(of("busy")[0].number, 3 * MOST_OF_A_WORKLOAD as u64);
    (0..MOST).for_each(|number| note(&format!("other-{number}")));
    assert_eq!((of("quiet").len(), of("busy").len()), (0, 0), "the oldest are dropped");
    let entries = ledger.lock();
    assert_eq!((entries.records.len(), entries.numbers.len()), (MOST, MOST));
}
