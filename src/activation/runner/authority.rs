//! How much of `replicas` this replica may write for a workload, and what pins and schedules ask for.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use tokio::time::Instant;

use super::Runner;
use crate::activation::events::{EventKind, Reverted};
use crate::activation::state::{Input, State};
use crate::activation::{Published, Rejection};
use crate::backoff::Backoff;
use crate::cause::Cause;
use crate::ownership::directive::{Directive, Pin};
use crate::ownership::{Authority, OwnerReason, Ownership, SleepBlocker};
use crate::schedule;

/// A zero that somebody else writes so soon after a wake undoes it.
const SOON_AFTER_WAKE: Duration = Duration::from_secs(60);
/// A clock that is set is noticed within this time.
const LONGEST_DIRECTIVE_CHECK: Duration = Duration::from_secs(60);
/// A rejection by a pin without an end.
const UNTIL_UNPINNED: Duration = Duration::from_secs(365 * 24 * 3600);
/// Between wakes by a pin or a schedule.
const DIRECTIVE_WAKES: Backoff =
    Backoff { first: Duration::from_secs(1), longest: Duration::from_secs(60) };
/// How often a replica that does not lead looks whether it does.
const FOLLOWER_CHECK: Duration = Duration::from_secs(1);
/// Writers that undo what agimo writes are reported from this round on.
const REPORTED_ROUNDS: u32 = 2;

impl Runner {
    pub(super) fn ownership(&self) -> Ownership {
        let spec = self.spec.borrow();
        Ownership::decide(spec.scaler, spec.mode, &self.status.borrow().scale_facts)
    }

    pub(super) fn authority(&self) -> Authority {
        self.ownership().authority
    }

    pub(super) fn sleep_blocker(&self, authority: Authority) -> Option<SleepBlocker> {
        let are_peers_known = self.membership.are_peers_known();
        let facts = &self.status.borrow().scale_facts;
        SleepBlocker::of(authority, facts, are_peers_known, self.directive)
    }

    /// Whether this replica may put the workload to sleep when it is idle.
    pub(super) fn may_sleep(&self) -> bool {
        self.membership.is_leader() && self.sleep_blocker(self.authority()).is_none()
    }

    /// How long the workload may be idle; absent where its idle time does not count.
    pub(super) fn idle_limit(&mut self, sleep_after: Duration) -> Option<Duration> {
        let is_leader = self.membership.is_leader();
        let was_leader = std::mem::replace(&mut self.was_leader, is_leader);
        // A new leader counts anew: it may have known less than the one before.
        let is_awake = matches!(self.machine.state, State::Awake { .. });
        if (is_leader && !was_leader && is_awake) || self.sleep_blocker(self.authority()).is_some()
        {
            return None;
        }
        // Another replica decides. The status of this one tells how long the workload has been idle.
        Some(if is_leader { sleep_after } else { Duration::MAX })
    }

    /// Publishes what is new about the owner, and tells a new one of a wake that it is to carry out.
    pub(super) fn follow_ownership(&mut self) {
        let ownership = self.ownership();
        if self.ownership_seen.as_ref() == Some(&ownership) {
            return;
        }
        let before = self.ownership_seen.replace(ownership.clone());
        let is_news = match ownership.reason {
            OwnerReason::NotRead => false,
            // What is configured, or what is usual, is no news at the start.
            OwnerReason::Configured | OwnerReason::NoOtherScaler => {
                before.as_ref().is_some_and(|before| before.reason != OwnerReason::NotRead)
            }
            _ => true,
        };
        let has_changed = before.is_some_and(|before| before.authority != ownership.authority);
        if is_news {
            self.activation.events.publish(EventKind::OwnerDecided(ownership));
        }
        if has_changed && matches!(self.machine.state, State::Awake { .. }) {
            // What others have set until now is no change of what agimo has decided.
            self.begin_scaling();
        }
        if has_changed {
            self.next_check = self.next_check.min(Instant::now());
            if matches!(self.machine.state, State::Waking { .. }) {
                self.command_wake();
            }
        }
    }

    // --- pins and schedules

    /// Whether the directive may change with time alone.
    pub(super) fn has_directives(&self) -> bool {
        self.pin().is_some() || !self.spec.borrow().awake.is_empty()
    }

    /// The pin that counts: what was set through agimo, or else an annotation; and who set it, where that is known.
    pub(super) fn pin(&self) -> Option<(Pin, Option<Arc<str>>)> {
        let set = self.pins.get().filter(|set| set.pin.applies_at(SystemTime::now()));
        match set {
            Some(set) => Some((set.pin, Some(set.by))),
            None => self.status.borrow().scale_facts.pin.map(|pin| (pin, None)),
        }
    }

    /// Follows the pin and the schedules, as far as agimo may carry them out.
    pub(super) fn follow_directive(&mut self) {
        let now = SystemTime::now();
        let Ownership { authority, reason, .. } = self.ownership();
        if reason == OwnerReason::NotRead {
            // The status changes when they are read.
            self.next_directive_check = Instant::now() + LONGEST_DIRECTIVE_CHECK;
            return;
        }
        let pin = self.pin().map(|(pin, _)| pin);
        let (is_scheduled, next_change) = match Timestamp::try_from(now) {
            Ok(now) => {
                let schedules = &self.spec.borrow().awake;
                (schedule::is_any_active_at(schedules, now), schedule::next_change(schedules, now))
            }
            Err(_) => (false, None),
        };
        let until_change = pin
            .and_then(|pin| pin.until)
            .into_iter()
            .chain(next_change.map(SystemTime::from))
            .filter_map(|at| at.duration_since(now).ok())
            .fold(LONGEST_DIRECTIVE_CHECK, Duration::min);
        self.next_directive_check = Instant::now() + until_change;
        let asked = Directive::of(pin, is_scheduled, now);
        let is_possible = |directive: &Directive| match directive {
            Directive::AsleepByPin | Directive::AwakeBySchedule => authority.sleeps(),
            Directive::AwakeByPin => authority.wakes(),
        };
        self.follow_annotations(asked.filter(|directive| !is_possible(directive)));
        let directive = asked.filter(is_possible);
        let until = pin.and_then(|pin| pin.until);
        if (directive, until) == (self.directive, self.directive_until) {
            return;
        }
        let is_news = directive != self.directive;
        (self.directive, self.directive_until) = (directive, until);
        self.next_check = self.next_check.min(Instant::now());
        if is_news {
            // What others undid before says nothing about a new wish.
            (self.foreign_wakes, self.directive_wakes) = (0, 0);
            self.next_directive_wake = Instant::now();
            self.activation.events.publish(EventKind::DirectiveChanged(directive));
        }
        // Begins or ends to reject requests. What a failed wake rejects stays rejected.
        let published = self.activation.published();
        let is_of_pin = |rejection: &Rejection| rejection.cause == Cause::PinnedAsleep;
        let rejection = published.rejection.filter(|rejection| !is_of_pin(rejection));
        match self.machine.state {
            State::Awake { .. } if self.withdrawn_for_peer.is_none() => self.republish(&published),
            _ => self.publish(Published { rejection, ..published }),
        }
    }

    /// Publishes what is wrong with the annotations: how they are written, or that agimo cannot do what they ask for.
    fn follow_annotations(&mut self, impossible: Option<Directive>) {
        let written_wrong = self.status.borrow().scale_facts.annotation_problem.clone();
        let without_effect = || {
            let what = match impossible? {
                Directive::AwakeByPin | Directive::AsleepByPin => "the pin",
                Directive::AwakeBySchedule => "the schedule of `awake`",
            };
            let ownership = self.ownership();
            // Beside what is configured, a schedule for all services is no mistake.
            let is_mistake = impossible != Some(Directive::AwakeBySchedule)
                || matches!(ownership.reason, OwnerReason::Found(_));
            let why = ownership.description();
            is_mistake.then(|| Arc::from(format!("{what} has no effect: {why}")))
        };
        let problem = written_wrong.or_else(without_effect);
        if problem != self.annotation_problem_seen {
            self.annotation_problem_seen.clone_from(&problem);
            if let Some(problem) = problem {
                self.activation.events.publish(EventKind::AnnotationRejected { problem });
            }
        }
    }

    /// Whether a pin keeps the workload asleep, so that requests do not wake it.
    pub(super) fn rejects_requests(&self) -> bool {
        self.directive == Some(Directive::AsleepByPin)
    }

    /// Has the leader wake a workload that a pin or a schedule keeps awake.
    pub(super) fn wake_of_directive(&mut self) -> Option<Input> {
        if !self.directive.is_some_and(Directive::keeps_awake) {
            return None;
        }
        let now = Instant::now();
        let may_wake_at = match self.machine.state {
            State::Asleep => self.next_directive_wake,
            State::Failing { until } => until.max(self.next_directive_wake),
            State::Waking { .. } | State::Awake { .. } => return None,
        };
        if now < may_wake_at {
            self.next_directive_check = self.next_directive_check.min(may_wake_at);
            return None;
        }
        if !self.membership.is_leader() {
            // Whoever leads next notices soon.
            self.next_directive_check = self.next_directive_check.min(now + FOLLOWER_CHECK);
            return None;
        }
        // Something else may stop it again and again.
        let has_lasted = now >= self.next_directive_wake + DIRECTIVE_WAKES.longest;
        self.directive_wakes = if has_lasted { 1 } else { self.directive_wakes + 1 };
        self.next_directive_wake = now + DIRECTIVE_WAKES.delay(self.directive_wakes);
        self.requester = None;
        Some(Input::WakeRequested)
    }

    /// Publishes endpoints to the requests, unless a pin has them rejected.
    pub(super) fn publish(&self, published: Published) {
        if !self.rejects_requests() {
            return self.activation.publish(published);
        }
        let until = self.pin().and_then(|(pin, _)| pin.until);
        let left = until.and_then(|until| until.duration_since(SystemTime::now()).ok());
        let until = Instant::now() + left.unwrap_or(UNTIL_UNPINNED);
        let rejection = Some(Rejection { cause: Cause::PinnedAsleep, until });
        let terminating = published.terminating;
        self.activation.publish(Published { terminating, rejection, ..Published::default() });
    }

    // --- other writers

    /// Counts how often in a row somebody else scales to zero what agimo has woken.
    pub(super) fn follow_contest(&mut self) {
        let (is_contested, replicas) = {
            let status = self.status.borrow();
            (status.scale_facts.is_contested, status.replicas)
        };
        self.is_contested = is_contested;
        self.has_slept |= replicas == Some(0);
        // One zero is one contest, however many requests meet it.
        if replicas > Some(0) {
            self.is_contest_counted = false;
        }
        if is_contested && !self.is_contest_counted {
            self.is_contest_counted = true;
            self.reverted_wakes += 1;
            self.note_reverted(Reverted::Wake, self.reverted_wakes);
        }
        if replicas == Some(0) {
            self.count_foreign_zero();
        }
    }

    /// The workload is at zero. Where it was awake and agimo alone decides about zero, somebody else has scaled it there.
    fn count_foreign_zero(&mut self) {
        let is_awake = matches!(self.machine.state, State::Awake { .. });
        let is_announced =
            self.withdrawn_for_peer.is_some() || !self.membership.view().announcements.is_empty();
        let Some(awake_since) = self.awake_since.take_if(|_| is_awake && !is_announced) else {
            return;
        };
        if !self.authority().sleeps() || !self.membership.is_leader() {
            return;
        }
        // One that comes late is a decision of its own.
        let is_soon = awake_since.elapsed() < SOON_AFTER_WAKE;
        self.foreign_zeros = if is_soon { self.foreign_zeros + 1 } else { 0 };
        self.note_reverted(Reverted::Wake, self.foreign_zeros);
    }

    /// Another writer has undone what agimo wrote, for so many times in a row.
    pub(super) fn note_reverted(&mut self, reverted: Reverted, rounds: u32) {
        if rounds < REPORTED_ROUNDS {
            return;
        }
        let writers = self.status.borrow().scale_facts.writers.clone();
        self.reverted_by = Some(writers.clone());
        self.activation.events.publish(EventKind::WritesReverted { reverted, rounds, writers });
    }
}
