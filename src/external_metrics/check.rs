//! For `agimo check --cluster`: who serves `external.metrics.k8s.io` in the cluster. It writes nothing.

use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::APIService;
use kube::{Api, Client, ResourceExt};

use super::registration::{API_SERVICE, owner};

/// A line for people. `is_problem`: something should be done about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub text: String,
    pub is_problem: bool,
}

/// The chart sets it, whatever the names of the release are.
const PART_OF: &str = "app.kubernetes.io/part-of";

/// Asks the cluster who serves the API.
///
/// # Errors
/// When the API server cannot be asked.
pub async fn find(client: Client) -> kube::Result<Finding> {
    let services: Api<APIService> = Api::all(client);
    Ok(describe(services.get_opt(API_SERVICE).await?.as_ref()))
}

fn describe(service: Option<&APIService>) -> Finding {
    let Some(service) = service else {
        let text = "external.metrics.k8s.io: nobody serves it; with externalMetrics.enabled in the values of the chart agimo \
                    does, for HPAs";
        return Finding { text: text.to_owned(), is_problem: false };
    };
    let owner = owner(service);
    let is_agimo = service.labels().get(PART_OF).is_some_and(|name| name == "agimo");
    let conditions = service.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let available = conditions.into_iter().find(|condition| condition.type_ == "Available");
    let failure = match available {
        Some(condition) if condition.status == "True" => None,
        Some(condition) => Some(condition.message.as_deref().unwrap_or("it is not available")),
        None => Some("it is not known whether it is available"),
    };
    let text = match (is_agimo, failure) {
        (true, None) => format!("external.metrics.k8s.io: agimo ({owner}) serves it"),
        (true, Some(failure)) => {
            format!("external.metrics.k8s.io: agimo ({owner}) should serve it: {failure}")
        }
        (false, None) => format!(
            "external.metrics.k8s.io: {owner} serves it, and agimo does not take it over; with KEDA, use a trigger of the type \
             external-push"
        ),
        (false, Some(failure)) => format!(
            "external.metrics.k8s.io: {owner} should serve it: {failure}; agimo does not take it over: if it was uninstalled, \
             delete the APIService {API_SERVICE}"
        ),
    };
    Finding { text, is_problem: failure.is_some() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn found(namespace: &str, labels: Value, conditions: Value) -> Finding {
        let service = json!({
            "metadata": { "name": API_SERVICE, "labels": labels },
            "spec": {
                "service": { "namespace": namespace, "name": "adapter" },
                "groupPriorityMinimum": 1, "versionPriority": 1,
            },
            "status": { "conditions": conditions },
        });
        describe(Some(&serde_json::from_value(service).unwrap()))
    }

    #[test]
    fn the_owner_and_what_is_wrong_are_named() {
        let available = |status: &str, message: &str| json!([{ "type": "Available", "status": status, "message": message }]);
        let agimo = json!({ PART_OF: "agimo" });
        for (finding, part, is_problem) in [
            (describe(None), "nobody serves it", false),
            (
                found("agimo", agimo.clone(), available("True", "")),
                "agimo (agimo/adapter) serves it",
                false,
            ),
            (found("agimo", agimo, available("False", "no endpoints")), "no endpoints", true),
            (
                found("keda", json!({}), available("True", "")),
                "keda/adapter serves it, and agimo does not",
                false,
            ),
            (found("keda", json!({}), available("False", "x")), "delete the APIService", true),
            (found("keda", json!({}), json!([])), "not known whether it is available", true),
        ] {
            assert!(finding.text.contains(part), "{finding:?}");
            assert_eq!(finding.is_problem, is_problem, "{finding:?}");
        }
    }
}
