//! What people ask for: a wake or a sleep now.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::Runner;
use crate::activation::Order;
use crate::activation::state::{Input, State};

/// A person has asked that the workload sleeps, unless a request arrives.
pub(super) struct SleepOrder {
    by: Arc<str>,
    arrivals: u64,
    until: Instant,
}

/// Something may keep the workload awake, or another replica of agimo may lead. After this time the order is void.
const ORDER_LIFETIME: Duration = Duration::from_secs(10);

impl Runner {
    /// Follows what a person has asked for.
    pub(super) fn follow_order(&mut self) -> Option<Input> {
        match self.activation.take_order()? {
            Order::Wake { by } => {
                let is_awake =
                    matches!(self.machine.state, State::Waking { .. } | State::Awake { .. });
                if is_awake || self.rejects_requests() {
                    return None;
                }
                (self.requester, self.woken_by) = (None, Some(by));
                Some(Input::WakeRequested)
            }
            Order::Sleep { by } => {
                let until = Instant::now() + ORDER_LIFETIME;
                self.sleep_order = Some(SleepOrder { by, arrivals: self.arrivals(), until });
                self.next_check = self.next_check.min(Instant::now());
                None
            }
        }
    }

    /// Who has asked that the workload sleeps, while nothing has arrived since.
    pub(super) fn sleep_order(&self) -> Option<&Arc<str>> {
        let order = self.sleep_order.as_ref()?;
        let applies = Instant::now() < order.until && order.arrivals == self.arrivals();
        applies.then_some(&order.by)
    }

    /// Forgets what does not apply any more.
    pub(super) fn forget_orders(&mut self) {
        if !matches!(self.machine.state, State::Waking { .. }) {
            self.woken_by = None;
        }
        if self.sleep_order().is_none() || matches!(self.machine.state, State::Asleep) {
            self.sleep_order = None;
        }
    }
}
