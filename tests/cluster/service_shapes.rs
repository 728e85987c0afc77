//! Services of unusual shape: one number for TCP and UDP, addresses of pods that are not ready, ports that speak HTTP/2.

use serde_json::{Value, json};

use crate::fixtures::{Namespace, WebSocket, apply_service, grpc_health_check, start_agimo};
use crate::support::eventually;

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

#[tokio::test]
async fn app_protocol_selects_the_version_of_http_also_after_a_cold_start() {
    let namespace = Namespace::new("app-protocol").await;
    let web = namespace.deployment("web");
    web.apply_workload().await;
    let spec = |app_protocol: Value| {
        let port = json!({ "name": "http", "port": 80, "targetPort": "http", "appProtocol": app_protocol });
        json!({ "selector": { "app": "web" }, "ports": [port] })
    };
    apply_service(&namespace, "web", &spec(json!("kubernetes.io/h2c")));
    let agimo = start_agimo(&web.service_config("web.test", "scaler = \"agimo\"")).await;
    let received = agimo.get("web.test", "/headers").await.text();
    assert!(received.starts_with("GET /headers HTTP/2.0\n"), "{received}");
    // The application accepts WebSockets with HTTP/1.1 only, on the same port.
    let mut socket = WebSocket::open(agimo.address, "web.test").await;
    socket.echo("over HTTP/1.1").await;
    let received = grpc_health_check(agimo.address, "web.test").await;
    assert!(received.contains("grpc-status: 0\r\n"), "{received}");
    apply_service(&namespace, "web", &spec(Value::Null));
    eventually("requests with HTTP/1.1", || async {
        let received = agimo.get("web.test", "/headers").await.text();
        received.starts_with("GET /headers HTTP/1.1\n").then_some(())
    })
    .await;
    socket.echo("still there").await;
}
