//! A rollout of a new version of agimo under load: no request fails.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::json;
use tokio::task::JoinHandle;

use crate::fixtures::{Namespace, Release, WebSocket};
use crate::support::client::Client;

/// Sequential requests, each on a new connection, until stopped.
struct NewConnectionLoad {
    stop: Arc<AtomicBool>,
    tasks: Vec<JoinHandle<u32>>,
}

/// Between two requests: a load, not a flood, so that the cluster can work on the rollout.
const PAUSE: Duration = Duration::from_millis(10);

// === impl NewConnectionLoad ===

impl NewConnectionLoad {
    fn start(address: SocketAddr) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let task = |_| tokio::spawn(Self::send(address, stop.clone()));
        Self { stop: stop.clone(), tasks: (0..4).map(task).collect() }
    }

    async fn send(address: SocketAddr, stop: Arc<AtomicBool>) -> u32 {
        let mut answered = 0;
        while !stop.load(Ordering::Relaxed) {
            let mut client = Client::connect(address).await;
            client.send("GET / HTTP/1.1\r\nHost: web.test\r\nConnection: close\r\n\r\n").await;
            let response = client.response().await;
            assert_eq!(response.status, 200, "after {answered} responses: {}", response.head);
            answered += 1;
            tokio::time::sleep(PAUSE).await;
        }
        answered
    }

    /// Stops the load and returns the number of responses; panics if one was not a 200.
    async fn stop(self) -> u32 {
        self.stop.store(true, Ordering::Relaxed);
        let mut answered = 0;
        for task in self.tasks {
            answered += task.await.unwrap();
        }
        answered
    }
}

#[tokio::test]
async fn a_rollout_of_agimo_fails_no_request_and_drains_streams_and_websockets() {
    let namespace = Namespace::new("rollout").await;
    let web = namespace.deployment("web").replicas(2).apply().await;
    web.until_ready(2).await;
    let values = json!({
        "config": web.service_config("web.test", ""), "replicas": 2,
        "preStopSleepSeconds": 2, "drainTimeout": "15s",
    });
    let release = Release::install(&namespace, &values).await;
    let old = release.until_pod_count(2).await;
    let address = release.address().await;

    let load = NewConnectionLoad::start(address);
    let stream = tokio::spawn(async move {
        let mut client = Client::connect(address).await;
        // A response of twelve seconds: longer than an old pod stays ready, shorter than its drain deadline.
        client.send("GET /sse?count=120 HTTP/1.1\r\nHost: web.test\r\n\r\n").await;
        client.response().await
    });
    let mut sockets = Vec::new();
    for _ in 0..4 {
        sockets.push(WebSocket::open(address, "web.test").await);
    }
    release.upgrade_with("image.tag=next").await;
    for socket in &mut sockets {
        socket.echo("during the rollout").await;
    }
    for socket in sockets {
        socket.close().await;
    }
    let stream = stream.await.unwrap();
    assert!(stream.text().contains("id: 119\n"), "{}", stream.text());

    // Two pods remain once the old ones have terminated.
    let new = release.until_pod_count(2).await;
    assert!(new.iter().all(|pod| !old.contains(pod)), "{old:?} and then {new:?}");
    for pod in &new {
        let image = release.pod_field(pod, "{.spec.containers[0].image}").await;
        assert_eq!(image, "agimo.test/agimo:next");
    }
    let answered = load.stop().await;
    assert!(answered > 200, "only {answered} requests");
}
