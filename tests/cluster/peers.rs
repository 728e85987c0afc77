//! Several replicas of agimo that act as one: each wakes workloads, and their leader puts them to sleep, never under a
//! request or a WebSocket of another one.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::net::TcpStream;

use crate::fixtures::{
    Helm, Namespace, Release, Sample, SampleRequest, SleepCycles, WebSocket, start_agimo,
    start_agimo_with_arguments,
};
use crate::support::client::Client;
use crate::support::eventually;

#[tokio::test]
async fn without_an_exchange_a_workload_sleeps_only_when_no_other_replica_is_left() {
    let namespace = Namespace::new("peers").await;
    let web = namespace.deployment("web").apply().await;
    let cycles = SleepCycles::apply(&namespace, "1s").await;
    // The endpoints of this Service stand for two replicas of agimo; the agimo under test is a process on the node.
    let peers = namespace.deployment("peers").replicas(2).apply().await;
    peers.until_ready(2).await;
    let service = web.service_config("web.test", "scaler = \"agimo\"\nsleep_after = \"1s\"");
    let name = format!("{}/peers", namespace.name);
    let agimo = start_agimo_with_arguments(&service, &["--peer-service", &name]).await;
    SampleRequest::get("web.test").send_once(agimo.address).await;
    assert_eq!(agimo.service_status("web.test").await["kept_awake_by"], "peers");
    assert_eq!(agimo.until_event("sleep_blocked").await["by"], "peers");

    // An agimo without peers puts its workload to sleep several times meanwhile.
    let without_peers = start_agimo(&cycles.service_config()).await;
    cycles.assert_stays_awake(&without_peers, &web).await;
    assert_eq!(agimo.service_status("web.test").await["state"], "awake");

    peers.scale(1).await;
    web.until_asleep().await;
    assert!(agimo.service_status("web.test").await["kept_awake_by"].is_null());
}

/// The releases of these tests.
const KEYS: &str = "scaler = \"agimo\"\nsleep_after = \"2s\"\ntimeout = \"10s\"";

/// A release of this many replicas before the Deployment `web`, with a leader.
struct Replicas {
    release: Release,
    web: Sample,
    pods: Vec<String>,
    leader: String,
}

impl Replicas {
    async fn install(namespace: &Namespace, replicas: u32) -> Self {
        Self::install_before(namespace.deployment("web"), namespace, replicas).await
    }

    async fn install_before(web: Sample, namespace: &Namespace, replicas: u32) -> Self {
        let web = web.apply().await;
        let config = web.service_config("web.test", KEYS);
        let values = json!({ "config": config, "replicas": replicas });
        let release = Release::install(namespace, &values).await;
        let pods = release.until_pod_count(replicas as usize).await;
        let leader = until_leader(&release, &pods).await;
        for pod in &pods {
            until_metric(&release, pod, "agimo_peers_known 1").await;
        }
        Self { release, web, pods, leader }
    }

    fn others(&self) -> impl Iterator<Item = &String> {
        self.pods.iter().filter(|pod| **pod != self.leader)
    }

    /// One GET through this replica.
    async fn get(&self, pod: &str) {
        let address = self.release.pod_address(pod, 8080).await;
        SampleRequest::get("web.test").send(&mut Client::connect(address).await).await;
    }
}

/// The only one of these pods that leads.
async fn until_leader(release: &Release, pods: &[String]) -> String {
    eventually("one leader", || async {
        let mut leaders = Vec::new();
        for pod in pods {
            if has_metric(release, pod, "agimo_leader 1").await {
                leaders.push(pod.clone());
            }
        }
        (leaders.len() == 1).then(|| leaders.remove(0))
    })
    .await
}

async fn has_metric(release: &Release, pod: &str, line: &str) -> bool {
    // A container that was killed does not listen until it is started again.
    if TcpStream::connect(release.pod_address(pod, 9090).await).await.is_err() {
        return false;
    }
    release.admin(pod, "/metrics").await.text().lines().any(|found| found == line)
}

async fn until_metric(release: &Release, pod: &str, line: &str) {
    let what = format!("{line} of {pod}");
    eventually(&what, || async { has_metric(release, pod, line).await.then_some(()) }).await;
}

#[tokio::test]
async fn every_replica_wakes_a_workload_and_the_leader_puts_it_to_sleep() {
    let namespace = Namespace::new("replicas").await;
    let replicas = Replicas::install(&namespace, 2).await;
    let budget = "jsonpath={.spec.maxUnavailable} of {.status.expectedPods}";
    let budget =
        replicas.release.kubectl(&["get", "poddisruptionbudget", "agimo", "-o", budget]).await;
    assert_eq!(budget, "1 of 2");
    for pod in replicas.pods.clone() {
        replicas.get(&pod).await;
        assert_eq!(replicas.web.current_replicas().await, 1);
        replicas.web.until_asleep().await;
    }
    // The creation, and one write for each wake and each sleep.
    assert_eq!(replicas.web.generation().await, 5);
    // Each of them explains both wakes, which are those of one replica each.
    for pod in &replicas.pods {
        let answer = replicas.release.admin(pod, "/api/v1/wakes?host=web.test").await.text();
        let answer: Value = serde_json::from_str(&answer).unwrap();
        assert_eq!(answer["unreachable"], json!([]), "{answer}");
        let records = answer["records"].as_array().unwrap();
        let kinds: Vec<_> = records.iter().map(|record| &record["kind"]).collect();
        assert_eq!(kinds, ["sleep", "wake", "sleep", "wake"], "{answer}");
        let causes = [1, 3].map(|at| &records[at]["cause"]["by"]);
        assert_eq!(causes, ["request", "request"], "{answer}");
        assert_ne!(records[1]["replica"], records[3]["replica"], "{answer}");
    }
}

#[tokio::test]
async fn an_open_websocket_at_one_replica_is_not_cut_by_the_leader() {
    let namespace = Namespace::new("sockets").await;
    let cycles = SleepCycles::apply(&namespace, "2s").await;
    let replicas = Replicas::install(&namespace, 3).await;
    let other = replicas.others().next().unwrap();
    let address = replicas.release.pod_address(other, 8080).await;
    let mut socket = WebSocket::open(address, "web.test").await;
    let alone = start_agimo(&cycles.service_config()).await;
    cycles.assert_stays_awake(&alone, &replicas.web).await;
    socket.echo("still here").await;
    socket.close().await;
    replicas.web.until_asleep().await;
}

#[tokio::test]
async fn short_requests_through_changing_replicas_never_fail_while_the_workload_falls_asleep() {
    let namespace = Namespace::new("short").await;
    let replicas = Replicas::install(&namespace, 3).await;
    // Pauses around the idle time: many requests arrive while the replicas agree on the next sleep.
    for round in 0..24_usize {
        replicas.get(&replicas.pods[round % 3]).await;
        tokio::time::sleep(Duration::from_millis(1_900 + 50 * (round as u64 % 8))).await;
    }
    replicas.web.until_asleep().await;
}

#[tokio::test]
async fn after_the_leader_was_killed_wakes_go_on_and_its_successor_puts_workloads_to_sleep() {
    let namespace = Namespace::new("leader").await;
    let replicas = Replicas::install(&namespace, 3).await;
    let other = replicas.others().next().unwrap().clone();
    signal(&replicas.release, &replicas.leader, "KILL").await;
    replicas.get(&other).await;
    assert_eq!(replicas.web.current_replicas().await, 1);
    // The container is started again, so either of them may follow.
    until_leader(&replicas.release, &replicas.pods).await;
    replicas.web.until_asleep().await;
}

#[tokio::test]
async fn while_the_leader_is_paused_the_others_wake_and_its_successor_waits_for_it() {
    let namespace = Namespace::new("paused-leader").await;
    let replicas = Replicas::install(&namespace, 3).await;
    let others: Vec<String> = replicas.others().cloned().collect();
    signal(&replicas.release, &replicas.leader, "STOP").await;
    for other in &others {
        until_metric(&replicas.release, other, "agimo_peers_known 0").await;
        replicas.get(other).await;
    }
    let successor = until_leader(&replicas.release, &others).await;
    let status = replicas.release.service_status(&successor, "web.test").await;
    assert_eq!(status["kept_awake_by"], "peers", "{status}");
    signal(&replicas.release, &replicas.leader, "CONT").await;
    replicas.web.until_asleep().await;
}

#[tokio::test]
async fn a_replica_that_is_paused_keeps_workloads_awake_and_nothing_else_breaks() {
    let namespace = Namespace::new("paused").await;
    let cycles = SleepCycles::apply(&namespace, "2s").await;
    let replicas = Replicas::install(&namespace, 2).await;
    let (leader, other) = (&replicas.leader, replicas.others().next().unwrap());
    signal(&replicas.release, other, "STOP").await;
    until_metric(&replicas.release, leader, "agimo_peers_known 0").await;
    replicas.get(leader).await;
    let alone = start_agimo(&cycles.service_config()).await;
    cycles.assert_stays_awake(&alone, &replicas.web).await;
    let status = replicas.release.service_status(leader, "web.test").await;
    assert_eq!(status["kept_awake_by"], "peers", "{status}");
    replicas.get(leader).await;
    signal(&replicas.release, other, "CONT").await;
    replicas.web.until_asleep().await;
}

#[tokio::test]
async fn a_wake_of_any_replica_that_never_gets_ready_is_given_up() {
    let namespace = Namespace::new("broken").await;
    let broken = namespace.deployment("web").argument("-crash-at-start");
    let replicas = Replicas::install_before(broken, &namespace, 2).await;
    let other = replicas.others().next().unwrap();
    let mut client = Client::connect(replicas.release.pod_address(other, 8080).await).await;
    client.send("GET / HTTP/1.1\r\nHost: web.test\r\n\r\n").await;
    replicas.web.until_replicas(1).await;
    drop(client);
    replicas.web.until_asleep().await;
    let generation = replicas.web.generation().await;
    for pod in &replicas.pods {
        eventually("a workload that is asleep", || async {
            let status = replicas.release.service_status(pod, "web.test").await;
            (status["state"] == "asleep").then_some(())
        })
        .await;
    }
    // Longer than a replica would wait before it wrote again.
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(replicas.web.generation().await, generation);
}

/// Sends a signal to agimo in this pod: its process is found on the node by the cgroup of the pod.
async fn signal(release: &Release, pod: &str, signal: &str) {
    let uid = release.pod_field(pod, "{.metadata.uid}").await;
    let of_pod = |process: &std::path::PathBuf| {
        let read = |file| std::fs::read_to_string(process.join(file)).unwrap_or_default();
        let cgroup = read("cgroup").replace('_', "-");
        cgroup.contains(&uid) && read("comm").trim() == "agimo"
    };
    let mut processes = std::fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap().path());
    let process = processes.find(of_pod).unwrap_or_else(|| panic!("no process of {pod}"));
    let id = process.file_name().unwrap().to_str().unwrap().to_owned();
    let sent = std::process::Command::new("kill").arg(format!("-{signal}")).arg(&id).status();
    assert!(sent.unwrap().success());
}

#[tokio::test]
async fn the_chart_keeps_the_tokens_of_the_exchange() {
    let namespace = Namespace::new("tokens").await;
    let config = namespace.deployment("web").apply().await.service_config("web.test", KEYS);
    let release = Release::install(&namespace, &json!({ "config": config })).await;
    let token = "jsonpath={.data.token}";
    let before = release.kubectl(&["get", "secret", "agimo-peers", "-o", token]).await;
    release.upgrade_with("accessLog=true").await;
    let after = release.kubectl(&["get", "secret", "agimo-peers", "-o", token]).await;
    assert!(before.len() > 40 && before == after, "{before} {after}");
    let other = Helm::run(&[
        "template",
        "agimo",
        crate::fixtures::CHART,
        "--set",
        "peers.existingSecret=mine,config=x",
    ])
    .await;
    assert!(other.contains("secretName: mine") && !other.contains("kind: Secret"), "{other}");
}
