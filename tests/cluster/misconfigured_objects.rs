//! Objects that exist and still keep a workload from having endpoints: the response names the reason.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::json;

use crate::fixtures::{Namespace, Sample, SampleRequest, start_agimo};
use crate::support::agimo::Agimo;

/// Longer than agimo waits before it looks for what delays a wake.
const KEYS: &str = "scaler = \"agimo\"\ntimeout = \"5s\"\nsleep_after = \"1s\"";

struct Misconfigured {
    sample: Sample,
    reason: &'static str,
    /// A part of the detail.
    detail: &'static str,
}

#[tokio::test]
async fn what_keeps_a_workload_from_having_endpoints_is_named() {
    let namespace = Namespace::new("misconfigured").await;
    let gates = json!([{ "conditionType": "example.com/registered" }]);
    let [selector, target, gate, paused, alias] = [
        namespace.deployment("selector"),
        namespace.deployment("target"),
        namespace.deployment("gate").pod_field("readinessGates", gates),
        namespace.deployment("paused").workload_field("paused", json!(true)),
        namespace.deployment("alias"),
    ];
    for sample in [&selector, &target, &paused, &alias] {
        sample.apply_workload().await;
    }
    let service = |name: &str, spec: serde_json::Value| {
        let metadata = json!({ "name": name });
        namespace.apply(
            &json!({
                "apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec,
            })
            .to_string(),
        );
    };
    let ports = |target: &str| json!([{ "name": "http", "port": 80, "targetPort": target }]);
    service("selector", json!({ "selector": { "app": "other" }, "ports": ports("http") }));
    service("target", json!({ "selector": { "app": "target" }, "ports": ports("web") }));
    service("alias", json!({ "type": "ExternalName", "externalName": "example.com" }));
    paused.apply_service(&[("http", 80)]).await;
    let misconfigured = [
        Misconfigured {
            sample: selector,
            reason: "selector-mismatch",
            detail: "selects app=other, and the pods of Deployment",
        },
        Misconfigured { sample: target, reason: "port-missing", detail: "the target port `web`" },
        Misconfigured {
            sample: gate.apply().await,
            reason: "readiness-gate",
            detail: "readiness gate example.com/registered",
        },
        Misconfigured {
            sample: paused,
            reason: "deployment-paused",
            detail: "kubectl rollout resume",
        },
        Misconfigured {
            sample: alias,
            reason: "service-external-name",
            detail: "has the type ExternalName",
        },
    ];
    let services: String =
        misconfigured.iter().map(|one| one.sample.service_config(&one.host(), KEYS)).collect();
    let agimo = start_agimo(&services).await;
    join_all(misconfigured.iter().map(|one| one.assert_named(&agimo))).await;
}

#[tokio::test]
async fn a_pod_that_is_still_terminating_is_named() {
    let namespace = Namespace::new("terminating").await;
    let db = namespace.stateful_set("db").slow_stop(Duration::from_secs(9)).apply().await;
    let agimo = start_agimo(&db.service_config("db.test", KEYS)).await;
    SampleRequest::get("db.test").send_once(agimo.address).await;
    db.until_replicas(0).await;
    let db =
        Misconfigured { sample: db, reason: "pod-terminating", detail: "pod db-0 has not ended" };
    db.assert_named(&agimo).await;
    agimo.until_served("db.test").await;
}

// === impl Misconfigured ===

impl Misconfigured {
    fn host(&self) -> String {
        format!("{}.test", self.sample.name)
    }

    async fn assert_named(&self, agimo: &Agimo) {
        let response = agimo.get(&self.host(), "/").await;
        let head = &response.head;
        assert_eq!((response.status, response.reason()), (504, Some(self.reason)), "{head}");
        let detail = response.header("x-agimo-detail").unwrap_or_else(|| panic!("{head}"));
        assert!(detail.contains(self.detail), "{detail}");
    }
}
