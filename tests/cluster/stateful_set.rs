//! StatefulSets: their pods keep their names, and start one after the other unless the policy is `Parallel`.

use std::time::Duration;

use serde_json::json;

use crate::fixtures::{Load, Namespace, Sample, SampleRequest, start_agimo};
use crate::support::agimo::Agimo;

#[tokio::test]
async fn stateful_sets_of_both_pod_management_policies_wake_to_their_replicas_before_sleep() {
    let namespace = Namespace::new("policies").await;
    let policies = [("ordered", "OrderedReady"), ("parallel", "Parallel")];
    let mut samples = Vec::new();
    let mut services = String::new();
    for (name, policy) in policies {
        let sample =
            namespace.stateful_set(name).workload_field("podManagementPolicy", json!(policy));
        let sample = sample.apply().await;
        services += &sample
            .service_config(&format!("{name}.test"), "scaler = \"agimo\"\nsleep_after = \"3s\"");
        samples.push(sample);
    }
    let agimo = start_agimo(&services).await;
    for (name, _) in policies {
        let response = SampleRequest::get(&format!("{name}.test")).send_once(agimo.address).await;
        assert!(response.text().contains(&format!("{name}-0")), "{}", response.text());
    }
    for sample in &samples {
        sample.scale(2).await;
    }
    until_two_pods_are_ready(&agimo, &samples).await;
    for sample in &samples {
        sample.until_asleep().await;
    }
    until_two_pods_are_ready(&agimo, &samples).await;
    for sample in &samples {
        assert!(agimo.successful_wakes(&host(sample)).await >= 2.0);
    }
}

#[tokio::test]
async fn a_wake_waits_until_the_terminating_pod_of_the_same_name_is_gone_and_sends_it_no_request() {
    let namespace = Namespace::new("slow-stop").await;
    let db = namespace.stateful_set("db").slow_stop(Duration::from_secs(4)).apply().await;
    let agimo =
        start_agimo(&db.service_config("db.test", "scaler = \"agimo\"\nsleep_after = \"1s\""))
            .await;
    let get = SampleRequest::get("db.test");
    get.send_once(agimo.address).await;
    let pod_uid = ["get", "pod", "db-0", "-o", "jsonpath={.metadata.uid}"];
    let old = db.kubectl(&pod_uid).await;
    db.until_replicas(0).await;
    // The old pod is terminating and still serves; its successor of the same name starts after it has ended.
    get.send_once(agimo.address).await;
    assert_ne!(db.kubectl(&pod_uid).await, old);
    assert_eq!(agimo.successful_wakes("db.test").await, 2.0);
}

fn host(sample: &Sample) -> String {
    format!("{}.test", sample.name)
}

/// Waits until each has two ready pods. A load wakes them and keeps them awake meanwhile.
async fn until_two_pods_are_ready(agimo: &Agimo, samples: &[Sample]) {
    let loads = samples.iter().map(|sample| Load::start(agimo, &SampleRequest::get(&host(sample))));
    let loads: Vec<_> = loads.collect();
    for sample in samples {
        agimo.until_ready_endpoints(&host(sample), 2).await;
    }
    for load in loads {
        load.stop().await;
    }
}

#[tokio::test]
async fn a_host_leads_to_the_pod_that_it_names() {
    let namespace = Namespace::new("ordinals").await;
    let db = namespace.stateful_set("db").replicas(2).apply().await;
    let keys = "scaler = \"agimo\"\nsleep_after = \"2s\"\naffinity = \"host\"\ntimeout = \"8s\"";
    let agimo = start_agimo(&db.service_config("*.db.test", keys)).await;
    agimo.until_ready_endpoints("*.db.test", 2).await;
    for _ in 0..2 {
        // After the first round the workload sleeps, and a request for the second pod waits for that one.
        for pod in ["db-1", "db-0", "db-1", "db-1", "db-0"] {
            let host = format!("{pod}.db.test");
            let response = SampleRequest::get(&host).send_once(agimo.address).await;
            assert!(
                response.text().starts_with(&format!("hello from {pod}")),
                "{}",
                response.text()
            );
        }
        db.until_asleep().await;
    }
    let unknown = agimo.get("db.db.test", "/").await;
    assert_eq!((unknown.status, unknown.reason()), (404, Some("unknown-host")));
    let missing = agimo.get("db-7.db.test", "/").await;
    assert_eq!(
        (missing.status, missing.reason()),
        (504, Some("wake-not-ready")),
        "{}",
        missing.head
    );
    assert!(missing.header("x-agimo-detail").unwrap().contains("replica 7 is not ready"));
}
