//! Who scales a workload in a cluster, and how.

use std::time::Duration;

/// Who writes the workload's `replicas` (`scaler`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scaler {
    /// Another scaler, on agimo's metrics. agimo only reports.
    External,
    Agimo,
    /// Whoever targets the workload in the cluster, and agimo as far as nobody does.
    Auto,
}

/// Whether agimo acts on what it decides (`mode`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mode {
    Enforce,
    /// It decides and reports, and writes nothing.
    Observe,
}

/// How agimo scales a workload that is awake. The keys have the names of the fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AutoscalingConfig {
    /// Requests in flight that each replica is to have.
    pub target_concurrency: Option<u32>,
    /// Requests per second that each replica is to have.
    pub target_rate: Option<u32>,
    /// Fewest replicas of a workload that is awake.
    pub min_replicas: u32,
    pub max_replicas: u32,
    /// Replicas that a wake asks for at least.
    pub activation_replicas: u32,
    pub stable_window: Duration,
    pub panic_window: Duration,
    /// The demand over the panic window is so many times what the ready replicas can take.
    pub panic_threshold: u32,
    /// At most so many times as many replicas as are ready, in one decision.
    pub max_scale_up_rate: u32,
    /// At least one in so many of the ready replicas stays, in one decision.
    pub max_scale_down_rate: u32,
    /// Replicas are removed only when they have not been needed for so long.
    pub scale_down_delay: Duration,
    /// Replicas are removed although tunnels are open. Kubernetes chooses which pods end, and their tunnels end with them.
    pub scale_down_cuts_tunnels: bool,
}

// === impl Scaler ===

impl Scaler {
    /// Every spelling of `scaler`.
    pub const SPELLINGS: &[&str] = &["external", "agimo", "auto"];

    pub fn as_str(self) -> &'static str {
        Self::SPELLINGS[self as usize]
    }

    pub(crate) fn from_spelling(written: &str) -> Option<Self> {
        [Self::External, Self::Agimo, Self::Auto]
            .into_iter()
            .find(|scaler| scaler.as_str() == written)
    }
}

// === impl Mode ===

impl Mode {
    /// Every spelling of `mode`.
    pub const SPELLINGS: &[&str] = &["enforce", "observe"];

    pub fn as_str(self) -> &'static str {
        Self::SPELLINGS[self as usize]
    }

    pub(crate) fn from_spelling(written: &str) -> Option<Self> {
        [Self::Enforce, Self::Observe].into_iter().find(|mode| mode.as_str() == written)
    }
}

// === impl AutoscalingConfig ===

/// What the keys default to.
#[cfg(test)]
impl Default for AutoscalingConfig {
    fn default() -> Self {
        Self {
            target_concurrency: None,
            target_rate: None,
            min_replicas: 1,
            max_replicas: 10,
            activation_replicas: 1,
            stable_window: Duration::from_secs(60),
            panic_window: Duration::from_secs(6),
            panic_threshold: 2,
            max_scale_up_rate: 10,
            max_scale_down_rate: 2,
            scale_down_delay: Duration::ZERO,
            scale_down_cuts_tunnels: false,
        }
    }
}

impl AutoscalingConfig {
    /// Whether agimo changes the replicas of a workload that is awake.
    pub fn has_target(&self) -> bool {
        self.target_concurrency.is_some() || self.target_rate.is_some()
    }
}
