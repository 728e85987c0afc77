//! What people ask agimo for: a wake or a sleep now, and pins.

use super::*;
use crate::activation::Order;
use crate::config::scaling::Scaler;
use crate::ownership::directive::{Pin, PinnedState};
use crate::ownership::pins::OperatorPin;

impl Fixture {
    async fn order_wake(&self) {
        self.activation.order(Order::Wake { by: "alice".into() });
        self.settle().await;
    }

    async fn order_sleep(&self) {
        self.activation.order(Order::Sleep { by: "alice".into() });
        self.settle().await;
    }

    async fn set_pin(&self, state: Option<PinnedState>) {
        let pin = state.map(|state| Pin { state, until: None });
        let pin = pin.map(|pin| OperatorPin { pin, by: "alice".into() });
        self.coordination.pins().set(&id(), pin);
        self.activation.look_at_pin();
        self.settle().await;
    }

    fn events(&mut self) -> Vec<EventKind> {
        std::iter::from_fn(|| self.events.try_recv().ok()).map(|event| event.kind).collect()
    }
}

#[tokio::test(start_paused = true)]
async fn a_wake_that_a_person_asks_for_is_waited_for_and_sleeps_after_the_idle_time() {
    let mut fixture = Fixture::shared(Scaler::Agimo);
    fixture.order_wake().await;
    assert_eq!(fixture.commands(), [WAKE]);
    let begun = EventKind::WakeBegun { asked_by: Some("alice".into()) };
    assert!(fixture.events().contains(&begun));
    tokio::time::sleep(SLEEP_AFTER * 5).await;
    assert_eq!(fixture.state(), "waking", "it is waited for");
    fixture.become_ready().await;
    tokio::time::sleep(SLEEP_AFTER * 3 / 4).await;
    fixture.order_wake().await;
    tokio::time::sleep(SLEEP_AFTER * 3 / 4).await;
    assert_eq!(fixture.commands(), [WAKE], "it is awake, and its idle time begins anew");
    tokio::time::sleep(SLEEP_AFTER / 2).await;
    assert_eq!(fixture.commands(), [WAKE, ScaleCommand::Sleep]);
    // What was asked for once says nothing about the next wake.
    fixture.become_unready().await;
    fixture.request_wake().await;
    let events = fixture.events();
    assert!(!events.contains(&begun), "{events:?}");
}

#[tokio::test(start_paused = true)]
async fn a_wake_that_a_person_asks_for_is_given_up_in_the_end_or_when_a_person_says_so() {
    let fixture = Fixture::shared(Scaler::Agimo);
    fixture.order_wake().await;
    tokio::time::sleep(SLEEP_AFTER * 12).await;
    assert_eq!(fixture.commands(), [WAKE, ScaleCommand::Sleep], "it never became ready");
    fixture.order_wake().await;
    fixture.order_sleep().await;
    tokio::time::sleep(SLEEP_AFTER / 4).await;
    assert_eq!(fixture.commands()[2..], [WAKE, ScaleCommand::Sleep]);
    // Somebody else scales it to zero.
    fixture.order_wake().await;
    fixture.set_status(|status| status.scale_facts.is_contested = true).await;
    tokio::time::sleep(SLEEP_AFTER / 4).await;
    assert_eq!(fixture.commands()[4..], [WAKE, ScaleCommand::CancelWake]);
}

#[tokio::test(start_paused = true)]
async fn the_last_of_two_people_who_disagree_decides() {
    let fixture = Fixture::shared(Scaler::Agimo);
    fixture.become_ready().await;
    fixture.core().count_arrival(Instant::now());
    fixture.order_sleep().await;
    fixture.order_wake().await;
    fixture.core().count_end(Instant::now());
    tokio::time::sleep(SLEEP_AFTER / 2).await;
    assert_eq!(fixture.commands(), []);
}

#[tokio::test(start_paused = true)]
async fn a_sleep_that_a_person_asks_for_does_not_wait_for_the_idle_time() {
    let mut fixture = Fixture::shared(Scaler::Agimo);
    fixture.become_ready().await;
    fixture.order_sleep().await;
    tokio::time::sleep(SLEEP_AFTER / 4).await;
    assert_eq!(fixture.commands(), [ScaleCommand::Sleep]);
    let events = fixture.events();
    let is_asked = |event: &EventKind| matches!(event, EventKind::Asleep { asked_by: Some(name), .. } if &**name == "alice");
    assert!(events.iter().any(is_asked), "{events:?}");
}

#[tokio::test(start_paused = true)]
async fn a_sleep_that_a_person_asks_for_gives_way_to_requests() {
    let fixture = Fixture::shared(Scaler::Agimo);
    fixture.become_ready().await;
    fixture.core().count_arrival(Instant::now());
    fixture.order_sleep().await;
    tokio::time::sleep(SLEEP_AFTER * 2).await;
    assert_eq!(fixture.commands(), [], "a request is in flight");
    // Another one arrives, and both end.
    fixture.core().count_arrival(Instant::now());
    fixture.core().count_end(Instant::now());
    fixture.core().count_end(Instant::now());
    tokio::time::sleep(SLEEP_AFTER / 2).await;
    assert_eq!(fixture.commands(), [], "its idle time counts again");
    tokio::time::sleep(SLEEP_AFTER).await;
    assert_eq!(fixture.commands(), [ScaleCommand::Sleep]);
}

#[tokio::test(start_paused = true)]
async fn a_pin_that_a_person_sets_counts_before_the_annotation() {
    let fixture = Fixture::shared(Scaler::Agimo);
    fixture.become_ready().await;
    let asleep = Pin { state: PinnedState::Asleep, until: None };
    fixture.set_pin(Some(PinnedState::Awake)).await;
    fixture.set_status(|status| status.scale_facts.pin = Some(asleep)).await;
    tokio::time::sleep(SLEEP_AFTER * 10).await;
    assert_eq!(fixture.commands(), []);
    let by = fixture.activation.status().pin.and_then(|(_, by)| by);
    assert_eq!(by.as_deref(), Some("alice"));
    fixture.set_pin(None).await;
    tokio::time::sleep(SLEEP_AFTER * 10).await;
    assert_eq!(fixture.commands(), [ScaleCommand::Sleep], "the annotation counts again");
    fixture.order_wake().await;
    assert_eq!(fixture.commands(), [ScaleCommand::Sleep], "it is pinned asleep");
}
