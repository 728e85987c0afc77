//! StatefulSets, whose pods come one after the other and keep their names.

use std::time::Duration;

use serde_json::json;

use crate::fixtures::{Load, Namespace, Question, Sample, agimo};
use crate::support::agimo::Agimo;

#[tokio::test]
async fn stateful_sets_of_either_policy_wake_to_as_many_pods_as_they_had() {
    let namespace = Namespace::new("policies").await;
    let policies = [("ordered", "OrderedReady"), ("parallel", "Parallel")];
    let mut samples = Vec::new();
    let mut services = String::new();
    for (name, policy) in policies {
        let sample = namespace.stateful_set(name).spec("podManagementPolicy", json!(policy));
        let sample = sample.apply().await;
        services +=
            &sample.service(&format!("{name}.test"), "scaler = \"agimo\"\nsleep_after = \"3s\"");
        samples.push(sample);
    }
    let agimo = agimo(&services).await;
    for (name, _) in policies {
        let response = Question::get(&format!("{name}.test")).ask_once(agimo.address).await;
        assert!(response.text().contains(&format!("{name}-0")), "{}", response.text());
    }
    for sample in &samples {
        sample.scale(2).await;
    }
    until_two_are_ready(&agimo, &samples).await;
    for sample in &samples {
        sample.until_asleep().await;
    }
    until_two_are_ready(&agimo, &samples).await;
    for sample in &samples {
        assert!(agimo.wakes(&host(sample)).await >= 2.0);
    }
}

#[tokio::test]
async fn a_pod_that_takes_long_to_stop_is_waited_for_and_not_sent_the_request() {
    let namespace = Namespace::new("stubborn").await;
    let db = namespace.stateful_set("db").slow_stop(Duration::from_secs(4)).apply().await;
    let agimo = agimo(&db.service("db.test", "scaler = \"agimo\"\nsleep_after = \"1s\"")).await;
    let get = Question::get("db.test");
    get.ask_once(agimo.address).await;
    let uid = ["get", "pod", "db-0", "-o", "jsonpath={.metadata.uid}"];
    let old = db.kubectl(&uid).await;
    db.until_replicas(0).await;
    // The old pod still runs and would answer; its successor of the same name comes after it.
    get.ask_once(agimo.address).await;
    assert_ne!(db.kubectl(&uid).await, old);
    assert_eq!(agimo.wakes("db.test").await, 2.0);
}

fn host(sample: &Sample) -> String {
    format!("{}.test", sample.name)
}

/// Requests keep them awake meanwhile, and wake them if need be.
async fn until_two_are_ready(agimo: &Agimo, samples: &[Sample]) {
    let loads = samples.iter().map(|sample| Load::begin(agimo, &Question::get(&host(sample))));
    let loads: Vec<_> = loads.collect();
    for sample in samples {
        agimo.until_ready_endpoints(&host(sample), 2).await;
    }
    for load in loads {
        load.end().await;
    }
}
