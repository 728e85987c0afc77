//! KEDA with a trigger of the type external-push: agimo tells it at once that a request waits, whichever replica holds it.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::fixtures::certificate::create_certificate;
use crate::fixtures::load::send_crowd;
use crate::fixtures::{Namespace, Release, WebSocket};
use crate::support::eventually;

/// KEDA asks this seldom: a workload that wakes sooner was woken by a push.
const POLLING_INTERVAL: Duration = Duration::from_secs(15);

/// A ScaledObject for the Deployment `web`, with this further metadata.
fn scaled_object(namespace: &Namespace, metadata: &[(&str, &str)]) -> Value {
    let address = format!("agimo-keda.{}:9092", namespace.name);
    let mut trigger = json!({
        "type": "external-push",
        "metadata": { "scalerAddress": address, "target": "10", "activeFor": "2s", "window": "5s" },
    });
    for (key, value) in metadata {
        trigger["metadata"][*key] = json!(value);
    }
    json!({
        "apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject",
        "metadata": { "name": "web", "namespace": namespace.name },
        "spec": {
            "scaleTargetRef": { "name": "web" }, "minReplicaCount": 0, "maxReplicaCount": 5,
            "pollingInterval": POLLING_INTERVAL.as_secs(), "cooldownPeriod": 1,
            "triggers": [trigger],
        },
    })
}

/// Waits until KEDA has connected and asked once.
async fn until_active_is(namespace: &Namespace, status: &str) {
    let path = "jsonpath={.status.conditions[?(@.type==\"Active\")].status}";
    eventually(&format!("a ScaledObject whose condition Active is {status}"), || async {
        let found = namespace.kubectl(&["get", "scaledobject", "web", "-o", path]);
        (found == status).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_request_held_by_any_replica_wakes_the_workload_by_a_push() {
    let namespace = Namespace::new("push").await;
    let web = namespace.deployment("web").apply().await;
    let config = web.service_config("web.test", "scaler = \"auto\"");
    let values = json!({ "config": config, "replicas": 2, "keda": { "enabled": true } });
    let release = Release::install(&namespace, &values).await;
    namespace.apply(&scaled_object(&namespace, &[]).to_string());
    for pod in release.until_pod_count(2).await {
        until_active_is(&namespace, "False").await;
        web.until_asleep().await;
        let address = release.pod_address(&pod, 8080).await;
        let began = Instant::now();
        let mut socket = WebSocket::open(address, "web.test").await;
        assert!(began.elapsed() < POLLING_INTERVAL / 2, "{:?}: KEDA has polled", began.elapsed());
        // Longer than KEDA waits: an open WebSocket keeps the workload active.
        until_active_is(&namespace, "True").await;
        socket.echo("still here").await;
        assert_eq!(web.current_replicas().await, 1);
        socket.close().await;
    }
    web.until_asleep().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_tls_keda_scales_a_workload_by_its_concurrency() {
    let namespace = Namespace::new("push-tls").await;
    let web = namespace.deployment("web").apply().await;
    let config = web.service_config("web.test", "scaler = \"auto\"");
    let authority = create_secret(&namespace);
    let keda = json!({ "enabled": true, "tlsSecret": "keda-tls" });
    let values = json!({ "config": config, "replicas": 2, "keda": keda });
    let release = Release::install(&namespace, &values).await;
    let parameter = json!({ "parameter": "caCert", "name": "keda-ca", "key": "ca" });
    let authentication = json!({
        "apiVersion": "keda.sh/v1alpha1", "kind": "TriggerAuthentication",
        "metadata": { "name": "agimo" }, "spec": { "secretTargetRef": [parameter] },
    });
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "keda-ca" },
        "stringData": { "ca": authority },
    });
    namespace.apply(&format!("{secret}\n---\n{authentication}"));
    let mut object = scaled_object(&namespace, &[("enableTLS", "true")]);
    object["spec"]["triggers"][0]["authenticationRef"] = json!({ "name": "agimo" });
    namespace.apply(&object.to_string());
    until_active_is(&namespace, "False").await;

    let address = release.address().await;
    let crowd = send_crowd(address, "web.test", 30, Duration::from_secs(8));
    tokio::join!(crowd, web.until_replicas(3));
}

#[tokio::test]
async fn pushes_go_on_after_a_rollout_of_agimo_with_several_streams_open() {
    let namespace = Namespace::new("push-rollout").await;
    let (web, api) =
        (namespace.deployment("web").apply().await, namespace.deployment("api").apply().await);
    let config = web.service_config("web.test", "") + &api.service_config("api.test", "");
    let values = json!({ "config": config, "replicas": 2, "keda": { "enabled": true } });
    let release = Release::install(&namespace, &values).await;
    for name in ["web", "api"] {
        // Requests per second instead of requests in flight.
        let mut object = scaled_object(&namespace, &[("metric", "rate")]);
        object["metadata"]["name"] = json!(name);
        object["spec"]["scaleTargetRef"]["name"] = json!(name);
        namespace.apply(&object.to_string());
    }
    until_active_is(&namespace, "False").await;
    let before = release.pod_names().await;
    release.upgrade_with("image.tag=next").await;
    eventually("only new pods", || async {
        let pods = release.pod_names().await;
        (pods.len() == 2 && pods.iter().all(|pod| !before.contains(pod))).then_some(())
    })
    .await;
    for (workload, host) in [(&web, "web.test"), (&api, "api.test")] {
        // KEDA connects again with growing delays; a request is held meanwhile.
        let began = Instant::now();
        assert_eq!(release.get(host, "/").await.status, 200);
        assert!(began.elapsed() < POLLING_INTERVAL, "{:?}: KEDA has polled", began.elapsed());
        workload.until_asleep().await;
    }
}

/// Makes a certificate for the Service of agimo's port for KEDA, as a Secret, and returns it.
fn create_secret(namespace: &Namespace) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (certificate, key) = (path("tls.crt"), path("tls.key"));
    create_certificate(&format!("agimo-keda.{}", namespace.name), &certificate, &key);
    let [certificate_file, key_file] = [format!("--cert={certificate}"), format!("--key={key}")];
    namespace.kubectl(&["create", "secret", "tls", "keda-tls", &certificate_file, &key_file]);
    std::fs::read_to_string(certificate).unwrap()
}
