//! Decisions over time: tables of loads, and properties that hold for all of them.

use proptest::prelude::*;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

pub(super) fn spec() -> AutoscalingConfig {
    AutoscalingConfig {
        target_concurrency: Some(10),
        max_replicas: 100,
        ..AutoscalingConfig::default()
    }
}

/// A workload whose replicas are ready one second after they are asked for.
struct Simulated {
    autoscaler: Autoscaler,
    spec: AutoscalingConfig,
    now: Instant,
    totals: Totals,
    ready: u32,
    last: Option<Decision>,
}

impl Simulated {
    fn new(spec: AutoscalingConfig) -> Self {
        let mut simulated = Self {
            autoscaler: Autoscaler::default(),
            spec,
            now: Instant::now(),
            totals: Totals::default(),
            ready: 1,
            last: None,
        };
        simulated.autoscaler.record(Totals::default(), 0, simulated.now, &spec);
        simulated
    }

    /// One second with so many requests in flight, and so many new ones.
    fn second(&mut self, concurrency: u32, arrivals: u64) -> Option<Decision> {
        self.now += SECOND;
        self.totals.request_time += SECOND * concurrency;
        self.totals.arrivals += arrivals;
        self.autoscaler.record(self.totals, 0, self.now, &self.spec);
        self.ready = self.last.map_or(self.ready, |decision| decision.replicas);
        self.last = self.autoscaler.decide(self.ready, self.now, &self.spec);
        self.last
    }

    /// The replicas after so many seconds of the same load.
    fn seconds(&mut self, seconds: u32, concurrency: u32) -> (u32, Reason) {
        for _ in 0..seconds {
            self.second(concurrency, 0);
        }
        self.last.map(|decision| (decision.replicas, decision.reason)).unwrap()
    }
}

#[test]
fn a_steady_load_has_the_replicas_that_its_target_asks_for() {
    for (concurrency, replicas) in [(0, 1), (1, 1), (10, 1), (11, 2), (95, 10)] {
        let mut simulated = Simulated::new(spec());
        assert_eq!(simulated.seconds(180, concurrency).0, replicas, "{concurrency}");
    }
    let both = AutoscalingConfig { target_rate: Some(5), ..spec() };
    let mut simulated = Simulated::new(both);
    for _ in 0..180 {
        simulated.second(11, 100);
    }
    assert_eq!(simulated.last.unwrap().replicas, 20, "the larger need counts");
}

#[test]
fn a_sudden_load_is_followed_within_the_panic_window_and_not_left_before_the_stable_one() {
    let mut simulated = Simulated::new(spec());
    simulated.seconds(60, 1);
    let (replicas, reason) = simulated.seconds(6, 100);
    assert_eq!((replicas, reason), (10, Reason::Panic));
    // It is over, and for one stable window no replica is removed.
    assert_eq!(simulated.seconds(50, 1), (10, Reason::Panic));
    assert_eq!(simulated.seconds(30, 1), (1, Reason::Stable));
}

#[test]
fn the_rates_bound_each_decision() {
    let mut simulated = Simulated::new(AutoscalingConfig { max_scale_up_rate: 2, ..spec() });
    let replicas: Vec<u32> = (0..4).map(|_| simulated.second(1_000, 0).unwrap().replicas).collect();
    assert_eq!(replicas, [2, 4, 8, 16]);
    let mut simulated = Simulated::new(spec());
    simulated.ready = 40;
    assert_eq!(simulated.seconds(1, 0), (20, Reason::ScaleDownRate));
    assert_eq!(simulated.seconds(1, 0), (10, Reason::ScaleDownRate));
}

#[test]
fn a_delay_keeps_replicas_until_they_have_not_been_needed_for_so_long() {
    let delayed = AutoscalingConfig {
        scale_down_delay: 30 * SECOND,
        stable_window: 6 * SECOND,
        max_scale_down_rate: 10,
        ..spec()
    };
    let mut simulated = Simulated::new(delayed);
    simulated.seconds(60, 50);
    assert_eq!(simulated.seconds(30, 0), (5, Reason::ScaleDownDelay));
    assert_eq!(simulated.seconds(20, 0).0, 1);
}

#[test]
fn minimum_and_maximum_hold() {
    let bounded = AutoscalingConfig { min_replicas: 3, max_replicas: 5, ..spec() };
    assert_eq!(Simulated::new(bounded).seconds(60, 0), (3, Reason::Minimum));
    assert_eq!(Simulated::new(bounded).seconds(60, 1_000), (5, Reason::Maximum));
}

#[test]
fn the_crowd_that_waits_for_a_wake_counts_at_once() {
    for (waiting, replicas) in [(0, 1), (1, 1), (10, 1), (11, 2), (200, 20), (u64::MAX, 100)] {
        assert_eq!(replicas_of_wake(waiting, &spec()), replicas, "{waiting}");
    }
    let activated = AutoscalingConfig { activation_replicas: 4, max_replicas: 6, ..spec() };
    assert_eq!([1, 50, 90].map(|waiting| replicas_of_wake(waiting, &activated)), [4, 5, 6]);
    let by_rate = AutoscalingConfig { target_concurrency: None, target_rate: Some(1), ..spec() };
    assert_eq!(replicas_of_wake(200, &by_rate), 1, "a rate is not known yet");
}

#[test]
fn nothing_is_decided_before_something_was_measured_and_a_lost_peer_is_no_demand() {
    let mut autoscaler = Autoscaler::default();
    let now = Instant::now();
    assert_eq!(autoscaler.decide(1, now, &spec()), None);
    autoscaler.record(Totals { arrivals: 9, request_time: 90 * SECOND }, 0, now, &spec());
    assert_eq!(autoscaler.decide(1, now, &spec()), None);
    // What the others had counted is gone with one of them.
    autoscaler.record(Totals { arrivals: 4, request_time: 20 * SECOND }, 0, now + SECOND, &spec());
    assert_eq!(autoscaler.decide(1, now + SECOND, &spec()), None);
    let later = Totals { arrivals: 5, request_time: 21 * SECOND };
    autoscaler.record(later, 0, now + 2 * SECOND, &spec());
    assert_eq!(autoscaler.decide(1, now + 2 * SECOND, &spec()).unwrap().replicas, 1);
}

proptest! {
    /// Whatever the load: within the bounds, never above what the rates allow, and enough for a load that stays.
    #[test]
    fn decisions_stay_within_their_bounds(
        loads in prop::collection::vec((0u32..2_000, 1u32..40), 1..8),
        min in 1u32..5,
        spread in 0u32..200,
        target in 1u32..100,
        up in 1u32..12,
        down in 1u32..5,
        delay in 0u64..60,
    ) {
        let spec = AutoscalingConfig {
            target_concurrency: Some(target),
            min_replicas: min,
            max_replicas: min + spread,
            max_scale_up_rate: up,
            max_scale_down_rate: down,
            scale_down_delay: Duration::from_secs(delay),
            ..spec()
        };
        let mut simulated = Simulated::new(spec);
        for (concurrency, seconds) in &loads {
            for _ in 0..*seconds {
                let before = simulated.last.map_or(1, |decision| decision.replicas);
                let Some(decision) = simulated.second(*concurrency, 0) else { continue };
                prop_assert!((min..=min + spread).contains(&decision.replicas), "{:?}", decision);
                let most = before.saturating_mul(up).max(before).max(min);
                prop_assert!(decision.replicas <= most, "{decision:?} after {before}");
            }
        }
        let (concurrency, _) = loads[loads.len() - 1];
        let (replicas, _) = simulated.seconds(400, concurrency);
        let needed = concurrency.div_ceil(target).max(1);
        prop_assert!(up == 1 || replicas >= needed.min(min + spread), "{replicas} for {needed}");
        // Above what is needed only as far as whole numbers make it so.
        let fewest = |ready: u32| ready / down;
        prop_assert!(replicas <= needed.max(min).max(fewest(replicas)).min(min + spread).max(needed.min(min + spread)));
    }
}
