//! Others that write `replicas` of the same workload.

use super::*;

#[test]
fn a_workload_that_somebody_else_scales_to_zero_again_and_again_is_scaled_up_less_and_less_often() {
    let mut fixture = asleep();
    fixture.command(ScaleCommand::WakeToAtLeast(1));
    fixture.accepted(1);
    for seconds in [1, 2, 4] {
        let output = fixture.replicas(0);
        assert_eq!(output.written(), None, "not at once");
        assert!(output.status.scale_facts.is_contested);
        assert_eq!(output.cause(&http()), Some(Cause::ScaledDown));
        assert_eq!(output.step_at, Some(fixture.now + seconds * SECOND));
        assert_eq!(fixture.after(seconds * SECOND).written(), Some(1));
        assert!(!fixture.accepted(1).status.scale_facts.is_contested);
    }
    // When nobody waits any more, the engine cancels the wake, and the zero stays.
    fixture.replicas(0);
    fixture.command(ScaleCommand::CancelWake);
    assert_eq!(fixture.after(60 * SECOND).written(), None);
    let output = fixture.command(ScaleCommand::WakeToAtLeast(1));
    assert_eq!(output.written(), Some(1), "the next request wakes it");
    // A workload that became ready begins anew.
    fixture.accepted(1);
    fixture.listed(&http(), &[1]);
    fixture.listed(&http(), &[]);
    fixture.replicas(0);
    assert_eq!(fixture.command(ScaleCommand::WakeToAtLeast(1)).written(), Some(1));
}

#[test]
fn a_zero_that_agimo_wrote_itself_does_not_delay_the_next_wake() {
    let mut fixture = asleep();
    for _ in 0..3 {
        assert_eq!(fixture.command(ScaleCommand::WakeToAtLeast(1)).written(), Some(1));
        fixture.accepted(1);
        // It never became ready, and the wake is given up.
        assert_eq!(fixture.command(ScaleCommand::Sleep).written(), Some(0));
        fixture.accepted(0);
        fixture.after(60 * SECOND);
    }
}
