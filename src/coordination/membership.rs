//! One workload of this replica in the exchange with the others.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::watch;

use super::{Announcement, Coordination, PeerView, Workload};
use crate::workload::WorkloadId;

/// One workload of this replica in the exchange with the others; dropping it ends its part.
pub struct Membership {
    /// Absent where no other replica can have the workload, such as a local process.
    joined: Option<(Coordination, Arc<WorkloadId>)>,
    view: watch::Receiver<PeerView>,
}

// === impl Membership ===

impl Membership {
    pub(super) fn joined(
        coordination: Coordination,
        id: Arc<WorkloadId>,
        view: watch::Receiver<PeerView>,
    ) -> Self {
        Self { joined: Some((coordination, id)), view }
    }

    /// A workload that no other replica has.
    pub fn alone() -> Self {
        let (_, view) = watch::channel(PeerView::default());
        Self { joined: None, view }
    }

    /// What the other replicas together say.
    pub fn view(&self) -> PeerView {
        self.view.borrow().clone()
    }

    /// Waits until the other replicas say something else.
    pub async fn changed(&mut self) -> PeerView {
        if self.view.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
        self.view.borrow_and_update().clone()
    }

    /// Whether this replica scales the workload to zero.
    pub fn is_leader(&self) -> bool {
        self.joined.as_ref().is_none_or(|(coordination, _)| coordination.is_leader())
    }

    /// Whether the demand of every other replica is known.
    pub fn are_peers_known(&self) -> bool {
        self.joined.as_ref().is_none_or(|(coordination, _)| coordination.are_peers_known())
    }

    /// Asks the others to withdraw the endpoints; the number tells when all have. `None` where there are none to ask.
    pub fn announce(&self) -> Option<u64> {
        let (coordination, id) = self.joined.as_ref()?;
        if !coordination.shared.has_exchange.load(Ordering::Relaxed) {
            return None;
        }
        let number = coordination.shared.next_announcement.fetch_add(1, Ordering::Relaxed);
        coordination.change(id, |workload| {
            workload.announcement = Some(Announcement { id: number, is_done: false });
            true
        });
        Some(number)
    }

    /// A request waits here: the others should know at once.
    pub fn announce_demand(&self) {
        if let Some((coordination, _)) = &self.joined {
            coordination.shared.urgent.send_modify(|changes| *changes += 1);
        }
    }

    /// The workload is being scaled to zero, as announced.
    pub fn note_done(&self) {
        self.change(|workload| {
            workload.announcement =
                workload.announcement.map(|own| Announcement { is_done: true, ..own });
            workload.announcement.is_some()
        });
    }

    /// The workload is not scaled to zero, or not any more.
    pub fn retract(&self) {
        self.change(|workload| workload.announcement.take().is_some());
    }

    /// The endpoints are withdrawn for these announcements of others.
    pub fn acknowledge(&self, announcements: Vec<u64>) {
        self.change(|workload| {
            let is_changed = workload.withdrawn != announcements;
            workload.withdrawn = announcements;
            is_changed
        });
    }

    fn change(&self, change: impl FnOnce(&mut Workload) -> bool) {
        if let Some((coordination, id)) = &self.joined {
            coordination.change(id, change);
        }
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        let Some((coordination, id)) = &self.joined else { return };
        let mut state = coordination.lock();
        // Another workload of the same name may have taken its place.
        let is_own = |workload: &Workload| workload.view.subscribe().same_channel(&self.view);
        if state.workloads.get(id).is_some_and(is_own) {
            state.workloads.remove(id);
        }
    }
}
