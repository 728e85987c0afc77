//! Pins that people set through agimo. They count before those of annotations, and last as long as whoever keeps them: a
//! ConfigMap, or the process.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use tokio::sync::watch;

use super::directive::Pin;
use crate::workload::WorkloadId;

/// A pin, and who set it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OperatorPin {
    pub pin: Pin,
    pub by: Arc<str>,
}

/// The pins of all workloads. Clones share them.
#[derive(Clone)]
pub struct Pins {
    shared: Arc<Shared>,
}

/// The pin of one workload.
pub struct PinView {
    pins: Pins,
    workload: Arc<WorkloadId>,
}

/// Keeps a changed pin; absent where it is removed.
pub type Keep = Box<dyn Fn(&WorkloadId, Option<&OperatorPin>) + Send + Sync>;

struct Shared {
    pins: Mutex<HashMap<WorkloadId, OperatorPin>>,
    /// The workloads whose pins have changed since somebody looked.
    changed: Mutex<HashSet<WorkloadId>>,
    changes: watch::Sender<u64>,
    keep: OnceLock<Keep>,
}

// === impl Pins ===

impl Default for Pins {
    fn default() -> Self {
        let changes = watch::Sender::new(0);
        let (pins, changed, keep) = (Mutex::default(), Mutex::default(), OnceLock::new());
        Self { shared: Arc::new(Shared { pins, changed, changes, keep }) }
    }
}

impl Pins {
    /// Has every change kept from now on. Called once.
    pub fn keep_with(&self, keep: Keep) {
        // A second one would keep the same.
        let _ = self.shared.keep.set(keep);
    }

    pub fn get(&self, workload: &WorkloadId) -> Option<OperatorPin> {
        self.lock().get(workload).cloned()
    }

    /// Sets or removes the pin of a workload, and has it kept.
    pub fn set(&self, workload: &WorkloadId, pin: Option<OperatorPin>) {
        if let Some(keep) = self.shared.keep.get() {
            keep(workload, pin.as_ref());
        }
        self.change(|pins| match pin {
            Some(pin) => pins.insert(workload.clone(), pin),
            None => pins.remove(workload),
        });
    }

    /// These are the kept pins of the workloads that `is_kept` names; another replica of agimo may have changed them.
    pub fn replace(
        &self,
        kept: HashMap<WorkloadId, OperatorPin>,
        is_kept: impl Fn(&WorkloadId) -> bool,
    ) {
        self.change(|pins| {
            pins.retain(|workload, _| !is_kept(workload));
            pins.extend(kept);
        });
    }

    pub fn of(&self, workload: Arc<WorkloadId>) -> PinView {
        PinView { pins: self.clone(), workload }
    }

    /// Changes when a pin does.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.shared.changes.subscribe()
    }

    /// The workloads whose pins have changed since the last call.
    pub fn take_changed(&self) -> HashSet<WorkloadId> {
        std::mem::take(&mut *self.shared.changed.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn change<T>(&self, change: impl FnOnce(&mut HashMap<WorkloadId, OperatorPin>) -> T) {
        let changed: Vec<WorkloadId> = {
            let mut pins = self.lock();
            let before = pins.clone();
            change(&mut pins);
            let known = before.keys().chain(pins.keys());
            known.filter(|id| before.get(*id) != pins.get(*id)).cloned().collect()
        };
        if !changed.is_empty() {
            let mut all = self.shared.changed.lock().unwrap_or_else(PoisonError::into_inner);
            all.extend(changed);
            drop(all);
            self.shared.changes.send_modify(|changes| *changes += 1);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<WorkloadId, OperatorPin>> {
        self.shared.pins.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl PinView ===

impl PinView {
    pub fn get(&self) -> Option<OperatorPin> {
        self.pins.get(&self.workload)
    }
}

#[cfg(test)]
mod tests {
    use super::super::directive::PinnedState;
    use super::*;
    use crate::workload::WorkloadKind;

    fn workload(kind: WorkloadKind, name: &str) -> WorkloadId {
        WorkloadId { kind, namespace: "a".to_owned(), name: name.to_owned() }
    }

    fn pin(by: &str) -> OperatorPin {
        OperatorPin { pin: Pin { state: PinnedState::Awake, until: None }, by: by.into() }
    }

    #[test]
    fn a_changed_pin_is_told_and_kept_and_kept_ones_are_replaced_alone() {
        let (pins, kept) = (Pins::default(), Arc::<Mutex<Vec<String>>>::default());
        let log = kept.clone();
        pins.keep_with(Box::new(move |workload, pin| {
            log.lock().unwrap().push(format!("{} {}", workload.name, pin.is_some()));
        }));
        let (web, process) =
            (workload(WorkloadKind::Deployment, "web"), workload(WorkloadKind::Process, "p"));
        let (view, mut changes) = (pins.of(Arc::new(web.clone())), pins.changes());
        pins.set(&web, Some(pin("alice")));
        pins.set(&process, Some(pin("alice")));
        assert!(changes.has_changed().unwrap());
        assert_eq!(pins.take_changed(), HashSet::from([web.clone(), process.clone()]));
        changes.mark_unchanged();
        pins.set(&web, Some(pin("alice")));
        assert!(!changes.has_changed().unwrap(), "it is the same");
        let in_cluster = |workload: &WorkloadId| workload.kind != WorkloadKind::Process;
        pins.replace(HashMap::from([(web.clone(), pin("bob"))]), in_cluster);
        assert_eq!(view.get(), Some(pin("bob")));
        assert_eq!(pins.take_changed(), HashSet::from([web.clone()]));
        assert_eq!(pins.get(&process), Some(pin("alice")));
        pins.replace(HashMap::new(), in_cluster);
        assert_eq!(pins.get(&web), None);
        pins.set(&process, None);
        assert_eq!(pins.get(&process), None);
        let expected = ["web true", "p true", "web true", "p false"];
        assert_eq!(*kept.lock().unwrap(), expected);
    }
}
