//! Which endpoints agimo takes from EndpointSlices and Services.

use crate::fixtures::{Namespace, Sample, SampleRequest, start_agimo};

#[tokio::test]
async fn requests_are_sent_to_every_ready_pod_and_to_no_terminating_one() {
    let namespace = Namespace::new("spread").await;
    let web = namespace.deployment("web").replicas(2).apply().await;
    let agimo = start_agimo(&web.service_config("web.test", "")).await;
    agimo.until_ready_endpoints("web.test", 2).await;
    let mut hosts = std::collections::BTreeSet::new();
    for _ in 0..40 {
        hosts.insert(agimo.get("web.test", "/").await.text());
    }
    assert_eq!(hosts.len(), 2, "{hosts:?}");
    web.scale(1).await;
    agimo.until_ready_endpoints("web.test", 1).await;
    let mut hosts = std::collections::BTreeSet::new();
    for _ in 0..10 {
        hosts.insert(SampleRequest::get("web.test").send_once(agimo.address).await.text());
    }
    assert_eq!(hosts.len(), 1, "{hosts:?}");
}

#[tokio::test]
async fn a_service_port_may_be_a_name_and_requests_may_be_sent_to_the_service_address() {
    let namespace = Namespace::new("ports").await;
    let web = namespace.deployment("web").replicas(1).apply().await;
    let db = namespace.stateful_set("db").replicas(1).apply().await;
    let by_name = |sample: &Sample, host, keys| {
        sample.service_config(host, keys).replace("service_port = 80", "service_port = \"http\"")
    };
    let services = by_name(&web, "web.test", "")
        + &by_name(&web, "by-service.test", "via = \"service\"")
        + &by_name(&db, "db.test", "");
    let agimo = start_agimo(&services).await;
    for host in ["web.test", "by-service.test", "db.test"] {
        assert_eq!(agimo.get(host, "/").await.status, 200, "{host}");
    }
}

#[tokio::test]
async fn pods_behind_one_named_target_port_may_listen_on_different_port_numbers() {
    let namespace = Namespace::new("numbers").await;
    let (one, other) = (namespace.deployment("one"), namespace.deployment("other").port(9090));
    for sample in [one.clone(), other] {
        sample.replicas(1).pod_label("part-of", "web").apply_workload().await;
    }
    namespace.apply(
        "{apiVersion: v1, kind: Service, metadata: {name: web}, \
         spec: {selector: {part-of: web}, ports: [{name: http, port: 80, targetPort: http}]}}",
    );
    let service = one
        .service_config("web.test", "")
        .replace("service_name = \"one\"", "service_name = \"web\"");
    let agimo = start_agimo(&service).await;
    agimo.until_ready_endpoints("web.test", 2).await;
    let mut hosts = std::collections::BTreeSet::new();
    for _ in 0..40 {
        let host = SampleRequest::get("web.test").send_once(agimo.address).await.text();
        hosts.extend(host.split('-').next().map(ToOwned::to_owned));
    }
    assert_eq!(hosts.into_iter().collect::<Vec<_>>(), ["hello from one", "hello from other"]);
}

#[tokio::test]
async fn a_service_without_a_selector_has_the_endpoints_of_a_slice_written_by_hand() {
    let namespace = Namespace::new("by-hand").await;
    let web = namespace.deployment("web").replicas(1);
    web.apply_workload().await;
    web.until_ready(1).await;
    namespace.apply(
        "{apiVersion: v1, kind: Service, metadata: {name: web}, spec: {ports: [{name: http, port: 80}]}}",
    );
    let agimo = start_agimo(&web.service_config("web.test", "timeout = \"1s\"")).await;
    let response = agimo.get("web.test", "/").await;
    assert_eq!((response.status, response.reason()), (504, Some("hold-timeout")));
    let address = web.kubectl(&["get", "pods", "-o", "jsonpath={.items[0].status.podIP}"]).await;
    namespace.apply(&format!(
        "{{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, addressType: IPv4, \
         metadata: {{name: by-hand, labels: {{kubernetes.io/service-name: web}}}}, \
         ports: [{{name: http, port: 8080}}], endpoints: [{{addresses: ['{address}']}}]}}",
    ));
    agimo.until_ready_endpoints("web.test", 1).await;
    SampleRequest::get("web.test").send_once(agimo.address).await;
    namespace.kubectl(&["delete", "endpointslice", "by-hand"]);
    agimo.until_ready_endpoints("web.test", 0).await;
}
