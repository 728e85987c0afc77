//! `scaler = "agimo"`: the first request wakes a workload, idleness puts it to sleep, and no request is lost in between.

use std::time::Duration;

use crate::fixtures::{Namespace, SampleRequest, start_agimo};
use crate::support::client::Client;
use crate::support::eventually;

#[tokio::test]
async fn a_deployment_and_a_stateful_set_wake_and_sleep() {
    let namespace = Namespace::new("scaling").await;
    let web = namespace.deployment("web").apply().await;
    let db = namespace.stateful_set("db").apply().await;
    let keys = "scaler = \"agimo\"\nsleep_after = \"2s\"";
    let services = web.service_config("web.test", keys) + &db.service_config("db.test", keys);
    let agimo = start_agimo(&services).await;
    for (sample, host) in [(&web, "web.test"), (&db, "db.test")] {
        let response = agimo.get(host, "/").await;
        assert_eq!(response.status, 200);
        assert!(response.text().starts_with(&format!("hello from {}", sample.name)));
        assert_eq!(sample.current_replicas().await, 1);
    }
    for sample in [&web, &db] {
        sample.until_asleep().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_hundred_concurrent_first_requests_cause_one_wake_and_are_all_served() {
    let namespace = Namespace::new("concurrent").await;
    let web = namespace.deployment("web").slow_start(Duration::from_secs(1)).apply().await;
    let agimo = start_agimo(&web.service_config("web.test", "scaler = \"agimo\"")).await;
    let requests = (0..500).map(|_| {
        let address = agimo.address;
        tokio::spawn(async move {
            let mut client = Client::connect(address).await;
            client.send("GET / HTTP/1.1\r\nHost: web.test\r\n\r\n").await;
            client.response().await.status
        })
    });
    let requests: Vec<_> = requests.collect();
    for request in requests {
        assert_eq!(request.await.unwrap(), 200);
    }
    assert_eq!(agimo.successful_wakes("web.test").await, 1.0);
    // The creation and one write of `replicas`.
    assert_eq!(web.generation().await, 2);
}

#[tokio::test]
async fn twenty_cycles_of_wake_and_sleep_lose_no_request() {
    const CYCLES: f64 = 20.0;
    let namespace = Namespace::new("cycles").await;
    let web = namespace.deployment("web").apply().await;
    let keys = "scaler = \"agimo\"\nsleep_after = \"1s\"";
    let agimo = start_agimo(&web.service_config("web.test", keys)).await;
    let get = SampleRequest::get("web.test");
    // Most pauses are long enough for the workload to fall asleep; one is too short.
    let pauses = [1_300, 1_150, 400, 1_500].map(Duration::from_millis);
    for pause in pauses.iter().cycle().take(60) {
        get.send_once(agimo.address).await;
        if agimo.successful_wakes("web.test").await >= CYCLES {
            break;
        }
        tokio::time::sleep(*pause).await;
    }
    assert!(agimo.successful_wakes("web.test").await >= CYCLES);
    web.until_asleep().await;
}

#[tokio::test]
async fn a_workload_scaled_by_someone_else_is_used_at_once_and_put_to_sleep_when_idle() {
    let namespace = Namespace::new("scaled").await;
    let web = namespace.deployment("web").apply().await;
    let keys = "scaler = \"agimo\"\nsleep_after = \"2s\"";
    let agimo = start_agimo(&web.service_config("web.test", keys)).await;
    web.scale(2).await;
    agimo.until_ready_endpoints("web.test", 2).await;
    SampleRequest::get("web.test").send_once(agimo.address).await;
    assert_eq!(agimo.successful_wakes("web.test").await, 0.0);
    web.until_asleep().await;
    // A wake restores the number of replicas that the workload had before it slept.
    SampleRequest::get("web.test").send_once(agimo.address).await;
    assert_eq!(web.current_replicas().await, 2);
}

#[tokio::test]
async fn a_workload_is_not_put_to_sleep_during_a_rollout_that_does_not_finish() {
    let namespace = Namespace::new("rollout").await;
    let web = namespace.deployment("web").apply().await;
    let idle = namespace.deployment("idle").apply().await;
    let keys = "scaler = \"agimo\"\nsleep_after = \"2s\"";
    let services = web.service_config("web.test", keys) + &idle.service_config("idle.test", keys);
    let agimo = start_agimo(&services).await;
    SampleRequest::get("web.test").send_once(agimo.address).await;
    // The new pods never become ready; the old one serves on.
    web.kubectl(&["set", "image", "deployment/web", "sample=agimo.test/unknown:1"]).await;
    eventually("the rollout to keep the workload awake", || async {
        let status = agimo.service_status("web.test").await;
        (status["kept_awake_by"] == "rollout").then_some(())
    })
    .await;
    // Another workload with the same idle time is put to sleep several times meanwhile.
    for _ in 0..3 {
        SampleRequest::get("idle.test").send_once(agimo.address).await;
        idle.until_asleep().await;
    }
    assert_eq!(web.current_replicas().await, 1);
    SampleRequest::get("web.test").send_once(agimo.address).await;
    assert_eq!(agimo.successful_wakes("web.test").await, 1.0);
    web.kubectl(&["rollout", "undo", "deployment/web"]).await;
    web.until_asleep().await;
}
