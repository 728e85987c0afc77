//! agimo with Prometheus and KEDA as README describes it: installed with Helm, scraped by pod annotations, and KEDA scales
//! on its metrics.

use std::process::Stdio;

use serde_json::json;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::fixtures::{
    CHART, Helm, Namespace, Prometheus, Release, WebSocket, apply_scaled_object,
};
use crate::support::client::Client;
use crate::support::within;

/// A chart repository on a loopback address, packaged and served as README describes it.
struct ChartRepository {
    folder: tempfile::TempDir,
    url: String,
    _server: Child,
}

// === impl ChartRepository ===

impl ChartRepository {
    async fn serve() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().to_str().unwrap();
        Helm::run(&["package", CHART, "--destination", path]).await;
        Helm::run(&["repo", "index", path]).await;
        let mut server = Command::new("python3")
            .args(["-u", "-m", "http.server", "0", "--bind", "127.0.0.1", "--directory", path])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        // Its first line: Serving HTTP on 127.0.0.1 port 41531 (http://127.0.0.1:41531/) ...
        let mut output = BufReader::new(server.stdout.take().unwrap()).lines();
        let line =
            within("the first line of the web server", output.next_line()).await.unwrap().unwrap();
        let url = line.split(['(', ')']).nth(1).unwrap().trim_end_matches('/').to_owned();
        Self { folder, url, _server: server }
    }

    /// Runs `helm` with its own repository list, so that repository names do not collide with other tests.
    async fn helm(&self, arguments: &[&str]) -> String {
        let path = |name: &str| self.folder.path().join(name).to_string_lossy().into_owned();
        let repositories =
            ["--repository-config", &path("repositories"), "--repository-cache", &path("cache")];
        Helm::run(&[arguments, &repositories].concat()).await
    }
}

#[tokio::test]
async fn keda_wakes_and_puts_workloads_to_sleep_by_the_metrics_that_prometheus_scrapes() {
    let namespace = Namespace::new("keda").await;
    let web = namespace.deployment("web").apply().await;
    let db = namespace.stateful_set("db").apply().await;
    apply_scaled_object(&namespace, "Deployment", "web", "web.keda.test");
    apply_scaled_object(&namespace, "StatefulSet", "db", "db.keda.test");

    let repository = ChartRepository::serve().await;
    repository.helm(&["repo", "add", "agimo", &repository.url]).await;
    let release = Release::prepare(&namespace, &values(&namespace.name));
    let arguments = release.install_arguments();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    repository
        .helm(&[&["install", "agimo", "agimo/agimo", "--wait"], &arguments[..]].concat())
        .await;
    release.until_reachable().await;

    // A request wakes the Deployment and a WebSocket the StatefulSet; both are held until KEDA has scaled up.
    let (response, socket) = tokio::join!(release.get("web.keda.test", "/"), async {
        WebSocket::open(release.address().await, "db.keda.test").await
    });
    assert_eq!(response.status, 200, "{}", response.head);
    assert!(response.text().starts_with("hello from web"), "{}", response.text());
    assert_eq!(socket.pod, "db-0");

    web.until_asleep().await;
    // The WebSocket has been silent for longer than the Deployment was idle; its open request keeps the workload awake.
    let mut socket = socket;
    socket.echo("after the silence").await;
    assert_eq!(db.current_replicas().await, 1);
    socket.close().await;
    db.until_asleep().await;
}

#[tokio::test]
async fn the_sum_over_two_agimo_pods_in_prometheus_is_the_number_of_requests() {
    const SHORT: u32 = 40;
    const SLOW: u32 = 8;
    let namespace = Namespace::new("sums").await;
    let web = namespace.deployment("web").replicas(1).apply().await;
    // A host of its own: Prometheus keeps the series of earlier runs in the same cluster.
    let host = format!("{}.test", namespace.name);
    let mut values = json!({ "config": web.service_config(&host, ""), "replicas": 2 });
    for (annotation, value) in
        [("scrape", "true"), ("scheme", "http"), ("path", "/"), ("port", "9090")]
    {
        values["podAnnotations"][format!("prometheus.io/{annotation}")] = json!(value);
    }
    let active = format!("sum(agimo_active_requests{{host=\"{host}\"}})");
    let total = format!("agimo_requests_total{{host=\"{host}\"}}");
    let release = Release::install(&namespace, &values).await;
    // `rate` covers the increase since the first scrape, so every pod has to be scraped once before the first request.
    Prometheus::until_value(&format!("count({total})"), 2.0).await;
    Prometheus::until_value(&active, 0.0).await;

    let mut slow = Vec::new();
    for pod in release.until_pod_count(2).await {
        let address = release.pod_address(&pod, 8080).await;
        for _ in 0..SLOW / 2 {
            let mut client = Client::connect(address).await;
            client.send(format!("GET /slow?for=6s HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
            slow.push(client);
        }
        let mut client = Client::connect(address).await;
        for _ in 0..SHORT / 2 {
            client.send(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
            assert_eq!(client.response().await.status, 200);
        }
    }
    Prometheus::until_value(&active, f64::from(SLOW)).await;
    for mut client in slow {
        assert_eq!(client.response().await.status, 200);
    }
    let sent = f64::from(SHORT + SLOW);
    Prometheus::until_value(&active, 0.0).await;
    Prometheus::until_value(&format!("sum({total})"), sent).await;
    // Prometheus extrapolates to the ends of the window, by at most one scrape interval at each end.
    let rate = Prometheus::value(&format!("sum(rate({total}[1m])) * 60")).await;
    let rate = rate.unwrap();
    assert!((sent..sent * 1.4).contains(&rate), "{rate} for {sent}");
}

/// The documented values, with one service for each of both workloads.
fn values(namespace: &str) -> String {
    let documented = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/manifests/values-keda.yaml");
    let documented = std::fs::read_to_string(documented).unwrap();
    let start = documented.find("  [[services]]").unwrap();
    let end = documented.find("\npodAnnotations").unwrap();
    let service = &documented[start..end];
    let service_of = |name: &str| {
        let service = service.replace("example.com", &format!("{name}.keda.test"));
        service.replace("\"default\"", &format!("\"{namespace}\"")).replace("example", name)
    };
    let db = service_of("db").replace("\"deploy\"", "\"statefulset\"");
    assert!(
        db.contains("host = \"db.keda.test\"") && db.contains("type = \"statefulset\""),
        "{db}"
    );
    [&documented[..start], &service_of("web"), "\n", &db, &documented[end..]].concat()
}
