//! Steps one workload through its life: feeds the state machine, carries out its actions, publishes events.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::autoscaler::Autoscaler;
use crate::backend::{BackendStatus, Lifecycle, ScaleCommand, WorkloadSpec};
use crate::cause::{Cause, NotReadyReason};
use crate::coordination::membership::Membership;
use crate::demand::WorkloadDemand;
use crate::ownership::directive::Directive;
use crate::ownership::pins::PinView;
use crate::ownership::{Authority, Ownership, SleepBlocker, prolonged_sleep_after};
use crate::shutdown::Shutdown;

use super::events::EventKind;
use super::idleness::check_interval;
use super::state::{Action, Input, Machine, State};
use super::{ALL_PHASES, Activation, Published, Rejection, WakeRequester, WakingRequest};

use self::observe::Observer;
use self::operator::{SleepOrder, WakeOrder};

mod authority;
mod endpoints;
mod observe;
mod operator;
mod scale;
mod sleep;
mod status;

/// How often to see whether more requests wait for a wake than it was begun for.
const CROWD_INTERVAL: Duration = Duration::from_millis(200);

/// The idle time of a workload that is pinned asleep, and its first value where another writer wakes it again and again.
const PINNED_SLEEP_AFTER: Duration = Duration::from_millis(100);
const CONTESTED_PIN: Duration = Duration::from_secs(1);

/// Decides for one workload.
pub struct Runner {
    activation: Arc<Activation>,
    demand: Arc<WorkloadDemand>,
    spec: watch::Receiver<WorkloadSpec>,
    status: watch::Receiver<BackendStatus>,
    machine: Machine,
    /// Who requested the current or last wake.
    requester: Option<WakeRequester>,
    waking_request: WakingRequest,
    failures_seen: u64,
    started_seen: Option<Instant>,
    not_ready_seen: Option<NotReadyReason>,
    sleep_blocker_seen: Option<SleepBlocker>,
    ownership_seen: Option<Ownership>,
    /// The pin or schedule that applies.
    directive: Option<Directive>,
    /// When the pin ends.
    directive_until: Option<SystemTime>,
    directive_wakes: u32,
    /// A pin or a schedule does not wake the workload before.
    next_directive_wake: Instant,
    next_directive_check: Instant,
    annotation_problem_seen: Option<Arc<str>>,
    observer: Observer,
    membership: Membership,
    /// This replica led at the last check of the demand.
    was_leader: bool,
    pins: PinView,
    // Boxed: there are many runners, and few orders.
    wake_order: Option<Box<WakeOrder>>,
    sleep_order: Option<Box<SleepOrder>>,
    /// What was published before it was withdrawn, because another replica of agimo is about to put the workload to sleep.
    withdrawn_for_peer: Option<Published>,
    /// Arrivals at the other replicas of agimo, as last seen.
    peer_arrivals: u64,
    /// A request has arrived at another replica while the workload was asleep.
    is_woken_by_peer: bool,
    /// Arrivals when this replica put the workload to sleep.
    arrivals_at_sleep: Option<u64>,
    /// How often in a row somebody else woke the workload after this replica had put it to sleep.
    foreign_wakes: u32,
    /// Somebody else has scaled the workload to zero since its wake.
    is_contested: bool,
    is_contest_counted: bool,
    /// How often in a row that happened before it was ready.
    reverted_wakes: u32,
    /// When the workload became ready, and how often in a row somebody else has scaled it to zero soon after.
    awake_since: Option<Instant>,
    foreign_zeros: u32,
    /// The workload was seen without replicas since it was put to sleep.
    has_slept: bool,
    reverted_by: Option<Arc<[String]>>,
    autoscaler: Autoscaler,
    /// Replicas that the current wake asks for.
    wake_replicas: u32,
    /// Replicas before the last decision, and those that it asked for.
    decided: (u32, u32),
    /// Somebody else has changed the number: it is left alone until the workload sleeps.
    is_overridden: bool,
    next_decision: Instant,
    next_check: Instant,
}

// === impl Runner ===

impl Runner {
    pub fn new(
        activation: Arc<Activation>,
        demand: Arc<WorkloadDemand>,
        spec: watch::Receiver<WorkloadSpec>,
        membership: Membership,
        pins: PinView,
    ) -> Self {
        let mut status = activation.backend.status();
        status.mark_changed();
        Self {
            activation,
            demand,
            spec,
            status,
            machine: Machine::default(),
            requester: None,
            waking_request: WakingRequest::default(),
            failures_seen: 0,
            started_seen: None,
            not_ready_seen: None,
            sleep_blocker_seen: None,
            ownership_seen: None,
            directive: None,
            directive_until: None,
            directive_wakes: 0,
            next_directive_wake: Instant::now(),
            next_directive_check: Instant::now(),
            annotation_problem_seen: None,
            observer: Observer::default(),
            membership,
            was_leader: true,
            pins,
            wake_order: None,
            sleep_order: None,
            withdrawn_for_peer: None,
            peer_arrivals: 0,
            is_woken_by_peer: false,
            arrivals_at_sleep: None,
            foreign_wakes: 0,
            is_contested: false,
            is_contest_counted: false,
            has_slept: false,
            reverted_wakes: 0,
            awake_since: None,
            foreign_zeros: 0,
            reverted_by: None,
            autoscaler: Autoscaler::default(),
            wake_replicas: 0,
            decided: (0, 0),
            is_overridden: false,
            next_decision: Instant::now(),
            next_check: Instant::now(),
        }
    }

    /// Runs until no route and no request uses the workload any more, or until agimo ends. Boxed, because a future keeps what it is
    /// given a second time, and there are many runners.
    pub async fn run(mut self: Box<Self>, unused: CancellationToken, shutdown: Shutdown) {
        let activation = self.activation.clone();
        loop {
            self.update_status();
            let woken = self.wake_of_directive();
            let is_checked = match self.machine.state {
                State::Awake { .. } => true,
                // It may never be ready; the start of a local process ends by itself.
                State::Waking { .. } => {
                    let may_sleep = self.may_sleep() || self.is_contested;
                    !self.authority().sleeps()
                        || self.directive.is_some_and(Directive::keeps_awake)
                        || (may_sleep && !self.status.borrow().owns_lifecycle())
                }
                State::Asleep | State::Failing { .. } => false,
            };
            let input = tokio::select! {
                biased;
                () = shutdown.aborted() => return,
                () = unused.cancelled() => return self.remove(),
                () = std::future::ready(()), if woken.is_some() => Input::WakeRequested,
                changed = self.status.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    self.read_status()
                }
                () = activation.asked.notified() => match self.follow_asked() {
                    Some(input) => input,
                    None => continue,
                },
                changed = self.spec.changed() => {
                    // Whoever uses the workload holds the sender.
                    if changed.is_err() {
                        return self.remove();
                    }
                    self.apply_spec();
                    continue;
                }
                view = self.membership.changed() => match self.follow_peers(&view) {
                    Some(input) => input,
                    None => continue,
                },
                () = tokio::time::sleep_until(self.next_check), if is_checked => self.check_demand(),
                () = tokio::time::sleep_until(self.next_directive_check), if self.has_directives() => {
                    continue;
                }
            };
            let (next, action) = self.machine.step(input, Instant::now());
            let before = std::mem::replace(&mut self.machine, next);
            match action {
                Some(Action::Sleep) => tokio::select! {
                    () = shutdown.aborted() => return,
                    () = self.sleep(before) => {}
                },
                Some(action) => self.perform(action, before),
                None => {}
            }
        }
    }

    /// The idle time before sleep that is in force.
    fn sleep_after(&self) -> Duration {
        match self.directive {
            Some(Directive::AsleepByPin) if self.foreign_wakes <= 1 => PINNED_SLEEP_AFTER,
            Some(Directive::AsleepByPin) => {
                prolonged_sleep_after(CONTESTED_PIN, self.foreign_wakes)
            }
            _ if self.sleep_order().is_some() => PINNED_SLEEP_AFTER,
            _ => prolonged_sleep_after(self.spec.borrow().sleep_after, self.foreign_wakes),
        }
    }

    /// Arrivals at all replicas of agimo.
    fn arrivals(&self) -> u64 {
        self.demand.arrivals() + self.membership.view().arrivals
    }

    /// Requests in flight at all replicas of agimo.
    fn in_flight(&self) -> u64 {
        self.demand.in_flight() + self.membership.view().in_flight
    }

    fn check_demand(&mut self) -> Input {
        self.forget_orders();
        let (sleep_after, now) = (self.sleep_after(), Instant::now());
        let is_waking = matches!(self.machine.state, State::Waking { .. });
        let crowd_interval = if is_waking { CROWD_INTERVAL } else { Duration::MAX };
        self.next_check = now + check_interval(sleep_after).min(crowd_interval);
        self.scale(now);
        self.observe(now);
        // What is to stay awake, or a person has asked for, is waited for, as if by a request.
        let waiting = u64::from(
            self.directive.is_some_and(Directive::keeps_awake) || self.woken_by().is_some(),
        );
        // Requests that are rejected do not count.
        Input::DemandChecked {
            arrivals: if self.rejects_requests() { 0 } else { self.arrivals() },
            in_flight: self.in_flight() + waiting,
            sleep_after: self.idle_limit(sleep_after),
            is_contested: self.is_contested,
        }
    }

    /// A reload has changed the specification. A new owner learns of a wake where ownership is followed.
    fn apply_spec(&mut self) {
        self.spec.mark_unchanged();
        // A shorter idle time takes effect at once.
        self.next_check = self.next_check.min(Instant::now());
    }

    /// Carries out an action of the state machine.
    fn perform(&mut self, action: Action, before: Machine) {
        match action {
            Action::Wake => {
                (self.foreign_wakes, self.is_woken_by_peer) = (0, false);
                self.activation.wakes.fetch_add(1, Ordering::Relaxed);
                self.activation.pending_phases.store(ALL_PHASES, Ordering::Relaxed);
                if before.state != State::Asleep {
                    // The rejection of the last wake ends with this one.
                    self.publish(Published::default());
                }
                // The command goes first: it wakes the backend before the tasks that consume events.
                self.command_wake();
                self.activation.note_demand();
                if self.requester.is_some() {
                    self.membership.announce_demand();
                }
                self.activation.events.publish(match &self.requester {
                    Some(requester) => EventKind::WakeRequested {
                        service: requester.service.clone(),
                        request: self.waking_request.clone(),
                    },
                    None => EventKind::WakeBegun { asked_by: self.woken_by().cloned() },
                });
            }
            Action::PublishEndpoints => self.publish_endpoints(before),
            Action::RejectUntil { until } => self.reject(until),
            // It awaits the agreement of other replicas.
            Action::Sleep => {}
            Action::WithdrawEndpoints => self.withdraw_endpoints(),
            Action::GiveUpReplicas => {
                self.withdraw_endpoints();
                self.stop_owned();
            }
            Action::CancelWake => {
                self.activation.events.publish(EventKind::WakeCancelled);
                self.activation.backend.command(ScaleCommand::CancelWake);
            }
        }
    }

    fn command_wake(&mut self) {
        self.wake_replicas = self.needed_by_wake();
        let command = if self.authority().wakes() {
            ScaleCommand::WakeToAtLeast(self.wake_replicas)
        } else {
            ScaleCommand::ExpectReady
        };
        self.activation.backend.command(command);
        let is_new = !std::mem::replace(&mut self.observer.has_reported_wake, true);
        if is_new && self.observed().is_some_and(Authority::wakes) {
            let replicas = self.wake_replicas;
            self.activation.events.publish(EventKind::WakeObserved { replicas });
        }
    }

    fn reject(&self, until: Instant) {
        let failure = match &self.status.borrow().lifecycle {
            Lifecycle::Owned(failure) => failure.clone(),
            Lifecycle::Shared => None,
        };
        let cause = failure.as_ref().map_or(Cause::Exited, |failure| failure.cause);
        let detail = failure.map_or_else(String::new, |failure| failure.detail);
        if let Some(requester) = &self.requester {
            requester.cold_start.failed();
        }
        let retry_after = until.saturating_duration_since(Instant::now());
        self.activation.events.publish(EventKind::WakeFailed { cause, detail, retry_after });
        let rejection = Some(Rejection { cause, until });
        self.publish(Published { rejection, ..Published::default() });
        self.stop_owned();
    }

    /// Stops what is left of a workload that agimo alone starts and stops.
    fn stop_owned(&self) {
        if self.status.borrow().owns_lifecycle() {
            self.activation.backend.command(ScaleCommand::Sleep);
        }
    }

    fn remove(&self) {
        self.stop_owned();
        let is_replaced = self.activation.is_replaced.load(Ordering::Relaxed);
        self.activation.events.publish(if is_replaced {
            EventKind::Replaced
        } else {
            EventKind::Removed
        });
    }
}
