//! agimo's own scaler: a workload follows its load from zero to several replicas and back, with neither Prometheus, KEDA nor
//! an HPA.

use std::time::Duration;

use serde_json::json;
use tokio::task::JoinSet;

use crate::fixtures::{Namespace, Release, SampleRequest, WebSocket, start_agimo};
use crate::support::client::Client;

const KEYS: &str = "scaler = \"agimo\"\nsleep_after = \"4s\"\ntarget_concurrency = 10\n\
                    max_replicas = 5\nstable_window = \"6s\"\npanic_window = \"2s\"";

/// Keeps so many requests in flight at each address for about fifteen seconds.
async fn load(addresses: &[std::net::SocketAddr], concurrent: usize) -> JoinSet<()> {
    let mut load = JoinSet::new();
    for address in addresses.iter().cycle().take(concurrent) {
        let address = *address;
        load.spawn(async move {
            let mut client = Client::connect(address).await;
            for _ in 0..10 {
                client.send("GET /slow?for=1500ms HTTP/1.1\r\nHost: web.test\r\n\r\n").await;
                let response = client.response().await;
                assert_eq!(response.status, 200, "{}", response.head);
            }
        });
    }
    load
}

async fn until_ended(mut load: JoinSet<()>) {
    while let Some(ended) = load.join_next().await {
        ended.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_workload_follows_its_load_from_zero_to_three_and_back() {
    let namespace = Namespace::new("load").await;
    let web = namespace.deployment("web").apply().await;
    let agimo = start_agimo(&web.service_config("web.test", KEYS)).await;
    let load = load(&[agimo.address], 30).await;
    // The crowd that waits counts at once.
    web.until_replicas(3).await;
    web.until_ready(3).await;
    until_ended(load).await;
    assert_eq!(web.current_replicas().await, 3);
    let mut sockets = Vec::new();
    for _ in 0..6 {
        sockets.push(WebSocket::open(agimo.address, "web.test").await);
    }
    // Twice as long as without them: no pod is removed, since Kubernetes would choose which.
    tokio::time::sleep(Duration::from_secs(14)).await;
    assert_eq!(web.current_replicas().await, 3);
    for mut socket in sockets {
        socket.echo("still here").await;
        socket.close().await;
    }
    // The idle time is shorter than the stable window: asleep at once, or over one replica.
    web.until_asleep().await;
}

#[tokio::test]
async fn sparse_short_requests_and_an_idle_websocket_keep_a_workload_awake() {
    let namespace = Namespace::new("sparse").await;
    let web = namespace.stateful_set("web").apply().await;
    let keys = KEYS.replace("\"agimo\"", "\"auto\"").replace("\"4s\"", "\"5s\"");
    let agimo = start_agimo(&web.service_config("web.test", &keys)).await;
    SampleRequest::get("web.test").send_once(agimo.address).await;
    let generation = web.generation().await;
    for _ in 0..6 {
        // Longer than the scaler looks, shorter than the idle time.
        tokio::time::sleep(Duration::from_secs(2)).await;
        SampleRequest::get("web.test").send_once(agimo.address).await;
    }
    let mut socket = WebSocket::open(agimo.address, "web.test").await;
    tokio::time::sleep(Duration::from_secs(11)).await;
    socket.echo("still here").await;
    assert_eq!((web.current_replicas().await, web.generation().await), (1, generation));
    socket.close().await;
    web.until_asleep().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_over_three_replicas_of_agimo_count_together() {
    let namespace = Namespace::new("sum").await;
    let web = namespace.deployment("web").apply().await;
    let keys = KEYS.replace("target_concurrency = 10", "target_concurrency = 50");
    let config = web.service_config("web.test", &keys);
    let release = Release::install(&namespace, &json!({ "config": config, "replicas": 3 })).await;
    let mut addresses = Vec::new();
    for pod in release.until_pod_count(3).await {
        addresses.push(release.pod_address(&pod, 8080).await);
    }
    // Each replica of agimo sees a third of them, which would need two.
    let load = load(&addresses, 200).await;
    web.until_replicas(4).await;
    until_ended(load).await;
    web.until_asleep().await;
}
