//! agimo more than once: each wakes by itself, and none puts to sleep what another may have open.

use std::time::Duration;

use serde_json::json;

use crate::fixtures::{Helm, Namespace, Release};

#[tokio::test]
async fn two_wake_and_never_lower_until_there_is_one() {
    const SLEEP_AFTER: Duration = Duration::from_secs(1);
    let namespace = Namespace::new("replicas").await;
    let web = namespace.deployment("web").apply().await;
    let config = web.service("web.test", "scaler = \"agimo\"\nsleep_after = \"1s\"");
    let release = Release::install(&namespace, &json!({ "config": config, "replicas": 2 })).await;
    let budget = "jsonpath={.spec.maxUnavailable} of {.status.expectedPods}";
    let budget = release.kubectl(&["get", "poddisruptionbudget", "agimo", "-o", budget]).await;
    assert_eq!(budget, "1 of 2");
    let notes = Helm::run(&["get", "notes", "agimo", "--namespace", &namespace.name]).await;
    assert!(notes.contains("With more than one replica agimo wakes workloads and"), "{notes}");

    assert_eq!(release.get("web.test", "/").await.status, 200);
    // The idle time is what is tested: several times as long as one replica waits.
    tokio::time::sleep(SLEEP_AFTER * 4).await;
    assert_eq!(web.current_replicas().await, 1);
    for pod in release.pods().await {
        assert_eq!(release.shown(&pod, "web.test").await["kept_awake_by"], "peers");
        let log = release.log_of(&pod).await;
        assert!(log.contains("does not put it to sleep"), "{log}");
    }

    release.set("replicas=1").await;
    web.until_asleep().await;
    let pod = release.until_pods(1).await.remove(0);
    assert!(release.shown(&pod, "web.test").await["kept_awake_by"].is_null());
    assert_eq!(release.get("web.test", "/").await.status, 200);
}
