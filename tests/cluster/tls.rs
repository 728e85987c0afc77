//! TLS in a cluster: clients of a release whose certificate is a Secret, and applications whose Service says that they speak it.

use serde_json::{Value, json};

use crate::fixtures::{
    Namespace, Release, WebSocket, apply_service, grpc_health_check, start_agimo,
};
use crate::support::eventually;
use crate::support::tls::Authority;

/// Writes a certificate of the authority into a Secret.
fn apply_secret(namespace: &Namespace, authority: &Authority, name: &str) {
    let read = |file: String| std::fs::read_to_string(authority.path(&file)).unwrap();
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": { "name": name }, "type": "kubernetes.io/tls",
        "stringData": { "tls.crt": read(format!("{name}.crt")), "tls.key": read(format!("{name}.key")) },
    });
    namespace.apply(&secret.to_string());
}

#[tokio::test]
async fn a_release_serves_clients_over_tls_and_takes_a_renewed_certificate_without_a_restart() {
    let namespace = Namespace::new("tls").await;
    let web = namespace.deployment("web").apply().await;
    let authority = Authority::new();
    authority.issue("first", &["a.test"]);
    authority.issue("second", &["*.b.test"]);
    for name in ["first", "second"] {
        apply_secret(&namespace, &authority, name);
    }
    let config = web.service_config("a.test", "scaler = \"agimo\"\nredirect_to_https = 443");
    let values = json!({
        "config": config, "tls": { "existingSecret": "first", "extraSecrets": ["second"] },
    });
    let release = Release::install(&namespace, &values).await;
    let pods = release.pod_names().await;
    let path = "jsonpath={.spec.clusterIP}:{.spec.ports[?(@.name=='https')].port}";
    let https = release.kubectl(&["get", "service", "agimo", "-o", path]).await;
    let https = https.parse().unwrap();
    let script = "
        const found = await request({});
        print([found.status, found.headers['x-agimo-reason'] ?? null]);
        for (const servername of ['x.b.test', 'other.test']) print((await connect({ servername, checkServerIdentity: () => {} })).name);";
    let printed = authority.run_client(https, script).await;
    assert_eq!(printed, [json!([200, null]), json!("*.b.test"), json!("a.test")]);
    let redirected = release.get("a.test", "/").await;
    let location = redirected.header("location").map(ToOwned::to_owned);
    assert_eq!((redirected.status, location.as_deref()), (308, Some("https://a.test/")));

    authority.issue("first", &["renewed.test", "a.test"]);
    apply_secret(&namespace, &authority, "first");
    let name = "print((await connect({ checkServerIdentity: () => {} })).name);";
    eventually("the renewed certificate", || async {
        release.trigger_config_map_sync().await;
        (authority.run_client(https, name).await == [json!("renewed.test")]).then_some(())
    })
    .await;
    assert_eq!(release.pod_names().await, pods, "no pod was restarted");
}

#[tokio::test]
async fn the_port_of_a_service_says_that_the_application_speaks_tls() {
    let namespace = Namespace::new("https").await;
    let web = namespace.deployment("web").argument("--https=:8443");
    web.apply_workload().await;
    let apply = |app_protocol: &str| {
        let ports = json!([{ "name": "http", "port": 80, "targetPort": 8443, "appProtocol": app_protocol }]);
        let spec = json!({ "selector": { "app": "web" }, "ports": ports });
        apply_service(&namespace, "web", &spec);
    };
    apply("https");
    let config = web.service_config("web.test", "scaler = \"agimo\"\ntls_insecure = true")
        + &web.service_config("verified.test", "scaler = \"agimo\"");
    let agimo = start_agimo(&config).await;
    let received = agimo.get("web.test", "/headers").await.text();
    assert!(received.starts_with("GET /headers HTTP/1.1\n"), "{received}");
    let refused = agimo.get("verified.test", "/").await;
    assert_eq!(
        (refused.status, refused.reason()),
        (502, Some("endpoint-tls")),
        "{}",
        refused.text()
    );
    let response = grpc_health_check(agimo.address, "web.test").await;
    assert!(response.contains("grpc-status: 0\r\n"), "{response}");
    apply("kubernetes.io/wss");
    let mut socket = WebSocket::open(agimo.address, "web.test").await;
    socket.echo("over TLS").await;
    let status: Value = agimo.service_status("web.test").await;
    assert_eq!(status["open_requests"], 1, "{status}");
}
