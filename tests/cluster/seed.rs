//! The seed's own way: installed with Helm as README says, scraped by the annotations, scaled by KEDA on what was scraped.

use std::process::Stdio;

use serde_json::json;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::fixtures::{CHART, Helm, Namespace, Release, Scraped, Socket, apply_scaled_object};
use crate::support::client::Client;
use crate::support::within;

/// A chart repository on loopback, made and served as README says.
struct Repository {
    folder: tempfile::TempDir,
    url: String,
    _server: Child,
}

// === impl Repository ===

impl Repository {
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
        // It says: Serving HTTP on 127.0.0.1 port 41531 (http://127.0.0.1:41531/) ...
        let mut said = BufReader::new(server.stdout.take().unwrap()).lines();
        let line = within("a web server", said.next_line()).await.unwrap().unwrap();
        let url = line.split(['(', ')']).nth(1).unwrap().trim_end_matches('/').to_owned();
        Self { folder, url, _server: server }
    }

    /// `helm` with a home of its own, so that the names of repositories are this test's.
    async fn helm(&self, arguments: &[&str]) -> String {
        let file = |name: &str| self.folder.path().join(name).to_string_lossy().into_owned();
        let home =
            ["--repository-config", &file("repositories"), "--repository-cache", &file("kept")];
        Helm::run(&[arguments, &home].concat()).await
    }
}

#[tokio::test]
async fn with_the_seeds_values_prometheus_and_keda_wake_and_put_to_sleep() {
    let namespace = Namespace::new("seed").await;
    let web = namespace.deployment("web").apply().await;
    let db = namespace.stateful_set("db").apply().await;
    apply_scaled_object(&namespace, "Deployment", "web", "web.seed.test");
    apply_scaled_object(&namespace, "StatefulSet", "db", "db.seed.test");

    let repository = Repository::serve().await;
    repository.helm(&["repo", "add", "agimo", &repository.url]).await;
    let release = Release::prepare(&namespace, &values(&namespace.name));
    let arguments = release.arguments();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    repository
        .helm(&[&["install", "agimo", "agimo/agimo", "--wait"], &arguments[..]].concat())
        .await;
    release.until_reachable().await;

    // The Deployment by a request, the StatefulSet by a WebSocket; both are held for Prometheus, KEDA and the start.
    let (response, socket) = tokio::join!(release.get("web.seed.test", "/"), async {
        Socket::open(release.address().await, "db.seed.test").await
    });
    assert_eq!(response.status, 200, "{}", response.head);
    assert!(response.text().starts_with("hello from web"), "{}", response.text());
    assert_eq!(socket.pod, "db-0");

    web.until_asleep().await;
    // The same time and more has passed for the WebSocket, without a message: KEDA sees that it is open.
    let mut socket = socket;
    socket.echo("still here").await;
    assert_eq!(db.current_replicas().await, 1);
    socket.close().await;
    db.until_asleep().await;
}

#[tokio::test]
async fn over_two_pods_prometheus_sums_to_what_was_sent() {
    const SHORT: u32 = 40;
    const SLOW: u32 = 8;
    let namespace = Namespace::new("sums").await;
    let web = namespace.deployment("web").replicas(1).apply().await;
    // Prometheus still has what an earlier run in this cluster has sent.
    let host = format!("{}.test", namespace.name);
    let mut values = json!({ "config": web.service(&host, ""), "replicas": 2 });
    for (annotation, value) in
        [("scrape", "true"), ("scheme", "http"), ("path", "/"), ("port", "9090")]
    {
        values["podAnnotations"][format!("prometheus.io/{annotation}")] = json!(value);
    }
    let active = format!("sum(agimo_active_requests{{host=\"{host}\"}})");
    let total = format!("agimo_requests_total{{host=\"{host}\"}}");
    let release = Release::install(&namespace, &values).await;
    // A rate is of what has changed since the first scrape, so that has to be over.
    Scraped::until(&format!("count({total})"), 2.0).await;
    Scraped::until(&active, 0.0).await;

    let mut slow = Vec::new();
    for pod in release.until_pods(2).await {
        let address = release.address_of(&pod, 8080).await;
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
    Scraped::until(&active, f64::from(SLOW)).await;
    for mut client in slow {
        assert_eq!(client.response().await.status, 200);
    }
    let sent = f64::from(SHORT + SLOW);
    Scraped::until(&active, 0.0).await;
    Scraped::until(&format!("sum({total})"), sent).await;
    // Prometheus extends what it has seen to the ends of the window, by a scrape at most at each.
    let rate = Scraped::value(&format!("sum(rate({total}[1m])) * 60")).await;
    let rate = rate.unwrap();
    assert!((sent..sent * 1.4).contains(&rate), "{rate} for {sent}");
}

/// The values of the manual for both workloads, but for the names and a longer hold on a busy machine.
fn values(namespace: &str) -> String {
    let manual = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/manifests/values-keda.yaml");
    let manual = std::fs::read_to_string(manual).unwrap();
    let from = manual.find("  [[services]]").unwrap();
    let to = manual.find("\npodAnnotations").unwrap();
    let service = &manual[from..to];
    let named = |name: &str| {
        let service = service.replace("example.com", &format!("{name}.seed.test"));
        service.replace("\"default\"", &format!("\"{namespace}\"")).replace("example", name)
    };
    let db = named("db").replace("\"deploy\"", "\"statefulset\"");
    assert!(
        db.contains("host = \"db.seed.test\"") && db.contains("type = \"statefulset\""),
        "{db}"
    );
    [&manual[..from], &named("web"), "\n", &db, &manual[to..]].concat()
}
