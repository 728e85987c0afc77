//! The values of a metric, for the workloads that a selector names (external.metrics.k8s.io/v1beta1). Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use kube::core::{Selector, SelectorExt};
use serde_json::{Value, json};

use crate::scaling_signal::metric::Metric;
use crate::scaling_signal::{NamedWorkload, Signal};
use crate::workload::WorkloadId;

/// The value of one workload.
#[derive(Clone, Debug, PartialEq)]
pub struct WorkloadValue {
    pub labels: BTreeMap<String, String>,
    pub value: f64,
    pub window: Duration,
}

/// A workload seems to be idle, and may not be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnknownDemand {
    #[error(
        "another replica of agimo is silent, and may have requests for {0}: whether it is idle is not known"
    )]
    SilentReplica(WorkloadId),
    #[error("this replica of agimo has not observed {0} for {1:?} yet: its demand is not known")]
    TooEarly(WorkloadId, Duration),
}

// === impl WorkloadValue ===

impl WorkloadValue {
    /// # Errors
    /// Where the value is not known, and above all where it would be zero and may not be: the scaler could put a workload to
    /// sleep that is in use.
    pub fn new(
        metric: Metric,
        id: &WorkloadId,
        labels: BTreeMap<String, String>,
        signal: &Signal,
        window: Duration,
        is_complete: bool,
    ) -> Result<Self, UnknownDemand> {
        let value = metric.value(signal, window);
        if value <= 0.0 && !is_complete {
            return Err(UnknownDemand::SilentReplica(id.clone()));
        }
        // Without an average, what is in flight now may be far less.
        if signal.average.is_none() || (value <= 0.0 && signal.recorded_for < window) {
            return Err(UnknownDemand::TooEarly(id.clone(), window));
        }
        Ok(Self { labels, value, window })
    }
}

/// The labels by which a selector selects a workload: its kind, its name and one of its hosts. `None` where it does not.
pub fn selected_labels(
    workload: &NamedWorkload,
    selector: &Selector,
) -> Option<BTreeMap<String, String>> {
    let of_host = |host: &String| {
        let labels = [
            ("kind", workload.id.kind.as_str()),
            ("name", workload.id.name.as_str()),
            ("host", host.as_str()),
        ];
        BTreeMap::from(labels.map(|(key, value)| (key.to_owned(), value.to_owned())))
    };
    workload.hosts.iter().map(of_host).find(|labels| selector.matches(labels))
}

/// An ExternalMetricValueList.
pub fn list(metric: Metric, values: &[WorkloadValue], timestamp: &str) -> Value {
    let item = |value: &WorkloadValue| {
        json!({
            "metricName": metric.name(),
            "metricLabels": value.labels,
            "timestamp": timestamp,
            "window": value.window.as_secs(),
            "value": quantity(value.value),
        })
    };
    json!({
        "kind": "ExternalMetricValueList",
        "apiVersion": super::GROUP_VERSION,
        "metadata": {},
        "items": values.iter().map(item).collect::<Vec<_>>(),
    })
}

/// A number as a quantity in thousandths, rounded up, so that what is above zero stays so (Kubernetes, "Quantity").
fn quantity(value: f64) -> String {
    let thousandths = (value * 1000.0).ceil() as u64;
    if thousandths.is_multiple_of(1000) {
        (thousandths / 1000).to_string()
    } else {
        format!("{thousandths}m")
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::autoscaler::window::Average;
    use crate::external_metrics::selector;
    use crate::workload::WorkloadKind;

    const WINDOW: Duration = Duration::from_secs(60);

    fn web() -> WorkloadId {
        WorkloadId {
            kind: WorkloadKind::Deployment,
            namespace: "shop".to_owned(),
            name: "web".to_owned(),
        }
    }

    fn signal(in_flight: u64, concurrency: f64, rate: f64) -> Signal {
        let average = Some(Average { concurrency, rate });
        Signal { in_flight, average, idle: None, recorded_for: WINDOW }
    }

    fn value(metric: Metric, signal: &Signal, is_complete: bool) -> Result<f64, UnknownDemand> {
        WorkloadValue::new(metric, &web(), BTreeMap::new(), signal, WINDOW, is_complete)
            .map(|value| value.value)
    }

    #[test]
    fn zero_is_reported_only_where_it_is_known_to_be_true() {
        let idle = signal(0, 0.0, 0.0);
        let early = Signal { recorded_for: WINDOW / 2, ..idle };
        for metric in Metric::ALL {
            assert_eq!(value(metric, &idle, true), Ok(0.0));
            assert_eq!(value(metric, &idle, false), Err(UnknownDemand::SilentReplica(web())));
            assert_eq!(value(metric, &early, true), Err(UnknownDemand::TooEarly(web(), WINDOW)));
            let unknown = Signal { average: None, ..signal(1, 0.0, 0.0) };
            assert!(value(metric, &unknown, true).is_err(), "it may be many more");
            assert!(
                value(metric, &signal(1, 0.0, 0.0), false).is_ok(),
                "a part of the demand counts"
            );
        }
    }

    #[test]
    fn a_workload_is_selected_by_any_of_its_hosts() {
        let hosts = vec!["web.test".to_owned(), "*.web.test".to_owned()];
        let workload = NamedWorkload { id: Arc::new(web()), hosts };
        let host = |text: &str| {
            let labels = selected_labels(&workload, &selector::parse(text).unwrap())?;
            Some(labels["host"].clone())
        };
        assert_eq!(host("").as_deref(), Some("web.test"));
        assert_eq!(host("kind=deployment,name=web").as_deref(), Some("web.test"));
        assert_eq!(host("host=web.test").as_deref(), Some("web.test"));
        assert_eq!(host("host!=web.test").as_deref(), Some("*.web.test"));
        assert_eq!(host("host=api.test"), None);
        assert_eq!(host("kind=statefulset"), None);
    }

    #[test]
    fn quantities_are_rounded_up_to_thousandths() {
        for (value, expected) in
            [(0.0, "0"), (30.0, "30"), (0.0001, "1m"), (2.5, "2500m"), (0.0161, "17m")]
        {
            assert_eq!(quantity(value), expected);
        }
        let value = WorkloadValue { labels: BTreeMap::new(), value: 2.5, window: WINDOW };
        let list = list(Metric::Concurrency, &[value], "2030-01-01T00:00:00Z");
        assert_eq!(list["items"][0]["value"], "2500m");
        assert_eq!(list["items"][0]["window"], 60);
        assert_eq!(list["items"][0]["metricName"], "agimo_active_requests");
    }
}
