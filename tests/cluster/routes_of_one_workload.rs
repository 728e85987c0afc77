//! Two hosts that lead to one Deployment: the workload wakes and sleeps as a whole, by the demand of both.

use std::time::{Duration, Instant};

use crate::fixtures::{
    Load, Namespace, Sample, SampleRequest, SleepCycles, WebSocket, start_agimo,
};
use crate::support::eventually;

const HOSTS: [&str; 2] = ["short.test", "long.test"];
/// The longest `sleep_after` of both hosts, which is that of `long.test`.
const LONGEST: Duration = Duration::from_secs(2);

fn short_service(web: &Sample) -> String {
    web.service_config(HOSTS[0], "scaler = \"agimo\"\nsleep_after = \"500ms\"")
}

fn both_services(web: &Sample) -> String {
    short_service(web) + &web.service_config(HOSTS[1], "scaler = \"agimo\"\nsleep_after = \"2s\"")
}

#[tokio::test]
async fn routes_of_one_workload_wake_and_sleep_together() {
    let namespace = Namespace::new("routes").await;
    let web = namespace.deployment("web").apply().await;
    let agimo = start_agimo(&both_services(&web)).await;
    for host in HOSTS {
        let sent = Instant::now();
        SampleRequest::get(host).send_once(agimo.address).await;
        for route in HOSTS {
            agimo.until_state(route, "awake").await;
            assert!(agimo.service_status(route).await["kept_awake_by"].is_null());
        }
        web.until_replicas(0).await;
        assert!(sent.elapsed() >= LONGEST, "asleep {:?} after a request", sent.elapsed());
        for route in HOSTS {
            agimo.until_state(route, "asleep").await;
        }
        web.until_asleep().await;
    }
    // The creation, and one write for each wake and each sleep.
    assert_eq!(web.generation().await, 5);
}

#[tokio::test]
async fn requests_and_websockets_of_either_route_keep_their_workload_awake() {
    let namespace = Namespace::new("either").await;
    let web = namespace.deployment("web").apply().await;
    let cycles = SleepCycles::apply(&namespace, "2s").await;
    let agimo = start_agimo(&(both_services(&web) + &cycles.service_config())).await;

    let load = Load::start(&agimo, &SampleRequest::get(HOSTS[0]));
    agimo.until_state(HOSTS[1], "awake").await;
    cycles.assert_stays_awake(&agimo, &web).await;
    let socket = WebSocket::open(agimo.address, HOSTS[1]).await;
    load.stop().await;
    cycles.assert_stays_awake(&agimo, &web).await;
    let closing = Instant::now();
    socket.close().await;
    web.until_replicas(0).await;
    assert!(closing.elapsed() >= LONGEST, "asleep {:?} after the close", closing.elapsed());

    // The other way round: a WebSocket of the host whose own `sleep_after` is shorter.
    let socket = WebSocket::open(agimo.address, HOSTS[0]).await;
    cycles.assert_stays_awake(&agimo, &web).await;
    socket.close().await;
    web.until_asleep().await;
}

#[tokio::test]
async fn a_workload_sleeps_by_its_remaining_route_after_the_other_is_removed() {
    let namespace = Namespace::new("removed").await;
    let web = namespace.deployment("web").apply().await;
    let agimo = start_agimo(&both_services(&web)).await;
    SampleRequest::get(HOSTS[1]).send_once(agimo.address).await;
    agimo.reconfigure(&short_service(&web));
    eventually("a configuration without the removed host", || async {
        (agimo.get(HOSTS[1], "/").await.reason() == Some("unknown-host")).then_some(())
    })
    .await;
    web.until_asleep().await;
    SampleRequest::get(HOSTS[0]).send_once(agimo.address).await;
    assert_eq!(web.current_replicas().await, 1);
    web.until_asleep().await;
}
