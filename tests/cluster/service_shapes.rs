//! Services of unusual shape: one number for TCP and UDP, and addresses of pods that are not ready.

use serde_json::{Value, json};

use crate::fixtures::{Namespace, start_agimo};

fn apply_service(namespace: &Namespace, name: &str, spec: &Value) {
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": { "name": name }, "spec": spec,
    });
    namespace.apply(&service.to_string());
}

#[tokio::test]
async fn of_two_ports_with_one_number_the_tcp_port_is_used() {
    let namespace = Namespace::new("udp").await;
    let web = namespace.deployment("web").replicas(1);
    web.apply_workload().await;
    // As for HTTP/3; the first port of the number is the one for UDP.
    let ports = json!([
        { "name": "http3", "port": 80, "protocol": "UDP", "targetPort": 9 },
        { "name": "http", "port": 80, "protocol": "TCP", "targetPort": "http" },
    ]);
    let selector = json!({ "app": "web" });
    apply_service(&namespace, "web", &json!({ "selector": selector, "ports": ports }));
    let agimo = start_agimo(&web.service_config("web.test", "timeout = \"5s\"")).await;
    agimo.until_ready_endpoints("web.test", 1).await;
    assert_eq!(agimo.get("web.test", "/").await.status, 200);
}

#[tokio::test]
async fn no_request_goes_to_a_pod_that_is_not_ready_although_its_address_is_published() {
    let namespace = Namespace::new("unready").await;
    // The container answers, and Kubernetes says that the pod is not ready.
    let gates = json!([{ "conditionType": "example.com/registered" }]);
    let db = namespace.stateful_set("db").replicas(1).pod_field("readinessGates", gates);
    db.apply_workload().await;
    let ports = json!([{ "name": "http", "port": 80, "targetPort": "http" }]);
    let spec = json!({
        "clusterIP": "None", "publishNotReadyAddresses": true,
        "selector": { "app": "db" }, "ports": ports,
    });
    apply_service(&namespace, "db", &spec);
    let agimo = start_agimo(&db.service_config("db.test", "timeout = \"5s\"")).await;
    let response = agimo.get("db.test", "/").await;
    let head = &response.head;
    assert_eq!((response.status, response.reason()), (504, Some("readiness-gate")), "{head}");
    assert_eq!(agimo.service_status("db.test").await["ready_endpoints"], 0);
}
