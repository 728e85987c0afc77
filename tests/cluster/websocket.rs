//! WebSockets through a cold start, and left alone afterwards, however silent.

use std::time::{Duration, Instant};

use crate::fixtures::{Namespace, Socket, agimo};

#[tokio::test]
async fn a_websocket_wakes_and_its_silence_neither_cuts_it_nor_lets_the_workload_sleep() {
    const TIMEOUT: Duration = Duration::from_secs(6);
    let namespace = Namespace::new("websocket").await;
    let web = namespace.deployment("web").apply().await;
    let keys = "scaler = \"agimo\"\nsleep_after = \"1s\"\ntimeout = \"6s\"";
    let agimo = agimo(&web.service("web.test", keys)).await;

    let mut socket = Socket::open(agimo.address, "web.test").await;
    assert_eq!([socket.pod.clone()], web.pods().await[..]);
    let opened = Instant::now();
    socket.echo("first").await;
    // The silence is what is tested: longer than `timeout`, and much longer than `sleep_after`.
    tokio::time::sleep(TIMEOUT + Duration::from_secs(2)).await;
    assert!(opened.elapsed() > TIMEOUT);
    assert_eq!(web.current_replicas().await, 1);
    assert_eq!(agimo.shown("web.test").await["open_requests"], 1);
    socket.echo("second").await;

    socket.close().await;
    web.until_asleep().await;
    agimo.until_state("web.test", "asleep").await;
}
