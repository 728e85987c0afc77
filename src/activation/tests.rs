//! Hold and sleep on a paused clock, with a fake backend whose workload does what the test says.

use std::net::SocketAddr;

use crate::backend::Failure;

use super::*;

/// A fake: no process, no cluster; it notes what is asked and shows what it is told.
struct FakeBackend {
    scaled: Mutex<Vec<u32>>,
    is_ours: bool,
    observed: watch::Sender<Observed>,
}

/// A workload with its activation running.
struct Bench {
    backend: Arc<FakeBackend>,
    activation: Arc<Activation>,
    traffic: Arc<RouteCounters>,
    settings: watch::Sender<Settings>,
}

const SLEEP_AFTER: Duration = Duration::from_secs(60);

impl Backend for FakeBackend {
    fn observe(&self) -> watch::Receiver<Observed> {
        self.observed.subscribe()
    }

    fn scale(&self, replicas: u32) {
        self.scaled.lock().unwrap().push(replicas);
        if replicas == 0 {
            self.observed.send_modify(|observed| observed.ready.clear());
        }
    }

    fn is_ours(&self) -> bool {
        self.is_ours
    }
}

impl Bench {
    fn new() -> Self {
        Self::of(true)
    }

    fn of(is_ours: bool) -> Self {
        let (scaled, observed) = (Mutex::default(), watch::Sender::default());
        let backend = Arc::new(FakeBackend { scaled, is_ours, observed });
        let activation = Arc::new(Activation::new("a.test".to_owned(), backend.clone()));
        let traffic = Arc::new(RouteCounters::new(1));
        let settings = watch::Sender::new(Settings { sleep_after: SLEEP_AFTER, replicas: 2 });
        let shutdown = Shutdown::default();
        tokio::spawn(activation.clone().run(traffic.clone(), settings.subscribe(), shutdown));
        Self { backend, activation, traffic, settings }
    }

    async fn becomes_ready(&self) {
        let address: SocketAddr = "127.0.0.1:1".parse().unwrap();
        self.backend.observed.send_modify(|observed| observed.ready = vec![address]);
        self.settle().await;
    }

    async fn keep(&self, kept: Option<Kept>) {
        self.backend.observed.send_modify(|observed| observed.kept = kept);
        self.settle().await;
    }

    async fn fails(&self, sequence: u64) {
        let failure =
            Failure { sequence, cause: Cause::Exited, detail: "exit status: 1".to_owned() };
        self.backend.observed.send_modify(|observed| observed.failure = Some(failure));
        self.settle().await;
    }

    async fn want(&self) {
        self.activation.want();
        self.settle().await;
    }

    /// Lets the activation act on what it was told; no time passes.
    async fn settle(&self) {
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
    }

    fn scaled(&self) -> Vec<u32> {
        self.backend.scaled.lock().unwrap().clone()
    }
}

#[tokio::test(start_paused = true)]
async fn many_wants_scale_once_and_all_are_released_in_order() {
    let bench = Bench::new();
    let order = Arc::new(Mutex::new(Vec::new()));
    for number in 0..100 {
        let (activation, order) = (bench.activation.clone(), order.clone());
        tokio::spawn(async move {
            let released = activation.released();
            activation.want();
            released.await;
            order.lock().unwrap().push(number);
        });
    }
    bench.settle().await;
    assert_eq!(bench.scaled(), [2]);
    assert!(order.lock().unwrap().is_empty(), "nobody goes before it is ready");
    bench.becomes_ready().await;
    assert_eq!(*order.lock().unwrap(), (0..100).collect::<Vec<_>>());
    assert_eq!(bench.activation.published().ready.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn it_sleeps_after_the_idle_time_and_not_before() {
    let bench = Bench::new();
    bench.want().await;
    bench.becomes_ready().await;
    tokio::time::sleep(SLEEP_AFTER - Duration::from_secs(2)).await;
    let core = bench.traffic.core(0);
    core.arrive();
    core.end();
    tokio::time::sleep(SLEEP_AFTER - Duration::from_secs(2)).await;
    assert_eq!(bench.scaled(), [2], "an arrival, however short, restarts the clock");
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert_eq!(bench.scaled(), [2, 0]);
    assert!(bench.activation.published().ready.is_empty());
}

#[tokio::test(start_paused = true)]
async fn open_work_keeps_it_awake_however_long_it_lasts() {
    let bench = Bench::new();
    let core = bench.traffic.core(0);
    core.arrive();
    bench.want().await;
    bench.becomes_ready().await;
    tokio::time::sleep(SLEEP_AFTER * 100).await;
    assert_eq!(bench.scaled(), [2]);
    core.end();
    tokio::time::sleep(SLEEP_AFTER + Duration::from_secs(4)).await;
    assert_eq!(bench.scaled(), [2, 0]);
}

#[tokio::test(start_paused = true)]
async fn a_slow_start_is_not_idleness() {
    let bench = Bench::new();
    bench.want().await;
    tokio::time::sleep(SLEEP_AFTER * 10).await;
    assert_eq!(bench.scaled(), [2], "not put to sleep before it has once been ready");
    bench.becomes_ready().await;
    tokio::time::sleep(SLEEP_AFTER / 2).await;
    assert_eq!(bench.scaled(), [2], "its idle time begins when it is ready");
}

#[tokio::test(start_paused = true)]
async fn a_failed_wake_is_tried_again_only_after_a_growing_pause() {
    let bench = Bench::new();
    for (sequence, pause) in [(1, 1), (2, 2), (3, 4)] {
        bench.want().await;
        bench.fails(sequence).await;
        let refusal = bench.activation.published().refusal.expect("a refusal");
        assert!(!refusal.has_passed());
        let wakes = bench.scaled().len();
        tokio::time::sleep(Duration::from_millis(pause * 1000 - 10)).await;
        bench.want().await;
        assert_eq!(bench.scaled().len(), wakes, "no wake within the pause");
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert!(refusal.has_passed());
    }
    bench.want().await;
    bench.becomes_ready().await;
    assert_eq!(bench.activation.published().refusal, None);
    assert_eq!(bench.scaled().iter().filter(|replicas| **replicas > 0).count(), 4);
}

#[tokio::test(start_paused = true)]
async fn removed_it_refuses_at_once_and_stops_when_the_last_stream_has_ended() {
    let bench = Bench::new();
    bench.want().await;
    bench.becomes_ready().await;
    bench.activation.remove();
    bench.settle().await;
    assert_eq!(bench.activation.published().refusal, Some(Refusal::Removed));
    // What is open holds on to its service.
    let Bench { backend, activation: stream, .. } = bench;
    tokio::time::sleep(SLEEP_AFTER * 10).await;
    assert_eq!(*backend.scaled.lock().unwrap(), [2]);
    drop(stream);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(*backend.scaled.lock().unwrap(), [2, 0]);
}

#[tokio::test(start_paused = true)]
async fn a_shorter_idle_time_takes_effect_while_awake() {
    let bench = Bench::new();
    bench.want().await;
    bench.becomes_ready().await;
    bench.settings.send_replace(Settings { sleep_after: Duration::from_secs(2), replicas: 2 });
    tokio::time::sleep(Duration::from_secs(8)).await;
    assert_eq!(bench.scaled(), [2, 0]);
}

#[tokio::test(start_paused = true)]
async fn restless_replicas_do_not_keep_it_awake() {
    let bench = Bench::new();
    bench.want().await;
    bench.becomes_ready().await;
    for _ in 0..700 {
        // As when one replica of several starts and ends again and again.
        tokio::time::sleep(Duration::from_millis(100)).await;
        bench.backend.observed.send_modify(|_| ());
    }
    assert_eq!(bench.scaled(), [2, 0]);
}

#[tokio::test(start_paused = true)]
async fn what_another_scaler_keeps_is_never_put_to_sleep_by_agimo() {
    let bench = Bench::of(false);
    bench.keep(Some(Kept::External)).await;
    let core = bench.traffic.core(0);
    core.arrive();
    bench.want().await;
    bench.becomes_ready().await;
    core.end();
    tokio::time::sleep(SLEEP_AFTER * 10).await;
    assert_eq!(bench.scaled(), [2]);
    assert_eq!(bench.activation.standing().state, "awake");
    // Its scaler puts it to sleep; nothing is written then either.
    bench.backend.observed.send_modify(|observed| observed.ready.clear());
    bench.settle().await;
    assert_eq!(bench.scaled(), [2]);
    assert_eq!(bench.activation.standing().state, "asleep");
}

#[tokio::test(start_paused = true)]
async fn idle_time_begins_when_nobody_keeps_it_any_more() {
    let bench = Bench::of(false);
    bench.keep(Some(Kept::Peers)).await;
    bench.want().await;
    bench.becomes_ready().await;
    tokio::time::sleep(SLEEP_AFTER * 2).await;
    bench.keep(None).await;
    tokio::time::sleep(SLEEP_AFTER / 2).await;
    assert_eq!(bench.scaled(), [2], "the peers' traffic ended only now, as far as can be told");
    tokio::time::sleep(SLEEP_AFTER).await;
    assert_eq!(bench.scaled(), [2, 0]);
}

#[tokio::test(start_paused = true)]
async fn a_wake_that_is_another_s_to_bring_about_is_given_up_when_nobody_waits() {
    let bench = Bench::of(false);
    bench.keep(Some(Kept::External)).await;
    let core = bench.traffic.core(0);
    core.arrive();
    bench.want().await;
    tokio::time::sleep(SLEEP_AFTER * 2).await;
    assert_eq!(bench.activation.standing().state, "waking", "somebody waits");
    core.end();
    tokio::time::sleep(SLEEP_AFTER).await;
    assert_eq!(bench.activation.standing().state, "asleep");
    assert_eq!(bench.scaled(), [2, 0], "the backend is told that nobody waits");
}

#[tokio::test(start_paused = true)]
async fn what_its_owners_restart_is_held_for_however_often_it_goes() {
    let bench = Bench::of(false);
    for _ in 0..5 {
        bench.want().await;
        bench.becomes_ready().await;
        bench.backend.observed.send_modify(|observed| observed.ready.clear());
        bench.settle().await;
        assert_eq!(bench.activation.published().refusal, None);
    }
    assert_eq!(bench.scaled(), [2; 5], "woken each time, and never stopped");
}
