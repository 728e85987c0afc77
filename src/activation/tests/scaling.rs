//! A workload with a target: its wake counts the crowd, and while it is awake its replicas follow the demand.

use super::*;
use crate::config::scaling::AutoscalingConfig;

fn config() -> AutoscalingConfig {
    AutoscalingConfig {
        target_concurrency: Some(10),
        max_replicas: 20,
        ..AutoscalingConfig::default()
    }
}

impl Fixture {
    async fn with_a_target() -> Self {
        let fixture = Self::shared(Scaler::Agimo);
        fixture.spec.send_modify(|spec| spec.autoscaling = Some(config()));
        fixture.settle().await;
        fixture
    }

    fn arrive(&self, requests: usize) {
        (0..requests).for_each(|_| self.core().count_arrival(Instant::now()));
    }

    fn end(&self, requests: usize) {
        (0..requests).for_each(|_| self.core().count_end(Instant::now()));
    }

    async fn has_replicas(&self, replicas: u32) {
        self.set_status(|status| status.replicas = Some(replicas)).await;
    }

    fn last_command(&self) -> Option<ScaleCommand> {
        self.commands().last().copied()
    }
}

#[tokio::test(start_paused = true)]
async fn a_wake_asks_for_the_replicas_of_the_crowd_that_waits() {
    let fixture = Fixture::with_a_target().await;
    fixture.arrive(25);
    fixture.request_wake().await;
    assert_eq!(fixture.commands(), [ScaleCommand::WakeToAtLeast(3)]);
    fixture.has_replicas(3).await;
    fixture.arrive(20);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(fixture.last_command(), Some(ScaleCommand::SetReplicas(5)));
    fixture.has_replicas(5).await;
    fixture.end(40);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(fixture.commands().len(), 2, "fewer requests do not shrink a wake");
}

#[tokio::test(start_paused = true)]
async fn replicas_follow_the_demand_of_a_workload_that_is_awake() {
    let fixture = Fixture::with_a_target().await;
    fixture.has_replicas(1).await;
    fixture.become_ready().await;
    fixture.arrive(45);
    tokio::time::sleep(Duration::from_secs(8)).await;
    assert_eq!(fixture.last_command(), Some(ScaleCommand::SetReplicas(5)));
    fixture.has_replicas(5).await;
    fixture.end(44);
    tokio::time::sleep(Duration::from_secs(180)).await;
    assert_eq!(fixture.last_command(), Some(ScaleCommand::SetReplicas(1)));
    assert_eq!(fixture.state(), "awake", "one request is in flight");
    fixture.has_replicas(1).await;
    fixture.end(1);
    tokio::time::sleep(SLEEP_AFTER * 2).await;
    assert_eq!(fixture.last_command(), Some(ScaleCommand::Sleep));
}

#[tokio::test(start_paused = true)]
async fn no_replica_is_removed_while_a_tunnel_is_open_unless_it_may_be_cut() {
    for cuts in [false, true] {
        let fixture = Fixture::with_a_target().await;
        let config = AutoscalingConfig { scale_down_cuts_tunnels: cuts, ..config() };
        fixture.spec.send_modify(|spec| spec.autoscaling = Some(config));
        fixture.has_replicas(3).await;
        fixture.become_ready().await;
        fixture.arrive(1);
        fixture.core().count_tunnel_opened();
        tokio::time::sleep(Duration::from_secs(180)).await;
        let removed = cuts.then_some(ScaleCommand::SetReplicas(1));
        assert_eq!(fixture.last_command(), removed, "{cuts}");
        fixture.core().count_tunnel_closed();
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert_eq!(fixture.last_command(), Some(ScaleCommand::SetReplicas(1)));
    }
}

#[tokio::test(start_paused = true)]
async fn a_number_that_somebody_else_has_set_stays_until_the_workload_sleeps() {
    let fixture = Fixture::with_a_target().await;
    fixture.has_replicas(1).await;
    fixture.become_ready().await;
    fixture.arrive(45);
    tokio::time::sleep(Duration::from_secs(8)).await;
    // The write of the decision takes its time, or fails.
    assert_eq!(fixture.last_command(), Some(ScaleCommand::SetReplicas(5)));
    fixture.has_replicas(7).await;
    let commands = fixture.commands().len();
    tokio::time::sleep(Duration::from_secs(180)).await;
    assert_eq!(fixture.commands().len(), commands);
    fixture.end(45);
    tokio::time::sleep(SLEEP_AFTER * 2).await;
    assert_eq!(fixture.last_command(), Some(ScaleCommand::Sleep));
    fixture.has_replicas(1).await;
    fixture.become_ready().await;
    fixture.arrive(45);
    tokio::time::sleep(Duration::from_secs(8)).await;
    assert_eq!(fixture.last_command(), Some(ScaleCommand::SetReplicas(5)));
}

#[tokio::test(start_paused = true)]
async fn only_the_leader_scales_and_its_successor_knows_the_demand() {
    let fixture = Fixture::with_a_target().await;
    fixture.coordination.set_leader(false);
    fixture.has_replicas(1).await;
    fixture.become_ready().await;
    fixture.arrive(45);
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(fixture.commands(), []);
    fixture.coordination.set_leader(true);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(fixture.last_command(), Some(ScaleCommand::SetReplicas(5)));
}

#[tokio::test(start_paused = true)]
async fn no_replica_is_removed_while_another_agimo_is_silent() {
    let fixture = Fixture::with_a_target().await;
    fixture.coordination.begin_exchange();
    fixture.coordination.set_listed(["10.0.0.2:9091".parse().unwrap()].into());
    fixture.has_replicas(5).await;
    fixture.become_ready().await;
    fixture.arrive(1);
    tokio::time::sleep(Duration::from_secs(300)).await;
    assert_eq!(fixture.commands(), []);
    fixture.arrive(100);
    tokio::time::sleep(Duration::from_secs(8)).await;
    // One endpoint is ready, and ten times as many are the most in one decision.
    assert_eq!(fixture.last_command(), Some(ScaleCommand::SetReplicas(10)));
}
