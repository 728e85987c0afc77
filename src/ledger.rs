//! What has happened to each workload: its wakes, with who caused them and when each phase was reached, its sleeps, and its
//! failures. It is made from lifecycle events alone, and bounded.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::sync::broadcast::error::RecvError;
use tokio::sync::broadcast::{self, Receiver};

use crate::activation::events::{EventKind, LifecycleEvent};
use crate::ownership::directive::Directive;
use crate::workload::WorkloadId;

use self::record::{Record, RecordKind, WakePhase};

pub mod record;
pub mod recorded_request;
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
    records: BTreeMap<u64, Arc<Record>>,
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
    pub records: Vec<Arc<Record>>,
    /// Events that were published faster than they could be recorded: something may be missing.
    pub lost_events: u64,
}

/// Records of one workload; older ones are dropped.
const MOST_OF_A_WORKLOAD: usize = 100;
/// Records of all workloads, each of about half a kilobyte.
const MOST: usize = 20_000;
/// How often wakes are looked for whose request is gone.
const CHECK_INTERVAL: Duration = Duration::from_secs(5);
/// A request that is answered later than so long after its wake is not recorded as answered.
const ANSWER_TIME: Duration = Duration::from_secs(60);
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
        let mut check = tokio::time::interval(CHECK_INTERVAL);
        loop {
            tokio::select! {
                event = events.recv() => match event {
                    Ok(event) => self.note(&event),
                    Err(RecvError::Lagged(lost)) => self.lock().lost_events += lost,
                    Err(RecvError::Closed) => return,
                },
                _ = check.tick() => self.finish_unanswered(SystemTime::now()),
            }
        }
    }

    /// Records one event.
    pub fn note(&self, event: &LifecycleEvent) {
        let finished = self.lock().note(event);
        self.tell(finished);
    }

    /// Ends the records of wakes whose request is gone: its client has left, or another request was answered first.
    fn finish_unanswered(&self, now: SystemTime) {
        let finished = self.lock().finish_unanswered(now);
        self.tell(finished);
    }

    fn tell(&self, finished: Vec<Arc<Record>>) {
        for record in finished {
            // Without subscribers there is nobody to tell.
            let _ = self.finished.send(record);
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
    pub fn last_wakes(&self) -> HashMap<Arc<WorkloadId>, Arc<Record>> {
        let entries = self.lock();
        let record = |(workload, number): (&Arc<WorkloadId>, &u64)| {
            Some((workload.clone(), entries.records.get(number)?.clone()))
        };
        entries.last_wakes.iter().filter_map(record).collect()
    }

    /// The last wake of one workload.
    pub fn last_wake(&self, workload: &WorkloadId) -> Option<Arc<Record>> {
        let entries = self.lock();
        entries.records.get(entries.last_wakes.get(workload)?).cloned()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Entries ===

impl Entries {
    /// Returns the records that end with this event.
    fn note(&mut self, event: &LifecycleEvent) -> Vec<Arc<Record>> {
        self.follow_directive(event);
        let directive = self.directives.get(&event.workload).copied();
        let mut finished = Vec::new();
        if let Some(wake) = self.open_wake(&event.workload) {
            Arc::make_mut(wake).note(event);
            if !wake.is_open() {
                finished.push(wake.clone());
            }
        }
        let was_asleep = self.has_slept(&event.workload);
        if let Some(kind) = RecordKind::begin(&event.kind, was_asleep, directive) {
            let (workload, at) = (event.workload.clone(), event.at);
            let record = Arc::new(Record { number: self.next, workload, at, kind });
            if !record.is_open() {
                finished.push(record.clone());
            }
            self.add(record);
        }
        finished
    }

    /// Whether the last record says that the workload is asleep.
    fn has_slept(&self, workload: &Arc<WorkloadId>) -> bool {
        let last = self.numbers.get(workload).and_then(|numbers| numbers.back());
        last.and_then(|number| self.records.get(number)).is_some_and(|record| record.is_sleep())
    }

    fn finish_unanswered(&mut self, now: SystemTime) -> Vec<Arc<Record>> {
        let is_late = |record: &Record| {
            let ready = record.wake().and_then(|wake| wake.reached(WakePhase::Ready));
            let since = now.duration_since(record.at).unwrap_or_default();
            record.is_open() && ready.is_some_and(|ready| since > ready + ANSWER_TIME)
        };
        let mut finished = Vec::new();
        for number in self.last_wakes.values() {
            let late = self.records.get_mut(number).filter(|record| is_late(record));
            if let Some(record) = late {
                Arc::make_mut(record).finish();
                finished.push(record.clone());
            }
        }
        finished
    }

    fn follow_directive(&mut self, event: &LifecycleEvent) {
        match &event.kind {
            EventKind::DirectiveChanged(Some(directive)) => {
                self.directives.insert(event.workload.clone(), *directive);
            }
            EventKind::DirectiveChanged(None) | EventKind::Removed => {
                self.directives.remove(&event.workload);
            }
            _ => {}
        }
    }

    /// The wake of this workload that is not over.
    fn open_wake(&mut self, workload: &Arc<WorkloadId>) -> Option<&mut Arc<Record>> {
        let number = *self.last_wakes.get(workload)?;
        self.records.get_mut(&number).filter(|record| record.is_open())
    }

    fn add(&mut self, record: Arc<Record>) {
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
