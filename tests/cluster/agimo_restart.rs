//! agimo restarts while a workload is asleep.

use serde_json::json;

use crate::fixtures::{Namespace, Release};
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
