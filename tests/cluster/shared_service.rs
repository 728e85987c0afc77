//! Two Deployments behind one Service, as in a canary release: only the pods of the one that sleeps leave.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::fixtures::{Namespace, SampleRequest, start_agimo};

#[tokio::test]
async fn after_one_workload_slept_requests_go_to_the_other_at_once_and_wake_the_first() {
    let namespace = Namespace::new("shared").await;
    let samples = ["web", "web-canary"]
        .map(|name| namespace.deployment(name).replicas(1).pod_label("group", "shop"));
    for sample in &samples {
        sample.apply_workload().await;
    }
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": { "name": "shop" },
        "spec": {
            "selector": { "group": "shop" },
            "ports": [{ "name": "http", "port": 80, "targetPort": "http" }],
        },
    });
    namespace.apply(&service.to_string());
    let [web, canary] = &samples;
    let keys = "scaler = \"agimo\"\nsleep_after = \"5s\"";
    let config = web.service_config("web.test", keys);
    let config = config.replace("service_name = \"web\"", "service_name = \"shop\"");
    let agimo = start_agimo(&config).await;
    agimo.until_ready_endpoints("web.test", 2).await;
    web.until_replicas(0).await;
    let sent = Instant::now();
    let response = SampleRequest::get("web.test").send_once(agimo.address).await;
    // agimo waits for old endpoints of the workload for two seconds, which those of the other are not.
    assert!(sent.elapsed() < Duration::from_secs(1), "{:?}", sent.elapsed());
    assert!(response.text().starts_with("hello from web-canary"), "{}", response.text());
    web.until_ready(1).await;
    assert_eq!(canary.current_replicas().await, 1);
}
