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
