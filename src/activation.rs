//! Wakes a workload once, however many wait, and puts it to sleep again. It speaks no protocol.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::futures::Notified;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::backend::{Backend, Cause, Kept, Observed, Trouble};
use crate::demand::RouteCounters;
use crate::shutdown::Shutdown;

use self::coldstart::ColdStart;
use self::idle::look_every;
use self::state::{Action, Event, Machine, State};

pub mod coldstart;
pub mod idle;
pub mod state;
#[cfg(test)]
mod tests;

/// One workload's way between asleep and awake. `run` alone decides; everyone else reads and waits.
pub struct Activation {
    /// The service's name in the log.
    name: String,
    backend: Arc<dyn Backend>,
    /// Changes with every publication, so that reading it tells whether to look again.
    generation: AtomicU64,
    published: Mutex<Published>,
    /// Where the workload stands, for people; requests go by `published` alone.
    standing: Mutex<Standing>,
    released: Notify,
    wanted: Notify,
    removed: CancellationToken,
    unanswered: AtomicBool,
    pub cold_start: ColdStart,
}

/// What requests go by.
#[derive(Clone, Debug, Default)]
pub struct Published {
    pub ready: Arc<[SocketAddr]>,
    pub refusal: Option<Refusal>,
}

/// Where a workload stands: what the admin port shows, and what a held request is told in the end.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Standing {
    /// `asleep`, `waking`, `awake` or `refusing`.
    pub state: &'static str,
    /// What keeps it from being ready.
    pub trouble: Option<Trouble>,
    pub kept: Option<Kept>,
}

/// Why requests are not held just now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The last wake failed; the next may begin then.
    Failed { cause: Cause, until: Instant },
    /// The service has left the configuration.
    Removed,
}

/// What may change without waking or stopping anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    pub sleep_after: Duration,
    /// How many replicas a wake asks for.
    pub replicas: u32,
}

// === impl Activation ===

impl Activation {
    pub fn new(name: String, backend: Arc<dyn Backend>) -> Self {
        Self {
            name,
            backend,
            generation: AtomicU64::new(0),
            published: Mutex::default(),
            standing: Mutex::new(Standing { state: State::Asleep.as_str(), ..Standing::default() }),
            released: Notify::new(),
            wanted: Notify::new(),
            removed: CancellationToken::new(),
            unanswered: AtomicBool::new(false),
            cold_start: ColdStart::default(),
        }
    }

    /// Changes whenever `published` does. One load; sequentially consistent with `CoreCounters::arrive`.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::SeqCst)
    }

    pub fn published(&self) -> Published {
        self.published.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn standing(&self) -> Standing {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Asks for a wake, if there is none; it outlives the caller.
    pub fn want(&self) {
        self.wanted.notify_one();
    }

    /// Waits for the next publication. Waiters are let go in the order in which they came.
    pub fn released(&self) -> Notified<'_> {
        self.released.notified()
    }

    /// True once after each wake: for the first request that is answered.
    pub fn is_first_answer(&self) -> bool {
        self.unanswered.load(Ordering::Relaxed) && self.unanswered.swap(false, Ordering::Relaxed)
    }

    /// The service's name, for the log.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Refuses what is held from now on; `run` ends when nothing is open any more.
    pub fn remove(&self) {
        self.removed.cancel();
    }

    /// Steps through the workload's life until it is removed or agimo ends.
    pub async fn run(
        self: Arc<Self>,
        traffic: Arc<RouteCounters>,
        settings: watch::Receiver<Settings>,
        shutdown: Shutdown,
    ) {
        let mut machine = Machine::default();
        let mut next_look = Instant::now();
        let mut observed = self.backend.observe();
        observed.mark_changed();
        let mut failures_seen = 0;
        let mut started_seen = None;
        loop {
            self.stand(machine, &observed.borrow());
            let kept = observed.borrow().kept;
            let looks = match machine.state {
                State::Awake { .. } => true,
                // Nobody knows whether another scaler will ever wake it.
                State::Waking { .. } => kept == Some(Kept::External),
                State::Asleep | State::Refusing { .. } => false,
            };
            let sleep_after = settings.borrow().sleep_after;
            let event = tokio::select! {
                biased;
                () = shutdown.aborted() => return,
                () = self.removed.cancelled() => return self.leave().await,
                changed = observed.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    let now = observed.borrow_and_update();
                    if now.started != started_seen {
                        started_seen = now.started;
                        self.note_start(machine, started_seen);
                    }
                    // What its owners restart is held for, never refused.
                    let answered =
                        !self.unanswered.load(Ordering::Relaxed) || !self.backend.is_ours();
                    event_of(&now, &mut failures_seen, traffic.arrivals(), answered)
                }
                () = self.wanted.notified() => Event::Wanted,
                () = tokio::time::sleep_until(next_look), if looks => {
                    next_look = Instant::now() + look_every(sleep_after);
                    let sleep_after = kept.is_none().then_some(sleep_after);
                    Event::Look { arrivals: traffic.arrivals(), open: traffic.open(), sleep_after }
                }
            };
            let now = Instant::now();
            let (next, action) = machine.step(event, now);
            let before = std::mem::replace(&mut machine, next);
            if let Some(action) = action {
                let replicas = settings.borrow().replicas;
                machine = self.perform(action, before, machine, &traffic, replicas, &observed);
            }
        }
    }

    /// Carries out an action and returns the machine, corrected where traffic was quicker.
    fn perform(
        &self,
        action: Action,
        before: Machine,
        after: Machine,
        traffic: &RouteCounters,
        replicas: u32,
        observed: &watch::Receiver<Observed>,
    ) -> Machine {
        match action {
            Action::Wake => {
                info!(service = self.name, "request held, waking");
                self.unanswered.store(true, Ordering::Relaxed);
                if before.state != State::Asleep {
                    // The refusal of the last wake ends with this one.
                    self.publish(Published::default());
                }
                self.backend.scale(replicas);
            }
            Action::Release => self.release(before, observed.borrow().ready.as_slice().into()),
            Action::Refuse { until } => self.refuse(until, observed),
            Action::Sleep => {
                let arrivals = traffic.arrivals();
                let awake = self.published();
                self.publish(Published::default());
                // A request that arrived before it could see this is counted by now.
                if traffic.arrivals() != arrivals || traffic.open() > 0 {
                    self.publish(awake);
                    return before;
                }
                if let State::Awake { idle } = before.state {
                    let idle = idle.lasted(Instant::now()).as_millis() as u64;
                    info!(service = self.name, idle_ms = idle, "asleep");
                }
                self.backend.scale(0);
            }
            Action::Lost => {
                let kept = observed.borrow().kept;
                if kept == Some(Kept::External) {
                    info!(service = self.name, "no endpoint is ready any more");
                } else {
                    warn!(
                        service = self.name,
                        "lost its endpoints; the next request wakes it again"
                    );
                }
                self.publish(Published::default());
                self.give_up();
            }
            Action::GiveUp => self.backend.scale(0),
        }
        after
    }

    /// Stops what is left of a workload that is agimo's alone.
    fn give_up(&self) {
        if self.backend.is_ours() {
            self.backend.scale(0);
        }
    }

    /// Notes where the workload stands; logs what is new about why it is not ready.
    fn stand(&self, machine: Machine, observed: &Observed) {
        let waits = matches!(machine.state, State::Waking { .. });
        let now = Standing {
            state: machine.state.as_str(),
            trouble: observed.trouble.clone(),
            kept: observed.kept,
        };
        let mut standing = self.standing.lock().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut *standing, now);
        let told = before.state == State::WAKING && before.trouble == observed.trouble;
        if let (Some(trouble), true, false) = (&observed.trouble, waits, told) {
            let Trouble { cause, detail } = trouble;
            warn!(service = self.name, ?cause, detail, "not ready yet");
        }
    }

    fn release(&self, before: Machine, ready: Arc<[SocketAddr]>) {
        // Said first: once it is published, a core may tell of the answer before this thread goes on.
        if let State::Waking { since } = before.state {
            let after = since.elapsed();
            self.cold_start.ready(after);
            let at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            info!(
                service = self.name,
                after_ms = after.as_millis() as u64,
                at_unix_us = at.as_micros() as u64,
                "endpoint ready"
            );
        }
        self.publish(Published { ready, refusal: None });
    }

    fn refuse(&self, until: Instant, observed: &watch::Receiver<Observed>) {
        let failure = observed.borrow().failure.clone();
        let cause = failure.as_ref().map_or(Cause::Exited, |failure| failure.cause);
        let detail = failure.map_or_else(String::new, |failure| failure.detail);
        self.cold_start.failed();
        warn!(
            service = self.name,
            cause = ?cause,
            detail,
            retry_after_ms = until.saturating_duration_since(Instant::now()).as_millis() as u64,
            "wake failed"
        );
        let refusal = Some(Refusal::Failed { cause, until });
        self.publish(Published { ready: Arc::default(), refusal });
        self.give_up();
    }

    fn publish(&self, published: Published) {
        *self.published.lock().unwrap_or_else(PoisonError::into_inner) = published;
        self.generation.fetch_add(1, Ordering::SeqCst);
        self.released.notify_waiters();
    }

    fn note_start(&self, machine: Machine, started: Option<Instant>) {
        if let (State::Waking { since }, Some(started)) = (machine.state, started) {
            let after = started.saturating_duration_since(since);
            self.cold_start.started(after);
            info!(service = self.name, after_ms = after.as_millis() as u64, "started");
        }
    }

    /// Refuses what is held, lets what runs finish, and stops the workload.
    async fn leave(self: Arc<Self>) {
        let ready = self.published().ready;
        self.publish(Published { ready, refusal: Some(Refusal::Removed) });
        // Every request, stream and tunnel of the service holds on to it, and nobody else any more.
        while Arc::strong_count(&self) > 1 {
            tokio::time::sleep(REMOVED_LOOK).await;
        }
        self.give_up();
        info!(service = self.name, "removed from the configuration");
    }
}

// === impl Refusal ===

impl Refusal {
    /// A failed wake may be tried again.
    pub fn has_passed(self) -> bool {
        matches!(self, Self::Failed { until, .. } if Instant::now() >= until)
    }
}

/// How often a removed service looks whether its last stream has ended.
const REMOVED_LOOK: Duration = Duration::from_millis(200);

fn event_of(observed: &Observed, failures_seen: &mut u64, arrivals: u64, answered: bool) -> Event {
    let new_failure = observed.failure.as_ref().filter(|failure| failure.sequence > *failures_seen);
    if let Some(failure) = new_failure {
        *failures_seen = failure.sequence;
    }
    match (observed.ready.is_empty(), new_failure) {
        (false, _) => Event::Ready { arrivals },
        (true, Some(_)) => Event::Failed { answered },
        (true, None) => Event::Unready { answered },
    }
}
