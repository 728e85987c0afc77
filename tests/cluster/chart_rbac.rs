//! The permissions that the chart grants agimo: exactly the documented ones, sufficient for what it does, and a missing one
//! is reported by its pods.

use std::collections::BTreeSet;

use serde_json::json;

use crate::fixtures::{CHART, Kubectl, Namespace, Release};
use crate::support::eventually;

/// The permissions in a watched namespace, as docs/kubernetes.md lists them.
const PERMISSIONS: [&str; 11] = [
    "endpointslices.discovery.k8s.io [list watch]",
    "pods [list watch]",
    "services [list watch]",
    "deployments.apps [list watch]",
    "statefulsets.apps [list watch]",
    "events [list watch]",
    "deployments.apps/scale [get patch]",
    "statefulsets.apps/scale [get patch]",
    "horizontalpodautoscalers.autoscaling [list watch]",
    "scaledobjects.keda.sh [list watch]",
    "events.events.k8s.io [create]",
];

/// The right in agimo's own namespace, besides reading its EndpointSlices.
const REPLICA_STORE: &str = "configmaps [agimo-replicas] [get list watch patch]";

#[tokio::test]
async fn agimo_works_under_the_restricted_pod_security_standard_with_one_role_per_watched_namespace()
 {
    let own = Namespace::new("own").await;
    let watched = Namespace::new("watched").await;
    let enforce = "pod-security.kubernetes.io/enforce=restricted";
    Kubectl::run(&["label", "namespace", &own.name, enforce]);
    let web = watched.deployment("web").apply().await;
    let keys = "scaler = \"agimo\"\nsleep_after = \"1s\"";
    let unwatched = web.service_config("unwatched.test", "timeout = \"1s\"");
    let unwatched = unwatched.replace(&watched.name, "monitoring");
    let config = web.service_config("web.test", keys) + &unwatched;
    let values = json!({ "config": config, "watchNamespaces": [watched.name] });
    let release = Release::install(&own, &values).await;

    assert_eq!(release.get("web.test", "/").await.status, 200);
    web.until_asleep().await;
    let response = release.get("unwatched.test", "/").await;
    assert_eq!((response.status, response.reason()), (504, Some("namespace-unwatched")));

    let permissions = |namespace: &str| permissions(&own.name, namespace);
    assert_eq!(permissions(&watched.name), PERMISSIONS.map(ToOwned::to_owned).into());
    let lease = ["[agimo] [get update]", "[create]"];
    let [held, created] = lease.map(|verbs| format!("leases.coordination.k8s.io {verbs}"));
    let [slices, store] = [PERMISSIONS[0], REPLICA_STORE].map(ToOwned::to_owned);
    let expected = [slices, store, held, created];
    assert_eq!(permissions(&own.name), expected.into());
    assert_eq!(permissions("monitoring"), [].into());
}

#[tokio::test]
async fn a_pod_without_a_permission_is_not_ready_and_logs_which_one_to_grant() {
    let namespace = Namespace::new("ungranted").await;
    let web = namespace.deployment("web").apply().await;
    let values = json!({
        "config": web.service_config("web.test", "scaler = \"agimo\""),
        "watchNamespaces": [namespace.name], "rbac": { "create": false },
    });
    grant(
        &namespace,
        &["pods", "endpointslices", "deployments", "deployments/scale", "statefulsets"],
    );
    let release = Release::prepare(&namespace, &values.to_string());
    release.helm(&["install", "agimo", CHART]).await;
    let pod = release.until_pod_count(1).await.remove(0);
    let started = "--for=jsonpath={.status.containerStatuses[0].started}=true";
    release.kubectl(&["wait", started, "--timeout=20s", "pod", &pod]).await;
    let line = eventually("a log line about the missing permission", || async {
        let log = release.pod_log(&pod).await;
        log.lines().find(|line| line.contains("let agimo")).map(ToOwned::to_owned)
    })
    .await;
    assert!(line.contains("cannot list resource \\\"services\\\""), "{line}");
    assert!(line.contains(&format!("by a Role in namespace {}", namespace.name)), "{line}");
    let page = release.admin(&pod, "/readyz").await;
    assert_eq!(page.status, 503);
    assert!(page.text().contains("the log says what is missing"), "{}", page.text());

    grant(&namespace, &["*"]);
    release.kubectl(&["wait", "--for=condition=Ready", "--timeout=20s", "pod", &pod]).await;
    release.until_reachable().await;
    assert_eq!(release.get("web.test", "/").await.status, 200);
    assert_eq!(release.pod_field(&pod, "{.status.containerStatuses[0].restartCount}").await, "0");
}

/// Grants agimo's ServiceAccount these resources of its namespace, in place of those granted before.
fn grant(namespace: &Namespace, resources: &[&str]) {
    let group = "rbac.authorization.k8s.io";
    let role = json!({
        "apiVersion": format!("{group}/v1"), "kind": "Role", "metadata": { "name": "granted" },
        "rules": [{
            "apiGroups": ["", "apps", "discovery.k8s.io"], "resources": resources,
            "verbs": ["get", "list", "watch", "patch"],
        }],
    });
    let binding = json!({
        "apiVersion": format!("{group}/v1"), "kind": "RoleBinding", "metadata": { "name": "granted" },
        "roleRef": { "apiGroup": group, "kind": "Role", "name": "granted" },
        "subjects": [{ "kind": "ServiceAccount", "name": "agimo", "namespace": namespace.name }],
    });
    namespace.apply(&format!("{role}\n---\n{binding}"));
}

/// What agimo's ServiceAccount of the namespace `own` may do in `namespace` and an unprivileged user may not: each resource
/// with its verbs.
fn permissions(own: &str, namespace: &str) -> BTreeSet<String> {
    let permitted = |account: &str| {
        let account = format!("--as=system:serviceaccount:{account}");
        let words = ["auth", "can-i", "--list", "--no-headers", "--namespace", namespace, &account];
        let list = Kubectl::run(&words);
        let permissions = list.lines().map(|line| {
            let words = line.split_whitespace().filter(|word| *word != "[]");
            words.collect::<Vec<_>>().join(" ")
        });
        permissions.collect::<BTreeSet<String>>()
    };
    let unprivileged = permitted("nobody:nobody");
    permitted(&format!("{own}:agimo")).difference(&unprivileged).cloned().collect()
}
