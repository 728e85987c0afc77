//! Others that write `replicas`: manifests that are applied again, a person, and a second installation of agimo.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::fixtures::{Helm, Namespace, Sample, SampleRequest, WebSocket, start_agimo};
use crate::support::agimo::Agimo;
use crate::support::client::Client;
use crate::support::eventually;

const KEYS: &str = "scaler = \"agimo\"\nsleep_after = \"2s\"";

/// How a manifest is applied.
const SERVER_SIDE: &[&str] = &["--server-side", "--field-manager=manifests"];
const FORCED: &[&str] = &["--server-side", "--field-manager=manifests", "--force-conflicts"];
const CLIENT_SIDE: &[&str] = &[];

/// `kubectl apply` with these arguments; the standard error where it fails.
fn apply(manifest: &Value, arguments: &[&str]) -> Result<(), String> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("manifest.json");
    std::fs::write(&file, manifest.to_string()).unwrap();
    let mut command = Command::new("kubectl");
    let output = command.arg("apply").args(arguments).arg("-f").arg(&file).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.success() { Ok(()) } else { Err(error) }
}

/// Has agimo wake the workload and put it to sleep.
async fn cycle(agimo: &Agimo, sample: &Sample) {
    SampleRequest::get("web.test").send_once(agimo.address).await;
    sample.until_replicas(0).await;
    agimo.until_state("web.test", "asleep").await;
}

#[tokio::test]
async fn manifests_are_applied_again_after_agimo_has_scaled_the_workload() {
    let namespace = Namespace::new("manifests").await;
    let web = namespace.deployment("web");
    web.apply_service(&[("http", 80)]).await;
    for arguments in [SERVER_SIDE, FORCED, CLIENT_SIDE] {
        apply(&namespace.deployment("web").replicas(1).manifest(), arguments).unwrap();
        let agimo = start_agimo(&web.service_config("web.test", KEYS)).await;
        cycle(&agimo, &web).await;
        // Asleep: the number of the manifest is written, and agimo puts the workload to sleep again.
        apply(&namespace.deployment("web").replicas(2).manifest(), arguments).unwrap();
        assert_eq!(web.current_replicas().await, 2, "{arguments:?}");
        cycle(&agimo, &web).await;
        // Awake, with the number that agimo wrote.
        let _open = WebSocket::open(agimo.address, "web.test").await;
        apply(&namespace.deployment("web").replicas(3).manifest(), arguments).unwrap();
        assert_eq!(web.current_replicas().await, 3, "{arguments:?}");
        drop(agimo);
        namespace.kubectl(&["delete", "deployment", "web"]);
    }
}

#[tokio::test]
async fn a_manifest_without_replicas_leaves_the_number_to_agimo() {
    let namespace = Namespace::new("without-replicas").await;
    let web = namespace.deployment("web");
    web.apply_service(&[("http", 80)]).await;
    for arguments in [SERVER_SIDE, FORCED, CLIENT_SIDE] {
        let mut manifest = web.manifest();
        manifest["spec"].as_object_mut().unwrap().remove("replicas");
        apply(&manifest, arguments).unwrap();
        let agimo = start_agimo(&web.service_config("web.test", KEYS)).await;
        cycle(&agimo, &web).await;
        manifest["spec"]["template"]["metadata"]["labels"]["version"] = json!("2");
        apply(&manifest, arguments).unwrap();
        assert_eq!(web.field("{.spec.template.metadata.labels.version}").await, "2");
        assert_eq!(web.current_replicas().await, 0, "{arguments:?}");
        drop(agimo);
        namespace.kubectl(&["delete", "deployment", "web"]);
    }
}

#[tokio::test]
async fn a_manifest_with_zero_replicas_conflicts_until_the_workload_has_slept_once() {
    let namespace = Namespace::new("zero").await;
    let web = namespace.deployment("web");
    web.apply_service(&[("http", 80)]).await;
    let manifest = |replicas| namespace.deployment("web").replicas(replicas).manifest();
    apply(&manifest(0), SERVER_SIDE).unwrap();
    let agimo = start_agimo(&web.service_config("web.test", KEYS)).await;
    let socket = WebSocket::open(agimo.address, "web.test").await;
    let error = apply(&manifest(2), SERVER_SIDE).unwrap_err();
    assert!(error.contains("conflict with \"agimo\""), "{error}");
    socket.close().await;
    web.until_replicas(0).await;
    apply(&manifest(2), SERVER_SIDE).unwrap();
}

#[tokio::test]
async fn helm_upgrades_a_release_whose_workload_agimo_scales() {
    let namespace = Namespace::new("helm").await;
    let folder = tempfile::tempdir().unwrap();
    let web = namespace.deployment("web");
    write_chart(folder.path(), &web);
    let chart = folder.path().to_str().unwrap();
    let of_namespace = format!("--namespace={}", namespace.name);
    Helm::run(&["install", "web", chart, &of_namespace, "--set", "replicas=1"]).await;
    web.apply_service(&[("http", 80)]).await;
    let agimo = start_agimo(&web.service_config("web.test", KEYS)).await;
    cycle(&agimo, &web).await;
    Helm::run(&["upgrade", "web", chart, &of_namespace, "--set", "replicas=2"]).await;
    assert_eq!(web.current_replicas().await, 2);
    cycle(&agimo, &web).await;
    let _open = WebSocket::open(agimo.address, "web.test").await;
    Helm::run(&["upgrade", "web", chart, &of_namespace, "--set", "replicas=3"]).await;
    assert_eq!(web.current_replicas().await, 3);
}

/// A chart with the workload alone, and its number of replicas as a value.
fn write_chart(folder: &Path, sample: &Sample) {
    let mut manifest = sample.manifest();
    manifest["spec"]["replicas"] = json!("REPLICAS");
    let template = manifest.to_string().replace("\"REPLICAS\"", "{{ .Values.replicas }}");
    std::fs::create_dir(folder.join("templates")).unwrap();
    std::fs::write(folder.join("templates/web.yaml"), template).unwrap();
    let chart = "apiVersion: v2\nname: web\nversion: 0.1.0\n";
    std::fs::write(folder.join("Chart.yaml"), chart).unwrap();
}

#[tokio::test]
async fn a_writer_that_scales_a_waking_workload_to_zero_is_named() {
    let namespace = Namespace::new("contested").await;
    let web = namespace.deployment("web").argument("-crash-at-start").apply().await;
    let keys = "scaler = \"agimo\"\ntimeout = \"20s\"";
    let agimo = start_agimo(&web.service_config("web.test", keys)).await;
    let address = agimo.address;
    let request = tokio::spawn(async move {
        let mut client = Client::connect(address).await;
        client.send("GET / HTTP/1.1\r\nHost: web.test\r\n\r\n").await;
        client.response().await
    });
    // Through the scale subresource the API server would not record who wrote a zero.
    let zero = "{\"spec\":{\"replicas\":0}}";
    web.until_replicas(1).await;
    web.kubectl(&["patch", "deployment/web", "--field-manager=night-shift", "-p", zero]).await;
    agimo.until_reason("web.test", "scaled-down").await;
    let status = agimo.service_status("web.test").await;
    assert!(status["detail"].as_str().unwrap().contains("night-shift"), "{status}");
    // While the request waits, agimo scales the workload up again after a second.
    web.until_replicas(1).await;
    request.abort();
    let _ = request.await;
}

#[tokio::test]
async fn an_installation_without_requests_yields_to_one_that_wakes_the_same_workload() {
    let namespace = Namespace::new("installations").await;
    let web = namespace.deployment("web").apply().await;
    let idle_keys = "scaler = \"agimo\"\nsleep_after = \"500ms\"";
    let idle = start_agimo(&web.service_config("web.test", idle_keys)).await;
    let busy = start_agimo(&web.service_config("web.test", &KEYS.replace("2s", "1h"))).await;
    for _ in 0..4 {
        SampleRequest::get("web.test").send_once(busy.address).await;
        idle.until_state("web.test", "awake").await;
        web.until_replicas(0).await;
        busy.until_state("web.test", "asleep").await;
    }
    SampleRequest::get("web.test").send_once(busy.address).await;
    eventually("a prolonged idle time", || async {
        let status = idle.service_status("web.test").await;
        let is_prolonged = status["sleep_after_prolonged"] == true;
        // The first wake came before the first sleep, the second may have been a person; each further one doubles.
        (is_prolonged && status["sleep_after"] == "4s").then_some(())
    })
    .await;
    assert_eq!(busy.service_status("web.test").await["sleep_after_prolonged"], false);
    // A request through the idle installation shows that it is used after all.
    web.until_replicas(0).await;
    SampleRequest::get("web.test").send_once(idle.address).await;
    assert_eq!(idle.service_status("web.test").await["sleep_after_prolonged"], false);
}
