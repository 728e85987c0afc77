//! Parts of Kubernetes that are away, hang or come late: what runs goes on, what is cold waits, and all is right again
//! without a restart of agimo. Tests run in the order of their names, and these last: Prometheus, kube-state-metrics and
//! KEDA look at what they missed only half a minute later.

use std::time::Duration;

use crate::fixtures::outage::{Outage, until_the_api_answers};
use crate::fixtures::{Load, Namespace, Question, agimo};
use crate::support::agimo::Agimo;
use crate::support::eventually;

#[tokio::test]
async fn without_the_api_server_warm_requests_go_on_and_cold_ones_are_held_to_their_deadline() {
    let namespace = Namespace::alone("api").await;
    let web = namespace.deployment("web").replicas(1).apply().await;
    let cold = namespace.deployment("cold").apply().await;
    let gone = namespace.deployment("gone").apply().await;
    let keys = "scaler = \"agimo\"\ntimeout = \"3s\"";
    let services = web.service("web.test", "")
        + &cold.service("cold.test", keys)
        + &gone.service("gone.test", keys);
    let agimo = agimo(&services).await;
    agimo.until_ready_endpoints("web.test", 1).await;
    let load = Load::begin(&agimo, &Question::get("web.test"));

    let outage = Outage::stop("kube-apiserver").await;
    let until = tokio::time::Instant::now() + Duration::from_secs(30);
    let response = agimo.get("cold.test", "/").await;
    assert_eq!((response.status, response.reason()), (504, Some("readiness-unknown")));
    let detail = response.header("x-agimo-detail").unwrap();
    assert!(detail.contains("the API server"), "{detail}");
    // The outage lasts for longer than every pause between two tries.
    tokio::time::sleep_until(until).await;
    outage.end().await;

    until_the_api_answers().await;
    // By themselves they would wait for up to half a minute before they ask again.
    for part in ["kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy", "coredns"] {
        Outage::kill(part).await;
    }
    gone.kubectl(&["delete", "deployment,service", "gone"]).await;
    until_answered(&agimo, "cold.test").await;
    agimo.until_reason("gone.test", "workload-missing").await;
    assert_eq!(agimo.admin("/readyz").await.status, 200);
    load.end().await;
}

#[tokio::test]
async fn an_api_server_that_hangs_is_like_one_that_is_away() {
    let namespace = Namespace::alone("hangs").await;
    let web = namespace.deployment("web").replicas(1).apply().await;
    let cold = namespace.deployment("cold").apply().await;
    let keys = "scaler = \"agimo\"\ntimeout = \"6s\"";
    let services = web.service("web.test", "") + &cold.service("cold.test", keys);
    let agimo = agimo(&services).await;
    agimo.until_ready_endpoints("web.test", 1).await;
    let load = Load::begin(&agimo, &Question::get("web.test"));
    let outage = Outage::pause("kube-apiserver").await;
    let response = agimo.get("cold.test", "/").await;
    assert_eq!((response.status, response.reason()), (504, Some("readiness-unknown")));
    assert!(response.header("x-agimo-detail").unwrap().contains("did not answer within 5 s"));
    outage.end().await;
    until_answered(&agimo, "cold.test").await;
    load.end().await;
}

#[tokio::test]
async fn a_wake_outlasts_the_crash_of_any_part() {
    let namespace = Namespace::alone("parts").await;
    let parts = ["etcd", "kube-controller-manager", "kube-scheduler", "kube-apiserver"];
    let web = namespace.deployment("web").replicas(1).apply().await;
    let mut services = web.service("web.test", "");
    for part in parts {
        let sample = namespace.deployment(part).apply().await;
        services += &sample.service(&format!("{part}.test"), "scaler = \"agimo\"");
    }
    let agimo = agimo(&services).await;
    agimo.until_ready_endpoints("web.test", 1).await;
    let load = Load::begin(&agimo, &Question::get("web.test"));
    for part in parts {
        Outage::kill(part).await;
        Question::get(&format!("{part}.test")).ask_once(agimo.address).await;
    }
    load.end().await;
}

#[tokio::test]
async fn a_request_waits_for_a_kubelet_that_hangs() {
    let namespace = Namespace::alone("kubelet").await;
    let web = namespace.deployment("web").replicas(1).apply().await;
    let cold = namespace.deployment("cold").apply().await;
    let services = web.service("web.test", "") + &cold.service("cold.test", "scaler = \"agimo\"");
    let agimo = agimo(&services).await;
    agimo.until_ready_endpoints("web.test", 1).await;
    let outage = Outage::pause("kubelet").await;
    let get = Question::get("cold.test");
    let held = get.ask_once(agimo.address);
    let meanwhile = async {
        eventually("a pod that nobody starts", || async {
            (!cold.pods().await.is_empty()).then_some(())
        })
        .await;
        Question::get("web.test").ask_once(agimo.address).await;
        assert_eq!(agimo.shown("cold.test").await["held_requests"], 1);
        outage.end().await;
    };
    tokio::join!(held, meanwhile);
}

#[tokio::test]
async fn a_late_endpoint_slice_is_not_waited_for() {
    let namespace = Namespace::alone("late").await;
    let web = namespace.deployment("web").slow_start(Duration::from_secs(3)).apply().await;
    let keys = "scaler = \"agimo\"\nsleep_after = \"3s\"";
    let agimo = agimo(&web.service("web.test", keys)).await;
    let get = Question::get("web.test");
    let held = get.ask_once(agimo.address);
    let late = async {
        // Its container runs and does not listen yet.
        agimo.until_logged("container started").await;
        Outage::pause("kube-controller-manager").await
    };
    let (_, outage) = tokio::join!(held, late);
    let selector = "kubernetes.io/service-name=web";
    let slices = web.kubectl(&["get", "endpointslices", "-l", selector, "-o", "json"]).await;
    assert!(!slices.contains("\"ready\": true"), "the slice was in time: {slices}");
    get.ask_once(agimo.address).await;
    outage.end().await;
    web.until_asleep().await;
}

async fn until_answered(agimo: &Agimo, host: &str) {
    eventually(&format!("an answer of {host}"), || async {
        (agimo.get(host, "/").await.status == 200).then_some(())
    })
    .await;
}
