//! Reasons that only show after a while, or that the workload itself gives.

use super::*;

#[test]
fn a_wake_without_pods_names_the_pause_or_the_pod_that_is_still_terminating() {
    for (is_paused, expected) in [(true, Cause::DeploymentPaused), (false, Cause::PodTerminating)] {
        let mut fixture = asleep();
        Arc::make_mut(fixture.snapshot.workload.as_mut().unwrap()).is_paused = is_paused;
        fixture.observe();
        fixture.command(ScaleCommand::WakeToAtLeast(1));
        fixture.accepted(1);
        let change = PodChange::Terminating { selector: SELECTOR.to_owned(), name: pod_name(9) };
        let output = fixture.step(Input::PodsChanged(change));
        assert_eq!(output.cause(&http()), None, "it may take a moment");
        let output = fixture.step(Input::Warning(None));
        assert_eq!(output.cause(&http()), Some(expected));
        assert_eq!(fixture.pod_changed(pod(1, false)).cause(&http()), None);
    }
}

#[test]
fn a_service_that_selects_other_pods_is_named_unless_it_has_pods_nevertheless() {
    let mut fixture = asleep();
    let labels = [("app".to_owned(), "shop".to_owned())].into();
    fixture.template.labels = labels;
    assert_eq!(fixture.replicas(0).cause(&http()), Some(Cause::SelectorMismatch));
    fixture.command(ScaleCommand::WakeToAtLeast(1));
    fixture.accepted(1);
    let crashing = PodState {
        not_ready: Some(NotReadyReason { cause: Cause::CrashLoop, detail: String::new() }),
        ..pod(1, false)
    };
    assert_eq!(fixture.pod_changed(crashing).cause(&http()), Some(Cause::CrashLoop));
}
