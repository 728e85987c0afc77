//! agimo restarts while a workload is asleep.

use rustix::process::Signal;
use serde_json::json;

use crate::fixtures::{Namespace, Release, start_agimo_with_arguments};
use crate::support::eventually;

#[tokio::test]
async fn replicas_before_sleep_survive_a_restart_of_agimo() {
    const REPLICAS: u32 = 3;
    let namespace = Namespace::new("restart").await;
    let web = namespace.deployment("web").replicas(REPLICAS).apply().await;
    web.until_ready(REPLICAS).await;
    let config = web.service_config("web.test", "scaler = \"agimo\"\nsleep_after = \"2s\"");
    let release = Release::install(&namespace, &json!({ "config": config })).await;
    web.until_asleep().await;

    let old = release.until_pod_count(1).await.remove(0);
    release.kubectl(&["delete", "pod", &old, "--timeout=20s"]).await;
    let new = eventually("a new pod of agimo", || async {
        release.pod_names().await.into_iter().find(|pod| *pod != old)
    })
    .await;
    release.kubectl(&["wait", "--for=condition=Ready", "--timeout=20s", "pod", &new]).await;
    release.until_reachable().await;
    assert_eq!(web.current_replicas().await, 0);

    let response = release.get("web.test", "/").await;
    assert_eq!(response.status, 200, "{}", response.head);
    assert_eq!(web.current_replicas().await, REPLICAS);
}

#[tokio::test]
async fn a_leader_that_ends_releases_the_lease() {
    let namespace = Namespace::new("lease").await;
    let web = namespace.deployment("web").apply().await;
    let config = web.service_config("web.test", "scaler = \"agimo\"");
    let lease = format!("{}/agimo", namespace.name);
    let mut agimo = start_agimo_with_arguments(&config, &["--lease", &lease]).await;
    agimo.until_metric("agimo_leader", 1.0).await;
    let holder = || {
        let path = "jsonpath={.spec.holderIdentity}";
        namespace.kubectl(&["get", "lease", "agimo", "-o", path])
    };
    assert!(holder().starts_with("agimo-"));
    agimo.signal(Signal::TERM);
    assert!(agimo.wait_for_exit().await.success());
    assert_eq!(holder(), "", "nobody has to wait until it expires");
}
