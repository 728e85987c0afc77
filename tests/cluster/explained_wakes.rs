//! What a wake leaves behind for those who look after the workload: a record with every phase, and Events.

use std::time::Duration;

use serde_json::{Value, json};

use crate::fixtures::registry::FakeRegistry;
use crate::fixtures::{Namespace, start_agimo};
use crate::support::eventually;

#[tokio::test]
async fn a_cold_start_is_explained_phase_by_phase_by_a_record_and_an_event() {
    let namespace = Namespace::new("explained").await;
    let resources = json!({ "requests": { "cpu": "50m", "memory": "16Mi" } });
    let web = namespace.deployment("web").container_field("resources", resources).apply().await;
    let keys = "scaler = \"agimo\"\nsleep_after = \"1s\"";
    let agimo = start_agimo(&web.service_config("web.test", keys)).await;
    assert_eq!(agimo.get("web.test", "/cart?secret=1").await.status, 200);
    web.until_asleep().await;
    let records = eventually("the records of the wake and the sleep", || async {
        let answer = agimo.admin("/api/v1/wakes?host=web.test").await.text();
        let answer: Value = serde_json::from_str(&answer).unwrap();
        let records = answer["records"].as_array().unwrap().clone();
        (records.len() == 2).then_some(records)
    })
    .await;
    assert_eq!((&records[0]["kind"], &records[0]["by"]), (&"sleep".into(), &"idle".into()));
    let (wake, phases) = (&records[1], records[1]["phases"].as_array().unwrap());
    assert_eq!(wake["cause"]["request"]["path"], "/cart");
    let names: Vec<_> = phases.iter().map(|phase| phase["phase"].as_str().unwrap()).collect();
    let first = ["scale_written", "pod_scheduled", "container_started"];
    assert!(names.starts_with(&first), "{names:?}");
    // Whether the pod or its EndpointSlice is seen first is open. The first of them releases the
    // request; the other may come while the application answers, or too late for the record.
    let readiness = ["pod_ready", "endpoint_slice_ready"];
    assert!(names.iter().any(|name| readiness.contains(name)), "{names:?}");
    let others: Vec<_> = names[3..].iter().filter(|name| !readiness.contains(name)).collect();
    assert_eq!(others, [&"ready", &"connected", &"forwarded", &"answered"], "{names:?}");

    // Each phase is counted, too.
    for phase in ["scale_written", "pod_scheduled", "container_started", "start", "ready", "total"]
    {
        let sample =
            format!("agimo_cold_start_seconds_count{{host=\"web.test\",phase=\"{phase}\"}}");
        agimo.until_metric(&sample, 1.0).await;
    }

    // While it sleeps, its requests are not needed.
    let saved = eventually("savings", || async {
        let answer = agimo.admin("/api/v1/savings").await.text();
        let saved = serde_json::from_str::<Value>(&answer).unwrap()["total"].clone();
        (saved["replica_hours"].as_f64() > Some(0.0)).then_some(saved)
    })
    .await;
    let [replicas, cpu, memory] = ["replica_hours", "cpu_core_hours", "memory_gib_hours"]
        .map(|field| saved[field].as_f64().unwrap());
    assert!(
        (cpu / replicas - 0.05).abs() < 1e-6 && (memory / replicas - 1.0 / 64.0).abs() < 1e-6,
        "{saved}"
    );

    let told = ["woken by GET /cart from 127.0.0.0/24 (unnamed) for web.test", "answered after"];
    web.until_event("Woken", &told).await;
    web.until_event("Asleep", &["scaled to zero, after 1s without a request"]).await;
}

#[tokio::test]
async fn the_time_until_an_image_is_pulled_is_a_phase() {
    let namespace = Namespace::new("pulled").await;
    let registry = FakeRegistry::of_sample(Duration::from_millis(700));
    let web = namespace.deployment("web").image(&registry.image("slow"));
    let web = web.container_field("imagePullPolicy", json!("IfNotPresent")).apply().await;
    let agimo = start_agimo(&web.service_config("web.test", "scaler = \"agimo\"")).await;
    assert_eq!(agimo.get("web.test", "/").await.status, 200);
    let phases = eventually("a complete record of the wake", || async {
        let answer = agimo.admin("/api/v1/wakes?host=web.test").await.text();
        let answer: Value = serde_json::from_str(&answer).unwrap();
        let phases = answer["records"][0]["phases"].as_array()?.clone();
        phases.iter().any(|phase| phase["phase"] == "answered").then_some(phases)
    })
    .await;
    let after = |name: &str| {
        let phase = phases.iter().find(|phase| phase["phase"] == name);
        phase.unwrap_or_else(|| panic!("{name} in {phases:?}"))["after_ms"].as_f64().unwrap()
    };
    assert!(after("image_pulled") >= after("pod_scheduled") + 700.0, "{phases:?}");
    assert!(after("image_pulled") <= after("answered"), "{phases:?}");
}
