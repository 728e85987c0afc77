//! `early_ready`: agimo runs the readiness probe of a pod that starts, and forwards before the kubelet knows.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::fixtures::{Namespace, SampleRequest, start_agimo};

/// The kubelet does not probe sooner.
const INITIAL_DELAY: Duration = Duration::from_secs(15);
/// Between the container's start and the moment it listens.
const SLOW_START: Duration = Duration::from_secs(1);

#[tokio::test]
async fn a_request_is_forwarded_when_the_probe_passes_however_late_the_kubelet_runs_it() {
    let namespace = Namespace::new("early").await;
    let get = json!({ "httpGet": { "path": "/healthz", "port": "http" } });
    let connect = json!({ "tcpSocket": { "port": 8080 } });
    let encrypted = json!({ "httpGet": { "path": "/healthz", "port": 8443, "scheme": "HTTPS" } });
    let grpc = json!({ "grpc": { "port": 8080 } });
    for (name, probe) in [("get", get), ("connect", connect), ("https", encrypted), ("grpc", grpc)]
    {
        let web = namespace
            .deployment(name)
            .slow_start(SLOW_START)
            .argument("--https=:8443")
            .without_readiness_probe()
            .container_field("readinessProbe", with_delay(probe))
            .apply()
            .await;
        let keys = "scaler = \"agimo\"\nearly_ready = true\nsleep_after = \"2s\"";
        let agimo = start_agimo(&web.service_config("web.test", keys)).await;
        let began = Instant::now();
        SampleRequest::get("web.test").send_once(agimo.address).await;
        assert!(began.elapsed() > SLOW_START, "{name}: before the application listened");
        assert!(began.elapsed() < INITIAL_DELAY, "{name}: {:?}", began.elapsed());
        // The endpoint stays although Kubernetes does not list it yet.
        SampleRequest::get("web.test").send_once(agimo.address).await;
        assert_eq!(web.field("{.status.readyReplicas}").await, "");
        web.until_asleep().await;
    }
}

fn with_delay(mut probe: Value) -> Value {
    probe["initialDelaySeconds"] = json!(INITIAL_DELAY.as_secs());
    probe
}
