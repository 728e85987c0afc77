//! Parses the response to an instant query, and finds the ready replicas of a workload in it.

use std::collections::HashMap;

use serde::Deserialize;

use crate::workload::WorkloadId;

/// The current value of a series.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    pub labels: HashMap<String, String>,
    pub value: f64,
}

/// A response without a usable result.
#[derive(Debug, thiserror::Error)]
pub enum ResponseError {
    #[error("Prometheus rejected the query: {0}")]
    Rejected(String),
    #[error("this is not a response of the Prometheus query API: {0}")]
    Malformed(String),
}

/// The JSON envelope of every response (Prometheus, HTTP API, format overview).
#[derive(Deserialize)]
struct Envelope {
    status: String,
    error: Option<String>,
    data: Option<Data>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Data {
    result_type: String,
    result: Vec<Series>,
}

#[derive(Deserialize)]
struct Series {
    metric: HashMap<String, String>,
    /// Seconds since the Unix epoch, and the value as a string.
    value: (f64, String),
}

/// The label with the namespace of the workload, as kube-state-metrics writes it.
pub const NAMESPACE: &str = "namespace";
/// The label with the namespace of the workload if Prometheus scrapes without `honor_labels`: `namespace` is then the
/// namespace of kube-state-metrics itself (Prometheus, configuration, `scrape_config`).
pub const EXPORTED_NAMESPACE: &str = "exported_namespace";

/// Parses the response to an instant query.
///
/// # Errors
/// When Prometheus reports an error, or the body is not such a response.
pub fn parse(body: &[u8]) -> Result<Vec<Sample>, ResponseError> {
    let malformed = |reason: String| ResponseError::Malformed(reason);
    let envelope: Envelope =
        serde_json::from_slice(body).map_err(|error| malformed(error.to_string()))?;
    if envelope.status != "success" {
        return Err(ResponseError::Rejected(envelope.error.unwrap_or(envelope.status)));
    }
    let data = envelope.data.ok_or_else(|| malformed("it has no data".to_owned()))?;
    if data.result_type != "vector" {
        return Err(malformed(format!("the result is a {}, not a vector", data.result_type)));
    }
    let sample = |series: Series| {
        let value = series.value.1.parse();
        let value = value.map_err(|_| malformed(format!("{} is not a number", series.value.1)))?;
        Ok(Sample { labels: series.metric, value })
    };
    data.result.into_iter().map(sample).collect()
}

/// The ready replicas of a workload, or `None` if there is no series for it. If several instances of kube-state-metrics
/// are scraped, the highest value is used.
pub fn ready_replicas(samples: &[Sample], workload: &WorkloadId) -> Option<u32> {
    let label = workload.kind.as_str();
    let of_workload = samples.iter().filter(|sample| {
        let labels = &sample.labels;
        let namespace = labels.get(EXPORTED_NAMESPACE).or_else(|| labels.get(NAMESPACE));
        labels.get(label) == Some(&workload.name) && namespace == Some(&workload.namespace)
    });
    let values = of_workload.map(|sample| sample.value.clamp(0.0, f64::from(u32::MAX)) as u32);
    values.max()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::WorkloadKind;
    use proptest::prelude::*;

    fn web(kind: WorkloadKind) -> WorkloadId {
        WorkloadId { kind, namespace: "default".to_owned(), name: "web".to_owned() }
    }

    #[test]
    fn replicas_are_found_by_kind_name_and_namespace() {
        let series = |labels: &str, value: &str| {
            format!("{{\"metric\":{{{labels}}},\"value\":[1,\"{value}\"]}}")
        };
        let body = format!(
            "{{\"status\":\"success\",\"data\":{{\"resultType\":\"vector\",\"result\":[{},{},{},{}]}}}}",
            series("\"namespace\":\"default\",\"deployment\":\"web\"", "0"),
            series("\"namespace\":\"default\",\"deployment\":\"web\",\"instance\":\"b\"", "2"),
            series("\"namespace\":\"other\",\"deployment\":\"web\"", "7"),
            series("\"namespace\":\"default\",\"statefulset\":\"web\"", "3"),
        );
        let samples = parse(body.as_bytes()).unwrap();
        assert_eq!(ready_replicas(&samples, &web(WorkloadKind::Deployment)), Some(2));
        assert_eq!(ready_replicas(&samples, &web(WorkloadKind::StatefulSet)), Some(3));
        assert_eq!(ready_replicas(&samples[2..3], &web(WorkloadKind::Deployment)), None);
    }

    #[test]
    fn the_exported_namespace_takes_precedence() {
        let sample = |namespace: &str, exported: &str| {
            let labels =
                [("deployment", "web"), (NAMESPACE, namespace), (EXPORTED_NAMESPACE, exported)];
            let labels = labels.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
            Sample { labels, value: 1.0 }
        };
        let workload = web(WorkloadKind::Deployment);
        assert_eq!(ready_replicas(&[sample("monitoring", "default")], &workload), Some(1));
        assert_eq!(ready_replicas(&[sample("default", "other")], &workload), None);
    }

    #[test]
    fn an_unusable_response_is_an_error_with_its_reason() {
        for (body, reason) in [
            (
                "{\"status\":\"error\",\"errorType\":\"bad_data\",\"error\":\"parse error\"}",
                "parse error",
            ),
            ("<html>", "not a response of the Prometheus"),
            ("{\"status\":\"success\"}", "no data"),
            (
                "{\"status\":\"success\",\"data\":{\"resultType\":\"matrix\",\"result\":[]}}",
                "matrix",
            ),
            (
                "{\"status\":\"success\",\"data\":{\"resultType\":\"vector\",\"result\":[{\"metric\":{},\"value\":[1,\"x\"]}]}}",
                "not a number",
            ),
        ] {
            let error = parse(body.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(body: Vec<u8>) {
            let _ = parse(&body);
        }
    }
}
