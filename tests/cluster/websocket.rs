//! WebSockets: they wake a workload, and an open one keeps it awake, however long it is silent.

use crate::fixtures::{Namespace, SleepCycles, WebSocket, start_agimo};

#[tokio::test]
async fn a_silent_websocket_outlasts_the_timeout_and_keeps_its_workload_awake_until_it_closes() {
    let namespace = Namespace::new("websocket").await;
    let web = namespace.deployment("web").apply().await;
    let never_ready = namespace.deployment("never-ready").apply().await;
    let cycles = SleepCycles::apply(&namespace, "1s").await;
    let keys = "scaler = \"agimo\"\nsleep_after = \"1s\"\ntimeout = \"6s\"";
    let services = web.service_config("web.test", keys)
        + &never_ready.service_config("never-ready.test", "timeout = \"6s\"")
        + &cycles.service_config();
    let agimo = start_agimo(&services).await;

    let mut socket = WebSocket::open(agimo.address, "web.test").await;
    assert_eq!([socket.pod.clone()], web.pod_names().await[..]);
    socket.echo("first").await;
    // The silence lasts until agimo has applied the same timeout to a request that begins after it, and until agimo has
    // put another workload with the same `sleep_after` to sleep several times.
    let timed_out = agimo.get("never-ready.test", "/").await;
    assert_eq!((timed_out.status, timed_out.reason()), (504, Some("hold-timeout")));
    cycles.assert_stays_awake(&agimo, &web).await;
    assert_eq!(web.current_replicas().await, 1);
    assert_eq!(agimo.service_status("web.test").await["open_requests"], 1);
    socket.echo("second").await;

    socket.close().await;
    web.until_asleep().await;
    agimo.until_state("web.test", "asleep").await;
}
