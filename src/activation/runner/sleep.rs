//! Puts a workload to sleep, once every replica of agimo has agreed that nothing is in flight.

use std::time::Duration;

use tokio::time::Instant;

use super::Runner;
use crate::activation::Published;
use crate::activation::events::{EventKind, Reverted};
use crate::activation::state::{Input, Machine, State};
use crate::backend::ScaleCommand;
use crate::coordination::PeerView;

/// The other replicas of agimo must withdraw the endpoints within this time. They hear of it at once.
const AGREEMENT_TIMEOUT: Duration = Duration::from_secs(2);

/// Whether another replica of agimo is about to put the workload to sleep.
pub(super) fn is_being_prepared(view: &PeerView) -> bool {
    view.announcements.iter().any(|announcement| !announcement.is_done)
}

impl Runner {
    /// Scales to zero. The endpoints are withdrawn first and the arrivals read then: a request that arrived
    /// before it could see the withdrawal is counted by now, and keeps the workload awake.
    pub(super) async fn sleep(&mut self, before: Machine) {
        let arrivals = self.arrivals();
        let awake = self.activation.published();
        self.publish(Published::default());
        if !self.agree_on_sleep(arrivals).await {
            self.machine = before;
            self.republish(&awake);
            return;
        }
        let event = match before.state {
            State::Awake { idleness } => {
                let idle = idleness.lasted(Instant::now());
                Some(EventKind::Asleep { idle, asked_by: self.sleep_order().cloned() })
            }
            State::Waking { .. } => Some(EventKind::WakeGivenUp),
            State::Asleep | State::Failing { .. } => None,
        };
        if let Some(event) = event {
            self.activation.events.publish(event);
        }
        self.foreign_zeros = 0;
        self.arrivals_at_sleep = Some(arrivals);
        self.has_slept = self.status.borrow().replicas.is_none();
        self.activation.backend.command(ScaleCommand::Sleep);
    }

    /// Whether nothing has arrived since, here or at another replica of agimo: each of those withdraws its endpoints first and
    /// reports its arrivals then.
    async fn agree_on_sleep(&mut self, arrivals: u64) -> bool {
        // Where requests are rejected, those that arrive change nothing.
        let is_rejecting = self.rejects_requests();
        let is_idle = |runner: &Self| {
            (is_rejecting || runner.arrivals() == arrivals) && runner.in_flight() == 0
        };
        if !is_idle(self) {
            return false;
        }
        let Some(announced) = self.membership.announce() else { return true };
        let activation = self.activation.clone();
        let agreed = async {
            while self.membership.view().agreed != Some(announced) {
                self.membership.changed().await;
            }
        };
        let has_agreed = tokio::select! {
            biased;
            () = activation.asked.notified() => {
                // It is seen again once the endpoints are published.
                activation.asked.notify_one();
                false
            }
            agreed = tokio::time::timeout(AGREEMENT_TIMEOUT, agreed) => agreed.is_ok(),
        };
        if has_agreed && is_idle(self) && self.may_sleep() {
            self.membership.note_done();
            return true;
        }
        self.membership.retract();
        false
    }

    /// Follows what the other replicas of agimo say.
    pub(super) fn follow_peers(&mut self, view: &PeerView) -> Option<Input> {
        let is_awake = matches!(self.machine.state, State::Awake { .. });
        if is_being_prepared(view) && is_awake && self.withdrawn_for_peer.is_none() {
            self.withdrawn_for_peer = Some(self.activation.published());
            self.publish(Published::default());
        }
        // Only now: what is reported from here on was counted after the withdrawal.
        self.membership
            .acknowledge(view.announcements.iter().map(|announced| announced.id).collect());
        if view.announcements.is_empty()
            && let Some(withdrawn) = self.withdrawn_for_peer.take()
            && is_awake
        {
            self.republish(&withdrawn);
        }
        if view.in_flight > 0 && !is_awake {
            self.activation.note_demand();
        }
        let is_asleep = matches!(self.machine.state, State::Asleep);
        let is_rejecting = self.rejects_requests();
        self.is_woken_by_peer |= is_asleep && !is_rejecting && view.arrivals > self.peer_arrivals;
        self.peer_arrivals = view.arrivals;
        let is_waking = matches!(self.machine.state, State::Waking { .. });
        if is_waking && is_being_prepared(view) && self.in_flight() == 0 {
            // Otherwise this replica would write over the zero that is about to come.
            return Some(Input::SleepAnnounced);
        }
        self.joins_wake_of_peer().then_some(Input::WakeRequested)
    }

    /// Whether the leader is to join a wake by another replica: it gives up wakes that never get ready, and so must know of
    /// them. The client may have left before its request was reported.
    pub(super) fn joins_wake_of_peer(&mut self) -> bool {
        let has_replicas = self.status.borrow().replicas > Some(0);
        let is_waking =
            self.membership.view().in_flight > 0 || (self.is_woken_by_peer && has_replicas);
        let is_asleep = matches!(self.machine.state, State::Asleep);
        let is_rejecting = self.rejects_requests();
        let joins = is_asleep && is_waking && !is_rejecting && self.membership.is_leader();
        if joins {
            self.requester = None;
        }
        joins
    }

    /// The workload is ready without a wake by this replica. Where no request has arrived since it was put to sleep, somebody
    /// else has scaled it up, such as another installation of agimo.
    pub(super) fn count_foreign_wake(&mut self) {
        let arrivals = self.arrivals();
        match self.arrivals_at_sleep.take() {
            // A zero that could not be written is no wake by somebody else.
            Some(_) if !self.has_slept => {}
            // Requests that are rejected wake nothing.
            Some(at_sleep) if at_sleep == arrivals || self.rejects_requests() => {
                self.foreign_wakes += 1;
            }
            _ => self.foreign_wakes = 0,
        }
        if self.foreign_wakes > 1 && self.authority().sleeps() {
            self.note_reverted(Reverted::Sleep, self.foreign_wakes);
            let (foreign_wakes, sleep_after) = (self.foreign_wakes, self.sleep_after());
            self.activation
                .events
                .publish(EventKind::SleepProlonged { foreign_wakes, sleep_after });
        }
    }
}
