//! How agimo learns what is ready: EndpointSlices, the pods of a waking workload, the Service, Prometheus.

use crate::fixtures::{Namespace, Question, agimo};

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

#[tokio::test]
async fn pods_behind_one_named_port_may_listen_on_different_numbers() {
    let namespace = Namespace::new("numbers").await;
    let (one, other) = (namespace.deployment("one"), namespace.deployment("other").port(9090));
    for sample in [one.clone(), other] {
        sample.replicas(1).label("part-of", "web").apply_workload().await;
    }
    namespace.apply(
        "{apiVersion: v1, kind: Service, metadata: {name: web}, \
         spec: {selector: {part-of: web}, ports: [{name: http, port: 80, targetPort: http}]}}",
    );
    let service =
        one.service("web.test", "").replace("service_name = \"one\"", "service_name = \"web\"");
    let agimo = agimo(&service).await;
    agimo.until_ready_endpoints("web.test", 2).await;
    let mut hosts = std::collections::BTreeSet::new();
    for _ in 0..40 {
        let host = Question::get("web.test").ask_once(agimo.address).await.text();
        hosts.extend(host.split('-').next().map(ToOwned::to_owned));
    }
    assert_eq!(hosts.into_iter().collect::<Vec<_>>(), ["hello from one", "hello from other"]);
}

#[tokio::test]
async fn a_service_without_selector_has_the_endpoints_that_somebody_writes() {
    let namespace = Namespace::new("by-hand").await;
    let web = namespace.deployment("web").replicas(1);
    web.apply_workload().await;
    web.until_ready(1).await;
    namespace.apply(
        "{apiVersion: v1, kind: Service, metadata: {name: web}, spec: {ports: [{name: http, port: 80}]}}",
    );
    let agimo = agimo(&web.service("web.test", "timeout = \"1s\"")).await;
    let response = agimo.get("web.test", "/").await;
    assert_eq!((response.status, response.reason()), (504, Some("hold-timeout")));
    let address = web.kubectl(&["get", "pods", "-o", "jsonpath={.items[0].status.podIP}"]).await;
    namespace.apply(&format!(
        "{{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, addressType: IPv4, \
         metadata: {{name: by-hand, labels: {{kubernetes.io/service-name: web}}}}, \
         ports: [{{name: http, port: 8080}}], endpoints: [{{addresses: ['{address}']}}]}}",
    ));
    agimo.until_ready_endpoints("web.test", 1).await;
    Question::get("web.test").ask_once(agimo.address).await;
    namespace.kubectl(&["delete", "endpointslice", "by-hand"]);
    agimo.until_ready_endpoints("web.test", 0).await;
}
