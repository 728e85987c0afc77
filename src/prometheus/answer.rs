//! What an instant query's answer says of a workload. Pure; it asks nothing.

use std::collections::HashMap;

use serde::Deserialize;

use crate::workload::WorkloadId;

/// One series' value now.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    pub labels: HashMap<String, String>,
    pub value: f64,
}

/// An answer that is not one.
#[derive(Debug, thiserror::Error)]
pub enum AnswerError {
    #[error("Prometheus refused the query: {0}")]
    Refused(String),
    #[error("the answer is not that of Prometheus' query API: {0}")]
    Malformed(String),
}

/// The envelope of the HTTP API (Prometheus, HTTP API, format overview).
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
    /// Seconds since the epoch, and the value as text.
    value: (f64, String),
}

/// The workload's namespace, as kube-state-metrics writes it.
pub const NAMESPACE: &str = "namespace";
/// Where Prometheus keeps it when a scrape without `honor_labels` says by `namespace` where kube-state-metrics itself
/// runs (Prometheus, configuration, `scrape_config`).
pub const EXPORTED_NAMESPACE: &str = "exported_namespace";

/// Reads the answer to an instant query.
///
/// # Errors
/// When Prometheus says that it failed, or when it is no such answer.
pub fn read(body: &[u8]) -> Result<Vec<Sample>, AnswerError> {
    let malformed = |words: String| AnswerError::Malformed(words);
    let envelope: Envelope =
        serde_json::from_slice(body).map_err(|error| malformed(error.to_string()))?;
    if envelope.status != "success" {
        return Err(AnswerError::Refused(envelope.error.unwrap_or(envelope.status)));
    }
    let data = envelope.data.ok_or_else(|| malformed("there is no data".to_owned()))?;
    if data.result_type != "vector" {
        return Err(malformed(format!("the result is a {}, not a vector", data.result_type)));
    }
    let sample = |series: Series| {
        let value = series.value.1.parse();
        let value = value.map_err(|_| malformed(format!("{} is no number", series.value.1)))?;
        Ok(Sample { labels: series.metric, value })
    };
    data.result.into_iter().map(sample).collect()
}

/// The ready replicas of a workload; `None` where there is no such series. Where several
/// kube-state-metrics are scraped, the largest counts.
pub fn ready(samples: &[Sample], workload: &WorkloadId) -> Option<u32> {
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
    fn ready_replicas_are_those_of_the_kind_the_name_and_the_namespace() {
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
        let samples = read(body.as_bytes()).unwrap();
        assert_eq!(ready(&samples, &web(WorkloadKind::Deployment)), Some(2));
        assert_eq!(ready(&samples, &web(WorkloadKind::StatefulSet)), Some(3));
        assert_eq!(ready(&samples[2..3], &web(WorkloadKind::Deployment)), None);
    }

    #[test]
    fn a_namespace_that_the_scrape_has_moved_aside_is_the_workloads() {
        let sample = |namespace: &str, exported: &str| {
            let labels =
                [("deployment", "web"), (NAMESPACE, namespace), (EXPORTED_NAMESPACE, exported)];
            let labels = labels.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
            Sample { labels, value: 1.0 }
        };
        let workload = web(WorkloadKind::Deployment);
        assert_eq!(ready(&[sample("monitoring", "default")], &workload), Some(1));
        assert_eq!(ready(&[sample("default", "other")], &workload), None);
    }

    #[test]
    fn what_is_no_answer_says_so() {
        for (body, words) in [
            (
                "{\"status\":\"error\",\"errorType\":\"bad_data\",\"error\":\"parse error\"}",
                "parse error",
            ),
            ("<html>", "not that of Prometheus"),
            ("{\"status\":\"success\"}", "no data"),
            (
                "{\"status\":\"success\",\"data\":{\"resultType\":\"matrix\",\"result\":[]}}",
                "matrix",
            ),
            (
                "{\"status\":\"success\",\"data\":{\"resultType\":\"vector\",\"result\":[{\"metric\":{},\"value\":[1,\"x\"]}]}}",
                "no number",
            ),
        ] {
            let error = read(body.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(body: Vec<u8>) {
            let _ = read(&body);
        }
    }
}
