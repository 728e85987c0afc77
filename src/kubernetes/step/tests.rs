//! Single steps of a workload, one behaviour each. `cluster_model` tests random interleavings.

use std::sync::Arc;

use super::*;
use crate::cause::Cause;
use crate::config::Via;
use crate::config::scaling::Scaler;
use crate::kubernetes::index::Endpoint;
use crate::kubernetes::objects::{PodIdentity, ServiceObject};

use self::fixture::{
    Fixture, SECOND, SELECTOR, admin, endpoint, http, pod, pod_name, service, source, spec,
};

mod cluster_model;
mod early;
mod fixture;
mod other_writers;
mod reasons;

fn asleep() -> Fixture {
    Fixture::new(Scaler::Agimo, &[http()], 0)
}

/// One replica, listed as ready.
fn awake() -> Fixture {
    let mut fixture = Fixture::new(Scaler::Agimo, &[http()], 1);
    fixture.listed(&http(), &[1]);
    fixture
}

#[test]
fn a_wake_writes_the_saved_replicas_and_then_watches_the_pods() {
    let mut fixture = asleep();
    let command = ScaleCommand::WakeToAtLeast(1);
    let output = fixture.step(Input::Command { command, saved_replicas: 3 });
    assert_eq!((output.written(), output.save_replicas), (Some(3), None));
    assert_eq!(output.watch_pods, Some(BTreeSet::new()), "the write goes first");
    let output = fixture.accepted(3);
    assert_eq!(output.events, [EventKind::ScaleWritten { replicas: 3 }]);
    assert_eq!(output.watch_pods, Some([SELECTOR.to_owned()].into()));
    assert_eq!(fixture.observe().written(), None, "the watch is behind the write");
}

#[test]
fn ready_pods_are_published_before_the_slices_list_them() {
    let mut fixture = asleep();
    fixture.command(ScaleCommand::WakeToAtLeast(1));
    fixture.accepted(1);
    let output = fixture.pod_changed(pod(1, false));
    let name = || pod_name(1);
    let expected =
        [EventKind::PodScheduled { pod: name() }, EventKind::ContainerStarted { pod: name() }];
    assert_eq!(output.events, expected);
    assert_eq!(output.status.started, Some(fixture.now));
    let output = fixture.pod_changed(pod(1, true));
    assert_eq!(output.events, [EventKind::PodReady { pod: name() }]);
    assert_eq!(output.ready(&http()), ["10.0.0.1:80"]);
    let output = fixture.listed(&http(), &[1]);
    assert_eq!(output.events, [EventKind::EndpointSliceReady]);
    assert_eq!(output.watch_pods, None);
    assert_eq!(output.ready(&http()), ["10.0.0.1:80"]);
}

#[test]
fn pods_are_watched_until_every_source_is_listed_or_for_two_seconds_after_the_first() {
    for every_source in [true, false] {
        let mut fixture = Fixture::new(Scaler::Agimo, &[http(), admin()], 0);
        fixture.command(ScaleCommand::WakeToAtLeast(1));
        fixture.accepted(1);
        fixture.pod_changed(pod(1, true));
        let output = fixture.listed(&http(), &[1]);
        assert_eq!(output.ready(&admin()), ["10.0.0.1:81"]);
        assert!(output.watch_pods.is_some());
        assert_eq!(output.step_at, Some(fixture.now + 2 * SECOND));
        let output = if every_source {
            fixture.listed(&admin(), &[1])
        } else {
            assert!(fixture.after(SECOND).watch_pods.is_some());
            fixture.after(SECOND)
        };
        assert_eq!(output.watch_pods, None);
    }
}

#[test]
fn a_source_whose_service_is_missing_does_not_prolong_the_wake() {
    let mut fixture = Fixture::new(Scaler::Agimo, &[http(), admin()], 0);
    fixture.snapshot.sources.get_mut(&admin()).unwrap().service = None;
    fixture.command(ScaleCommand::WakeToAtLeast(1));
    fixture.accepted(1);
    let output = fixture.listed(&http(), &[1]);
    assert_eq!(output.watch_pods, None);
    assert_eq!(output.cause(&admin()), Some(Cause::ServiceMissing));
    assert_eq!(output.cause(&http()), None);
}

#[test]
fn sleep_withdraws_the_endpoints_before_it_is_written() {
    let mut fixture = awake();
    let terminating = vec![endpoint(&http(), 2)];
    fixture.snapshot.sources.get_mut(&http()).unwrap().last_resort = terminating;
    fixture.observe();
    let output = fixture.command(ScaleCommand::Sleep);
    assert_eq!((output.written(), output.save_replicas), (Some(0), Some(1)));
    assert_eq!(output.ready(&http()), [""; 0]);
    assert_eq!(fixture.accepted(0).ready(&http()), [""; 0]);
    let output = fixture.after(60 * SECOND);
    assert_eq!(output.ready(&http()), [""; 0], "however long the slices list it");
    let output = fixture.listed(&http(), &[1, 3]);
    assert_eq!(output.ready(&http()), [""; 0], "a pod that the slices list late terminates, too");
}

#[test]
fn endpoints_that_appear_while_the_zero_is_written_terminate_although_a_wake_follows() {
    let mut fixture = awake();
    fixture.command(ScaleCommand::Sleep);
    fixture.command(ScaleCommand::WakeToAtLeast(1));
    assert_eq!(fixture.listed(&http(), &[1, 2]).ready(&http()), [""; 0]);
    let output = fixture.accepted(0);
    assert_eq!((output.written(), output.ready(&http())), (None, Vec::new()));
    assert_eq!(fixture.listed(&http(), &[]).written(), Some(1));
}

#[test]
fn a_workload_that_cannot_be_scaled_to_zero_stays_awake() {
    let mut fixture = awake();
    fixture.command(ScaleCommand::Sleep);
    let output = fixture.failed(5 * SECOND);
    assert_eq!(output.events, [EventKind::SleepFailed { detail: "no right".to_owned() }]);
    assert_eq!(output.ready(&http()), ["10.0.0.1:80"]);
    assert_eq!(fixture.after(60 * SECOND).written(), None);
}

#[test]
fn a_failed_wake_is_retried_after_its_delay_and_gives_the_reason() {
    let mut fixture = asleep();
    fixture.command(ScaleCommand::WakeToAtLeast(1));
    let output = fixture.failed(5 * SECOND);
    assert_eq!(output.cause(&http()), Some(Cause::ScaleRefused));
    assert_eq!((output.written(), output.step_at), (None, Some(fixture.now + 5 * SECOND)));
    assert_eq!(fixture.after(5 * SECOND).written(), Some(1));
    assert_eq!(fixture.accepted(1).cause(&http()), None);
}

#[test]
fn after_a_conflict_the_write_is_repeated_for_the_new_version() {
    let mut fixture = asleep();
    fixture.command(ScaleCommand::WakeToAtLeast(1));
    let read = ScaleRead { replicas: 0, resource_version: "9".to_owned() };
    let output = fixture.step(Input::Written(Ok(ScaleResult { read, is_conflict: true })));
    assert_eq!(output.events, []);
    let expected = ScaleWrite { replicas: 1, resource_version: "9".to_owned() };
    assert_eq!(output.write, Some(expected));
    let read = ScaleRead { replicas: 2, resource_version: "10".to_owned() };
    let output = fixture.step(Input::Written(Ok(ScaleResult { read, is_conflict: true })));
    assert_eq!(output.write, None, "another writer scaled it up");
}

#[test]
fn a_wake_right_after_sleep_waits_until_the_old_endpoints_left() {
    let mut fixture = awake();
    fixture.command(ScaleCommand::Sleep);
    fixture.accepted(0);
    let output = fixture.command(ScaleCommand::WakeToAtLeast(1));
    assert_eq!(output.written(), None);
    assert_eq!(output.step_at, Some(fixture.now + 2 * SECOND));
    assert_eq!(output.ready(&http()), [""; 0]);
    let output = fixture.listed(&http(), &[]);
    assert_eq!(output.written(), Some(1));
    fixture.accepted(1);
    assert_eq!(fixture.listed(&http(), &[1, 2]).ready(&http()), ["10.0.0.2:80"]);
}

#[test]
fn a_wake_right_after_sleep_waits_two_seconds_at_most() {
    let mut fixture = awake();
    fixture.command(ScaleCommand::Sleep);
    fixture.accepted(0);
    fixture.command(ScaleCommand::WakeToAtLeast(1));
    assert_eq!(fixture.after(SECOND).ready(&http()), [""; 0]);
    let output = fixture.after(SECOND);
    assert_eq!(output.written(), Some(1));
    assert_eq!(output.ready(&http()), ["10.0.0.1:80"], "its controller never saw the zero");
}

#[test]
fn a_wake_before_the_zero_was_written_keeps_the_endpoints() {
    let mut fixture = awake();
    fixture.health.is_synced = false;
    fixture.observe();
    assert_eq!(fixture.command(ScaleCommand::Sleep).ready(&http()), [""; 0]);
    fixture.command(ScaleCommand::WakeToAtLeast(1));
    fixture.health.is_synced = true;
    let output = fixture.observe();
    assert_eq!((output.written(), output.ready(&http())), (None, vec!["10.0.0.1:80".to_owned()]));
}

#[test]
fn for_an_external_scaler_readiness_is_watched_and_nothing_is_written() {
    let mut fixture = Fixture::new(Scaler::External, &[http()], 0);
    let output = fixture.command(ScaleCommand::ExpectReady);
    assert_eq!(output.written(), None);
    assert_eq!(output.watch_pods, Some([SELECTOR.to_owned()].into()));
    let output = fixture.pod_changed(pod(1, true));
    assert_eq!(output.ready(&http()), ["10.0.0.1:80"]);
    assert_eq!(fixture.command(ScaleCommand::CancelWake).watch_pods, None);
}

#[test]
fn a_command_for_a_ready_workload_publishes_its_status_again() {
    let mut fixture = awake();
    let output = fixture.command(ScaleCommand::WakeToAtLeast(1));
    assert!(output.republish && output.status.is_ready());
    assert_eq!(output.written(), None);
    assert!(!fixture.observe().republish);
}

#[test]
fn an_exact_scale_is_written_once_and_not_again() {
    let mut fixture = awake();
    let output = fixture.command(ScaleCommand::SetReplicas(4));
    assert_eq!((output.written(), output.save_replicas), (Some(4), None));
    assert_eq!(output.ready(&http()), ["10.0.0.1:80"]);
    assert_eq!(fixture.accepted(4).written(), None);
    assert_eq!(fixture.replicas(7).written(), None, "another writer may change it");
}

#[test]
fn a_pending_write_is_dropped_when_an_external_scaler_takes_over() {
    let mut fixture = asleep();
    fixture.command(ScaleCommand::WakeToAtLeast(1));
    fixture.failed(SECOND);
    fixture.step(Input::Spec(spec(Scaler::External, &[http()])));
    assert_eq!(fixture.after(SECOND).written(), None);
}

#[test]
fn terminating_endpoints_that_serve_are_a_last_resort_where_new_pods_start_by_themselves() {
    for (scaler, replicas, via, is_used) in [
        (Scaler::External, 0, Via::Pod, true),
        (Scaler::Agimo, 1, Via::Pod, true),
        (Scaler::Agimo, 0, Via::Pod, false),
        (Scaler::External, 1, Via::Service, false),
    ] {
        let source = source("web", 80, via);
        let mut fixture = Fixture::new(scaler, std::slice::from_ref(&source), replicas);
        let last_resort = vec![endpoint(&source, 1)];
        fixture.snapshot.sources.get_mut(&source).unwrap().last_resort = last_resort;
        let output = fixture.observe();
        assert_eq!(output.ready(&source).len(), usize::from(is_used), "{scaler:?} {replicas}");
    }
}

#[test]
fn a_headless_service_is_reached_by_its_name() {
    let source = source("web", 80, Via::Service);
    let mut fixture = Fixture::new(Scaler::External, std::slice::from_ref(&source), 1);
    assert_eq!(fixture.observe().lookups, [], "no endpoint is ready");
    let output = fixture.listed(&source, &[1]);
    assert_eq!(output.ready(&source), [""; 0]);
    let [lookup] = <[Lookup; 1]>::try_from(output.lookups).unwrap();
    let address = Err("no such name".to_owned());
    let failed = LookupResult { lookup: lookup.clone(), address };
    let output = fixture.step(Input::LookedUp(failed));
    assert_eq!(output.cause(&source), Some(Cause::Unknown));
    assert_eq!(fixture.after(SECOND).lookups.len(), 1);
    let address = Ok([10, 1, 1, 1].into());
    let output = fixture.step(Input::LookedUp(LookupResult { lookup, address }));
    assert_eq!(output.ready(&source), ["10.1.1.1:80"]);
    let with_ip = ServiceObject { cluster_ip: Some([10, 2, 2, 2].into()), ..service(80) };
    fixture.snapshot.sources.get_mut(&source).unwrap().service = Some(Arc::new(with_ip));
    assert_eq!(fixture.observe().ready(&source), ["10.2.2.2:80"]);
}

#[test]
fn the_most_specific_reason_is_published() {
    let mut fixture = Fixture::new(Scaler::Agimo, &[http()], 1);
    fixture.command(ScaleCommand::WakeToAtLeast(1));
    assert_eq!(fixture.observe().cause(&http()), None);
    fixture.health.fault = Some("no answer".to_owned());
    assert_eq!(fixture.observe().cause(&http()), Some(Cause::Unknown));
    let reason = |cause| NotReadyReason { cause, detail: String::new() };
    let warning = Input::Warning(Some(reason(Cause::PodsRefused)));
    assert_eq!(fixture.step(warning).cause(&http()), Some(Cause::PodsRefused));
    let crashing = PodState { not_ready: Some(reason(Cause::CrashLoop)), ..pod(1, false) };
    assert_eq!(fixture.pod_changed(crashing).cause(&http()), Some(Cause::CrashLoop));
    fixture.snapshot.sources.get_mut(&http()).unwrap().service = None;
    assert_eq!(fixture.observe().cause(&http()), Some(Cause::ServiceMissing));
    fixture.snapshot.workload = None;
    assert_eq!(fixture.observe().cause(&http()), Some(Cause::WorkloadMissing));
}

/// A pod of another Deployment behind the same Service.
fn canary(source: &EndpointSource) -> Endpoint {
    let pod = PodIdentity { name: "web-canary-7d4b9c6f58-x2k9p".into(), uid: "canary".into() };
    Endpoint { address: ([10, 0, 1, 1], endpoint(source, 1).address.port()).into(), pod: Some(pod) }
}

#[test]
fn only_the_workloads_own_pods_terminate_with_it() {
    let mut fixture = awake();
    fixture.snapshot.sources.get_mut(&http()).unwrap().ready.push(canary(&http()));
    fixture.observe();
    let output = fixture.command(ScaleCommand::Sleep);
    assert_eq!((output.written(), output.ready(&http())), (Some(0), vec!["10.0.1.1:80".into()]));
    assert_eq!(fixture.accepted(0).ready(&http()), [""; 0], "the next request is to wake it, too");
    let output = fixture.command(ScaleCommand::WakeToAtLeast(1));
    assert_eq!(output.ready(&http()), ["10.0.1.1:80"], "the next request waits for nothing");
    // The workload is scaled up as well, as soon as its old endpoints have left the slices.
    assert_eq!(output.written(), None);
    fixture.snapshot.sources.get_mut(&http()).unwrap().ready.remove(0);
    assert_eq!(fixture.observe().written(), Some(1));
    let output = fixture.accepted(1);
    assert_eq!((output.written(), output.ready(&http())), (None, vec!["10.0.1.1:80".into()]));
}

#[test]
fn a_ready_pod_that_only_a_cancelled_wake_knows_is_not_routed_to_after_a_sleep() {
    let mut fixture = asleep();
    fixture.command(ScaleCommand::WakeToAtLeast(1));
    fixture.accepted(1);
    fixture.pod_changed(pod(1, true));
    fixture.command(ScaleCommand::CancelWake);
    fixture.command(ScaleCommand::Sleep);
    fixture.accepted(0);
    fixture.command(ScaleCommand::WakeToAtLeast(1));
    let output = fixture.pod_changed(pod(1, true));
    assert_eq!(output.ready(&http()), [""; 0]);
}
