//! Wakes that cannot succeed: the response, the log and `/services` give the reason, and requests are served once the
//! cause is removed.

use futures_util::future::join_all;
use serde_json::json;

use crate::fixtures::{Kubectl, Namespace, Sample, start_agimo};
use crate::support::agimo::Agimo;
use crate::support::eventually;

/// The timeout is long enough for the kubelet, the scheduler and the controllers to report the reason.
const KEYS: &str = "scaler = \"agimo\"\ntimeout = \"6s\"";

/// A workload that does not become ready, and how agimo must report it.
struct FailingWorkload {
    sample: Sample,
    reason: &'static str,
    /// A part of the detail.
    detail: &'static str,
}

#[tokio::test]
async fn a_failing_wake_reports_its_reason_and_succeeds_once_the_cause_is_removed() {
    let namespace = Namespace::new("failing").await;
    let node_label = "agimo.test/test";
    let settings = json!([{ "name": "settings", "configMap": { "name": "settings" } }]);
    let mounts = json!([{ "name": "settings", "mountPath": "/settings" }]);
    let value_from = json!({ "configMapKeyRef": { "name": "settings", "key": "variable" } });
    let failing = [
        FailingWorkload {
            sample: namespace.deployment("image").image("agimo.test/unknown:1"),
            reason: "image-unavailable",
            detail: "agimo.test/unknown:1",
        },
        FailingWorkload {
            sample: namespace.deployment("crash").argument("-crash-at-start"),
            reason: "crash-loop",
            detail: "exit code 1",
        },
        FailingWorkload {
            sample: namespace
                .stateful_set("node-selector")
                .pod_field("nodeSelector", json!({ node_label: namespace.name })),
            reason: "unschedulable",
            detail: "didn't match Pod's node affinity/selector",
        },
        FailingWorkload {
            sample: namespace
                .deployment("volume")
                .pod_field("volumes", settings)
                .container_field("volumeMounts", mounts),
            reason: "container-refused",
            detail: "configmap \"settings\" not found",
        },
        FailingWorkload {
            sample: namespace
                .deployment("variable")
                .container_field("env", json!([{ "name": "VARIABLE", "valueFrom": value_from }])),
            reason: "container-refused",
            detail: "configmap \"settings\" not found",
        },
    ];
    let mut services = String::new();
    for FailingWorkload { sample, .. } in &failing {
        services += &sample.clone().apply().await.service_config(&host(sample), KEYS);
    }
    let agimo = start_agimo(&services).await;
    join_all(failing.iter().map(|workload| workload.assert_reported(&agimo))).await;

    let reference = format!("{node_label}={}", namespace.name);
    Kubectl::run(&["label", "node", "node", &reference]);
    namespace.kubectl(&["create", "configmap", "settings", "--from-literal=variable=value"]);
    namespace.kubectl(&["set", "image", "deployment/image", "sample=agimo.test/sample:1"]);
    let path = "/spec/template/spec/containers/0/args";
    let patch = json!([{ "op": "remove", "path": path }]).to_string();
    namespace.kubectl(&["patch", "deployment/crash", "--type=json", "-p", &patch]);
    for FailingWorkload { sample, .. } in &failing {
        agimo.until_served(&host(sample)).await;
        assert!(agimo.service_status(&host(sample)).await["reason"].is_null());
    }
    Kubectl::run(&["label", "node", "node", &format!("{node_label}-")]);
}

#[tokio::test]
async fn an_exceeded_quota_is_reported_and_requests_are_served_after_it_is_deleted() {
    let namespace = Namespace::new("quota").await;
    namespace.kubectl(&["create", "quota", "none", "--hard=pods=0"]);
    // Until the quota controller has filled in the status, the API server's message is a different one.
    eventually("the status of the quota", || async {
        let hard = "jsonpath={.status.hard.pods}";
        (namespace.kubectl(&["get", "quota", "none", "-o", hard]) == "0").then_some(())
    })
    .await;
    let failing = [namespace.deployment("web"), namespace.stateful_set("db")].map(|sample| {
        FailingWorkload { sample, reason: "pods-refused", detail: "exceeded quota: none" }
    });
    let mut services = String::new();
    for FailingWorkload { sample, .. } in &failing {
        services += &sample.clone().apply().await.service_config(&host(sample), KEYS);
    }
    let agimo = start_agimo(&services).await;
    join_all(failing.iter().map(|workload| workload.assert_reported(&agimo))).await;
    namespace.kubectl(&["delete", "quota", "none"]);
    for FailingWorkload { sample, .. } in &failing {
        agimo.until_served(&host(sample)).await;
    }
}

#[tokio::test]
async fn a_workload_that_crashes_after_it_was_ready_is_reported_and_served_when_it_is_ready_again()
{
    let namespace = Namespace::new("crashes").await;
    let web = namespace.deployment("web").argument("-crash-after=3s").without_readiness_probe();
    let web = web.apply().await;
    let keys = "scaler = \"agimo\"\ntimeout = \"1s\"";
    let agimo = start_agimo(&web.service_config("web.test", keys)).await;
    agimo.until_served("web.test").await;
    let response = eventually("a response with the reason crash-loop", || async {
        let response = agimo.get("web.test", "/").await;
        (response.reason() == Some("crash-loop")).then_some(response)
    })
    .await;
    assert_eq!(response.status, 504);
    let detail = response.header("x-agimo-detail").unwrap();
    assert!(detail.contains("container sample") && detail.contains("exit code 1"), "{detail}");
    agimo.until_served("web.test").await;
}

// === impl FailingWorkload ===

impl FailingWorkload {
    /// Asserts that a request is held to its deadline and that response, `/services` and log give the reason.
    async fn assert_reported(&self, agimo: &Agimo) {
        let host = host(&self.sample);
        let response = agimo.get(&host, "/").await;
        let head = &response.head;
        assert_eq!((response.status, response.reason()), (504, Some(self.reason)), "{head}");
        let detail = response.header("x-agimo-detail").unwrap_or_else(|| panic!("{head}"));
        assert!(detail.contains(self.detail), "{detail}");
        let status = agimo.service_status(&host).await;
        assert_eq!(status["reason"], self.reason, "{status}");
        assert!(status["detail"].as_str().unwrap().contains(self.detail), "{status}");
        let in_json = self.detail.replace('"', "\\\"");
        let logged = |line: &String| line.contains("not ready yet") && line.contains(&in_json);
        assert!(agimo.log().iter().any(logged), "the log does not report {host}");
    }
}

fn host(sample: &Sample) -> String {
    format!("{}.test", sample.name)
}

#[tokio::test]
async fn a_wake_that_never_gets_ready_is_given_up_and_a_zero_of_somebody_else_is_respected() {
    let namespace = Namespace::new("given-up").await;
    let broken = namespace.deployment("broken").argument("-crash-at-start").apply().await;
    let keys = "scaler = \"agimo\"\ntimeout = \"1s\"\nsleep_after = \"3s\"";
    let agimo = start_agimo(&broken.service_config("broken.test", keys)).await;
    assert_eq!(agimo.get("broken.test", "/").await.status, 504);
    broken.until_replicas(1).await;
    agimo.until_event("wake_given_up").await;
    broken.until_asleep().await;

    let keys = keys.replace("3s", "1h");
    let second = namespace.deployment("second").argument("-crash-at-start").apply().await;
    let agimo = start_agimo(&second.service_config("second.test", &keys)).await;
    assert_eq!(agimo.get("second.test", "/").await.status, 504);
    second.until_replicas(1).await;
    second.scale(0).await;
    agimo.until_event("wake_cancelled").await;
    let generation = second.generation().await;
    // As many looks of agimo at its demand as it would need to write again.
    for _ in 0..20 {
        assert_eq!(agimo.service_status("second.test").await["state"], "asleep");
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    assert_eq!((second.current_replicas().await, second.generation().await), (0, generation));
    assert_eq!(agimo.get("second.test", "/").await.status, 504);
    second.until_replicas(1).await;
}
