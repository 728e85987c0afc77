//! Parts of Kubernetes are stopped, hang or are slow: warm requests continue, cold requests are held, and agimo recovers
//! without a restart. libtest runs tests in the order of their names, and these tests have to run last: Prometheus,
//! kube-state-metrics and KEDA need up to half a minute after an outage before they connect again, so tests that use them
//! would fail.

use std::time::Duration;

use crate::fixtures::outage::{Outage, until_api_server_answers};
use crate::fixtures::{Load, Namespace, SampleRequest, start_agimo};
use crate::support::eventually;

/// Longer than the longest backoff between two attempts of agimo to reach the API server.
const OUTAGE: Duration = Duration::from_secs(30);

#[tokio::test]
async fn while_the_api_server_is_down_warm_requests_continue_and_cold_requests_are_held_to_their_deadline()
 {
    let namespace = Namespace::exclusive("api").await;
    let web = namespace.deployment("web").replicas(1).apply().await;
    let cold = namespace.deployment("cold").apply().await;
    let deleted = namespace.deployment("deleted").apply().await;
    let keys = "scaler = \"agimo\"\ntimeout = \"3s\"";
    let services = web.service_config("web.test", "")
        + &cold.service_config("cold.test", keys)
        + &deleted.service_config("deleted.test", keys);
    let agimo = start_agimo(&services).await;
    agimo.until_ready_endpoints("web.test", 1).await;
    let load = Load::start(&agimo, &SampleRequest::get("web.test"));

    let outage = Outage::stop("kube-apiserver").await;
    let end = tokio::time::Instant::now() + OUTAGE;
    let response = agimo.get("cold.test", "/").await;
    assert_eq!((response.status, response.reason()), (504, Some("readiness-unknown")));
    let detail = response.header("x-agimo-detail").unwrap();
    assert!(detail.contains("the API server"), "{detail}");
    tokio::time::sleep_until(end).await;
    outage.end().await;

    until_api_server_answers().await;
    // Restarted, they connect at once; otherwise their backoff delays that by up to half a minute.
    for part in ["kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy", "coredns"] {
        Outage::kill(part).await;
    }
    deleted.kubectl(&["delete", "deployment,service", "deleted"]).await;
    agimo.until_served("cold.test").await;
    agimo.until_reason("deleted.test", "workload-missing").await;
    assert_eq!(agimo.admin("/readyz").await.status, 200);
    load.stop().await;
}

#[tokio::test]
async fn an_api_server_that_hangs_is_treated_like_one_that_is_down() {
    let namespace = Namespace::exclusive("hangs").await;
    let web = namespace.deployment("web").replicas(1).apply().await;
    let cold = namespace.deployment("cold").apply().await;
    let keys = "scaler = \"agimo\"\ntimeout = \"6s\"";
    let services = web.service_config("web.test", "") + &cold.service_config("cold.test", keys);
    let agimo = start_agimo(&services).await;
    agimo.until_ready_endpoints("web.test", 1).await;
    let load = Load::start(&agimo, &SampleRequest::get("web.test"));
    let outage = Outage::pause("kube-apiserver").await;
    let response = agimo.get("cold.test", "/").await;
    assert_eq!((response.status, response.reason()), (504, Some("readiness-unknown")));
    assert!(response.header("x-agimo-detail").unwrap().contains("did not answer within 5 s"));
    outage.end().await;
    agimo.until_served("cold.test").await;
    load.stop().await;
}

#[tokio::test]
async fn a_wake_succeeds_after_a_crash_of_each_part_of_the_control_plane() {
    let namespace = Namespace::exclusive("parts").await;
    let parts = ["etcd", "kube-controller-manager", "kube-scheduler", "kube-apiserver"];
    let web = namespace.deployment("web").replicas(1).apply().await;
    let mut services = web.service_config("web.test", "");
    for part in parts {
        let sample = namespace.deployment(part).apply().await;
        services += &sample.service_config(&format!("{part}.test"), "scaler = \"agimo\"");
    }
    let agimo = start_agimo(&services).await;
    agimo.until_ready_endpoints("web.test", 1).await;
    let load = Load::start(&agimo, &SampleRequest::get("web.test"));
    for part in parts {
        Outage::kill(part).await;
        SampleRequest::get(&format!("{part}.test")).send_once(agimo.address).await;
    }
    load.stop().await;
}

#[tokio::test]
async fn a_cold_request_is_held_while_the_kubelet_hangs() {
    let namespace = Namespace::exclusive("kubelet").await;
    let web = namespace.deployment("web").replicas(1).apply().await;
    let cold = namespace.deployment("cold").apply().await;
    let services = web.service_config("web.test", "")
        + &cold.service_config("cold.test", "scaler = \"agimo\"");
    let agimo = start_agimo(&services).await;
    agimo.until_ready_endpoints("web.test", 1).await;
    let outage = Outage::pause("kubelet").await;
    let get = SampleRequest::get("cold.test");
    let held = get.send_once(agimo.address);
    let while_paused = async {
        eventually("a pod that the paused kubelet does not start", || async {
            (!cold.pod_names().await.is_empty()).then_some(())
        })
        .await;
        SampleRequest::get("web.test").send_once(agimo.address).await;
        assert_eq!(agimo.service_status("cold.test").await["held_requests"], 1);
        outage.end().await;
    };
    tokio::join!(held, while_paused);
}

#[tokio::test]
async fn a_wake_does_not_wait_for_a_late_endpoint_slice() {
    let namespace = Namespace::exclusive("late").await;
    let web = namespace.deployment("web").slow_start(Duration::from_secs(3)).apply().await;
    let keys = "scaler = \"agimo\"\nsleep_after = \"3s\"";
    let agimo = start_agimo(&web.service_config("web.test", keys)).await;
    let get = SampleRequest::get("web.test");
    let held = get.send_once(agimo.address);
    let pause = async {
        // The container runs and does not listen yet, so the pod is not ready.
        agimo.until_event("container_started").await;
        Outage::pause("kube-controller-manager").await
    };
    let (_, outage) = tokio::join!(held, pause);
    let selector = "kubernetes.io/service-name=web";
    let slices = web.kubectl(&["get", "endpointslices", "-l", selector, "-o", "json"]).await;
    assert!(!slices.contains("\"ready\": true"), "the slice was not late: {slices}");
    get.send_once(agimo.address).await;
    outage.end().await;
    web.until_asleep().await;
}
