//! A replica of agimo beside another one, of which the test says what it reports.

use super::*;
use crate::coordination::{Announcement, Report};

/// A fake: the address of a replica that does not exist.
const PEER: &str = "10.0.0.2:9091";

impl Fixture {
    /// A ready workload that this replica leads, and another replica without requests.
    async fn beside_a_peer() -> Self {
        let fixture = Self::shared(Scaler::Agimo);
        fixture.coordination.begin_exchange();
        fixture.coordination.set_listed([PEER.parse().unwrap()].into());
        fixture.peer_reports(Report::default()).await;
        fixture.become_ready().await;
        fixture
    }

    async fn peer_reports(&self, report: Report) {
        self.coordination.apply(PEER.parse().unwrap(), false, vec![(id(), report)]);
        self.settle().await;
    }

    /// The other replica says for so long that nothing has changed.
    async fn peer_is_alive_for(&self, duration: Duration) {
        let end = Instant::now() + duration;
        while Instant::now() < end {
            self.coordination.apply(PEER.parse().unwrap(), false, Vec::new());
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
    }

    /// What this replica reports.
    fn report(&self) -> Report {
        self.coordination.reports().remove(0).1
    }

    /// Lets the idle time pass, and returns what was announced then.
    async fn until_announced(&self) -> Announcement {
        for _ in 0..1_000 {
            if let Some(announcement) = self.report().announcement {
                return announcement;
            }
            self.peer_is_alive_for(Duration::from_millis(250)).await;
        }
        panic!("no announcement");
    }

    fn is_published(&self) -> bool {
        !self.activation.published().endpoints.is_empty()
    }
}

#[tokio::test(start_paused = true)]
async fn a_silent_replica_keeps_the_workload_awake_until_it_is_gone() {
    let fixture = Fixture::beside_a_peer().await;
    tokio::time::sleep(SLEEP_AFTER * 3).await;
    assert_eq!(fixture.commands(), []);
    let blocker = fixture.activation.status().sleep_blocker;
    assert_eq!(blocker.map(crate::ownership::SleepBlocker::as_str), Some("peers"));
    fixture.coordination.set_listed([].into());
    tokio::time::sleep(SLEEP_AFTER / 2).await;
    assert_eq!(fixture.commands(), [], "requests of the other replica may have ended just now");
    tokio::time::sleep(SLEEP_AFTER).await;
    assert_eq!(fixture.commands(), [ScaleCommand::Sleep]);
}

#[tokio::test(start_paused = true)]
async fn without_an_exchange_a_workload_sleeps_when_at_most_one_replica_is_listed() {
    let fixture = Fixture::shared(Scaler::Agimo);
    let addresses = [PEER, "10.0.0.3:9091"].map(|address| address.parse().unwrap());
    fixture.coordination.set_listed(addresses.into());
    fixture.become_ready().await;
    tokio::time::sleep(SLEEP_AFTER * 3).await;
    assert_eq!(fixture.commands(), []);
    fixture.coordination.set_listed([addresses[0]].into());
    tokio::time::sleep(SLEEP_AFTER * 2).await;
    assert_eq!(fixture.commands(), [ScaleCommand::Sleep]);
}

#[tokio::test(start_paused = true)]
async fn requests_at_the_other_replica_keep_the_workload_awake() {
    let fixture = Fixture::beside_a_peer().await;
    fixture.peer_reports(Report { arrivals: 1, in_flight: 1, ..Report::default() }).await;
    fixture.peer_is_alive_for(SLEEP_AFTER * 3).await;
    assert_eq!((fixture.commands(), fixture.report().announcement), (vec![], None));
}

#[tokio::test(start_paused = true)]
async fn the_workload_sleeps_when_the_other_replica_has_withdrawn_its_endpoints() {
    let fixture = Fixture::beside_a_peer().await;
    let announced = fixture.until_announced().await;
    assert!(!announced.is_done && !fixture.is_published());
    assert_eq!(fixture.commands(), [], "the other replica has not agreed yet");
    let withdrawn = vec![announced.id];
    fixture.peer_reports(Report { withdrawn, ..Report::default() }).await;
    assert_eq!(fixture.commands(), [ScaleCommand::Sleep]);
    let done = Announcement { is_done: true, ..announced };
    assert_eq!(fixture.report().announcement, Some(done));
    // The announcement ends with the next wake, whoever brings it about.
    fixture.become_ready().await;
    assert!(fixture.report().announcement.is_none() && fixture.is_published());
}

#[tokio::test(start_paused = true)]
async fn a_request_that_arrives_anywhere_before_all_have_agreed_prevents_the_sleep() {
    for arrives_here in [true, false] {
        let fixture = Fixture::beside_a_peer().await;
        let withdrawn = vec![fixture.until_announced().await.id];
        if arrives_here {
            fixture.core().count_arrival(Instant::now());
            fixture.request_wake().await;
        } else {
            let report = Report { arrivals: 1, in_flight: 1, withdrawn, ..Report::default() };
            fixture.peer_reports(report).await;
        }
        assert!(fixture.is_published() && fixture.report().announcement.is_none());
        assert_eq!((fixture.commands(), fixture.state()), (vec![], "awake"), "{arrives_here}");
    }
}

#[tokio::test(start_paused = true)]
async fn without_an_answer_of_the_other_replica_the_workload_stays_awake() {
    let fixture = Fixture::beside_a_peer().await;
    fixture.until_announced().await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(fixture.is_published() && fixture.report().announcement.is_none());
    assert_eq!(fixture.commands(), []);
}

fn announced(is_done: bool) -> Report {
    Report { announcement: Some(Announcement { id: 7, is_done }), ..Report::default() }
}

#[tokio::test(start_paused = true)]
async fn a_replica_withdraws_its_endpoints_before_it_agrees_and_publishes_them_again_otherwise() {
    let fixture = Fixture::beside_a_peer().await;
    let state = || fixture.activation.published().endpoints[&SOURCE][0].shared.clone();
    let before = state();
    fixture.peer_reports(announced(false)).await;
    assert!(!fixture.is_published());
    assert_eq!(fixture.report().withdrawn, [7]);
    // A backend that says something meanwhile changes nothing.
    fixture.become_ready().await;
    assert!(!fixture.is_published());
    fixture.peer_reports(Report::default()).await;
    assert!(fixture.is_published());
    assert!(Arc::ptr_eq(&before, &state()), "it is not a fresh endpoint");
    assert_eq!(fixture.report().withdrawn, [0; 0]);
}

#[tokio::test(start_paused = true)]
async fn what_a_replica_has_announced_is_void_when_it_is_gone() {
    let fixture = Fixture::beside_a_peer().await;
    fixture.peer_reports(announced(false)).await;
    fixture.coordination.note_disconnected(PEER.parse().unwrap());
    fixture.settle().await;
    assert!(fixture.is_published());
}

#[tokio::test(start_paused = true)]
async fn a_request_after_the_other_replica_has_put_the_workload_to_sleep_wakes_it() {
    let fixture = Fixture::beside_a_peer().await;
    fixture.peer_reports(announced(false)).await;
    fixture.request_wake().await;
    assert_eq!(fixture.commands(), [], "the other replica decides");
    fixture.peer_reports(announced(true)).await;
    fixture.become_ready().await;
    assert!(!fixture.is_published(), "the write has not been seen yet");
    fixture.become_unready().await;
    fixture.request_wake().await;
    assert_eq!(fixture.commands(), [WAKE]);
    fixture.become_ready().await;
    assert!(fixture.is_published(), "the announcement of the last sleep does not hold it back");
}

#[tokio::test(start_paused = true)]
async fn the_leader_joins_a_wake_of_another_replica_and_gives_it_up() {
    let fixture = Fixture::beside_a_peer().await;
    fixture.become_unready().await;
    fixture.peer_reports(Report { arrivals: 1, in_flight: 1, ..Report::default() }).await;
    assert_eq!((fixture.commands(), fixture.state()), (vec![WAKE], "waking"));
    fixture.peer_reports(Report { arrivals: 1, ..Report::default() }).await;
    let withdrawn = vec![fixture.until_announced().await.id];
    fixture.peer_reports(Report { arrivals: 1, withdrawn, ..Report::default() }).await;
    assert_eq!(fixture.commands(), [WAKE, ScaleCommand::Sleep]);
}

#[tokio::test(start_paused = true)]
async fn the_leader_joins_a_wake_whose_client_has_left_before_it_was_reported() {
    let fixture = Fixture::beside_a_peer().await;
    fixture.become_unready().await;
    fixture.peer_reports(Report { arrivals: 1, ..Report::default() }).await;
    assert_eq!(fixture.commands(), [], "nothing shows yet that it was scaled up");
    fixture.set_status(|status| status.replicas = Some(1)).await;
    assert_eq!((fixture.commands(), fixture.state()), (vec![WAKE], "waking"));
    // Without a request, what a person scales up is left alone.
    let fixture = Fixture::beside_a_peer().await;
    fixture.become_unready().await;
    fixture.set_status(|status| status.replicas = Some(1)).await;
    assert_eq!((fixture.commands(), fixture.state()), (vec![], "asleep"));
}

#[tokio::test(start_paused = true)]
async fn only_the_leader_puts_workloads_to_sleep_and_its_successor_counts_anew() {
    let fixture = Fixture::shared(Scaler::Agimo);
    fixture.coordination.set_leader(false);
    fixture.become_ready().await;
    tokio::time::sleep(SLEEP_AFTER * 3).await;
    assert_eq!(fixture.commands(), []);
    let State::Awake { idleness } = fixture.activation.status().state else { panic!("awake") };
    assert!(idleness.lasted(Instant::now()) > SLEEP_AFTER, "it knows how long nothing has come");
    fixture.coordination.set_leader(true);
    tokio::time::sleep(SLEEP_AFTER / 2).await;
    assert_eq!(fixture.commands(), []);
    tokio::time::sleep(SLEEP_AFTER).await;
    assert_eq!(fixture.commands(), [ScaleCommand::Sleep]);
}

#[tokio::test(start_paused = true)]
async fn wakes_by_somebody_else_prolong_the_idle_time_until_a_request_arrives() {
    let fixture = Fixture::shared(Scaler::Agimo);
    for minutes in [1, 1, 2, 4] {
        fixture.become_ready().await;
        let status = fixture.activation.status();
        assert_eq!(status.sleep_after, Duration::from_secs(minutes * 60));
        assert_eq!(status.configured_sleep_after, SLEEP_AFTER);
        tokio::time::sleep(Duration::from_secs(minutes * 60 + 2)).await;
        assert_eq!(fixture.state(), "asleep", "{minutes}");
    }
    fixture.core().count_arrival(Instant::now());
    fixture.become_ready().await;
    assert_eq!(fixture.activation.status().sleep_after, SLEEP_AFTER);
}

#[tokio::test(start_paused = true)]
async fn a_wake_that_nobody_waits_for_yields_to_a_sleep_that_another_replica_announces() {
    for waits in [false, true] {
        let fixture = Fixture::shared(Scaler::Agimo);
        fixture.coordination.begin_exchange();
        fixture.coordination.set_leader(false);
        fixture.coordination.set_listed([PEER.parse().unwrap()].into());
        fixture.core().count_arrival(Instant::now());
        fixture.request_wake().await;
        if !waits {
            fixture.core().count_end(Instant::now());
        }
        let announcement = Some(Announcement { id: 7, is_done: false });
        fixture.peer_reports(Report { announcement, ..Report::default() }).await;
        assert_eq!(fixture.report().withdrawn, [7]);
        let expected = if waits { "waking" } else { "asleep" };
        assert_eq!(fixture.state(), expected);
        let is_cancelled = fixture.commands().contains(&ScaleCommand::CancelWake);
        assert_eq!(is_cancelled, !waits, "the zero would be written over");
    }
}

#[tokio::test(start_paused = true)]
async fn requests_at_another_replica_do_not_wake_what_is_pinned_asleep() {
    use crate::ownership::directive::{Pin, PinnedState};
    let fixture = Fixture::shared(Scaler::Agimo);
    fixture.coordination.begin_exchange();
    fixture.coordination.set_listed([PEER.parse().unwrap()].into());
    let pin = Some(Pin { state: PinnedState::Asleep, until: None });
    fixture.set_status(|status| status.scale_facts.pin = pin).await;
    fixture.peer_reports(Report { arrivals: 1, in_flight: 1, ..Report::default() }).await;
    fixture.peer_reports(Report { arrivals: 2, ..Report::default() }).await;
    fixture.set_status(|status| status.replicas = Some(1)).await;
    assert_eq!(fixture.commands(), []);
}
