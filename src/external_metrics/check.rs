//! For `agimo check --cluster`: who serves `external.metrics.k8s.io` in the cluster. It writes nothing.

use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::APIService;
use kube::{Api, Client, ResourceExt};

use super::registration::{API_SERVICE, owner};
use crate::findings::Finding;
use crate::kube_client::limited;

/// The chart sets it, whatever the names of the release are.
const PART_OF: &str = "app.kubernetes.io/part-of";

/// Asks the cluster who serves the API. `own`: namespace and name of the Service by which the agimo in question serves it.
pub async fn find(client: &Client, own: Option<&(String, String)>) -> Finding {
    let services: Api<APIService> = Api::all(client.clone());
    match limited(services.get_opt(API_SERVICE)).await {
        Ok(service) => describe(service.as_ref(), own),
        Err(reason) => Finding::skipped(
            format!("the APIService {API_SERVICE} cannot be read: {reason}"),
            "use an account that may get apiservices.apiregistration.k8s.io",
        ),
    }
}

fn describe(service: Option<&APIService>, own: Option<&(String, String)>) -> Finding {
    let own = own.map(|(namespace, name)| format!("{namespace}/{name}"));
    let Some(service) = service else {
        if own.is_some() {
            return Finding::failed(
                "agimo is to serve external.metrics.k8s.io, and there is no APIService",
                "upgrade the release of the chart: it creates the APIService",
            );
        }
        return Finding::ok(
            "nobody serves external.metrics.k8s.io; with externalMetrics.enabled in the values of the chart agimo does, for HPAs",
        );
    };
    let owner = owner(service);
    let is_other = own.as_ref().is_some_and(|own| *own != owner);
    let is_agimo =
        own.is_some() || service.labels().get(PART_OF).is_some_and(|name| name == "agimo");
    let conditions = service.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let available = conditions.into_iter().find(|condition| condition.type_ == "Available");
    let failure = match available {
        Some(condition) if condition.status == "True" => None,
        Some(condition) => Some(condition.message.as_deref().unwrap_or("it is not available")),
        None => Some("it is not known whether it is available"),
    };
    if is_other {
        return Finding::failed(
            format!(
                "{owner} has the APIService of external.metrics.k8s.io, and agimo is to serve it"
            ),
            "set `externalMetrics.enabled: false`, or uninstall the other one",
        );
    }
    match (is_agimo, failure) {
        (true, None) => Finding::ok(format!("agimo ({owner}) serves external.metrics.k8s.io")),
        (true, Some(failure)) => Finding::failed(
            format!("agimo ({owner}) should serve external.metrics.k8s.io: {failure}"),
            "wait until a replica of agimo is ready; if it is, read its log",
        ),
        (false, None) => Finding::ok(format!(
            "{owner} serves external.metrics.k8s.io, and agimo does not take it over; with KEDA, use a trigger of the type \
             external-push"
        )),
        (false, Some(failure)) => Finding::failed(
            format!(
                "{owner} should serve external.metrics.k8s.io: {failure}; agimo does not take it over"
            ),
            format!("if it was uninstalled, kubectl delete apiservice {API_SERVICE}"),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::findings::Level;
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
        describe(Some(&serde_json::from_value(service).unwrap()), None)
    }

    #[test]
    fn the_owner_and_what_is_wrong_are_named() {
        let available = |status: &str, message: &str| json!([{ "type": "Available", "status": status, "message": message }]);
        let agimo = json!({ PART_OF: "agimo" });
        for (finding, part, is_problem) in [
            (describe(None, None), "nobody serves external", false),
            (
                found("agimo", agimo.clone(), available("True", "")),
                "agimo (agimo/adapter) serves external",
                false,
            ),
            (found("agimo", agimo, available("False", "no endpoints")), "no endpoints", true),
            (
                found("keda", json!({}), available("True", "")),
                "keda/adapter serves external.metrics.k8s.io, and agimo does not",
                false,
            ),
            (found("keda", json!({}), available("False", "x")), "kubectl delete apiservice", true),
            (found("keda", json!({}), json!([])), "not known whether it is available", true),
        ] {
            let whole = format!("{} {}", finding.text, finding.fix.as_deref().unwrap_or_default());
            assert!(whole.contains(part), "{finding:?}");
            assert_eq!(finding.level != Level::Ok, is_problem, "{finding:?}");
        }
        let own = ("agimo".to_owned(), "agimo-hpa".to_owned());
        let of_keda = json!({
            "metadata": { "name": API_SERVICE },
            "spec": {
                "service": { "namespace": "keda", "name": "adapter" },
                "groupPriorityMinimum": 1, "versionPriority": 1,
            },
        });
        let of_keda: APIService = serde_json::from_value(of_keda).unwrap();
        let of_another: APIService = {
            let mut service: APIService = of_keda.clone();
            service.metadata.labels = Some([(PART_OF.to_owned(), "agimo".to_owned())].into());
            service
        };
        for service in [None, Some(&of_keda), Some(&of_another)] {
            assert_eq!(describe(service, Some(&own)).level, Level::Failed);
        }
    }
}
