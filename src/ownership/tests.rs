//! Who scales a workload, by the facts that an edge may report, and what keeps it awake.

use std::time::{Duration, SystemTime};

use proptest::prelude::*;

use super::directive::{Directive, Pin, PinnedState};
use super::*;

fn scaled_object(pause: Pause) -> OtherScaler {
    OtherScaler::ScaledObject { name: "web".to_owned(), pause }
}

fn hpa(min_replicas: u32, is_switched_off: bool) -> OtherScaler {
    let name = "web".to_owned();
    OtherScaler::HorizontalPodAutoscaler(Hpa {
        name,
        min_replicas,
        is_switched_off,
        has_scaled_to_zero: false,
        reads_agimo: false,
    })
}

fn hpa_that_reads_agimo(min_replicas: u32) -> OtherScaler {
    let OtherScaler::HorizontalPodAutoscaler(hpa) = hpa(min_replicas, false) else { panic!() };
    OtherScaler::HorizontalPodAutoscaler(Hpa { reads_agimo: true, ..hpa })
}

fn beside(scalers: &[OtherScaler]) -> ScaleFacts {
    ScaleFacts { other_scalers: OtherScalers::Known(scalers.to_vec()), ..ScaleFacts::default() }
}

fn decide(scaler: Scaler, facts: &ScaleFacts) -> (Authority, &'static str) {
    let ownership = Ownership::decide(scaler, Mode::Enforce, facts);
    (ownership.authority, ownership.reason.token())
}

#[test]
fn auto_leaves_to_each_scaler_what_it_does() {
    for (scalers, expected) in [
        (&[][..], (Authority::Scale, "no-other-scaler")),
        (&[scaled_object(Pause::NotPaused)], (Authority::Report, "scaled-object")),
        (&[scaled_object(Pause::Paused)], (Authority::Wake, "scaled-object-paused")),
        (&[scaled_object(Pause::PausedAt(0))], (Authority::Report, "scaled-object-paused-at")),
        (&[hpa(0, false)], (Authority::Report, "hpa-from-zero")),
        (&[hpa(0, true)], (Authority::Wake, "hpa-switched-off")),
        (&[hpa_that_reads_agimo(0)], (Authority::Wake, "hpa-reads-agimo")),
        (&[hpa_that_reads_agimo(1)], (Authority::Sleep, "hpa")),
        (&[hpa(1, true)], (Authority::Sleep, "hpa")),
        (&[hpa(3, false)], (Authority::Sleep, "hpa")),
        (&[scaled_object(Pause::Paused), hpa(1, false)], (Authority::Wake, "scaled-object-paused")),
    ] {
        assert_eq!(decide(Scaler::Auto, &beside(scalers)), expected, "{scalers:?}");
    }
    for unknown in [OtherScalers::NotRead, OtherScalers::Unreadable("forbidden".to_owned())] {
        let facts = ScaleFacts { other_scalers: unknown, ..ScaleFacts::default() };
        assert_eq!(decide(Scaler::Auto, &facts), (Authority::Wake, "unknown"));
    }
}

#[test]
fn a_configured_owner_is_not_changed_by_what_is_found() {
    let (nobody, keda) = (beside(&[]), beside(&[scaled_object(Pause::NotPaused)]));
    assert_eq!(decide(Scaler::External, &nobody), (Authority::Report, "configured"));
    assert_eq!(decide(Scaler::Agimo, &nobody), (Authority::Scale, "configured"));
    assert_eq!(decide(Scaler::Agimo, &keda), (Authority::Scale, "configured-beside-another"));
    let text = Ownership::decide(Scaler::Agimo, Mode::Enforce, &keda).description();
    assert!(text.contains("ScaledObject web targets the workload, too"), "{text}");
}

#[test]
fn without_the_right_to_write_agimo_reports() {
    let facts = ScaleFacts { can_write_replicas: false, ..ScaleFacts::default() };
    assert_eq!(decide(Scaler::Agimo, &facts), (Authority::Report, "cannot-write"));
    assert_eq!(decide(Scaler::Auto, &facts), (Authority::Report, "cannot-write"));
}

#[test]
fn observing_writes_nothing_and_tells_what_would_be_written() {
    let observed = |scaler, scalers: &[OtherScaler]| {
        let ownership = Ownership::decide(scaler, Mode::Observe, &beside(scalers));
        assert_eq!(ownership.authority, Authority::Report);
        ownership.observed
    };
    assert_eq!(observed(Scaler::Auto, &[hpa(1, false)]), Some(Authority::Sleep));
    assert_eq!(observed(Scaler::Agimo, &[]), Some(Authority::Scale));
    assert_eq!(observed(Scaler::External, &[]), Some(Authority::Report));
}

#[test]
fn the_idle_time_doubles_with_each_wake_by_somebody_else_after_the_first() {
    let seconds = |foreign_wakes, configured| {
        prolonged_sleep_after(Duration::from_secs(configured), foreign_wakes).as_secs()
    };
    assert_eq!([0, 1, 2, 3, 60].map(|wakes| seconds(wakes, 5)), [5, 5, 10, 20, 3600]);
    assert_eq!(seconds(60, 7200), 7200);
}

#[test]
fn the_first_reason_that_blocks_sleep_is_named() {
    let facts = ScaleFacts::default();
    let rolling_out = ScaleFacts { is_rolling_out: true, ..ScaleFacts::default() };
    let of = |authority, facts, are_peers_known, directive| {
        SleepBlocker::of(authority, facts, are_peers_known, directive).map(SleepBlocker::as_str)
    };
    assert_eq!(of(Authority::Scale, &facts, true, None), None);
    assert_eq!(of(Authority::Sleep, &facts, true, Some(Directive::AsleepByPin)), None);
    assert_eq!(of(Authority::Wake, &facts, true, None), Some("external"));
    assert_eq!(of(Authority::Report, &facts, true, None), Some("external"));
    assert_eq!(of(Authority::Scale, &facts, false, None), Some("peers"));
    assert_eq!(of(Authority::Scale, &rolling_out, true, None), Some("rollout"));
    assert_eq!(of(Authority::Scale, &facts, true, Some(Directive::AwakeByPin)), Some("pin"));
    let scheduled = Some(Directive::AwakeBySchedule);
    assert_eq!(of(Authority::Scale, &facts, false, scheduled), Some("schedule"));
}

#[test]
fn a_pin_counts_before_a_schedule_until_it_ends() {
    let end = SystemTime::UNIX_EPOCH + Duration::from_secs(100);
    let pin = Some(Pin { state: PinnedState::Asleep, until: Some(end) });
    let of = |is_scheduled, seconds| {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        Directive::of(pin, is_scheduled, now).map(Directive::as_str)
    };
    assert_eq!(of(true, 99), Some("pinned-asleep"));
    assert_eq!(of(true, 100), Some("scheduled-awake"));
    assert_eq!(of(false, 100), None);
}

fn any_scaler() -> impl Strategy<Value = OtherScaler> {
    let pause = prop_oneof![
        Just(Pause::NotPaused),
        Just(Pause::Paused),
        (0u32..5).prop_map(Pause::PausedAt),
    ];
    prop_oneof![
        pause.prop_map(scaled_object),
        (0u32..3, any::<bool>()).prop_map(|(min, is_switched_off)| hpa(min, is_switched_off)),
    ]
}

proptest! {
    /// In whatever order scalers appear, the decision is the same, and one more never gives agimo more.
    #[test]
    fn one_more_scaler_never_gives_agimo_more(
        scalers in prop::collection::vec(any_scaler(), 0..4), more in any_scaler(),
    ) {
        let authority = |scalers: &[OtherScaler]| decide(Scaler::Auto, &beside(scalers)).0;
        let before = authority(&scalers);
        let mut reversed = scalers.clone();
        reversed.reverse();
        prop_assert_eq!(authority(&reversed), before);
        let with_more = [scalers, vec![more]].concat();
        prop_assert!(authority(&with_more) <= before);
    }
}
