//! The documents by which the Kubernetes API server and its clients learn what the API has: discovery and OpenAPI. Pure.

use serde_json::{Value, json};

use super::{GROUP, GROUP_VERSION, VERSION};
use crate::scaling_signal::metric::Metric;
use crate::version;

/// The name of the list in both versions of OpenAPI, as the type of Kubernetes has it.
const LIST: &str = "io.k8s.metrics.pkg.apis.external_metrics.v1beta1.ExternalMetricValueList";
const ITEM: &str = "io.k8s.metrics.pkg.apis.external_metrics.v1beta1.ExternalMetricValue";
const PATH: &str = "/apis/external.metrics.k8s.io/v1beta1/namespaces/{namespace}/{metric}";

/// An APIGroup.
pub fn group() -> Value {
    let version = json!({ "groupVersion": GROUP_VERSION, "version": VERSION });
    json!({
        "kind": "APIGroup",
        "apiVersion": "v1",
        "name": GROUP,
        "versions": [version],
        "preferredVersion": version,
    })
}

/// An APIGroupList.
pub fn groups() -> Value {
    json!({ "kind": "APIGroupList", "apiVersion": "v1", "groups": [group()] })
}

/// An APIResourceList: each metric is a resource.
pub fn resources() -> Value {
    let resource = |metric: Metric| {
        json!({
            "name": metric.name(),
            "singularName": "",
            "namespaced": true,
            "kind": "ExternalMetricValueList",
            "verbs": ["get"],
        })
    };
    json!({
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": GROUP_VERSION,
        "resources": Metric::ALL.map(resource),
    })
}

/// The document of OpenAPI 2.0.
pub fn open_api_v2() -> Value {
    json!({
        "swagger": "2.0",
        "info": info(),
        "paths": { PATH: { "get": {
            "description": DESCRIPTION,
            "operationId": "listExternalMetricsV1beta1NamespacedMetric",
            "produces": ["application/json"],
            "parameters": parameters(|kind| json!({ "type": kind })),
            "responses": {
                "200": { "description": "OK", "schema": { "$ref": format!("#/definitions/{LIST}") } },
            },
        } } },
        "definitions": schemas("#/definitions/"),
    })
}

/// The index of the documents of OpenAPI 3.0.
pub fn open_api_v3_index() -> Value {
    let path = format!("apis/{GROUP_VERSION}");
    json!({ "paths": { path.clone(): { "serverRelativeURL": format!("/openapi/v3/{path}") } } })
}

/// The document of OpenAPI 3.0.
pub fn open_api_v3() -> Value {
    let schema = json!({ "$ref": format!("#/components/schemas/{LIST}") });
    json!({
        "openapi": "3.0.0",
        "info": info(),
        "paths": { PATH: { "get": {
            "description": DESCRIPTION,
            "operationId": "listExternalMetricsV1beta1NamespacedMetric",
            "parameters": parameters(|kind| json!({ "schema": { "type": kind } })),
            "responses": {
                "200": { "description": "OK", "content": { "application/json": { "schema": schema } } },
            },
        } } },
        "components": { "schemas": schemas("#/components/schemas/") },
    })
}

const DESCRIPTION: &str = "the values of a metric, of each workload that the selector selects";

fn info() -> Value {
    json!({ "title": "agimo", "version": version::VERSION })
}

/// `typed` says the type of a parameter in a version of OpenAPI.
fn parameters(typed: impl Fn(&str) -> Value) -> Value {
    let parameter = |name: &str, place: &str, is_required: bool| {
        let mut parameter = typed("string");
        parameter["name"] = json!(name);
        parameter["in"] = json!(place);
        parameter["required"] = json!(is_required);
        parameter
    };
    json!([
        parameter("namespace", "path", true),
        parameter("metric", "path", true),
        parameter("labelSelector", "query", false),
    ])
}

fn schemas(prefix: &str) -> Value {
    let text = json!({ "type": "string" });
    json!({
        LIST: {
            "description": "the values of a metric",
            "type": "object",
            "required": ["items"],
            "properties": {
                "apiVersion": text,
                "kind": text,
                "metadata": { "type": "object" },
                "items": { "type": "array", "items": { "$ref": format!("{prefix}{ITEM}") } },
            },
            "x-kubernetes-group-version-kind":
                [{ "group": GROUP, "version": VERSION, "kind": "ExternalMetricValueList" }],
        },
        ITEM: {
            "description": "the value of a metric for one workload",
            "type": "object",
            "required": ["metricName", "metricLabels", "timestamp", "value"],
            "properties": {
                "metricName": text,
                "metricLabels": { "type": "object", "additionalProperties": text },
                "timestamp": { "type": "string", "format": "date-time" },
                "window": { "type": "integer", "format": "int64" },
                "value": text,
            },
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_metric_is_a_resource_of_the_group() {
        let names: Vec<Value> = resources()["resources"]
            .as_array()
            .unwrap()
            .iter()
            .map(|resource| resource["name"].clone())
            .collect();
        assert_eq!(names, ["agimo_active_requests", "agimo_requests_per_second"]);
        assert_eq!(groups()["groups"][0]["preferredVersion"]["groupVersion"], GROUP_VERSION);
    }

    #[test]
    fn every_reference_of_the_openapi_documents_leads_to_a_schema() {
        for document in [open_api_v2(), open_api_v3()] {
            let text = document.to_string();
            let references: Vec<&str> = text
                .split("\"$ref\":\"#")
                .skip(1)
                .filter_map(|rest| rest.split('"').next())
                .collect();
            assert_eq!(references.len(), 2);
            for reference in references {
                assert!(document.pointer(reference).is_some(), "{reference}");
            }
        }
    }
}
