//! `scaler = "auto"`: agimo finds its place beside KEDA, HPAs, people and controllers that write `replicas`, and says so.

use serde_json::{Value, json};

use crate::fixtures::{Load, Namespace, SampleRequest, WebSocket, start_agimo};
use crate::support::agimo::Agimo;
use crate::support::eventually;

const KEYS: &str = "scaler = \"auto\"\nsleep_after = \"1s\"";

impl Agimo {
    async fn until_scaler(&self, scaler: &str, reason: &str) {
        let what = format!("the scaler {scaler} because of {reason}");
        eventually(&what, || async {
            let status = self.service_status("web.test").await;
            (status["scaler"] == scaler && status["scaler_reason"] == reason).then_some(())
        })
        .await;
    }
}

fn hpa(namespace: &Namespace, min_replicas: u32, metric: &Value) -> Value {
    json!({
        "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
        "metadata": { "name": "web", "namespace": namespace.name },
        "spec": {
            "scaleTargetRef": { "apiVersion": "apps/v1", "kind": "Deployment", "name": "web" },
            "minReplicas": min_replicas, "maxReplicas": 5, "metrics": [metric],
        },
    })
}

/// No such metric exists: the HPA only keeps its bounds.
fn external_metric() -> Value {
    let target = json!({ "type": "AverageValue", "averageValue": "10" });
    json!({ "type": "External", "external": { "metric": { "name": "none" }, "target": target } })
}

#[tokio::test]
async fn ownership_follows_a_scaled_object_that_is_created_paused_and_deleted_under_load() {
    let namespace = Namespace::new("moves").await;
    let web = namespace.deployment("web").apply().await;
    let agimo = start_agimo(&web.service_config("web.test", KEYS)).await;
    let load = Load::start(&agimo, &SampleRequest::get("web.test"));
    web.until_replicas(1).await;

    let trigger = json!({ "type": "cron", "metadata": {
        "timezone": "UTC", "start": "0 0 * * *", "end": "59 23 * * *", "desiredReplicas": "2",
    } });
    let scaled_object = json!({
        "apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject",
        "metadata": { "name": "web", "namespace": namespace.name },
        "spec": {
            "scaleTargetRef": { "name": "web" }, "pollingInterval": 1, "cooldownPeriod": 1,
            "minReplicaCount": 0, "triggers": [trigger],
        },
    });
    namespace.apply(&scaled_object.to_string());
    agimo.until_scaler("external", "scaled-object").await;
    web.until_event("ScalerDecided", &["ScaledObject web scales it"]).await;
    web.until_replicas(2).await;

    let pause = "autoscaling.keda.sh/paused=true";
    web.kubectl(&["annotate", "scaledobject/web", pause]).await;
    agimo.until_scaler("agimo", "scaled-object-paused").await;
    let condition = "--for=condition=Paused=True";
    web.kubectl(&["wait", condition, "scaledobject/web", "--timeout=20s"]).await;
    // A person stops it while KEDA is paused: nobody but agimo wakes it for the requests that come.
    web.scale(0).await;
    web.until_replicas(1).await;
    web.until_ready(1).await;

    web.kubectl(&["delete", "scaledobject/web"]).await;
    agimo.until_scaler("agimo", "no-other-scaler").await;
    load.stop().await;
    web.until_asleep().await;
}

#[tokio::test]
async fn beside_an_hpa_with_a_minimum_agimo_scales_between_zero_and_one() {
    let namespace = Namespace::new("beside").await;
    let web = namespace.deployment("web").apply().await;
    let resource =
        json!({ "name": "cpu", "target": { "type": "Utilization", "averageUtilization": 50 } });
    let cpu = json!({ "type": "Resource", "resource": resource });
    namespace.apply(&hpa(&namespace, 1, &cpu).to_string());
    let agimo = start_agimo(&web.service_config("web.test", KEYS)).await;
    agimo.until_scaler("agimo", "hpa").await;
    SampleRequest::get("web.test").send_once(agimo.address).await;
    assert_eq!(web.current_replicas().await, 1);
    web.until_asleep().await;
    namespace.apply(&hpa(&namespace, 2, &cpu).to_string());
    let mut socket = WebSocket::open(agimo.address, "web.test").await;
    // From one on, the HPA decides: here by its minimum.
    web.until_replicas(2).await;
    socket.echo("two").await;
    socket.close().await;
    web.until_asleep().await;
    namespace.kubectl(&["delete", "hpa", "web"]);
    agimo.until_scaler("agimo", "no-other-scaler").await;
}

#[tokio::test]
async fn agimo_wakes_a_workload_whose_hpa_is_switched_off_by_the_zero_of_somebody_else() {
    let namespace = Namespace::new("switched-off").await;
    let web = namespace.deployment("web").apply().await;
    namespace.apply(&hpa(&namespace, 0, &external_metric()).to_string());
    let agimo = start_agimo(&web.service_config("web.test", KEYS)).await;
    agimo.until_scaler("agimo", "hpa-switched-off").await;
    SampleRequest::get("web.test").send_once(agimo.address).await;
    // From now on, the HPA decides, to zero as well.
    agimo.until_scaler("external", "hpa-from-zero").await;
    assert_eq!(web.current_replicas().await, 1);
}

#[tokio::test]
async fn a_controller_that_reverts_each_sleep_is_named_with_what_ends_it() {
    let namespace = Namespace::new("reverted").await;
    let web = namespace.deployment("web").replicas(1).apply().await;
    let manifest = web.manifest().to_string();
    let agimo = start_agimo(&web.service_config("web.test", KEYS)).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("manifest.json");
    std::fs::write(&file, &manifest).unwrap();
    let file = file.to_str().unwrap();
    // As Argo CD with self-healing: whenever the number differs, it is applied again.
    let reported = eventually("the writer in the status", || async {
        if web.current_replicas().await == 0 {
            let manager = "--field-manager=argocd-controller";
            web.kubectl(&["apply", "--server-side", "--force-conflicts", manager, "-f", file])
                .await;
            agimo.until_state("web.test", "awake").await;
        }
        let status = agimo.service_status("web.test").await;
        (!status["reverted_by"].is_null()).then_some(status)
    })
    .await;
    let writers = reported["reverted_by"]["writers"].to_string();
    assert!(writers.contains("argocd-controller"), "{reported}");
    assert_eq!(reported["sleep_after"], "2s", "agimo backs off");
    let fix = "jsonPointers: [/spec/replicas]";
    web.until_event("ScalingReverted", &["undone each sleep", "ignoreDifferences", fix]).await;
    let is_logged = |line: &String| line.contains("argocd-controller") && line.contains(fix);
    assert!(agimo.log().iter().any(is_logged));
}

#[tokio::test]
async fn pins_keep_a_workload_awake_or_asleep_until_they_are_removed() {
    let namespace = Namespace::new("pins").await;
    let web = namespace.deployment("web").apply().await;
    let agimo = start_agimo(&web.service_config("web.test", KEYS)).await;
    web.annotate("pin=awake").await;
    web.until_ready(1).await;
    let status = agimo.service_status("web.test").await;
    assert_eq!(
        (&status["directive"], &status["kept_awake_by"]),
        (&json!("pinned-awake"), &json!("pin"))
    );

    web.annotate("pin=asleep").await;
    web.until_asleep().await;
    let response = agimo.get("web.test", "/").await;
    assert_eq!((response.status, response.reason()), (503, Some("pinned-asleep")));
    assert_eq!(web.current_replicas().await, 0);

    web.annotate("pin=off").await;
    web.until_event("AnnotationRejected", &["\"off\"", "write \"awake\" or \"asleep\""]).await;
    SampleRequest::get("web.test").send_once(agimo.address).await;
    web.annotate("pin=asleep").await;
    web.annotate("pin-until=2020-01-01T00:00:00Z").await;
    // agimo learns of it a moment later.
    agimo.until_served("web.test").await;
}

#[tokio::test]
async fn observing_tells_what_agimo_would_do_and_writes_nothing() {
    let namespace = Namespace::new("observe").await;
    let web = namespace.deployment("web").replicas(1).apply().await;
    let keys = format!("{KEYS}\nmode = \"observe\"");
    let agimo = start_agimo(&web.service_config("web.test", &keys)).await;
    web.until_event("SleepObserved", &["agimo would scale to zero"]).await;
    let metric = format!(
        "agimo_workload_scaler{{kind=\"deployment\",namespace=\"{}\",name=\"web\",scaler=\"external\",reason=\"no-other-scaler\"}}",
        namespace.name
    );
    agimo.until_metric(&metric, 1.0).await;
    assert_eq!((web.current_replicas().await, web.generation().await), (1, 1));
}
