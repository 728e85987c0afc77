//! Several replicas of agimo: each wakes workloads, and none puts a workload to sleep, because it does not know the open
//! requests of the others.

use serde_json::json;

use crate::fixtures::{
    Helm, Namespace, Release, SampleRequest, SleepCycles, start_agimo, start_agimo_with_arguments,
};

#[tokio::test]
async fn agimo_with_a_peer_wakes_a_workload_and_puts_it_to_sleep_only_after_the_peer_is_gone() {
    let namespace = Namespace::new("peers").await;
    let web = namespace.deployment("web").apply().await;
    let cycles = SleepCycles::apply(&namespace, "1s").await;
    // The endpoints of this Service stand for two replicas of agimo; the agimo under test is a process on the node.
    let peers = namespace.deployment("peers").replicas(2).apply().await;
    peers.until_ready(2).await;
    let service = web.service_config("web.test", "scaler = \"agimo\"\nsleep_after = \"1s\"");
    let name = format!("{}/peers", namespace.name);
    let agimo = start_agimo_with_arguments(&service, &["--peer-service", &name]).await;
    SampleRequest::get("web.test").send_once(agimo.address).await;
    assert_eq!(agimo.service_status("web.test").await["kept_awake_by"], "peers");
    assert_eq!(agimo.until_event("sleep_blocked").await["by"], "peers");

    // An agimo without peers puts its workload to sleep several times meanwhile.
    let without_peers = start_agimo(&cycles.service_config()).await;
    cycles.assert_stays_awake(&without_peers, &web).await;
    assert_eq!(agimo.service_status("web.test").await["state"], "awake");

    peers.scale(1).await;
    web.until_asleep().await;
    assert!(agimo.service_status("web.test").await["kept_awake_by"].is_null());
}

#[tokio::test]
async fn two_replicas_of_a_release_wake_a_workload_and_one_replica_puts_it_to_sleep() {
    let namespace = Namespace::new("replicas").await;
    let web = namespace.deployment("web").apply().await;
    let cycles = SleepCycles::apply(&namespace, "1s").await;
    let config = web.service_config("web.test", "scaler = \"agimo\"\nsleep_after = \"1s\"");
    let release = Release::install(&namespace, &json!({ "config": config, "replicas": 2 })).await;
    let budget = "jsonpath={.spec.maxUnavailable} of {.status.expectedPods}";
    let budget = release.kubectl(&["get", "poddisruptionbudget", "agimo", "-o", budget]).await;
    assert_eq!(budget, "1 of 2");
    let notes = Helm::run(&["get", "notes", "agimo", "--namespace", &namespace.name]).await;
    assert!(notes.contains("With more than one replica, agimo wakes workloads but"), "{notes}");

    assert_eq!(release.get("web.test", "/").await.status, 200);
    // An agimo outside of the release, without peers, puts its workload to sleep several times meanwhile.
    let without_peers = start_agimo(&cycles.service_config()).await;
    cycles.assert_stays_awake(&without_peers, &web).await;
    assert_eq!(web.current_replicas().await, 1);
    for pod in release.pod_names().await {
        let status = release.service_status(&pod, "web.test").await;
        assert_eq!(
            (&status["state"], &status["kept_awake_by"]),
            (&json!("awake"), &json!("peers"))
        );
        let log = release.pod_log(&pod).await;
        assert!(log.contains("the workload stays awake"), "{log}");
    }

    release.upgrade_with("replicas=1").await;
    web.until_asleep().await;
    let pod = release.until_pod_count(1).await.remove(0);
    assert!(release.service_status(&pod, "web.test").await["kept_awake_by"].is_null());
    assert_eq!(release.get("web.test", "/").await.status, 200);
}
