//! Pins and schedules: what keeps a workload awake or asleep, whatever its demand.

use super::*;
use crate::config::scaling::Scaler;
use crate::ownership::directive::{Pin, PinnedState};
use crate::ownership::{OtherScaler, OtherScalers, Pause};
use crate::schedule::Schedule;

impl Fixture {
    async fn pin(&self, state: Option<PinnedState>) {
        let pin = state.map(|state| Pin { state, until: None });
        self.set_status(|status| status.scale_facts.pin = pin).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_workload_that_is_pinned_awake_is_woken_and_does_not_sleep_until_it_is_unpinned() {
    let fixture = Fixture::shared(Scaler::Agimo);
    fixture.pin(Some(PinnedState::Awake)).await;
    assert_eq!(fixture.commands(), [WAKE], "without a request");
    tokio::time::sleep(SLEEP_AFTER * 10).await;
    assert_eq!(fixture.state(), "waking", "it is waited for as long as it takes");
    fixture.become_ready().await;
    tokio::time::sleep(SLEEP_AFTER * 10).await;
    assert_eq!(fixture.commands(), [WAKE]);
    let blocker = fixture.activation.status().sleep_blocker;
    assert_eq!(blocker.map(crate::ownership::SleepBlocker::as_str), Some("pin"));
    fixture.pin(None).await;
    tokio::time::sleep(SLEEP_AFTER / 2).await;
    assert_eq!(fixture.commands(), [WAKE], "the idle time begins now");
    tokio::time::sleep(SLEEP_AFTER).await;
    assert_eq!(fixture.commands(), [WAKE, ScaleCommand::Sleep]);
}

#[tokio::test(start_paused = true)]
async fn a_workload_that_is_pinned_asleep_sleeps_when_nothing_is_in_flight_and_rejects_requests() {
    let fixture = Fixture::shared(Scaler::Agimo);
    fixture.become_ready().await;
    fixture.core().count_arrival(Instant::now());
    fixture.pin(Some(PinnedState::Asleep)).await;
    let rejection = fixture.activation.published().rejection.expect("a rejection");
    assert_eq!(rejection.cause, Cause::PinnedAsleep);
    assert!(!fixture.has_endpoints());
    tokio::time::sleep(SLEEP_AFTER * 10).await;
    assert_eq!(fixture.commands(), [], "a request is in flight");
    fixture.core().count_end(Instant::now());
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(fixture.commands(), [ScaleCommand::Sleep]);
    fixture.request_wake().await;
    assert_eq!(fixture.commands(), [ScaleCommand::Sleep], "requests do not wake it");
    assert!(fixture.activation.published().rejection.is_some());
    // Somebody else scales it up.
    fixture.become_ready().await;
    assert!(!fixture.has_endpoints());
    fixture.pin(None).await;
    assert_eq!(fixture.activation.published().rejection, None);
}

#[tokio::test(start_paused = true)]
async fn a_workload_that_is_unpinned_while_it_is_awake_has_its_endpoints_again() {
    let fixture = Fixture::shared(Scaler::Agimo);
    fixture.become_ready().await;
    fixture.core().count_arrival(Instant::now());
    fixture.pin(Some(PinnedState::Asleep)).await;
    assert!(!fixture.has_endpoints());
    fixture.pin(None).await;
    assert!(fixture.has_endpoints());
    assert_eq!(fixture.activation.published().rejection, None);
}

#[tokio::test(start_paused = true)]
async fn a_pin_without_effect_is_reported() {
    let mut fixture = Fixture::shared(Scaler::Auto);
    let keda = OtherScaler::ScaledObject { name: "web".to_owned(), pause: Pause::NotPaused };
    let others = OtherScalers::Known(vec![keda]);
    fixture.set_status(|status| status.scale_facts.other_scalers = others).await;
    fixture.pin(Some(PinnedState::Awake)).await;
    assert_eq!(fixture.commands(), []);
    assert_eq!(fixture.activation.status().directive, None);
    assert!(fixture.event_names().contains(&"annotation_rejected"));
}

#[tokio::test(start_paused = true)]
async fn a_schedule_keeps_a_workload_awake() {
    let fixture = Fixture::shared(Scaler::Agimo);
    let always = Schedule::parse("Mon-Sun 00:00-24:00 UTC").unwrap();
    fixture.spec.send_modify(|spec| spec.awake = vec![always]);
    fixture.settle().await;
    assert_eq!(fixture.commands(), [WAKE]);
    fixture.become_ready().await;
    tokio::time::sleep(SLEEP_AFTER * 10).await;
    assert_eq!(fixture.commands(), [WAKE]);
    fixture.spec.send_modify(|spec| spec.awake.clear());
    tokio::time::sleep(SLEEP_AFTER * 2).await;
    assert_eq!(fixture.commands(), [WAKE, ScaleCommand::Sleep]);
}

#[tokio::test(start_paused = true)]
async fn a_failed_wake_beside_a_pin_that_has_ended_costs_no_time_and_stays_rejected() {
    let fixture = Fixture::owned();
    let until = Some(std::time::SystemTime::UNIX_EPOCH);
    let pin = Some(Pin { state: PinnedState::Awake, until });
    fixture.set_status(|status| status.scale_facts.pin = pin).await;
    fixture.request_wake().await;
    fixture.fail_wake(1).await;
    // A loop that never waits would keep the paused clock from moving.
    tokio::time::sleep(SLEEP_AFTER * 10).await;
    assert_eq!(fixture.wakes(), 1);
    fixture.set_status(|status| status.scale_facts.pin = None).await;
    let rejection = fixture.activation.published().rejection.expect("of the failed wake");
    assert_eq!(rejection.cause, Cause::Exited);
}

#[tokio::test(start_paused = true)]
async fn a_pin_that_is_extended_rejects_until_its_new_end() {
    let fixture = Fixture::shared(Scaler::Agimo);
    let mut ends = Vec::new();
    for hours in [1, 2] {
        let until = Some(std::time::SystemTime::now() + Duration::from_secs(hours * 3600));
        let pin = Some(Pin { state: PinnedState::Asleep, until });
        fixture.set_status(|status| status.scale_facts.pin = pin).await;
        ends.push(fixture.activation.published().rejection.expect("a rejection").until);
    }
    assert!(ends[1] > ends[0] + Duration::from_secs(1800));
}

#[tokio::test(start_paused = true)]
async fn a_workload_that_is_pinned_awake_and_stopped_again_and_again_is_woken_less_and_less_often()
{
    let fixture = Fixture::shared(Scaler::Agimo);
    fixture.pin(Some(PinnedState::Awake)).await;
    for _ in 0..40 {
        fixture.become_ready().await;
        fixture.become_unready().await;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert!((3..12).contains(&fixture.wakes()), "{}", fixture.wakes());
}

#[tokio::test(start_paused = true)]
async fn a_new_pin_begins_without_the_backoff_of_an_old_one() {
    let fixture = Fixture::shared(Scaler::Agimo);
    fixture.pin(Some(PinnedState::Awake)).await;
    for _ in 0..40 {
        fixture.become_ready().await;
        fixture.become_unready().await;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    fixture.pin(None).await;
    let wakes_before = fixture.wakes();
    fixture.pin(Some(PinnedState::Awake)).await;
    assert_eq!(fixture.wakes(), wakes_before + 1);
}

#[tokio::test(start_paused = true)]
async fn a_pin_waits_until_it_is_known_who_scales() {
    let fixture = Fixture::shared(Scaler::Auto);
    fixture.set_status(|status| status.scale_facts.other_scalers = OtherScalers::NotRead).await;
    fixture.pin(Some(PinnedState::Awake)).await;
    // A loop that never waits would keep the paused clock from moving.
    tokio::time::sleep(SLEEP_AFTER * 10).await;
    assert_eq!(fixture.commands(), []);
    let nobody = OtherScalers::Known(Vec::new());
    fixture.set_status(|status| status.scale_facts.other_scalers = nobody).await;
    assert_eq!(fixture.commands(), [WAKE]);
}
