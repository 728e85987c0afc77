//! The metadata of a trigger: what a ScaledObject asks of agimo. Pure.

use std::collections::HashMap;
use std::time::Duration;

use crate::config::scaling::AutoscalingConfig;
use crate::scaling_signal::metric::Metric;
use crate::scaling_signal::{LONGEST_WINDOW, Signal};
use crate::workload::{WorkloadId, WorkloadKind};

/// What a trigger asks for.
#[derive(Clone, Debug, PartialEq)]
pub struct Trigger {
    pub metric: Metric,
    /// What each replica is to have; absent where the configuration of the service says it.
    target: Option<f64>,
    /// The time over which the demand is averaged.
    pub window: Duration,
    /// A workload is active for so long after its last request.
    active_for: Duration,
    /// The workload, where it is not the target of the ScaledObject.
    pub workload: Option<WorkloadId>,
}

/// The keys that agimo reads.
const KEYS: [&str; 5] = ["metric", "target", "window", "activeFor", "workload"];
/// The keys that KEDA reads itself (KEDA, "External Push").
const KEYS_OF_KEDA: [&str; 8] = [
    "scalerAddress",
    "enableTLS",
    "unsafeSsl",
    "tlsCertFile",
    "caCert",
    "tlsClientCert",
    "tlsClientKey",
    "metricType",
];
/// As long as KEDA's default polling interval: requests between two polls must be seen.
const ACTIVE_FOR: Duration = Duration::from_secs(30);
const WINDOW: Duration = Duration::from_secs(30);

// === impl Trigger ===

impl Trigger {
    /// Reads the metadata of a trigger of a ScaledObject in this namespace.
    ///
    /// # Errors
    /// What is wrong, and what to write instead.
    pub fn read(metadata: &HashMap<String, String>, namespace: &str) -> Result<Self, String> {
        let unknown = metadata.keys().find(|key| {
            let key = key.as_str();
            !KEYS.contains(&key) && !KEYS_OF_KEDA.contains(&key) && !key.ends_with("FromEnv")
        });
        if let Some(key) = unknown {
            return Err(format!(
                "the trigger has the unknown key `{key}`; agimo reads {}",
                KEYS.join(", ")
            ));
        }
        let value = |key: &str| {
            metadata.get(key).map(|value| value.trim()).filter(|value| !value.is_empty())
        };
        let duration = |key: &str, default: Duration| match value(key) {
            None => Ok(default),
            Some(text) => match humantime::parse_duration(text) {
                Ok(duration) if !duration.is_zero() && duration <= LONGEST_WINDOW => Ok(duration),
                _ => Err(format!("`{key}` is {text:?}: write a time up to 10m, such as \"30s\"")),
            },
        };
        let metric = match value("metric") {
            None | Some("concurrency") => Metric::Concurrency,
            Some("rate") => Metric::Rate,
            Some(other) => {
                return Err(format!("`metric` is {other:?}: write \"concurrency\" or \"rate\""));
            }
        };
        let target = value("target").map(|text| match text.parse::<f64>() {
            Ok(target) if target.is_finite() && target > 0.0 => Ok(target),
            _ => Err(format!("`target` is {text:?}: write a number above 0, such as \"50\"")),
        });
        let workload = value("workload").map(|text| {
            let (kind, name) = text.split_once('/').unwrap_or_default();
            let kind = match kind.to_ascii_lowercase().as_str() {
                "deployment" | "deploy" => Some(WorkloadKind::Deployment),
                "statefulset" | "sts" => Some(WorkloadKind::StatefulSet),
                _ => None,
            };
            let id = kind.filter(|_| !name.is_empty()).map(|kind| WorkloadId {
                kind,
                namespace: namespace.to_owned(),
                name: name.to_owned(),
            });
            id.ok_or_else(|| {
                format!("`workload` is {text:?}: write, for example, \"deployment/web\"")
            })
        });
        Ok(Self {
            metric,
            target: target.transpose()?,
            window: duration("window", WINDOW)?,
            active_for: duration("activeFor", ACTIVE_FOR)?,
            workload: workload.transpose()?,
        })
    }

    /// What each replica is to have.
    ///
    /// # Errors
    /// Where neither the trigger nor the configuration of the service says it.
    pub fn target(&self, autoscaling: Option<AutoscalingConfig>) -> Result<f64, String> {
        let configured = autoscaling.and_then(|config| match self.metric {
            Metric::Concurrency => config.target_concurrency,
            Metric::Rate => config.target_rate,
        });
        let key = match self.metric {
            Metric::Concurrency => "target_concurrency",
            Metric::Rate => "target_rate",
        };
        self.target.or(configured.map(f64::from)).ok_or_else(|| {
            format!(
                "the trigger has no `target`: write one, such as \"50\", or {key} of the service"
            )
        })
    }

    /// Its name in the HPA that KEDA makes.
    pub fn metric_name(&self) -> &'static str {
        match self.metric {
            Metric::Concurrency => "agimo-concurrency",
            Metric::Rate => "agimo-rate",
        }
    }

    /// What KEDA divides by the target.
    pub fn value(&self, signal: &Signal) -> f64 {
        self.metric.value(signal, self.window)
    }

    /// Whether the workload is needed. Open work counts, and so do requests since the last time that KEDA asked.
    pub fn is_active(&self, signal: &Signal) -> bool {
        signal.in_flight > 0 || signal.idle.is_some_and(|idle| idle < self.active_for)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::autoscaler::window::Average;

    fn read(metadata: &[(&str, &str)]) -> Result<Trigger, String> {
        let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        Trigger::read(&metadata.iter().map(owned).collect(), "shop")
    }

    #[test]
    fn a_trigger_needs_nothing_where_the_service_has_a_target() {
        let trigger = read(&[("scalerAddress", "agimo-keda.agimo:9092")]).unwrap();
        let config =
            AutoscalingConfig { target_concurrency: Some(20), ..AutoscalingConfig::default() };
        assert_eq!(trigger.target(Some(config)), Ok(20.0));
        assert!(trigger.target(None).unwrap_err().contains("has no `target`"));
        let trigger =
            read(&[("target", "2.5"), ("metric", "rate"), ("workload", "sts/db")]).unwrap();
        assert_eq!(trigger.target(Some(config)), Ok(2.5));
        assert_eq!(trigger.workload.as_ref().unwrap().to_string(), "statefulset shop/db");
    }

    #[test]
    fn a_wrong_key_says_what_to_write() {
        for (metadata, part) in [
            (("traget", "5"), "unknown key `traget`; agimo reads metric, target"),
            (("target", "many"), "write a number above 0"),
            (("metric", "cpu"), "write \"concurrency\" or \"rate\""),
            (("window", "1h"), "write a time up to 10m"),
            (("workload", "web"), "write, for example, \"deployment/web\""),
        ] {
            let problem = read(&[metadata]).unwrap_err();
            assert!(problem.contains(part), "{problem}");
        }
    }

    #[test]
    fn requests_between_two_polls_and_open_ones_keep_a_workload_active() {
        let trigger = read(&[("activeFor", "10s")]).unwrap();
        let signal = |in_flight, idle: Option<u64>| Signal {
            in_flight,
            average: Some(Average { concurrency: 0.4, rate: 0.0 }),
            idle: idle.map(Duration::from_secs),
            recorded_for: Duration::ZERO,
        };
        assert!(trigger.is_active(&signal(1, None)), "an open WebSocket");
        assert!(trigger.is_active(&signal(0, Some(9))));
        assert!(!trigger.is_active(&signal(0, Some(10))));
        assert!(!trigger.is_active(&signal(0, None)));
        assert_eq!(trigger.value(&signal(30, None)), 30.0, "a crowd counts at once");
        assert_eq!(trigger.value(&signal(0, None)), 0.4);
    }
}
