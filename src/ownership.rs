//! Who scales a workload, and why it is not put to sleep now: pure decisions from the facts that the edges report.

use std::sync::Arc;
use std::time::Duration;

use crate::backoff::Backoff;
use crate::config::scaling::{Mode, Scaler};

use self::directive::{Directive, Pin};

pub mod directive;
pub mod pins;
#[cfg(test)]
mod tests;
pub mod writers;

/// What an edge knows about scaling a workload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScaleFacts {
    /// The edge can write `replicas`. Prometheus alone cannot.
    pub can_write_replicas: bool,
    /// A change of the workload has not reached all of its replicas. To scale it to zero now would lose those that work.
    pub is_rolling_out: bool,
    /// Somebody else has scaled the workload to zero since agimo scaled it up.
    pub is_contested: bool,
    pub other_scalers: OtherScalers,
    /// The field managers other than agimo that own `replicas`.
    pub writers: Arc<[String]>,
    pub pin: Option<Pin>,
    /// What is wrong with the annotations that people wrote for agimo.
    pub annotation_problem: Option<Arc<str>>,
}

/// The scalers other than agimo that target a workload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OtherScalers {
    /// They were not read yet.
    NotRead,
    /// They cannot be read, for this reason.
    Unreadable(String),
    /// In the order of their names.
    Known(Vec<OtherScaler>),
}

/// A scaler other than agimo.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OtherScaler {
    /// A ScaledObject of KEDA, or the HorizontalPodAutoscaler that KEDA made for it.
    ScaledObject {
        name: String,
        pause: Pause,
    },
    HorizontalPodAutoscaler(Hpa),
}

/// A HorizontalPodAutoscaler.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hpa {
    pub name: String,
    pub min_replicas: u32,
    /// It does nothing, because somebody else has scaled the workload to zero.
    pub is_switched_off: bool,
    /// It was what scaled the workload to zero, and wakes it again.
    pub has_scaled_to_zero: bool,
    /// It reads a metric of the workload from agimo itself, which has risen as soon as a request waits.
    pub reads_agimo: bool,
}

/// Whether KEDA scales the target of a ScaledObject (KEDA, "Pause autoscaling").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pause {
    NotPaused,
    /// KEDA leaves the number as it is.
    Paused,
    /// KEDA has set this number, and keeps it.
    PausedAt(u32),
}

/// How much of `replicas` agimo writes. Each includes the ones before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Authority {
    /// Nothing: it reports its demand, and another scaler acts on it.
    Report,
    /// From zero to some replicas, when a request waits.
    Wake,
    /// To zero as well, when the workload is idle.
    Sleep,
    /// Any number.
    Scale,
}

/// Who scales a workload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ownership {
    pub authority: Authority,
    /// With `mode = "observe"`, what agimo would write with `mode = "enforce"`.
    pub observed: Option<Authority>,
    pub reason: OwnerReason,
}

/// Why agimo has its authority.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OwnerReason {
    /// `scaler` says so.
    Configured,
    /// `scaler = "agimo"`, although this scaler targets the workload, too.
    ConfiguredBeside(OtherScaler),
    /// The source of readiness cannot write.
    CannotWrite,
    /// The other scalers were not read yet.
    NotRead,
    /// The other scalers cannot be read, for this reason.
    Unreadable(String),
    /// This scaler targets the workload.
    Found(OtherScaler),
    NoOtherScaler,
}

/// Why a workload is not put to sleep now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SleepBlocker {
    /// Another scaler decides about zero.
    External,
    /// Another replica of agimo is silent, and may have requests in flight for the workload.
    Peers,
    /// A rollout is not finished.
    Rollout,
    /// A pin keeps it awake.
    Pin,
    /// A schedule keeps it awake.
    Schedule,
}

/// Longest idle time that agimo waits because of somebody else, unless more is configured.
const LONGEST_PROLONGED: Duration = Duration::from_secs(3600);

/// The idle time before sleep. Where another writer scales the workload up again and again after agimo has put it to
/// sleep, such as another installation of agimo, it doubles each time: two writers that disagree must not write without
/// end.
pub fn prolonged_sleep_after(configured: Duration, foreign_wakes: u32) -> Duration {
    let backoff = Backoff { first: configured, longest: configured.max(LONGEST_PROLONGED) };
    backoff.delay(foreign_wakes)
}

// === impl ScaleFacts ===

impl Default for ScaleFacts {
    fn default() -> Self {
        Self {
            can_write_replicas: true,
            is_rolling_out: false,
            is_contested: false,
            other_scalers: OtherScalers::Known(Vec::new()),
            writers: Arc::default(),
            pin: None,
            annotation_problem: None,
        }
    }
}

// === impl OtherScaler ===

impl OtherScaler {
    /// The kind and name, as Kubernetes writes them.
    pub fn reference(&self) -> String {
        match self {
            Self::ScaledObject { name, .. } => format!("ScaledObject {name}"),
            Self::HorizontalPodAutoscaler(hpa) => format!("HorizontalPodAutoscaler {}", hpa.name),
        }
    }

    /// What is left to agimo.
    fn authority_left(&self) -> Authority {
        match self {
            Self::ScaledObject { pause: Pause::NotPaused | Pause::PausedAt(_), .. } => {
                Authority::Report
            }
            Self::ScaledObject { pause: Pause::Paused, .. } => Authority::Wake,
            // agimo wakes only where the HPA does nothing, or where its metric has risen already: otherwise the HPA would scale
            // the workload to zero again.
            Self::HorizontalPodAutoscaler(hpa) if hpa.min_replicas == 0 => {
                if hpa.is_switched_off || hpa.reads_agimo {
                    Authority::Wake
                } else {
                    Authority::Report
                }
            }
            // It never leaves zero by itself, and never goes there.
            Self::HorizontalPodAutoscaler(_) => Authority::Sleep,
        }
    }
}

// === impl Authority ===

impl Authority {
    /// The value of `scaler` in `/services`: who wakes the workload.
    pub fn as_str(self) -> &'static str {
        if self.wakes() { "agimo" } else { "external" }
    }

    fn description(self) -> &'static str {
        match self {
            Self::Report => "agimo only reports",
            Self::Wake => "agimo wakes the workload",
            Self::Sleep => "agimo wakes the workload and scales it to zero",
            Self::Scale => "agimo scales the workload",
        }
    }

    /// How much agimo writes, for programs.
    pub fn token(self) -> &'static str {
        match self {
            Self::Report => "report",
            Self::Wake => "wake",
            Self::Sleep => "sleep",
            Self::Scale => "scale",
        }
    }

    pub fn wakes(self) -> bool {
        self >= Self::Wake
    }

    pub fn sleeps(self) -> bool {
        self >= Self::Sleep
    }
}

// === impl Ownership ===

impl Ownership {
    /// Who scales a workload with this `scaler` and `mode` in its configuration.
    pub fn decide(scaler: Scaler, mode: Mode, facts: &ScaleFacts) -> Self {
        let decided = |authority, reason| match mode {
            Mode::Enforce => Self { authority, observed: None, reason },
            Mode::Observe => {
                Self { authority: Authority::Report, observed: Some(authority), reason }
            }
        };
        let others = match &facts.other_scalers {
            OtherScalers::NotRead | OtherScalers::Unreadable(_) => &[][..],
            OtherScalers::Known(scalers) => scalers,
        };
        match scaler {
            Scaler::External => decided(Authority::Report, OwnerReason::Configured),
            _ if !facts.can_write_replicas => decided(Authority::Report, OwnerReason::CannotWrite),
            Scaler::Agimo => {
                let beside = others.first().cloned().map(OwnerReason::ConfiguredBeside);
                decided(Authority::Scale, beside.unwrap_or(OwnerReason::Configured))
            }
            Scaler::Auto => match (&facts.other_scalers, least_left(others)) {
                // Whoever it is, a request that waits is a reason to wake the workload; only what is complete is one to stop it.
                (OtherScalers::NotRead, _) => decided(Authority::Wake, OwnerReason::NotRead),
                (OtherScalers::Unreadable(why), _) => {
                    decided(Authority::Wake, OwnerReason::Unreadable(why.clone()))
                }
                (_, Some(other)) => {
                    decided(other.authority_left(), OwnerReason::Found(other.clone()))
                }
                (_, None) => decided(Authority::Scale, OwnerReason::NoOtherScaler),
            },
        }
    }

    /// For the log and for people: who scales the workload, and why.
    pub fn description(&self) -> String {
        let reason = self.reason.description();
        match self.observed {
            Some(observed) => format!(
                "agimo observes and writes nothing; otherwise {}: {reason}",
                observed.description()
            ),
            None => format!("{}: {reason}", self.authority.description()),
        }
    }

    /// Whether people should look into it.
    pub fn is_problem(&self) -> bool {
        matches!(self.reason, OwnerReason::ConfiguredBeside(_) | OwnerReason::Unreadable(_))
    }
}

/// The scaler that leaves least to agimo.
fn least_left(scalers: &[OtherScaler]) -> Option<&OtherScaler> {
    scalers.iter().min_by_key(|scaler| scaler.authority_left())
}

// === impl OwnerReason ===

impl OwnerReason {
    /// One of a closed set, for metrics and `/services`.
    pub fn token(&self) -> &'static str {
        match self {
            Self::Configured => "configured",
            Self::ConfiguredBeside(_) => "configured-beside-another",
            Self::CannotWrite => "cannot-write",
            Self::NotRead | Self::Unreadable(_) => "unknown",
            Self::Found(OtherScaler::ScaledObject { pause, .. }) => match pause {
                Pause::NotPaused => "scaled-object",
                Pause::Paused => "scaled-object-paused",
                Pause::PausedAt(_) => "scaled-object-paused-at",
            },
            Self::Found(OtherScaler::HorizontalPodAutoscaler(hpa)) => match hpa {
                Hpa { min_replicas: 1.., .. } => "hpa",
                Hpa { is_switched_off: true, .. } => "hpa-switched-off",
                Hpa { reads_agimo: true, .. } => "hpa-reads-agimo",
                _ => "hpa-from-zero",
            },
            Self::NoOtherScaler => "no-other-scaler",
        }
    }

    /// A sentence for people, without a final stop.
    pub fn description(&self) -> String {
        match self {
            Self::Configured => "the configuration says so".to_owned(),
            Self::ConfiguredBeside(other) => format!(
                "scaler = \"agimo\" is configured, but {} targets the workload, too: both write `replicas`; write scaler = \
                 \"auto\", or delete it",
                other.reference()
            ),
            Self::CannotWrite => {
                "readiness comes from Prometheus, so agimo cannot write `replicas`".to_owned()
            }
            Self::NotRead => "the scalers in the cluster were not read yet".to_owned(),
            Self::Unreadable(why) => {
                format!("it is not known whether another scaler targets it ({why})")
            }
            Self::NoOtherScaler => "no other scaler targets the workload".to_owned(),
            Self::Found(other) => {
                let reference = other.reference();
                match other {
                    OtherScaler::ScaledObject { pause: Pause::NotPaused, .. } => {
                        format!("{reference} scales it")
                    }
                    OtherScaler::ScaledObject { pause: Pause::Paused, .. } => {
                        format!("{reference} is paused")
                    }
                    OtherScaler::ScaledObject { pause: Pause::PausedAt(replicas), .. } => {
                        format!("{reference} is paused at {replicas} replicas")
                    }
                    OtherScaler::HorizontalPodAutoscaler(hpa) => match hpa {
                        Hpa { min_replicas: 1.., .. } => {
                            format!("{reference} scales it above zero")
                        }
                        Hpa { is_switched_off: true, .. } => format!(
                            "{reference} is switched off, because it was not what scaled the workload to zero"
                        ),
                        Hpa { reads_agimo: true, .. } => {
                            format!("{reference} scales it by the demand that agimo reports")
                        }
                        Hpa { has_scaled_to_zero: true, .. } => {
                            format!(
                                "{reference} scales it to zero and back, and has scaled it to zero"
                            )
                        }
                        _ => format!("{reference} scales it to zero and back"),
                    },
                }
            }
        }
    }
}

// === impl SleepBlocker ===

impl SleepBlocker {
    /// The first reason that keeps the workload awake.
    pub fn of(
        authority: Authority,
        facts: &ScaleFacts,
        are_peers_known: bool,
        directive: Option<Directive>,
    ) -> Option<Self> {
        if !authority.sleeps() {
            return Some(Self::External);
        }
        match directive {
            Some(Directive::AwakeByPin) => return Some(Self::Pin),
            Some(Directive::AwakeBySchedule) => return Some(Self::Schedule),
            Some(Directive::AsleepByPin) | None => {}
        }
        if !are_peers_known {
            return Some(Self::Peers);
        }
        facts.is_rolling_out.then_some(Self::Rollout)
    }

    /// The value of `kept_awake_by` in `/services`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::External => "external",
            Self::Peers => "peers",
            Self::Rollout => "rollout",
            Self::Pin => "pin",
            Self::Schedule => "schedule",
        }
    }
}
