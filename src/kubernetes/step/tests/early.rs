//! `early_ready`: which pods are probed, and what passing means.

use super::*;
use crate::kubernetes::pods::PodState;

/// A pod that starts and declares no probe.
fn starting(number: u8) -> PodState {
    PodState { probes: Some(Arc::from([])), ..pod(number, false) }
}

/// A workload that is waking, with a pod that starts.
fn waking(early_ready: bool, source: EndpointSource) -> (Fixture, Output) {
    let mut fixture = Fixture::new(Scaler::Agimo, std::slice::from_ref(&source), 0);
    let spec = WorkloadSpec { early_ready, ..spec(Scaler::Agimo, &[source]) };
    fixture.step(Input::Spec(spec));
    fixture.command(ScaleCommand::WakeToAtLeast(1));
    fixture.accepted(1);
    let output = fixture.pod_changed(starting(1));
    (fixture, output)
}

fn passed(number: u8) -> Input {
    Input::ProbesPassed(format!("uid-{number}").into())
}

#[test]
fn a_pod_whose_probes_pass_is_used_before_the_kubelet_reports_it() {
    let (mut fixture, output) = waking(true, http());
    let [probed] = &output.probed_pods[..] else { panic!("{:?}", output.probed_pods) };
    assert_eq!(probed.endpoints, [endpoint(&http(), 1).address]);
    assert_eq!(output.ready(&http()), [""; 0]);
    let output = fixture.step(passed(1));
    assert_eq!(output.ready(&http()), ["10.0.0.1:80"]);
    assert_eq!(output.probed_pods, [], "once");
    assert_eq!(output.events[0].name(), "pod_ready_early");
    // Its container ends before the kubelet has found it ready.
    let output = fixture.pod_changed(PodState { is_started: false, ..starting(1) });
    assert_eq!((output.ready(&http()).len(), output.probed_pods.len()), (0, 1));
}

#[test]
fn only_pods_of_the_current_revision_that_stay_are_probed_and_only_where_it_is_asked_for() {
    assert_eq!(waking(false, http()).1.probed_pods, []);
    assert_eq!(waking(true, self::source("web", 80, Via::Service)).1.probed_pods, []);
    let (mut fixture, _) = waking(true, http());
    let output = fixture.pod_changed(PodState { probes: None, ..starting(1) });
    assert_eq!(output.probed_pods, [], "only the kubelet can run its probe");
    fixture.pod_changed(starting(1));
    Arc::make_mut(fixture.snapshot.workload.as_mut().unwrap()).is_rolling_out = true;
    assert_eq!(fixture.observe().probed_pods, []);
    Arc::make_mut(fixture.snapshot.workload.as_mut().unwrap()).is_rolling_out = false;
    assert_eq!(fixture.observe().probed_pods.len(), 1);
    let output = fixture.command(ScaleCommand::Sleep);
    assert_eq!(output.probed_pods, []);
    fixture.accepted(0);
    fixture.command(ScaleCommand::WakeToAtLeast(1));
    fixture.accepted(1);
    assert_eq!(fixture.pod_changed(starting(1)).probed_pods, [], "it was told to end");
    assert_eq!(fixture.pod_changed(starting(2)).probed_pods.len(), 1);
}
