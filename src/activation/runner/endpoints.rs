//! Publishes the endpoints of a workload to the requests, and withdraws them.

use super::{Runner, sleep};
use tokio::time::Instant;

use crate::activation::Published;
use crate::activation::events::EventKind;
use crate::activation::state::{Machine, State};

impl Runner {
    pub(super) fn withdraw_endpoints(&mut self) {
        let is_asleep = self.withdrawn_for_peer.take().is_some();
        let scaled_down = match self.status.borrow().replicas {
            _ if is_asleep => Some(true),
            Some(replicas) => Some(replicas == 0),
            // Nobody but agimo scales it.
            None => self.authority().sleeps().then_some(false),
        };
        self.activation.events.publish(EventKind::EndpointsLost { scaled_down });
        let terminating = self.status.borrow().terminating.clone();
        self.publish(Published { terminating, ..Published::default() });
    }

    pub(super) fn publish_endpoints(&mut self, before: Machine) {
        if matches!(before.state, State::Asleep) {
            self.count_foreign_wake();
        }
        if !matches!(before.state, State::Awake { .. }) {
            self.reverted_wakes = 0;
            self.awake_since = Some(Instant::now());
            self.observer.has_reported_wake = false;
            if self.foreign_wakes == 0 && self.foreign_zeros == 0 {
                self.reverted_by = None;
            }
            self.begin_scaling();
        }
        self.is_woken_by_peer = false;
        self.membership.retract();
        let view = self.membership.view();
        // Once withdrawn, the endpoints stay so until the announcement ends or the workload is seen without replicas.
        let is_falling_asleep = self.withdrawn_for_peer.is_some() && !view.announcements.is_empty();
        if is_falling_asleep || sleep::is_being_prepared(&view) {
            self.withdrawn_for_peer.get_or_insert_default();
            return;
        }
        let published = Published::ready(&self.status.borrow(), &self.activation.published());
        let endpoints = published.endpoint_count();
        // The event goes first: once the endpoints are published, a core may publish the answer.
        match before.state {
            State::Waking { since, .. } => {
                let after = since.elapsed();
                if let Some(requester) = &self.requester {
                    requester.cold_start.ready(after);
                }
                let after = Some(after);
                self.activation.events.publish(EventKind::Ready { after, endpoints });
            }
            State::Asleep | State::Failing { .. } => {
                self.activation.events.publish(EventKind::Ready { after: None, endpoints });
            }
            State::Awake { .. } => {}
        }
        self.publish(published);
    }

    /// Publishes again what was withdrawn, as far as it is still ready: the endpoints keep their state.
    pub(super) fn republish(&self, withdrawn: &Published) {
        let status = self.status.borrow();
        if status.is_ready() {
            self.publish(Published::ready(&status, withdrawn));
        }
    }
}
