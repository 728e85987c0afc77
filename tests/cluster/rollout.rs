//! A new version of agimo itself, rolled out under load: nobody notices.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::json;
use tokio::task::JoinHandle;

use crate::fixtures::{Namespace, Release, Socket};
use crate::support::client::Client;

/// Requests on a new connection each, one after the other, until told to stop.
struct Callers {
    stop: Arc<AtomicBool>,
    tasks: Vec<JoinHandle<u32>>,
}

/// A steady load and no flood: the cluster has to get on with the rollout.
const PAUSE: Duration = Duration::from_millis(10);

// === impl Callers ===

impl Callers {
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
            assert_eq!(response.status, 200, "after {answered}: {}", response.head);
            answered += 1;
            tokio::time::sleep(PAUSE).await;
        }
        answered
    }

    /// How many were answered; panics if one was not.
    async fn ended(self) -> u32 {
        self.stop.store(true, Ordering::Relaxed);
        let mut answered = 0;
        for task in self.tasks {
            answered += task.await.unwrap();
        }
        answered
    }
}

#[tokio::test]
async fn a_rollout_of_agimo_fails_no_request_and_lets_streams_and_websockets_end() {
    let namespace = Namespace::new("rollout").await;
    let web = namespace.deployment("web").replicas(2).apply().await;
    web.until_ready(2).await;
    let values = json!({
        "config": web.service("web.test", ""), "replicas": 2,
        "preStopSleepSeconds": 2, "drainTimeout": "15s",
    });
    let release = Release::install(&namespace, &values).await;
    let old = release.until_pods(2).await;
    let address = release.address().await;

    let callers = Callers::start(address);
    let stream = tokio::spawn(async move {
        let mut client = Client::connect(address).await;
        // Twelve seconds: longer than either old pod stays ready, shorter than it may drain.
        client.send("GET /sse?count=120 HTTP/1.1\r\nHost: web.test\r\n\r\n").await;
        client.response().await
    });
    let mut sockets = Vec::new();
    for _ in 0..4 {
        sockets.push(Socket::open(address, "web.test").await);
    }
    release.set("image.tag=next").await;
    for socket in &mut sockets {
        socket.echo("still here").await;
    }
    for socket in sockets {
        socket.close().await;
    }
    let stream = stream.await.unwrap();
    assert!(stream.text().contains("id: 119\n"), "{}", stream.text());

    // Until the last old pod has gone.
    let new = release.until_pods(2).await;
    assert!(new.iter().all(|pod| !old.contains(pod)), "{old:?} and then {new:?}");
    for pod in &new {
        let image = release.field_of(pod, "{.spec.containers[0].image}").await;
        assert_eq!(image, "agimo.test/agimo:next");
    }
    let answered = callers.ended().await;
    assert!(answered > 200, "{answered} requests");
}
