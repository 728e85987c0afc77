//! What has happened to each workload: its wakes, with who caused them and when each phase was reached, its sleeps, and its
//! failures. It is made from lifecycle events alone, and bounded.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::broadcast::error::RecvError;
use tokio::sync::broadcast::{self, Receiver};

use crate::activation::events::{EventKind, LifecycleEvent};
use crate::ownership::directive::Directive;
use crate::workload::WorkloadId;

use self::record::{Record, RecordKind};

pub mod record;
pub mod summary;
#[cfg(test)]
mod tests;

/// The records of all workloads. Clones share them.
#[derive(Clone, Debug)]
pub struct Ledger {
    entries: Arc<Mutex<Entries>>,
    finished: broadcast::Sender<Arc<Record>>,
}

/// Records by their number, which grows with time, and the numbers of each workload.
#[derive(Debug, Default)]
struct Entries {
    next: u64,
    records: BTreeMap<u64, Record>,
    numbers: HashMap<Arc<WorkloadId>, VecDeque<u64>>,
    /// The last wake of each workload.
    last_wakes: HashMap<Arc<WorkloadId>, u64>,
    /// The pin or schedule that applies to a workload.
    directives: HashMap<Arc<WorkloadId>, Directive>,
    lost_events: u64,
}

/// Some records, newest first.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Excerpt {
    pub records: Vec<Record>,
    /// Events that were published faster than they could be recorded: something may be missing.
    pub lost_events: u64,
}

/// Records of one workload; older ones are dropped.
const MOST_OF_A_WORKLOAD: usize = 100;
/// Records of all workloads, each of about half a kilobyte.
const MOST: usize = 20_000;
/// Finished records that a slow subscriber may fall behind.
const FINISHED_CAPACITY: usize = 256;

// === impl Ledger ===

impl Default for Ledger {
    fn default() -> Self {
        Self { entries: Arc::default(), finished: broadcast::Sender::new(FINISHED_CAPACITY) }
    }
}

impl Ledger {
    /// Records events until nobody can publish one any more.
    pub async fn run(self, mut events: Receiver<LifecycleEvent>) {
        loop {
            match events.recv().await {
                Ok(event) => self.note(&event),
                Err(RecvError::Lagged(lost)) => self.lock().lost_events += lost,
                Err(RecvError::Closed) => return,
            }
        }
    }

    /// Records one event.
    pub fn note(&self, event: &LifecycleEvent) {
        for finished in self.lock().note(event) {
            // Without subscribers there is nobody to tell.
            let _ = self.finished.send(Arc::new(finished));
        }
    }

    /// Each record from now on, once it does not change any more.
    pub fn finished(&self) -> Receiver<Arc<Record>> {
        self.finished.subscribe()
    }

    /// The newest records of the workloads that `filter` accepts.
    pub fn newest(&self, most: usize, filter: impl Fn(&WorkloadId) -> bool) -> Excerpt {
        let entries = self.lock();
        let accepted = entries.records.values().rev().filter(|record| filter(&record.workload));
        Excerpt {
            records: accepted.take(most).cloned().collect(),
            lost_events: entries.lost_events,
        }
    }

    /// The last wake of each workload.
    pub fn last_wakes(&self) -> Vec<Record> {
        let entries = self.lock();
        let records = entries.last_wakes.values().filter_map(|number| entries.records.get(number));
        records.cloned().collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Entries ===

impl Entries {
    /// Returns the records that end with this event.
    fn note(&mut self, event: &LifecycleEvent) -> Vec<Record> {
        self.follow_directive(event);
        let directive = self.directives.get(&event.workload).copied();
        let mut finished = Vec::new();
        let mut is_waking = false;
        if let Some(wake) = self.open_wake(&event.workload) {
            is_waking = true;
            wake.note(event);
            if !wake.is_open() {
                finished.push(wake.clone());
            }
        }
        if let Some(kind) = RecordKind::begin(&event.kind, is_waking, directive) {
            let (workload, at) = (event.workload.clone(), event.at);
            let record = Record { number: self.next, workload, at, kind };
            if !record.is_open() {
                finished.push(record.clone());
            }
            self.add(record);
        }
        finished
    }

    fn follow_directive(&mut self, event: &LifecycleEvent) {
        match &event.kind {
            EventKind::DirectiveChanged(Some(directive)) => {
                self.directives.insert(event.workload.clone(), *directive);
            }
            EventKind::DirectiveChanged(None) | EventKind::Replaced | EventKind::Removed => {
                self.directives.remove(&event.workload);
            }
            _ => {}
        }
    }

    /// The wake of this workload that is not over.
    fn open_wake(&mut self, workload: &Arc<WorkloadId>) -> Option<&mut Record> {
        let number = *self.last_wakes.get(workload)?;
        self.records.get_mut(&number).filter(|record| record.is_open())
    }

    fn add(&mut self, record: Record) {
        let numbers = self.numbers.entry(record.workload.clone()).or_default();
        numbers.push_back(record.number);
        let dropped = if numbers.len() > MOST_OF_A_WORKLOAD { numbers.pop_front() } else { None };
        if record.wake().is_some() {
            self.last_wakes.insert(record.workload.clone(), record.number);
        }
        self.next += 1;
        self.records.insert(record.number, record);
        match dropped {
            Some(number) => drop(self.records.remove(&number)),
            None if self.records.len() > MOST => self.drop_oldest(),
            None => {}
        }
    }

    fn drop_oldest(&mut self) {
        let Some((_, oldest)) = self.records.pop_first() else { return };
        let Some(numbers) = self.numbers.get_mut(&oldest.workload) else { return };
        // Numbers grow: the oldest record of all is also the oldest of its workload.
        numbers.pop_front();
        if numbers.is_empty() {
            self.numbers.remove(&oldest.workload);
            self.last_wakes.remove(&oldest.workload);
        }
    }
}
