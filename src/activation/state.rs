//! When a workload is woken, reported ready, rejected and put to sleep: pure steps, time passed in.

use std::time::Duration;

use tokio::time::Instant;

use crate::backoff::Backoff;

use super::idleness::Idleness;

/// Where a workload stands between asleep and awake.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum State {
    Asleep,
    Waking {
        since: Instant,
        /// Since when no request waits for it.
        idleness: Idleness,
    },
    Awake {
        idleness: Idleness,
    },
    /// The last wake failed; requests are rejected until then.
    Failing {
        until: Instant,
    },
}

/// A workload's state, and how many of its latest wakes failed in a row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Machine {
    pub state: State,
    pub failures: u32,
}

/// What can happen to a workload.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Input {
    /// A request is held.
    WakeRequested,
    /// The workload has ready endpoints.
    Ready { arrivals: u64 },
    /// The workload has no ready endpoint. `starting`: a replica of it runs and may become ready.
    Unready { starting: bool },
    /// The workload was ready, and all of its replicas have ended by themselves.
    EndpointsLost,
    /// The wake failed for good: nothing became ready.
    WakeFailed,
    /// Another replica of agimo is about to scale to zero what nobody waits for.
    SleepAnnounced,
    /// A regular check of its demand. Without `sleep_after` it is not put to sleep. `is_contested`: somebody else has
    /// scaled it to zero since its wake.
    DemandChecked {
        arrivals: u64,
        in_flight: u64,
        sleep_after: Option<Duration>,
        is_contested: bool,
    },
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Action {
    /// Have the workload scaled up.
    Wake,
    /// Publish the endpoints: held requests go there.
    PublishEndpoints,
    /// Reject held requests, and those that arrive until then, with the reason of the failure.
    RejectUntil { until: Instant },
    /// Scale to zero, unless a request has arrived meanwhile.
    Sleep,
    /// Withdraw the endpoints: none is ready any more. Replicas that still run are left as they are.
    WithdrawEndpoints,
    /// Withdraw the endpoints and stop what is left; the next request wakes the workload again.
    GiveUpReplicas,
    /// No request waits any more, and somebody else decides about the replicas.
    CancelWake,
}

/// Between failed wakes.
const BACKOFF: Backoff =
    Backoff { first: Duration::from_secs(1), longest: Duration::from_secs(60) };

// === impl State ===

impl State {
    fn waking(now: Instant) -> Self {
        Self::Waking { since: now, idleness: Idleness::begin(0, now) }
    }

    /// The value of `state` in `/services`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Asleep => "asleep",
            Self::Waking { .. } => "waking",
            Self::Awake { .. } => "awake",
            // The next request wakes it.
            Self::Failing { until } if Instant::now() >= until => "asleep",
            Self::Failing { .. } => "failing",
        }
    }
}

// === impl Machine ===

impl Default for Machine {
    fn default() -> Self {
        Self { state: State::Asleep, failures: 0 }
    }
}

impl Machine {
    /// One step: the next state, and what to do now.
    pub fn step(self, input: Input, now: Instant) -> (Self, Option<Action>) {
        match (self.state, input) {
            (State::Asleep, Input::WakeRequested) => {
                (self.to(State::waking(now)), Some(Action::Wake))
            }
            (State::Failing { until }, Input::WakeRequested) if now >= until => {
                (self.to(State::waking(now)), Some(Action::Wake))
            }
            (State::Awake { .. }, Input::Ready { .. }) => (self, Some(Action::PublishEndpoints)),
            // A workload may become ready without a wake by this agimo: another replica or scaler woke it.
            (_, Input::Ready { arrivals }) => {
                let awake = State::Awake { idleness: Idleness::begin(arrivals, now) };
                (Self { state: awake, failures: 0 }, Some(Action::PublishEndpoints))
            }
            (State::Waking { .. }, Input::WakeFailed) => self.fail(now),
            (State::Awake { .. }, Input::Unready { starting: true }) => {
                (self.to(State::waking(now)), Some(Action::WithdrawEndpoints))
            }
            // A workload that became ready can start: no failed wake is counted, however it ended.
            (State::Awake { .. }, Input::Unready { .. } | Input::WakeFailed)
            | (State::Waking { .. } | State::Awake { .. }, Input::EndpointsLost) => {
                (Self::default(), Some(Action::GiveUpReplicas))
            }
            (
                State::Awake { idleness },
                Input::DemandChecked { arrivals, in_flight, sleep_after, .. },
            ) => {
                let Some(sleep_after) = sleep_after else {
                    // The idle time begins when nothing blocks sleep any more.
                    let idleness = Idleness::begin(arrivals, now);
                    return (self.to(State::Awake { idleness }), None);
                };
                let idleness = idleness.check(arrivals, in_flight, now);
                if idleness.lasted(now) >= sleep_after {
                    (Self::default(), Some(Action::Sleep))
                } else {
                    (self.to(State::Awake { idleness }), None)
                }
            }
            // What somebody else scaled to zero stays so until the next request.
            (
                State::Waking { .. },
                Input::DemandChecked { in_flight: 0, sleep_after: None, .. }
                | Input::DemandChecked { in_flight: 0, is_contested: true, .. },
            ) => (self.to(State::Asleep), Some(Action::CancelWake)),
            (
                State::Waking { since, idleness },
                Input::DemandChecked {
                    arrivals, in_flight, sleep_after: Some(sleep_after), ..
                },
            ) => {
                let idleness = idleness.check(arrivals, in_flight, now);
                if idleness.lasted(now) >= sleep_after {
                    (self.to(State::Asleep), Some(Action::Sleep))
                } else {
                    (self.to(State::Waking { since, idleness }), None)
                }
            }
            (State::Waking { .. }, Input::SleepAnnounced) => {
                (self.to(State::Asleep), Some(Action::CancelWake))
            }
            _ => (self, None),
        }
    }

    fn fail(self, now: Instant) -> (Self, Option<Action>) {
        let failures = self.failures + 1;
        let until = now + BACKOFF.delay(failures);
        (Self { state: State::Failing { until }, failures }, Some(Action::RejectUntil { until }))
    }

    fn to(self, state: State) -> Self {
        Self { state, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn run(inputs: &[(Input, u64)]) -> (Machine, Vec<Action>) {
        let start = Instant::now();
        let mut machine = Machine::default();
        let mut actions = Vec::new();
        for (input, at) in inputs {
            let (next, action) = machine.step(*input, start + SECOND * *at as u32);
            machine = next;
            actions.extend(action);
        }
        (machine, actions)
    }

    fn checked(arrivals: u64, in_flight: u64) -> Input {
        let sleep_after = Some(SECOND * 5);
        Input::DemandChecked { arrivals, in_flight, sleep_after, is_contested: false }
    }

    #[test]
    fn many_requests_cause_one_wake() {
        let requested = Input::WakeRequested;
        let (_, actions) = run(&[(requested, 0), (requested, 0), (requested, 1)]);
        assert_eq!(actions, [Action::Wake]);
    }

    #[test]
    fn a_workload_sleeps_after_its_idle_time_and_not_while_a_request_waits() {
        let waking = [(Input::WakeRequested, 0), (checked(1, 1), 100), (checked(1, 1), 200)];
        assert_eq!(run(&waking).1, [Action::Wake]);
        let idle = [
            (Input::WakeRequested, 0),
            (Input::Ready { arrivals: 1 }, 1),
            (checked(1, 1), 4),
            (checked(1, 0), 8),
            (checked(1, 0), 12),
            (checked(1, 0), 13),
        ];
        assert_eq!(run(&idle).1, [Action::Wake, Action::PublishEndpoints, Action::Sleep]);
        assert_eq!(run(&idle[..5]).1, [Action::Wake, Action::PublishEndpoints]);
    }

    #[test]
    fn a_wake_that_never_gets_ready_is_given_up_when_nobody_has_waited_for_the_idle_time() {
        let inputs = [
            (Input::WakeRequested, 0),
            (checked(1, 1), 9),
            (checked(1, 0), 10),
            (checked(1, 0), 14),
        ];
        assert_eq!(run(&inputs).1, [Action::Wake], "not yet");
        let (machine, actions) = run(&[&inputs[..], &[(checked(1, 0), 15)]].concat());
        assert_eq!((machine.state, actions), (State::Asleep, vec![Action::Wake, Action::Sleep]));
    }

    #[test]
    fn what_somebody_else_scaled_to_zero_is_left_at_zero_until_the_next_request() {
        let contested = |in_flight| Input::DemandChecked {
            arrivals: 1,
            in_flight,
            sleep_after: Some(SECOND * 5),
            is_contested: true,
        };
        let inputs = [(Input::WakeRequested, 0), (contested(1), 1), (contested(0), 2)];
        let (machine, actions) = run(&inputs);
        assert_eq!(
            (machine.state, actions),
            (State::Asleep, vec![Action::Wake, Action::CancelWake])
        );
        let (_, actions) = run(&[&inputs[..], &[(Input::WakeRequested, 3)]].concat());
        assert_eq!(actions.last(), Some(&Action::Wake));
    }

    #[test]
    fn failed_wakes_are_rejected_for_a_growing_time() {
        let failed = Input::WakeFailed;
        let (machine, actions) = run(&[
            (Input::WakeRequested, 0),
            (failed, 0),
            (Input::WakeRequested, 0),
            (Input::WakeRequested, 1),
            (failed, 1),
            (Input::WakeRequested, 2),
            (Input::WakeRequested, 3),
            (Input::Ready { arrivals: 4 }, 3),
            (checked(4, 1), 4),
            (checked(4, 0), 5),
            (checked(4, 0), 10),
        ]);
        let wakes = actions.iter().filter(|action| **action == Action::Wake).count();
        assert_eq!((wakes, machine), (3, Machine::default()));
    }

    #[test]
    fn a_workload_that_became_ready_is_woken_again_however_often_it_ends() {
        let ready = Input::Ready { arrivals: 1 };
        // The last end was so fast that its readiness was not seen.
        let ends = [Input::Unready { starting: false }, Input::EndpointsLost, Input::EndpointsLost];
        let mut inputs = vec![];
        for (at, end) in ends.into_iter().enumerate() {
            let at = at as u64;
            inputs.extend([(Input::WakeRequested, at), (ready, at), (end, at)]);
        }
        inputs.remove(7);
        let (machine, actions) = run(&inputs);
        assert_eq!(actions.iter().filter(|action| **action == Action::Wake).count(), 3);
        assert_eq!(machine, Machine::default());
    }

    #[test]
    fn a_workload_that_runs_and_is_not_ready_any_more_is_waited_for_as_at_a_start() {
        let (ready, unready) = (Input::Ready { arrivals: 1 }, Input::Unready { starting: true });
        let before =
            [(Input::WakeRequested, 0), (ready, 0), (unready, 1), (Input::WakeRequested, 1)];
        let (machine, actions) = run(&before);
        assert_eq!(actions, [Action::Wake, Action::PublishEndpoints, Action::WithdrawEndpoints]);
        assert!(matches!(machine.state, State::Waking { .. }));
        let (machine, _) = run(&[&before[..], &[(Input::WakeFailed, 2)]].concat());
        assert!(matches!(machine.state, State::Failing { .. }));
    }

    #[test]
    fn a_workload_that_crashes_while_awake_is_woken_by_the_next_request() {
        let inputs = [
            (Input::WakeRequested, 0),
            (Input::Ready { arrivals: 1 }, 1),
            (Input::Unready { starting: false }, 2),
            (Input::WakeRequested, 2),
        ];
        let expected =
            [Action::Wake, Action::PublishEndpoints, Action::GiveUpReplicas, Action::Wake];
        assert_eq!(run(&inputs).1, expected);
    }
}
