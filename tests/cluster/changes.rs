//! People who change workloads through agimo: with tokens of the cluster, through any replica, and so that a restart of agimo
//! does not forget it.

use std::io::Write;
use std::net::SocketAddr;
use std::process::Output;

use serde_json::{Value, json};
use tempfile::NamedTempFile;
use tokio::process::Command;

use crate::fixtures::{Namespace, Release, SampleRequest};
use crate::support::client::{Client, Response};
use crate::support::{eventually, within};

const AGIMO: &str = env!("CARGO_BIN_EXE_agimo");
const TOKEN: &str = "the token of the operators";

async fn post(admin: SocketAddr, path: &str, token: &str) -> Response {
    let mut client = Client::connect(admin).await;
    client
        .send(format!(
            "POST /api/v1/{path} HTTP/1.1\r\nHost: admin\r\nAuthorization: Bearer {token}\r\n\
             Content-Length: 0\r\nConnection: close\r\n\r\n"
        ))
        .await;
    client.response().await
}

/// A service account with these rules in the namespace, and its token.
fn token_of(namespace: &Namespace, name: &str, rules: &Value) -> String {
    let object = |kind: &str, more: Value| {
        let group = if kind == "ServiceAccount" { "v1" } else { "rbac.authorization.k8s.io/v1" };
        let mut object = json!({ "apiVersion": group, "kind": kind, "metadata": { "name": name } });
        object.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        object.to_string()
    };
    let role = json!({ "apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name });
    let subject = json!({ "kind": "ServiceAccount", "name": name, "namespace": namespace.name });
    let objects = [
        object("ServiceAccount", json!({})),
        object("Role", json!({ "rules": rules })),
        object("RoleBinding", json!({ "roleRef": role, "subjects": [subject] })),
    ];
    namespace.apply(&objects.join("\n---\n"));
    namespace.kubectl(&["create", "token", name]).trim().to_owned()
}

/// `agimo` with these arguments, through a port-forward of its own.
async fn command(namespace: &Namespace, arguments: &[&str]) -> Output {
    let mut command = Command::new(AGIMO);
    command.args(arguments).args(["--namespace", &namespace.name]);
    within("the command to end", command.output()).await.unwrap()
}

fn stdout(output: Output) -> String {
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{error}");
    String::from_utf8(output.stdout).unwrap()
}

/// Waits until each of these pods of agimo shows this for the only service.
async fn until_everywhere(release: &Release, what: &str, is_shown: impl Fn(&Value) -> bool) {
    for pod in release.until_pod_count(2).await {
        eventually(&format!("{what} at {pod}"), || async {
            let answer = release.admin(&pod, "/api/v1/services").await.text();
            let answer: Value = serde_json::from_str(&answer).ok()?;
            is_shown(&answer["services"][0]).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn people_change_workloads_through_any_replica_and_a_restart_forgets_nothing() {
    let namespace = Namespace::new("changes").await;
    let web = namespace.deployment("web").apply().await;
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "operators" },
        "stringData": { "token": TOKEN },
    });
    namespace.apply(&secret.to_string());
    let config = web.service_config("web.test", "scaler = \"agimo\"\nsleep_after = \"1h\"");
    let admin = json!({ "tokenReview": true, "tokensSecret": "operators" });
    let values = json!({ "config": config, "replicas": 2, "admin": admin });
    let release = Release::install(&namespace, &values).await;
    let pods = release.until_pod_count(2).await;
    until_everywhere(&release, "a state", |service| service["state"].is_string()).await;

    // Only who may scale the workload may wake it.
    let right = |verb: &str| json!([{ "apiGroups": ["apps"], "resources": ["deployments/scale"], "verbs": [verb] }]);
    let reader = token_of(&namespace, "reader", &right("get"));
    let scaler = token_of(&namespace, "scaler", &right("update"));
    let sleep = "sleep?host=web.test";
    for pod in &pods {
        let address = release.pod_address(pod, 9090).await;
        let refused = post(address, sleep, &reader).await;
        let text = refused.text();
        assert!(refused.status == 403 && text.contains("may not update the scale of"), "{text}");
        assert_eq!(post(address, sleep, "no token at all of anybody").await.status, 401);
        SampleRequest::get("web.test").send_once(release.pod_address(pod, 8080).await).await;
        until_everywhere(&release, "an idle workload", |service| {
            service["state"] == "awake" && service["workload_load"]["open_requests"] == 0
        })
        .await;
        // Whichever replica is asked, the leader does it.
        let slept = post(address, sleep, &scaler).await;
        assert_eq!(slept.status, 200, "{}", slept.text());
        assert!(slept.text().contains("\"unreachable\": []"), "{}", slept.text());
        web.until_asleep().await;
    }
    let by = format!("system:serviceaccount:{}:scaler asked for", namespace.name);
    web.until_event("Asleep", &[&format!("as {by}")]).await;

    // The commands reach a pod by themselves.
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(TOKEN.as_bytes()).unwrap();
    let token = ["--token-file", file.path().to_str().unwrap()];
    let run =
        async |words: &[&str]| stdout(command(&namespace, &[words, &token[..]].concat()).await);
    let woken = run(&["wake", "web.test", "--wait"]).await;
    assert!(woken.ends_with("/web: awake\n"), "{woken}");
    web.until_event("Woken", &["woken, as admin-token asked for"]).await;
    run(&["pin", "web.test", "--for", "1h", "--asleep"]).await;
    until_everywhere(&release, "the pin", |service| service["pin"]["by"] == "admin-token").await;
    web.until_asleep().await;
    let status = stdout(command(&namespace, &["status"]).await);
    assert!(status.lines().nth(1).unwrap().starts_with("web.test   asleep"), "{status}");

    // Other pods of agimo know the pin.
    release.kubectl(&["rollout", "restart", "deployment/agimo"]).await;
    release.kubectl(&["rollout", "status", "deployment/agimo", "--timeout=60s"]).await;
    let is_pinned = |service: &Value| {
        service["pin"]["by"] == "admin-token" && service["directive"] == "pinned-asleep"
    };
    until_everywhere(&release, "the pin after a restart", is_pinned).await;
    run(&["unpin", "web.test"]).await;
    until_everywhere(&release, "no pin", |service| service["pin"].is_null()).await;
    let explained = stdout(command(&namespace, &["explain", "web.test"]).await);
    assert!(explained.contains("agimo wakes the workload"), "{explained}");
}
