//! Workloads that annotations make services: from one annotation to the response, mistakes, conflicts, and who may claim
//! what.

use serde_json::json;

use crate::fixtures::{Namespace, Release, SampleRequest, start_agimo_with_arguments};
use crate::support::agimo::Agimo;
use crate::support::eventually;

const FILE: &str = "annotations = true\nsleep_after = \"2s\"\n";

impl Agimo {
    async fn until_unknown(&self, host: &str) {
        eventually(&format!("{host} is unknown"), || async {
            (self.get(host, "/").await.reason() == Some("unknown-host")).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn one_annotation_makes_a_deployment_sleep_wake_and_follow_its_host() {
    let namespace = Namespace::new("annotated").await;
    let web = namespace.deployment("web").replicas(1).apply().await;
    // The chart without any values: annotated workloads are services.
    let release = Release::install(&namespace, &json!({})).await;
    let host = format!("{}.test", namespace.name);
    assert_eq!(release.get(&host, "/").await.reason(), Some("unknown-host"));
    web.annotate(&format!("host={host}")).await;
    web.annotate("sleep-after=2s").await;
    web.until_asleep().await;
    eventually("a response of the woken Deployment", || async {
        let response = release.get(&host, "/").await;
        response.text().starts_with("hello from web").then_some(())
    })
    .await;
    let other = format!("other.{}.test", namespace.name);
    web.annotate(&format!("host={other}")).await;
    eventually("a response under the new host", || async {
        (release.get(&other, "/").await.status == 200).then_some(())
    })
    .await;
    assert_eq!(release.get(&host, "/").await.reason(), Some("unknown-host"));
    web.annotate("host-").await;
    eventually("no host any more", || async {
        (release.get(&other, "/").await.reason() == Some("unknown-host")).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_mistake_becomes_an_event_that_says_what_to_write_and_stops_nothing_else() {
    let namespace = Namespace::new("mistakes").await;
    let web = namespace.deployment("web").replicas(1).apply().await;
    let db = namespace.stateful_set("db").replicas(1).apply().await;
    let hosts = [format!("web.{}.test", namespace.name), format!("db.{}.test", namespace.name)];
    let agimo = start_agimo_with_arguments(FILE, &["--watch-namespaces", &namespace.name]).await;
    db.annotate(&format!("host={}", hosts[1])).await;
    agimo.until_served(&hosts[1]).await;
    web.annotate(&format!("host={}", hosts[0])).await;
    agimo.until_served(&hosts[0]).await;

    web.annotate("sleep-afetr=5m").await;
    let parts = ["sleep-afetr is unknown: did you mean agimo.onichandame.com/sleep-after?"];
    web.until_event("AnnotationRejected", &parts).await;
    agimo.until_unknown(&hosts[0]).await;
    SampleRequest::get(&hosts[1]).send_once(agimo.address).await;
    web.annotate("sleep-afetr-").await;
    agimo.until_served(&hosts[0]).await;

    web.apply_service(&[("http", 80), ("admin", 81)]).await;
    web.until_event(
        "AnnotationRejected",
        &["Service web has 2 TCP ports (80, 81)", "port: \"80\""],
    )
    .await;
    web.annotate("port=81").await;
    agimo.until_served(&hosts[0]).await;

    // The older of the two keeps the host.
    db.annotate(&format!("host={},{}", hosts[1], hosts[0])).await;
    let owner = format!("belongs to the older deployment {}/web", namespace.name);
    db.until_event("AnnotationRejected", &[&hosts[0], &owner]).await;
    SampleRequest::get(&hosts[1]).send_once(agimo.address).await;
}

#[tokio::test]
async fn the_file_its_allowed_hosts_and_the_label_of_the_installation_decide_about_annotations() {
    let namespace = Namespace::new("allowed").await;
    let web = namespace.deployment("web").replicas(1).apply().await;
    let other = namespace.deployment("other").replicas(1).apply().await;
    let file = format!(
        "{FILE}managed_by = \"blue\"\nallowed_hosts = {{ {0} = [\"*.blue.test\", \"other\", \"other.{0}\"] }}\n{1}",
        namespace.name,
        web.service_config("web.blue.test", "scaler = \"external\"")
    );
    let agimo = start_agimo_with_arguments(&file, &["--watch-namespaces", &namespace.name]).await;
    other.annotate("host=other.blue.test").await;
    other.annotate("cluster-names=true").await;
    agimo.until_unknown("other.blue.test").await;
    let label = "agimo.onichandame.com/managed-by=blue";
    other.kubectl(&["label", &other.reference(), label]).await;
    agimo.until_served("other.blue.test").await;
    let service = format!("other.{}", namespace.name);
    for end in ["", ".svc", ".svc.cluster.local", ".svc.cluster.local:80"] {
        agimo.until_served(&format!("{service}{end}")).await;
    }

    other.annotate("host=web.blue.test").await;
    other
        .until_event(
            "AnnotationRejected",
            &["web.blue.test is a service of agimo's configuration file"],
        )
        .await;
    assert!(agimo.get("web.blue.test", "/").await.text().starts_with("hello from web"));
    other.annotate("host=other.green.test").await;
    other
        .until_event(
            "AnnotationRejected",
            &["may not claim other.green.test, only *.blue.test, other"],
        )
        .await;
    assert_eq!(agimo.get("other.green.test", "/").await.reason(), Some("unknown-host"));
}
