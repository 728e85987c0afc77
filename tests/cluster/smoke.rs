//! That there is a cluster around the tests, and that what is missing is said.

use crate::fixtures::{Kubectl, Namespace, agimo};

#[tokio::test]
async fn the_node_is_ready() {
    let path = "jsonpath={.items[0].status.conditions[?(@.type==\"Ready\")].status}";
    assert_eq!(Kubectl::run(&["get", "nodes", "-o", path]), "True");
}

#[tokio::test]
async fn what_is_missing_is_said_and_heals_when_it_appears() {
    let namespace = Namespace::new("missing").await;
    let sample = namespace.deployment("web").replicas(1);
    let agimo = agimo(&sample.service("web.test", "timeout = '1s'")).await;
    let response = agimo.get("web.test", "/").await;
    assert_eq!((response.status, response.reason()), (504, Some("workload-missing")));
    let detail = response.header("x-agimo-detail").unwrap();
    assert!(detail.contains(&format!("there is no Deployment {}/web", namespace.name)), "{detail}");

    sample.apply_workload().await;
    let response = agimo.get("web.test", "/").await;
    assert_eq!((response.status, response.reason()), (504, Some("service-missing")));

    sample.apply_service(&[("other", 81)]).await;
    agimo.until_reason("web.test", "port-missing").await;
    let shown = agimo.shown("web.test").await;
    assert!(shown["detail"].as_str().unwrap().contains("has no port 80, only 81"), "{shown}");

    sample.apply_service(&[("http", 80)]).await;
    agimo.until_ready_endpoints("web.test", 1).await;
    assert_eq!(agimo.get("web.test", "/").await.status, 200);
}
