//! HPAs that read the metrics of agimo from agimo itself, as the API external.metrics.k8s.io: neither KEDA nor Prometheus is
//! needed.

use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use testbed::cluster_folder::ClusterFolder;

use crate::fixtures::certificate::create_certificate;
use crate::fixtures::external_api::{API_SERVICE, ExternalMetricsApi};
use crate::fixtures::hpa::{hpa, until_condition, until_hpa_reads};
use crate::fixtures::load::send_crowd;
use crate::fixtures::{CHART, Helm, Kubectl, Namespace, Release, WebSocket};
use crate::support::eventually;

/// The window of the metrics, which bounds how long a workload seems to be in use after its last request.
const KEYS: &str = "scaler = \"auto\"\nstable_window = \"6s\"";

/// The status of a request to the port of agimo, which the API server does not pass on; 0 without a connection.
async fn ask_directly(
    address: SocketAddr,
    path: &str,
    is_api_server: bool,
    user: &str,
    group: &str,
) -> u16 {
    let url = format!("https://{address}/apis/external.metrics.k8s.io/v1beta1{path}");
    let mut curl = Command::new("curl");
    curl.args(["-sk", "--http2", "-o", "/dev/null", "-w", "%{http_code}", &url]);
    if is_api_server {
        let [certificate, key] = ClusterFolder::from_environment().unwrap().front_proxy();
        curl.arg("--cert").arg(certificate).arg("--key").arg(key);
    }
    curl.args(["-H", &format!("X-Remote-User: {user}"), "-H", group]);
    let output = tokio::task::spawn_blocking(move || curl.output()).await.unwrap().unwrap();
    String::from_utf8_lossy(&output.stdout).parse().unwrap()
}

async fn value(namespace: &Namespace, metric: &str, selector: &str) -> Result<Value, String> {
    let path = format!("/namespaces/{}/{metric}?labelSelector={selector}", namespace.name);
    ExternalMetricsApi::get(&path).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_hpa_scales_to_zero_and_back_by_what_agimo_reports() {
    let namespace = Namespace::exclusive("hpa").await;
    let web = namespace.deployment("web").replicas(1).apply().await;
    let cold = namespace.deployment("cold").apply().await;
    let config = web.service_config("web.test", KEYS) + &cold.service_config("cold.test", KEYS);
    let values = json!({ "config": config, "replicas": 2, "externalMetrics": { "enabled": true } });

    let refused = Release::prepare(&namespace, &values.to_string());
    let arguments = refused.install_arguments();
    let arguments = arguments.iter().map(String::as_str);
    let words: Vec<&str> = ["install", "agimo", CHART].into_iter().chain(arguments).collect();
    let error = Helm::error(&words).await;
    assert!(error.contains("belongs to keda/keda-metrics-apiserver"), "{error}");
    drop(refused);
    let check = || async {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "annotations = true").unwrap();
        let mut check = Command::new(env!("CARGO_BIN_EXE_agimo"));
        check.args(["check", "--cluster", "--conf"]).arg(file.path());
        let output = tokio::task::spawn_blocking(move || check.output()).await.unwrap().unwrap();
        String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
    };
    let checked = check().await;
    assert!(
        checked.contains(
            "keda/keda-metrics-apiserver serves external.metrics.k8s.io, and agimo does not"
        ),
        "{checked}"
    );

    let _api = ExternalMetricsApi::take_from_keda(&namespace);
    let release = Release::install(&namespace, &values).await;
    ExternalMetricsApi::until_available().await;
    let checked = check().await;
    assert!(checked.contains("agimo-hpa) serves external.metrics.k8s.io"), "{checked}");
    let pods = release.until_pod_count(2).await;
    for (name, metric) in [("web", "agimo_active_requests"), ("cold", "agimo_requests_per_second")]
    {
        namespace.apply(&hpa(name, metric, &json!({ "name": name })).to_string());
    }

    // Idle: the HPA scales `web` to zero. `cold` was created at zero, which switches its HPA off.
    web.until_asleep().await;
    until_condition(&web, "ScaledToZero", "True").await;
    until_condition(&cold, "ScalingActive", "False").await;
    for (index, pod) in pods.iter().enumerate() {
        let host = ["web.test", "cold.test"][index];
        let reason = ["hpa-reads-agimo", "hpa-switched-off"][index];
        eventually(reason, || async {
            (release.service_status(pod, host).await["scaler_reason"] == reason).then_some(())
        })
        .await;
        // Whichever replica holds it. The HPA leaves both awake as long as the WebSocket is open, and the rate of their
        // requests is zero.
        let address = release.pod_address(pod, 8080).await;
        let mut socket = WebSocket::open(address, host).await;
        let workload = [&web, &cold][index];
        let selector = format!("host={host}");
        eventually("a rate without arrivals", || async {
            let list = value(&namespace, "agimo_requests_per_second", &selector).await.ok()?;
            (list["items"][0]["value"] == "1m").then_some(())
        })
        .await;
        until_hpa_reads(workload, ["1", "1m"][index]).await;
        socket.echo("still here").await;
        assert_eq!(workload.current_replicas().await, 1);
        socket.close().await;
    }
    web.until_asleep().await;
    cold.until_asleep().await;
    until_condition(&cold, "ScaledToZero", "True").await;

    let crowd = send_crowd(release.address().await, "web.test", 30, Duration::from_secs(8));
    let scaled = web.until_replicas(3);
    tokio::join!(crowd, scaled);
    web.until_asleep().await;
}

#[tokio::test]
async fn only_the_api_server_reads_the_metrics_and_only_for_those_who_may() {
    let namespace = Namespace::exclusive("hpa-access").await;
    let web = namespace.deployment("web").replicas(1).apply().await;
    let values = json!({
        "config": web.service_config("web.test", "stable_window = \"6s\""),
        "externalMetrics": { "enabled": true },
    });
    let _api = ExternalMetricsApi::take_from_keda(&namespace);
    let release = Release::install(&namespace, &values).await;
    ExternalMetricsApi::until_available().await;
    let pods = release.until_pod_count(1).await;

    // Whether a workload is idle is not known before it was observed for the window.
    let error = value(&namespace, "agimo_active_requests", "name=web").await.unwrap_err();
    assert!(error.contains("has not observed deployment"), "{error}");
    let list = eventually("a value", || async {
        value(&namespace, "agimo_active_requests", "name=web,host=web.test").await.ok()
    })
    .await;
    assert_eq!(list["items"][0]["value"], "0");
    assert_eq!(list["items"][0]["metricLabels"]["kind"], "deployment");
    let nothing = value(&namespace, "agimo_active_requests", "name=other").await.unwrap();
    assert_eq!(nothing["items"], json!([]));
    let error = value(&namespace, "agimo_queue", "").await.unwrap_err();
    assert!(error.contains("agimo has no metric agimo_queue"), "{error}");
    let error = value(&namespace, "agimo_active_requests", "name%3E1").await.unwrap_err();
    assert!(error.contains("is no requirement on a label"), "{error}");

    // Without the certificate of the API server there is no connection; with it, only what the user may read.
    let address = release.pod_address(&pods[0], 9093).await;
    let path = format!("/namespaces/{}/agimo_active_requests", namespace.name);
    let account = "system:serviceaccount:kube-system:horizontal-pod-autoscaler";
    let masters = "X-Remote-Group: system:masters";
    for (is_api_server, user, group, status) in [
        (false, "admin", masters, 0),
        (true, "", masters, 401),
        (true, "admin", masters, 200),
        (true, account, "", 200),
        (true, "somebody", "", 403),
    ] {
        let answered = ask_directly(address, &path, is_api_server, user, group).await;
        assert_eq!(answered, status, "{user}, {group}");
    }

    // The documents by which clients learn of it.
    let resources = ExternalMetricsApi::get("").await.unwrap();
    assert_eq!(resources["resources"][1]["name"], "agimo_requests_per_second");
    eventually("the OpenAPI document", || async {
        let path = "/openapi/v3/apis/external.metrics.k8s.io/v1beta1";
        let get = Command::new("kubectl").args(["get", "--raw", path]).output().unwrap();
        String::from_utf8_lossy(&get.stdout).contains("ExternalMetricValueList").then_some(())
    })
    .await;

    // A certificate that is lost is replaced, and the API server trusts the new one.
    let bundle = ["get", "apiservice", API_SERVICE, "-o", "jsonpath={.spec.caBundle}"];
    let before = Kubectl::run(&bundle);
    assert!(!before.is_empty());
    namespace.kubectl(&[
        "patch",
        "secret",
        "agimo-hpa",
        "--type=json",
        "-p",
        "[{\"op\": \"remove\", \"path\": \"/data\"}]",
    ]);
    let replaced = async {
        while Kubectl::run(&bundle) == before {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), replaced).await.expect("another certificate");
    eventually("a value from the API server", || async {
        value(&namespace, "agimo_active_requests", "name=web").await.ok()
    })
    .await;
    // The new certificate is the one that is served.
    let decoded = "go-template={{index .data \"tls.crt\" | base64decode}}";
    let stored = namespace.kubectl(&["get", "secret", "agimo-hpa", "-o", decoded]);
    let mut openssl = Command::new("openssl");
    openssl.args(["s_client", "-connect", &address.to_string(), "-showcerts"]).stdin(Stdio::null());
    let served = tokio::task::spawn_blocking(move || openssl.output()).await.unwrap().unwrap();
    let served = String::from_utf8_lossy(&served.stdout).into_owned();
    assert!(served.contains(stored.trim()), "{stored}\n{served}");
    let page = release.admin(&pods[0], "/").await.text();
    assert!(page.contains("agimo_external_metrics_registered 1"), "{page}");

    // A certificate that somebody else makes.
    let folder = tempfile::tempdir().unwrap();
    let [certificate, key] =
        ["tls.crt", "tls.key"].map(|name| folder.path().join(name).to_str().unwrap().to_owned());
    create_certificate(&format!("agimo-hpa.{}.svc", namespace.name), &certificate, &key);
    let [of_certificate, of_key] = [format!("--cert={certificate}"), format!("--key={key}")];
    namespace.kubectl(&["create", "secret", "tls", "own", &of_certificate, &of_key]);
    let trusted = format!("externalMetrics.caBundle={certificate}");
    let own = "externalMetrics.tlsSecret=own";
    release
        .helm(&[
            "upgrade",
            "agimo",
            CHART,
            "--wait",
            "--force-conflicts",
            "--set",
            own,
            "--set-file",
            &trusted,
        ])
        .await;
    eventually("a value over that certificate", || async {
        let bundle =
            Kubectl::run(&["get", "apiservice", API_SERVICE, "-o", "jsonpath={.spec.caBundle}"]);
        let is_own = bundle != before && bundle.len() > 100;
        value(&namespace, "agimo_active_requests", "name=web").await.ok().filter(|_| is_own)
    })
    .await;
}
