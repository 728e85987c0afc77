//! Several replicas of agimo: none knows what another has open, so none puts a workload to sleep.

use crate::fixtures::{Namespace, Question, agimo_with};

#[tokio::test]
async fn with_a_peer_agimo_wakes_and_lowers_only_once_it_is_alone() {
    let namespace = Namespace::new("peers").await;
    let web = namespace.deployment("web").apply().await;
    // They stand for two replicas of agimo; this one is outside of them and only counts.
    let peers = namespace.deployment("peers").replicas(2).apply().await;
    peers.until_ready(2).await;
    let service = web.service("web.test", "scaler = \"agimo\"\nsleep_after = \"1s\"");
    let name = format!("{}/peers", namespace.name);
    let agimo = agimo_with(&service, &["--peer-service", &name]).await;
    Question::get("web.test").ask_once(agimo.address).await;
    assert_eq!(agimo.shown("web.test").await["kept_awake_by"], "peers");
    agimo.until_logged("agimo runs more than once").await;
    // Three times `sleep_after`: it would be asleep by now.
    tokio::time::sleep(std::time::Duration::from_secs(3)).await;
    assert_eq!(agimo.shown("web.test").await["state"], "awake");
    assert_eq!(web.current_replicas().await, 1);
    peers.scale(1).await;
    web.until_asleep().await;
    assert!(agimo.shown("web.test").await["kept_awake_by"].is_null());
}
