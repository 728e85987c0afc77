//! When a workload is woken, released, refused and put to sleep: pure steps, time passed in. It performs nothing.

use std::time::Duration;

use tokio::time::Instant;

use super::idle::Idle;

/// Where a workload stands.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum State {
    Asleep,
    Waking {
        since: Instant,
    },
    Awake {
        idle: Idle,
    },
    /// The last wake failed; requests are refused until then.
    Refusing {
        until: Instant,
    },
}

/// A workload's state, and how often in a row a wake has come to nothing.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Machine {
    pub state: State,
    pub failures: u32,
}

/// What can happen to a workload.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Event {
    /// A request waits for it.
    Wanted,
    /// It has ready endpoints.
    Ready { arrivals: u64 },
    /// It has none; since it was woken it has `answered` a request, or has not.
    Unready { answered: bool },
    /// Its wake failed.
    Failed { answered: bool },
    /// A look at its traffic. Without `sleep_after` the workload is not agimo's to put to sleep.
    Look { arrivals: u64, open: u64, sleep_after: Option<Duration> },
}

/// What is to be done about it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Action {
    /// Scale up.
    Wake,
    /// Let the held requests go to the endpoints.
    Release,
    /// Answer the held requests and those that come until then with the failure.
    Refuse { until: Instant },
    /// Scale to zero, unless traffic has come meanwhile.
    Sleep,
    /// It went by itself: nothing is ready.
    Lost,
    /// Nobody waits for a wake that is another's to bring about.
    GiveUp,
}

/// The wait after the first failed wake; it doubles with each further one.
const FIRST_BACKOFF: Duration = Duration::from_secs(1);
const LONGEST_BACKOFF: Duration = Duration::from_secs(60);

// === impl State ===

impl State {
    pub const WAKING: &str = "waking";

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Asleep => "asleep",
            Self::Waking { .. } => Self::WAKING,
            Self::Awake { .. } => "awake",
            Self::Refusing { .. } => "refusing",
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
    /// One step: the state afterwards, and what to do now.
    pub fn step(self, event: Event, now: Instant) -> (Self, Option<Action>) {
        match (self.state, event) {
            (State::Asleep, Event::Wanted) => {
                (self.to(State::Waking { since: now }), Some(Action::Wake))
            }
            (State::Refusing { until }, Event::Wanted) if now >= until => {
                (self.to(State::Waking { since: now }), Some(Action::Wake))
            }
            // Ready without having been asked for happens too: another scaler, another replica.
            (State::Awake { .. }, Event::Ready { .. }) => (self, Some(Action::Release)),
            (_, Event::Ready { arrivals }) => {
                let awake = State::Awake { idle: Idle::begin(arrivals, now) };
                (self.to(awake), Some(Action::Release))
            }
            (State::Waking { .. }, Event::Failed { .. }) => self.refuse(self.failures, now),
            (State::Awake { .. }, Event::Unready { answered } | Event::Failed { answered }) => {
                match self.failures {
                    // It has served, or this is the first time: the next request mends it.
                    failures if answered || failures == 0 => {
                        let failures = u32::from(!answered);
                        (Self { state: State::Asleep, failures }, Some(Action::Lost))
                    }
                    failures => self.refuse(failures - 1, now),
                }
            }
            (State::Awake { idle }, Event::Look { arrivals, open, sleep_after }) => {
                let Some(sleep_after) = sleep_after else {
                    // Should it become so, its idle time begins then.
                    return (self.to(State::Awake { idle: Idle::begin(arrivals, now) }), None);
                };
                let idle = idle.look(arrivals, open, now);
                if idle.lasted(now) >= sleep_after {
                    (Self { state: State::Asleep, failures: 0 }, Some(Action::Sleep))
                } else {
                    (self.to(State::Awake { idle }), None)
                }
            }
            (State::Waking { .. }, Event::Look { open: 0, sleep_after: None, .. }) => {
                (self.to(State::Asleep), Some(Action::GiveUp))
            }
            _ => (self, None),
        }
    }

    /// Refuses for as long as this many failures before it call for.
    fn refuse(self, before: u32, now: Instant) -> (Self, Option<Action>) {
        let until = now + backoff(before);
        let refusing = Self { state: State::Refusing { until }, failures: self.failures + 1 };
        (refusing, Some(Action::Refuse { until }))
    }

    fn to(self, state: State) -> Self {
        Self { state, ..self }
    }
}

fn backoff(failures: u32) -> Duration {
    FIRST_BACKOFF.saturating_mul(2_u32.saturating_pow(failures)).min(LONGEST_BACKOFF)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn run(events: &[(Event, u64)]) -> (Machine, Vec<Action>) {
        let start = Instant::now();
        let mut machine = Machine::default();
        let mut actions = Vec::new();
        for (event, at) in events {
            let (next, action) = machine.step(*event, start + SECOND * *at as u32);
            machine = next;
            actions.extend(action);
        }
        (machine, actions)
    }

    fn look(arrivals: u64, open: u64) -> Event {
        Event::Look { arrivals, open, sleep_after: Some(SECOND * 5) }
    }

    #[test]
    fn many_wants_make_one_wake() {
        let (_, actions) = run(&[(Event::Wanted, 0), (Event::Wanted, 0), (Event::Wanted, 1)]);
        assert_eq!(actions, [Action::Wake]);
    }

    #[test]
    fn a_workload_sleeps_after_idle_time_and_never_before_it_was_ready() {
        let waking = [(Event::Wanted, 0), (look(1, 0), 100), (look(1, 0), 200)];
        assert_eq!(run(&waking).1, [Action::Wake]);
        let idle = [
            (Event::Wanted, 0),
            (Event::Ready { arrivals: 1 }, 1),
            (look(1, 1), 4),
            (look(1, 0), 8),
            (look(1, 0), 12),
            (look(1, 0), 13),
        ];
        assert_eq!(run(&idle).1, [Action::Wake, Action::Release, Action::Sleep]);
        assert_eq!(run(&idle[..5]).1, [Action::Wake, Action::Release]);
    }

    #[test]
    fn failures_are_refused_with_growing_patience() {
        let (machine, actions) = run(&[
            (Event::Wanted, 0),
            (Event::Failed { answered: false }, 0),
            (Event::Wanted, 0),
            (Event::Wanted, 1),
            (Event::Failed { answered: false }, 1),
            (Event::Wanted, 2),
            (Event::Wanted, 3),
            (Event::Ready { arrivals: 4 }, 3),
            (look(4, 1), 4),
            (look(4, 0), 5),
            (look(4, 0), 10),
        ]);
        let wakes = actions.iter().filter(|action| **action == Action::Wake).count();
        assert_eq!((wakes, machine.failures), (3, 0));
        assert_eq!(backoff(0), SECOND);
        assert_eq!(backoff(3), SECOND * 8);
        assert_eq!(backoff(90), LONGEST_BACKOFF);
    }

    #[test]
    fn one_that_goes_away_without_an_answer_is_not_started_for_every_request() {
        let (ready, gone) = (Event::Ready { arrivals: 1 }, Event::Unready { answered: false });
        let (machine, actions) = run(&[
            (Event::Wanted, 0),
            (ready, 0),
            (gone, 1),
            (Event::Wanted, 1),
            (ready, 1),
            (gone, 2),
            (Event::Wanted, 2),
        ]);
        assert_eq!(actions.iter().filter(|action| **action == Action::Wake).count(), 2);
        assert!(matches!(machine.state, State::Refusing { .. }), "{machine:?}");
    }

    #[test]
    fn a_crash_while_awake_is_woken_by_the_next_request() {
        let events = [
            (Event::Wanted, 0),
            (Event::Ready { arrivals: 1 }, 1),
            (Event::Unready { answered: true }, 2),
            (Event::Wanted, 2),
        ];
        assert_eq!(run(&events).1, [Action::Wake, Action::Release, Action::Lost, Action::Wake]);
    }
}
