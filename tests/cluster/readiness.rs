//! How agimo learns what is ready: EndpointSlices, the pods of a waking workload, the Service, Prometheus.

use crate::fixtures::{Namespace, agimo};

#[tokio::test]
async fn every_ready_pod_is_sent_requests_and_one_that_leaves_is_not() {
    let namespace = Namespace::new("spread").await;
    let web = namespace.deployment("web").replicas(2).apply().await;
    let agimo = agimo(&web.service("web.test", "")).await;
    agimo.until_ready_endpoints("web.test", 2).await;
    let mut hosts = std::collections::BTreeSet::new();
    for _ in 0..40 {
        hosts.insert(agimo.get("web.test", "/").await.text());
    }
    assert_eq!(hosts.len(), 2, "{hosts:?}");
    web.scale(1).await;
    agimo.until_ready_endpoints("web.test", 1).await;
    for _ in 0..10 {
        assert_eq!(agimo.get("web.test", "/").await.status, 200);
    }
}

#[tokio::test]
async fn a_port_may_be_named_and_requests_may_go_by_the_service() {
    let namespace = Namespace::new("ports").await;
    let web = namespace.deployment("web").replicas(1).apply().await;
    let db = namespace.stateful_set("db").replicas(1).apply().await;
    let by_name = |sample: &crate::fixtures::Sample, host, more| {
        sample.service(host, more).replace("service_port = 80", "service_port = \"http\"")
    };
    let services = by_name(&web, "web.test", "")
        + &by_name(&web, "mesh.test", "via = \"service\"")
        + &by_name(&db, "db.test", "");
    let agimo = agimo(&services).await;
    for host in ["web.test", "mesh.test", "db.test"] {
        assert_eq!(agimo.get(host, "/").await.status, 200, "{host}");
    }
}
