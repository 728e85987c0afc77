//! How many replicas a workload needs for its demand, between one and its maximum; zero is decided by idleness. Pure: demand
//! and time are passed in.
//!
//! The rules are those of Knative's pod autoscaler (Knative Serving, "Scaling system", autoscaler `scaling/autoscaler.go`):
//! the average over a stable window decides, and a short panic window takes over while the demand is at least a multiple of
//! what the ready replicas can take. Different from it: targets are what a replica is to have, without a utilisation factor;
//! a workload may have a target for concurrency and one for the rate of requests, of which the larger need counts; a window
//! that is not full yet is averaged over the time that it covers; and demand is known exactly, not sampled.

use std::time::Duration;

use tokio::time::Instant;

use self::window::{Average, Window};
use crate::config::scaling::AutoscalingConfig;
use crate::demand::Totals;

pub mod window;

/// The state of one workload that is awake.
#[derive(Clone, Debug, Default)]
pub struct Autoscaler {
    window: Window,
    panic: Option<Panic>,
    /// The decisions of the delay, with their times.
    recent: Vec<(Instant, u32)>,
}

/// Demand has risen so fast that the stable window lags behind.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Panic {
    /// The demand was last above the threshold.
    since: Instant,
    /// Replicas are not removed while it lasts.
    replicas: u32,
}

/// How many replicas a workload is to have, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    pub replicas: u32,
    pub reason: Reason,
}

/// What determines a decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The average over the stable window.
    Stable,
    /// The average over the panic window, or the panic that it caused.
    Panic,
    Minimum,
    Maximum,
    ScaleUpRate,
    ScaleDownRate,
    ScaleDownDelay,
}

/// How often to decide.
pub const INTERVAL: Duration = Duration::from_secs(1);

/// Replicas that this many requests in flight and this rate need.
fn needed(average: Average, spec: &AutoscalingConfig) -> f64 {
    let per = |value: f64, target: Option<u32>| {
        target.map_or(0.0, |target| value / f64::from(target.max(1)))
    };
    per(average.concurrency, spec.target_concurrency).max(per(average.rate, spec.target_rate))
}

/// Replicas that a wake asks for, when so many requests wait: the whole crowd counts at once.
pub fn replicas_of_wake(waiting: u64, spec: &AutoscalingConfig) -> u32 {
    let waiting = u32::try_from(waiting).unwrap_or(u32::MAX);
    let needed = spec.target_concurrency.map_or(1, |target| waiting.div_ceil(target.max(1)));
    needed.max(spec.activation_replicas).max(spec.min_replicas).min(spec.max_replicas)
}

// === impl Autoscaler ===

impl Autoscaler {
    /// A workload that has become ready, with this many replicas. They stay for one stable window, as after a rise: the
    /// crowd that waited for them may come back.
    pub fn begin(replicas: u32, now: Instant) -> Self {
        let panic = (replicas > 1).then_some(Panic { since: now, replicas });
        Self { panic, ..Self::default() }
    }

    /// Records what was counted by now. Call it at every interval.
    /// `generation` changes with the replicas of agimo that have counted it.
    pub fn record(
        &mut self,
        totals: Totals,
        generation: u64,
        now: Instant,
        spec: &AutoscalingConfig,
    ) {
        self.window.record(totals, generation, now, spec.stable_window);
    }

    /// How many replicas the workload is to have, where so many are ready; `None` until something was recorded.
    pub fn decide(
        &mut self,
        ready: u32,
        now: Instant,
        spec: &AutoscalingConfig,
    ) -> Option<Decision> {
        let stable = self.window.average(now, spec.stable_window)?;
        let recent = self.window.average(now, spec.panic_window)?;
        let ready = ready.max(1);
        let stable = needed(stable, spec);
        let urgent = needed(recent, spec);
        self.update_panic(urgent, ready, now, spec);

        let (mut wanted, mut reason) = (ceil(stable), Reason::Stable);
        if let Some(panic) = &mut self.panic {
            let urgent = bounded(ceil(urgent), ready, spec).0;
            panic.replicas = panic.replicas.max(urgent).max(bounded(wanted, ready, spec).0);
            (wanted, reason) = (panic.replicas, Reason::Panic);
        } else if let (replicas, Some(limit)) = bounded(wanted, ready, spec) {
            (wanted, reason) = (replicas, limit);
        }
        if let Some(delayed) = self.delayed(wanted, now, spec.scale_down_delay) {
            (wanted, reason) = (delayed, Reason::ScaleDownDelay);
        }
        if wanted < spec.min_replicas {
            (wanted, reason) = (spec.min_replicas, Reason::Minimum);
        }
        if wanted > spec.max_replicas {
            (wanted, reason) = (spec.max_replicas, Reason::Maximum);
        }
        Some(Decision { replicas: wanted.max(1), reason })
    }

    /// A panic begins when the demand is at the threshold, and ends when it has been below for a stable window.
    fn update_panic(&mut self, urgent: f64, ready: u32, now: Instant, spec: &AutoscalingConfig) {
        let is_over = urgent.ceil() >= f64::from(ready) * f64::from(spec.panic_threshold);
        match &mut self.panic {
            Some(panic) if is_over => panic.since = now,
            None if is_over => self.panic = Some(Panic { since: now, replicas: ready }),
            Some(panic) if now >= panic.since + spec.stable_window => self.panic = None,
            _ => {}
        }
    }

    /// The largest decision of the delay, if it is larger than this one.
    fn delayed(&mut self, wanted: u32, now: Instant, delay: Duration) -> Option<u32> {
        if delay.is_zero() {
            self.recent.clear();
            return None;
        }
        self.recent.retain(|(at, _)| now < *at + delay);
        self.recent.push((now, wanted));
        let largest = self.recent.iter().map(|(_, replicas)| *replicas).max()?;
        (largest > wanted).then_some(largest)
    }
}

/// As many replicas as the rates allow, and which of them is the limit.
fn bounded(wanted: u32, ready: u32, spec: &AutoscalingConfig) -> (u32, Option<Reason>) {
    let most = ready.saturating_mul(spec.max_scale_up_rate.max(1));
    let fewest = ready / spec.max_scale_down_rate.max(1);
    if wanted > most {
        (most, Some(Reason::ScaleUpRate))
    } else if wanted < fewest {
        (fewest, Some(Reason::ScaleDownRate))
    } else {
        (wanted, None)
    }
}

fn ceil(needed: f64) -> u32 {
    // What is needed beyond the range of u32 is beyond every maximum.
    needed.ceil() as u32
}

// === impl Reason ===

impl Reason {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stable => "stable",
            Self::Panic => "panic",
            Self::Minimum => "min-replicas",
            Self::Maximum => "max-replicas",
            Self::ScaleUpRate => "scale-up-rate",
            Self::ScaleDownRate => "scale-down-rate",
            Self::ScaleDownDelay => "scale-down-delay",
        }
    }
}

#[cfg(test)]
mod tests;
