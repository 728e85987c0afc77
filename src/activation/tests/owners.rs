//! Workloads whose owner is found in the cluster, changes, or disagrees with agimo.

use super::*;
use crate::config::scaling::{AutoscalingConfig, Mode, Scaler};
use crate::ownership::{Hpa, OtherScaler, OtherScalers, Pause};

impl Fixture {
    async fn found(&self, scalers: Vec<OtherScaler>) {
        let scalers = OtherScalers::Known(scalers);
        self.set_status(|status| status.scale_facts.other_scalers = scalers).await;
    }

    fn reason(&self) -> &'static str {
        self.activation.status().ownership.reason.token()
    }
}

fn keda(pause: Pause) -> OtherScaler {
    OtherScaler::ScaledObject { name: "web".to_owned(), pause }
}

#[tokio::test(start_paused = true)]
async fn ownership_follows_the_scalers_that_appear_pause_and_go() {
    let mut fixture = Fixture::shared(Scaler::Auto);
    fixture.become_ready().await;
    assert_eq!(fixture.reason(), "no-other-scaler");
    fixture.found(vec![keda(Pause::NotPaused)]).await;
    tokio::time::sleep(SLEEP_AFTER * 10).await;
    assert_eq!(fixture.commands(), []);
    fixture.become_unready().await;
    fixture.core().count_arrival(Instant::now());
    fixture.request_wake().await;
    assert_eq!(fixture.commands(), [ScaleCommand::ExpectReady], "KEDA wakes it");
    fixture.found(vec![keda(Pause::Paused)]).await;
    assert_eq!(fixture.commands(), [ScaleCommand::ExpectReady, WAKE], "the wake goes on");
    fixture.become_ready().await;
    fixture.core().count_end(Instant::now());
    tokio::time::sleep(SLEEP_AFTER * 10).await;
    assert_eq!(fixture.commands().len(), 2, "a pause is no reason to stop it");
    fixture.found(Vec::new()).await;
    tokio::time::sleep(SLEEP_AFTER * 2).await;
    assert_eq!(fixture.commands()[2..], [ScaleCommand::Sleep]);
    let names = fixture.event_names();
    assert_eq!(names.iter().filter(|name| **name == "owner_decided").count(), 3, "{names:?}");
}

#[tokio::test(start_paused = true)]
async fn beside_an_hpa_agimo_leaves_the_number_of_a_workload_that_is_awake_alone() {
    let fixture = Fixture::shared(Scaler::Auto);
    let target = AutoscalingConfig { target_concurrency: Some(1), ..AutoscalingConfig::default() };
    fixture.spec.send_modify(|spec| spec.autoscaling = Some(target));
    let hpa = OtherScaler::HorizontalPodAutoscaler(Hpa {
        name: "web".to_owned(),
        min_replicas: 1,
        is_switched_off: false,
        has_scaled_to_zero: false,
        reads_agimo: false,
    });
    fixture.found(vec![hpa]).await;
    fixture.request_wake().await;
    fixture.set_status(|status| status.replicas = Some(1)).await;
    fixture.become_ready().await;
    (0..20).for_each(|_| fixture.core().count_arrival(Instant::now()));
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(fixture.commands().len(), 1, "{:?}", fixture.commands());
    (0..20).for_each(|_| fixture.core().count_end(Instant::now()));
    tokio::time::sleep(SLEEP_AFTER * 2).await;
    assert_eq!(fixture.commands().last(), Some(&ScaleCommand::Sleep));
}

#[tokio::test(start_paused = true)]
async fn observing_reports_what_agimo_would_do_and_writes_nothing() {
    let mut fixture = Fixture::shared(Scaler::Agimo);
    fixture.spec.send_modify(|spec| spec.mode = Mode::Observe);
    fixture.settle().await;
    fixture.core().count_arrival(Instant::now());
    fixture.request_wake().await;
    fixture.become_ready().await;
    fixture.core().count_end(Instant::now());
    tokio::time::sleep(SLEEP_AFTER * 5).await;
    assert_eq!(fixture.commands(), [ScaleCommand::ExpectReady]);
    let count = |names: &[&str], name: &str| names.iter().filter(|found| **found == name).count();
    let names = fixture.event_names();
    assert_eq!((count(&names, "wake_observed"), count(&names, "sleep_observed")), (1, 1));
    fixture.core().count_arrival(Instant::now());
    fixture.core().count_end(Instant::now());
    tokio::time::sleep(SLEEP_AFTER * 5).await;
    assert_eq!(count(&fixture.event_names(), "sleep_observed"), 1, "once for each idle time");
}

#[tokio::test(start_paused = true)]
async fn a_writer_that_undoes_each_sleep_is_named_at_the_second_time() {
    let mut fixture = Fixture::shared(Scaler::Agimo);
    let writers: Arc<[String]> = Arc::from(["argocd-controller".to_owned()]);
    fixture.set_status(|status| status.scale_facts.writers = writers.clone()).await;
    for round in 0..3 {
        fixture.become_ready().await;
        let reverted_by = fixture.activation.status().reverted_by;
        assert_eq!(reverted_by, (round > 1).then(|| writers.clone()), "{round}");
        tokio::time::sleep(SLEEP_AFTER * 3).await;
    }
    assert!(fixture.event_names().contains(&"writes_reverted"));
    // A request ends it.
    fixture.request_wake().await;
    fixture.become_ready().await;
    assert_eq!(fixture.activation.status().reverted_by, None);
}

#[tokio::test(start_paused = true)]
async fn a_writer_that_undoes_each_wake_is_named_at_the_second_time() {
    let mut fixture = Fixture::shared(Scaler::Agimo);
    fixture.core().count_arrival(Instant::now());
    fixture.request_wake().await;
    for round in 1..=3 {
        fixture.set_status(|status| status.scale_facts.is_contested = true).await;
        let is_named = fixture.event_names().contains(&"writes_reverted");
        assert_eq!(is_named, round > 1, "{round}");
        let restore = |status: &mut BackendStatus| {
            (status.scale_facts.is_contested, status.replicas) = (false, Some(1));
        };
        fixture.set_status(restore).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_writer_that_scales_to_zero_soon_after_each_wake_is_named_at_the_second_time() {
    let mut fixture = Fixture::shared(Scaler::Agimo);
    let zero = |status: &mut BackendStatus| {
        status.sources.clear();
        status.replicas = Some(0);
    };
    for round in 1..=3 {
        fixture.core().count_arrival(Instant::now());
        fixture.request_wake().await;
        fixture.set_status(|status| status.replicas = Some(1)).await;
        fixture.become_ready().await;
        fixture.set_status(zero).await;
        let is_named = fixture.event_names().contains(&"writes_reverted");
        assert_eq!(is_named, round > 1, "{round}");
    }
    assert!(fixture.activation.status().reverted_by.is_some());
    // A zero that comes late is a decision of its own.
    fixture.request_wake().await;
    fixture.become_ready().await;
    tokio::time::sleep(Duration::from_secs(61)).await;
    fixture.set_status(zero).await;
    fixture.request_wake().await;
    fixture.become_ready().await;
    assert_eq!(fixture.activation.status().reverted_by, None);
}
