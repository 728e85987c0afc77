//! Publishes the endpoints of a workload to the requests, and withdraws them.

use super::{Runner, sleep};
use crate::activation::Published;
use crate::activation::events::EventKind;
use crate::activation::state::{Machine, State};
use crate::ownership::Owner;

impl Runner {
    pub(super) fn withdraw_endpoints(&mut self) {
        let scaled_down = self.owner() == Owner::External || self.is_withdrawn_for_peer;
        self.is_withdrawn_for_peer = false;
        self.activation.events.publish(EventKind::EndpointsLost { scaled_down });
        let terminating = self.status.borrow().terminating.clone();
        self.activation.publish(Published { terminating, ..Published::default() });
    }

    pub(super) fn publish_endpoints(&mut self, before: Machine) {
        if matches!(before.state, State::Asleep) {
            self.count_foreign_wake();
        }
        if !matches!(before.state, State::Awake { .. }) {
            self.begin_scaling();
        }
        self.is_woken_by_peer = false;
        self.membership.retract();
        let view = self.membership.view();
        // Once withdrawn, the endpoints stay so until the announcement ends or the workload is seen without replicas.
        let is_falling_asleep = self.is_withdrawn_for_peer && !view.announcements.is_empty();
        if is_falling_asleep || sleep::is_being_prepared(&view) {
            self.is_withdrawn_for_peer = true;
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
        self.activation.publish(published);
    }
}
