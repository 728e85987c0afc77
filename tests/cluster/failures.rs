//! Wakes that cannot succeed: the client, the log and `/services` say why, and all is well once the cause is gone.

use futures_util::future::join_all;
use serde_json::json;

use crate::fixtures::{Kubectl, Namespace, Sample, agimo};
use crate::support::agimo::Agimo;
use crate::support::eventually;

/// Long enough for the kubelet, the scheduler and the controllers to say what they have to say.
const KEYS: &str = "scaler = \"agimo\"\ntimeout = \"6s\"";

/// A workload that does not come up, and what is to be said of it.
struct Sick {
    sample: Sample,
    reason: &'static str,
    words: &'static str,
}

#[tokio::test]
async fn a_wake_that_cannot_succeed_says_why_and_heals() {
    let namespace = Namespace::new("sick").await;
    let room = "agimo.test/room";
    let settings = json!([{ "name": "settings", "configMap": { "name": "settings" } }]);
    let mounts = json!([{ "name": "settings", "mountPath": "/settings" }]);
    let from = json!({ "configMapKeyRef": { "name": "settings", "key": "mood" } });
    let sick = [
        Sick {
            sample: namespace.deployment("image").image("agimo.test/unknown:1"),
            reason: "image-unavailable",
            words: "agimo.test/unknown:1",
        },
        Sick {
            sample: namespace.deployment("crash").argument("-crash-at-start"),
            reason: "crash-loop",
            words: "exit code 1",
        },
        Sick {
            sample: namespace
                .stateful_set("place")
                .pod_spec("nodeSelector", json!({ room: namespace.name })),
            reason: "unschedulable",
            words: "didn't match Pod's node affinity/selector",
        },
        Sick {
            sample: namespace
                .deployment("volume")
                .pod_spec("volumes", settings)
                .container("volumeMounts", mounts),
            reason: "container-refused",
            words: "configmap \"settings\" not found",
        },
        Sick {
            sample: namespace
                .deployment("variable")
                .container("env", json!([{ "name": "MOOD", "valueFrom": from }])),
            reason: "container-refused",
            words: "configmap \"settings\" not found",
        },
    ];
    let mut services = String::new();
    for Sick { sample, .. } in &sick {
        services += &sample.clone().apply().await.service(&host(sample), KEYS);
    }
    let agimo = agimo(&services).await;
    join_all(sick.iter().map(|sick| sick.is_told(&agimo))).await;

    let reference = format!("{room}={}", namespace.name);
    Kubectl::run(&["label", "node", "node", &reference]);
    namespace.kubectl(&["create", "configmap", "settings", "--from-literal=mood=good"]);
    namespace.kubectl(&["set", "image", "deployment/image", "sample=agimo.test/sample:1"]);
    let path = "/spec/template/spec/containers/0/args";
    let patch = json!([{ "op": "remove", "path": path }]).to_string();
    namespace.kubectl(&["patch", "deployment/crash", "--type=json", "-p", &patch]);
    for Sick { sample, .. } in &sick {
        until_answered(&agimo, &host(sample)).await;
        assert!(agimo.shown(&host(sample)).await["reason"].is_null());
    }
    Kubectl::run(&["label", "node", "node", &format!("{room}-")]);
}

#[tokio::test]
async fn a_quota_is_told_and_a_request_that_waits_is_answered_once_it_is_gone() {
    let namespace = Namespace::new("quota").await;
    namespace.kubectl(&["create", "quota", "none", "--hard=pods=0"]);
    // Before its controller has looked, the API server has other words for it.
    eventually("the quota to hold", || async {
        let hard = "jsonpath={.status.hard.pods}";
        (namespace.kubectl(&["get", "quota", "none", "-o", hard]) == "0").then_some(())
    })
    .await;
    let words = "exceeded quota: none";
    let sick = [namespace.deployment("web"), namespace.stateful_set("db")].map(|sample| Sick {
        sample,
        reason: "pods-refused",
        words,
    });
    let mut services = String::new();
    for Sick { sample, .. } in &sick {
        services += &sample.clone().apply().await.service(&host(sample), KEYS);
    }
    let agimo = agimo(&services).await;
    join_all(sick.iter().map(|sick| sick.is_told(&agimo))).await;
    namespace.kubectl(&["delete", "quota", "none"]);
    for Sick { sample, .. } in &sick {
        until_answered(&agimo, &host(sample)).await;
    }
}

#[tokio::test]
async fn what_crashes_after_it_was_ready_is_held_for_with_the_reason_and_used_when_it_is_back() {
    let namespace = Namespace::new("crashes").await;
    let web = namespace.deployment("web").argument("-crash-after=3s").without_probe();
    let web = web.apply().await;
    let keys = "scaler = \"agimo\"\ntimeout = \"1s\"";
    let agimo = agimo(&web.service("web.test", keys)).await;
    until_answered(&agimo, "web.test").await;
    let told = eventually("a request that meets the crash", || async {
        let response = agimo.get("web.test", "/").await;
        (response.reason() == Some("crash-loop")).then_some(response)
    })
    .await;
    assert_eq!(told.status, 504);
    let detail = told.header("x-agimo-detail").unwrap();
    assert!(detail.contains("container sample") && detail.contains("exit code 1"), "{detail}");
    until_answered(&agimo, "web.test").await;
}

// === impl Sick ===

impl Sick {
    /// A first request is held to its deadline, and everybody is told the reason.
    async fn is_told(&self, agimo: &Agimo) {
        let host = host(&self.sample);
        let response = agimo.get(&host, "/").await;
        let told = &response.head;
        assert_eq!((response.status, response.reason()), (504, Some(self.reason)), "{told}");
        let detail = response.header("x-agimo-detail").unwrap_or_else(|| panic!("{told}"));
        assert!(detail.contains(self.words), "{detail}");
        let shown = agimo.shown(&host).await;
        assert_eq!(shown["reason"], self.reason, "{shown}");
        assert!(shown["detail"].as_str().unwrap().contains(self.words), "{shown}");
        let words = self.words.replace('"', "\\\"");
        let logged = |line: &String| line.contains("not ready yet") && line.contains(&words);
        assert!(agimo.log().iter().any(logged), "{host} is not in the log");
    }
}

fn host(sample: &Sample) -> String {
    format!("{}.test", sample.name)
}

async fn until_answered(agimo: &Agimo, host: &str) {
    eventually(&format!("an answer of {host}"), || async {
        (agimo.get(host, "/").await.status == 200).then_some(())
    })
    .await;
}
