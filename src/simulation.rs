//! Replays a trace of arrivals through the decisions of agimo's own scaler, second by second, without a cluster. Pure.
//!
//! The workload is a model: a replica is ready a fixed time after it was asked for, a request takes as long as the trace says,
//! whatever the load, and requests of one second arrive evenly over it.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use crate::activation::idleness::Idleness;
use crate::autoscaler::{self, Autoscaler};
use crate::config::scaling::AutoscalingConfig;
use crate::demand::Totals;

use self::trace::Trace;

pub mod report;
pub mod svg;
#[cfg(test)]
mod tests;
pub mod trace;

/// What is simulated.
#[derive(Clone, Copy, Debug)]
pub struct Model {
    pub sleep_after: Duration,
    /// Absent where the number of a workload that is awake is left alone.
    pub autoscaling: Option<AutoscalingConfig>,
    /// From the request for a replica until it is ready.
    pub cold_start: Duration,
}

/// One simulated second.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Second {
    pub arrivals: f64,
    /// Requests in flight on average, those held included.
    pub concurrency: f64,
    pub replicas: u32,
    pub ready: u32,
}

/// A whole run.
#[derive(Clone, Debug, Default)]
pub struct Run {
    pub seconds: Vec<Second>,
    pub cold_starts: u32,
    /// Requests that waited for a replica.
    pub held_requests: f64,
    /// The time that they waited, added up, in seconds.
    pub held_seconds: f64,
}

/// The workload between two seconds.
struct State {
    now: Instant,
    totals: Totals,
    replicas: u32,
    before_sleep: u32,
    /// When replicas that were asked for are ready, and how many there are then.
    starting: VecDeque<(u64, u32)>,
    ready: u32,
    /// Requests in flight, by the second in which they end.
    ending: VecDeque<f64>,
    held: f64,
    arrivals: f64,
    idleness: Idleness,
    autoscaler: Autoscaler,
}

/// Replays the trace, and lets the workload fall asleep after it.
pub fn run(trace: &Trace, model: &Model) -> Run {
    let now = Instant::now();
    let mut run = Run::default();
    let mut state = State {
        now,
        totals: Totals::default(),
        replicas: 0,
        before_sleep: 0,
        starting: VecDeque::new(),
        ready: 0,
        ending: VecDeque::new(),
        held: 0.0,
        arrivals: 0.0,
        idleness: Idleness::begin(0, now),
        autoscaler: Autoscaler::default(),
    };
    let tail =
        model.sleep_after.as_secs() + model.cold_start.as_secs() + trace.duration.as_secs() + 2;
    let length = trace.arrivals.len() as u64 + tail;
    for second in 0..length {
        let arrivals = trace.arrivals.get(second as usize).copied().unwrap_or(0.0);
        let simulated = state.second(second, arrivals, trace.duration, model, &mut run);
        run.seconds.push(simulated);
    }
    run
}

// === impl State ===

impl State {
    fn second(
        &mut self,
        second: u64,
        arrivals: f64,
        duration: Duration,
        model: &Model,
        run: &mut Run,
    ) -> Second {
        self.now += Duration::from_secs(1);
        let was_ready = self.ready > 0;
        while self.starting.front().is_some_and(|(at, _)| *at <= second) {
            self.ready = self.starting.pop_front().map_or(self.ready, |(_, ready)| ready);
        }
        if !was_ready && self.ready > 0 {
            self.autoscaler = Autoscaler::begin(self.replicas, self.now);
            self.idleness = Idleness::begin(self.arrivals as u64, self.now);
            let held = std::mem::take(&mut self.held);
            self.start(held, duration);
        }
        self.arrivals += arrivals;
        if self.ready > 0 {
            self.start(arrivals, duration);
        } else if arrivals > 0.0 || self.held > 0.0 {
            run.held_requests += arrivals;
            self.held += arrivals;
            if self.replicas == 0 {
                run.cold_starts += 1;
            }
            self.wake(second, model);
            run.held_seconds += self.held;
        }
        let concurrency = self.held + self.in_flight_during_second(duration);
        self.totals.request_time += Duration::from_secs_f64(concurrency);
        self.totals.arrivals = self.arrivals as u64;
        let simulated =
            Second { arrivals, concurrency, replicas: self.replicas, ready: self.ready };
        self.ending.pop_front();
        if self.ready > 0 {
            self.decide(second, model);
        }
        simulated
    }

    /// Requests begin to be served.
    fn start(&mut self, requests: f64, duration: Duration) {
        let seconds = duration.as_secs() as usize;
        if self.ending.len() <= seconds {
            self.ending.resize(seconds + 1, 0.0);
        }
        self.ending[seconds] += requests;
    }

    /// The average over the second: those that go on for the whole of it, and the rest of those that end in it.
    fn in_flight_during_second(&self, duration: Duration) -> f64 {
        let part = duration.subsec_nanos() as f64 / 1e9;
        let ending = self.ending.front().copied().unwrap_or(0.0) * part;
        ending + self.ending.iter().skip(1).sum::<f64>()
    }

    fn wake(&mut self, second: u64, model: &Model) {
        let waiting = self.held.ceil() as u64;
        let needed =
            model.autoscaling.map_or(1, |config| autoscaler::replicas_of_wake(waiting, &config));
        // A wake restores what was there before.
        let wanted = needed.max(self.before_sleep);
        if wanted > self.replicas {
            self.scale_up(second, wanted, model);
        }
    }

    fn scale_up(&mut self, second: u64, replicas: u32, model: &Model) {
        self.replicas = replicas;
        let ready_at = second + model.cold_start.as_secs_f64().ceil().max(1.0) as u64;
        self.starting.push_back((ready_at, replicas));
    }

    fn decide(&mut self, second: u64, model: &Model) {
        let in_flight = self.ending.iter().sum::<f64>().ceil() as u64;
        self.idleness = self.idleness.check(self.totals.arrivals, in_flight, self.now);
        if self.idleness.lasted(self.now) >= model.sleep_after {
            self.before_sleep = self.replicas;
            (self.replicas, self.ready) = (0, 0);
            self.starting.clear();
            return;
        }
        let Some(config) = model.autoscaling else { return };
        self.autoscaler.record(self.totals, 0, self.now, &config);
        let Some(decision) = self.autoscaler.decide(self.ready, self.now, &config) else { return };
        if decision.replicas > self.replicas {
            self.scale_up(second, decision.replicas, model);
        } else if decision.replicas < self.replicas {
            self.replicas = decision.replicas;
            self.ready = self.ready.min(decision.replicas);
            self.starting
                .iter_mut()
                .for_each(|(_, ready)| *ready = (*ready).min(decision.replicas));
        }
    }
}

// === impl Run ===

impl Run {
    /// Replica-hours that were used.
    pub fn replica_hours(&self) -> f64 {
        self.seconds.iter().map(|second| f64::from(second.replicas)).sum::<f64>() / 3600.0
    }

    /// The most replicas at any time.
    pub fn peak(&self) -> u32 {
        self.seconds.iter().map(|second| second.replicas).max().unwrap_or(0)
    }

    /// Replica-hours that were not used, against the peak running all the time.
    pub fn saved_hours(&self) -> f64 {
        f64::from(self.peak()) * self.seconds.len() as f64 / 3600.0 - self.replica_hours()
    }

    /// The seconds in which the number of replicas changes, with the new number.
    pub fn changes(&self) -> impl Iterator<Item = (usize, u32)> {
        let before = std::iter::once(0).chain(self.seconds.iter().map(|second| second.replicas));
        let pairs = self.seconds.iter().zip(before).enumerate();
        pairs
            .filter(|(_, (now, before))| now.replicas != *before)
            .map(|(at, (now, _))| (at, now.replicas))
    }
}
