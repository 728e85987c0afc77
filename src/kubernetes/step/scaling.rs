//! When a step writes `replicas`, and what the result of a write means.

use std::time::Duration;

use tokio::time::Instant;

use super::State;
use crate::activation::events::EventKind;
use crate::backoff::Backoff;
use crate::kubernetes::scale::{DesiredScale, ScaleFailure, ScaleRead, ScaleResult, ScaleWrite};

/// After somebody else has scaled a workload to zero that agimo had scaled up.
const CONTESTED: Backoff =
    Backoff { first: Duration::from_secs(1), longest: Duration::from_secs(60) };

impl State {
    /// `replicas` as far as it is known.
    pub(super) fn current(&self) -> Option<ScaleRead> {
        let workload = self.snapshot.workload.as_ref()?;
        let read = ScaleRead {
            replicas: workload.replicas,
            resource_version: workload.resource_version.clone(),
        };
        Some(ScaleRead::newer(read, self.written.as_ref()))
    }

    pub(super) fn replicas(&self) -> Option<u32> {
        self.current().map(|current| current.replicas)
    }

    /// Whether somebody else has scaled the workload to zero since agimo scaled it up.
    pub(super) fn is_contested(&self) -> bool {
        self.contested_until.is_some()
            && matches!(self.desired, DesiredScale::Awake(_))
            && self.replicas() == Some(0)
    }

    /// Whether a workload at zero is to be left there for now. Two writers that disagree must not write without end.
    fn is_contested_at(&mut self, now: Instant) -> bool {
        if !matches!(self.desired, DesiredScale::Awake(_)) || self.scaled_up == 0 {
            return false;
        }
        let delay = CONTESTED.delay(self.scaled_up);
        now < *self.contested_until.get_or_insert(now + delay)
    }

    /// The write to begin, and the replicas to save with it.
    pub(super) fn begin_write(&mut self, now: Instant) -> (Option<ScaleWrite>, Option<u32>) {
        self.retry_at = self.retry_at.filter(|at| now < *at);
        if self.in_flight.is_some() || self.retry_at.is_some() || !self.health.is_synced {
            return (None, None);
        }
        let Some(current) = self.current() else { return (None, None) };
        if current.replicas == 0 {
            self.terminating.confirm();
            if self.is_contested_at(now) {
                return (None, None);
            }
            if self.waits_for_terminating() {
                // The workload's controller has not seen the zero yet. If it were written over now, the pods
                // that stay could not be told from those that terminate.
                return (None, None);
            }
        } else if self.desired != DesiredScale::Exactly(0) {
            self.terminating.cancel_planned();
        }
        let Some(replicas) = self.desired.replicas_to_write(current.replicas) else {
            if matches!(self.desired, DesiredScale::Exactly(_)) {
                self.desired = DesiredScale::Unchanged;
            }
            return (None, None);
        };
        self.in_flight = Some(replicas);
        let saved = (replicas == 0).then_some(current.replicas);
        (Some(ScaleWrite { replicas, resource_version: current.resource_version }), saved)
    }

    /// Takes the result of the write, and returns what is new.
    pub(super) fn written(
        &mut self,
        result: Result<ScaleResult, ScaleFailure>,
        now: Instant,
    ) -> Vec<EventKind> {
        let written = self.in_flight.take();
        match result {
            Ok(ScaleResult { read, is_conflict }) => {
                let replicas = read.replicas;
                if replicas == 0 {
                    // The workload's controller sees the zero only now.
                    self.terminating.wait_from(now);
                    if !is_conflict {
                        // It is agimo's own zero that is found next.
                        (self.scaled_up, self.contested_until) = (0, None);
                        self.terminating.confirm();
                        self.is_scaled_to_zero = true;
                    }
                }
                if replicas > 0 && !is_conflict {
                    self.scaled_up += 1;
                    self.contested_until = None;
                }
                self.written = Some(read);
                self.write_failure = None;
                if is_conflict { Vec::new() } else { vec![EventKind::ScaleWritten { replicas }] }
            }
            Err(ScaleFailure { reason, retry_after }) => {
                self.retry_at = Some(now + retry_after);
                if written != Some(0) {
                    self.write_failure = Some(reason);
                    return Vec::new();
                }
                if self.desired != DesiredScale::Exactly(0) {
                    return Vec::new();
                }
                self.desired = DesiredScale::Unchanged;
                self.terminating.cancel_planned();
                vec![EventKind::SleepFailed { detail: reason.detail }]
            }
        }
    }
}
