//! What people ask of a workload beside its demand: a pin or a schedule. Pure: the time is passed in.

use std::time::SystemTime;

/// A person's wish that a workload stays awake or asleep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pin {
    pub state: PinnedState,
    /// When the pin ends by itself.
    pub until: Option<SystemTime>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PinnedState {
    Awake,
    Asleep,
}

/// What applies to a workload now, whatever its demand is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Directive {
    AwakeByPin,
    /// It sleeps as soon as nothing is in flight, and requests do not wake it.
    AsleepByPin,
    AwakeBySchedule,
}

// === impl Pin ===

impl Pin {
    pub fn applies_at(&self, now: SystemTime) -> bool {
        self.until.is_none_or(|until| now < until)
    }
}

// === impl PinnedState ===

impl PinnedState {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Awake => "awake",
            Self::Asleep => "asleep",
        }
    }
}

// === impl Directive ===

impl Directive {
    /// A pin counts before a schedule.
    pub fn of(pin: Option<Pin>, is_scheduled_awake: bool, now: SystemTime) -> Option<Self> {
        match pin.filter(|pin| pin.applies_at(now)) {
            Some(Pin { state: PinnedState::Awake, .. }) => Some(Self::AwakeByPin),
            Some(Pin { state: PinnedState::Asleep, .. }) => Some(Self::AsleepByPin),
            None => is_scheduled_awake.then_some(Self::AwakeBySchedule),
        }
    }

    /// The value of `directive` in `/services`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AwakeByPin => "pinned-awake",
            Self::AsleepByPin => "pinned-asleep",
            Self::AwakeBySchedule => "scheduled-awake",
        }
    }

    pub fn keeps_awake(self) -> bool {
        self != Self::AsleepByPin
    }
}
