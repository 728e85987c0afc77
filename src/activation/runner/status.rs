//! Reads what the backend reports of a workload, and publishes its status and what is new about it.

use std::sync::PoisonError;
use std::time::SystemTime;

use super::Runner;
use crate::activation::WorkloadStatus;
use crate::activation::events::EventKind;
use crate::activation::state::{Input, State};
use crate::backend::Lifecycle;
use crate::ownership::SleepBlocker;

impl Runner {
    /// The backend's status as an input of the state machine.
    pub(super) fn read_status(&mut self) -> Input {
        let status = self.status.borrow_and_update().clone();
        if status.started != self.started_seen {
            self.started_seen = status.started;
            self.note_started();
        }
        self.follow_contest();
        let new_failure = match &status.lifecycle {
            Lifecycle::Owned(Some(failure)) if failure.sequence > self.failures_seen => {
                self.failures_seen = failure.sequence;
                Some(failure.was_ready)
            }
            _ => None,
        };
        match (status.is_ready(), new_failure) {
            (true, _) => Input::Ready { arrivals: self.arrivals() },
            (false, Some(true)) => Input::EndpointsLost,
            (false, Some(false)) => Input::WakeFailed,
            (false, None) if self.joins_wake_of_peer() => Input::WakeRequested,
            (false, None) => Input::Unready { starting: status.is_starting },
        }
    }

    fn note_started(&self) {
        if let (State::Waking { since, .. }, Some(started)) =
            (self.machine.state, self.started_seen)
        {
            let after = started.saturating_duration_since(since);
            if let Some(requester) = &self.requester {
                requester.cold_start.started(after);
            }
            self.activation.events.publish(EventKind::Started { after });
        }
    }

    /// Publishes the status, and as events what is new about it.
    pub(super) fn update_status(&mut self) {
        self.forget_orders();
        self.follow_ownership();
        self.follow_directive();
        let ownership = self.ownership();
        // A change of `replicas` looks like a rollout for a moment.
        let is_awake = matches!(self.machine.state, State::Awake { .. });
        let sleep_blocker = self
            .sleep_blocker(ownership.authority)
            .filter(|blocker| is_awake || *blocker != SleepBlocker::Rollout);
        let reason = || {
            let backend = self.status.borrow();
            let of_sources = backend.sources.values().find_map(|source| source.not_ready.clone());
            backend.not_ready.clone().or(of_sources)
        };
        let is_waking = matches!(self.machine.state, State::Waking { .. });
        let not_ready = if is_waking { reason() } else { None };
        if not_ready != self.not_ready_seen {
            if let Some(reason) = &not_ready {
                self.activation.events.publish(EventKind::NotReady(reason.clone()));
            }
            self.not_ready_seen = not_ready;
        }
        if sleep_blocker != self.sleep_blocker_seen {
            self.sleep_blocker_seen = sleep_blocker;
            self.activation.events.publish(EventKind::SleepBlocked(sleep_blocker));
        }
        let status = WorkloadStatus {
            state: self.machine.state,
            ownership,
            directive: self.directive,
            pin: self.pin().filter(|(pin, _)| pin.applies_at(SystemTime::now())),
            reverted_by: self.reverted_by.clone(),
            sleep_blocker,
            configured_sleep_after: self.spec.borrow().sleep_after,
            sleep_after: self.sleep_after(),
        };
        *self.activation.status.lock().unwrap_or_else(PoisonError::into_inner) = status;
    }
}
