//! What people ask for: a wake or a sleep now.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::Runner;
use crate::activation::Order;
use crate::activation::idleness::Idleness;
use crate::activation::state::{Input, State};

/// A person has asked that the workload wakes. It is waited for, as if by a request.
pub(super) struct WakeOrder {
    by: Arc<str>,
    until: Instant,
}

/// A person has asked that the workload sleeps, unless a request arrives.
pub(super) struct SleepOrder {
    by: Arc<str>,
    /// Arrivals at this replica of agimo, and at the others.
    own_arrivals: u64,
    peer_arrivals: u64,
    since: Instant,
}

/// As long as a request would be held where somebody is patient. What is not ready by then is given up like any other wake.
const WAKE_LIFETIME: Duration = Duration::from_secs(600);
/// Something may keep the workload awake, or another replica of agimo may lead. After this time the order is void.
const SLEEP_LIFETIME: Duration = Duration::from_secs(10);
/// What another replica of agimo reports within this time may have arrived before the order.
const REPORT_DELAY: Duration = Duration::from_millis(700);

impl Runner {
    /// Follows what was asked for: by a person, or by a request that waits. Otherwise a pin has changed, which is looked at anyway.
    pub(super) fn follow_asked(&mut self) -> Option<Input> {
        if let Some(order) = self.activation.take_order() {
            if self.activation.has_requester() {
                // It comes next.
                self.activation.asked.notify_one();
            }
            return self.follow_order(order);
        }
        let (requester, request) = self.activation.take_requester()?;
        if self.rejects_requests() {
            return None;
        }
        if !matches!(self.machine.state, State::Waking { .. } | State::Awake { .. }) {
            (self.requester, self.waking_request) = (Some(requester), request);
        }
        Some(Input::WakeRequested)
    }

    fn follow_order(&mut self, order: Order) -> Option<Input> {
        let now = Instant::now();
        match order {
            Order::Wake { by } => {
                self.sleep_order = None;
                if self.rejects_requests() {
                    return None;
                }
                let order = Box::new(WakeOrder { by, until: now + WAKE_LIFETIME });
                match self.machine.state {
                    // Its idle time begins anew, as after a request.
                    State::Awake { .. } => {
                        let idleness = Idleness::begin(self.arrivals(), now);
                        self.machine.state = State::Awake { idleness };
                        None
                    }
                    State::Waking { .. } => {
                        self.wake_order = Some(order);
                        None
                    }
                    State::Asleep | State::Failing { .. } => {
                        (self.requester, self.wake_order) = (None, Some(order));
                        Some(Input::WakeRequested)
                    }
                }
            }
            Order::Sleep { by } => {
                self.wake_order = None;
                self.sleep_order = Some(Box::new(SleepOrder {
                    by,
                    own_arrivals: self.demand.arrivals(),
                    peer_arrivals: self.membership.view().arrivals,
                    since: now,
                }));
                self.next_check = self.next_check.min(now);
                None
            }
        }
    }

    /// Who has asked for the wake that is waited for.
    pub(super) fn woken_by(&self) -> Option<&Arc<str>> {
        self.wake_order.as_ref().map(|order| &order.by)
    }

    /// Who has asked that the workload sleeps, while nothing has arrived since.
    pub(super) fn sleep_order(&self) -> Option<&Arc<str>> {
        let order = self.sleep_order.as_ref()?;
        let age = order.since.elapsed();
        let is_quiet_elsewhere =
            age < REPORT_DELAY || order.peer_arrivals == self.membership.view().arrivals;
        let applies = age < SLEEP_LIFETIME
            && order.own_arrivals == self.demand.arrivals()
            && is_quiet_elsewhere;
        applies.then_some(&order.by)
    }

    /// Forgets what does not apply any more.
    pub(super) fn forget_orders(&mut self) {
        let is_waking = matches!(self.machine.state, State::Waking { .. });
        let is_void = !is_waking || self.is_contested || self.rejects_requests();
        self.wake_order.take_if(|order| is_void || Instant::now() >= order.until);
        if let Some(order) = &mut self.sleep_order
            && order.since.elapsed() < REPORT_DELAY
        {
            order.peer_arrivals = self.membership.view().arrivals;
        }
        if self.sleep_order().is_none() || matches!(self.machine.state, State::Asleep) {
            self.sleep_order = None;
        }
    }
}
