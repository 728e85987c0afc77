//! Kubernetes objects that the configuration names and the cluster does not have.

use crate::fixtures::{Namespace, start_agimo};

#[tokio::test]
async fn a_missing_workload_service_or_port_is_reported_until_it_exists() {
    let namespace = Namespace::new("missing").await;
    let sample = namespace.deployment("web").replicas(1);
    let agimo = start_agimo(&sample.service_config("web.test", "timeout = '1s'")).await;
    let response = agimo.get("web.test", "/").await;
    assert_eq!((response.status, response.reason()), (504, Some("workload-missing")));
    let detail = response.header("x-agimo-detail").unwrap();
    assert!(detail.contains(&format!("there is no Deployment {}/web", namespace.name)), "{detail}");

    sample.apply_workload().await;
    let response = agimo.get("web.test", "/").await;
    assert_eq!((response.status, response.reason()), (504, Some("service-missing")));

    sample.apply_service(&[("other", 81)]).await;
    agimo.until_reason("web.test", "port-missing").await;
    let status = agimo.service_status("web.test").await;
    assert!(status["detail"].as_str().unwrap().contains("has no port 80, only 81"), "{status}");

    sample.apply_service(&[("http", 80)]).await;
    agimo.until_ready_endpoints("web.test", 1).await;
    assert_eq!(agimo.get("web.test", "/").await.status, 200);
}
