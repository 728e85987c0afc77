//! The rights that the chart gives agimo: exactly what the manual lists, enough for all it does, and what its pods say
//! when one is missing.

use std::collections::BTreeSet;

use serde_json::json;

use crate::fixtures::{CHART, Kubectl, Namespace, Release};
use crate::support::eventually;

/// The rights in a watched namespace, as docs/kubernetes.md lists them.
const RIGHTS: [&str; 8] = [
    "endpointslices.discovery.k8s.io [list watch]",
    "pods [list watch]",
    "services [list watch]",
    "deployments.apps [list watch]",
    "statefulsets.apps [list watch]",
    "events [list]",
    "deployments.apps/scale [get patch]",
    "statefulsets.apps/scale [get patch]",
];

#[tokio::test]
async fn under_the_restricted_standard_a_role_a_namespace_is_all_it_needs() {
    let home = Namespace::new("home").await;
    let work = Namespace::new("work").await;
    let enforce = "pod-security.kubernetes.io/enforce=restricted";
    Kubectl::run(&["label", "namespace", &home.name, enforce]);
    let web = work.deployment("web").apply().await;
    let keys = "scaler = \"agimo\"\nsleep_after = \"1s\"";
    let elsewhere = web.service("elsewhere.test", "timeout = \"1s\"");
    let elsewhere = elsewhere.replace(&work.name, "monitoring");
    let config = web.service("web.test", keys) + &elsewhere;
    let values = json!({ "config": config, "watchNamespaces": [work.name] });
    let release = Release::install(&home, &values).await;

    assert_eq!(release.get("web.test", "/").await.status, 200);
    web.until_asleep().await;
    let response = release.get("elsewhere.test", "/").await;
    assert_eq!((response.status, response.reason()), (504, Some("namespace-unwatched")));

    let may = |namespace: &str| may(&home.name, namespace);
    assert_eq!(may(&work.name), RIGHTS.map(ToOwned::to_owned).into());
    assert_eq!(may(&home.name), [RIGHTS[0].to_owned()].into());
    assert_eq!(may("monitoring"), [].into());
}

#[tokio::test]
async fn a_pod_without_a_right_is_not_ready_and_says_what_to_give_it() {
    let namespace = Namespace::new("without").await;
    let web = namespace.deployment("web").apply().await;
    let values = json!({
        "config": web.service("web.test", "scaler = \"agimo\""),
        "watchNamespaces": [namespace.name], "rbac": { "create": false },
    });
    grant(
        &namespace,
        &["pods", "endpointslices", "deployments", "deployments/scale", "statefulsets"],
    );
    let release = Release::prepare(&namespace, &values.to_string());
    release.helm(&["install", "agimo", CHART]).await;
    let pod = release.until_pods(1).await.remove(0);
    let started = "--for=jsonpath={.status.containerStatuses[0].started}=true";
    release.kubectl(&["wait", started, "--timeout=20s", "pod", &pod]).await;
    let said = eventually("the missing right in the log", || async {
        let log = release.log_of(&pod).await;
        log.lines().find(|line| line.contains("let agimo")).map(ToOwned::to_owned)
    })
    .await;
    assert!(said.contains("cannot list resource \\\"services\\\""), "{said}");
    assert!(said.contains(&format!("by a Role in namespace {}", namespace.name)), "{said}");
    let page = release.admin(&pod, "/readyz").await;
    assert_eq!(page.status, 503);
    assert!(page.text().contains("the log says what is missing"), "{}", page.text());

    grant(&namespace, &["*"]);
    release.kubectl(&["wait", "--for=condition=Ready", "--timeout=20s", "pod", &pod]).await;
    release.until_reachable().await;
    assert_eq!(release.get("web.test", "/").await.status, 200);
    assert_eq!(release.field_of(&pod, "{.status.containerStatuses[0].restartCount}").await, "0");
}

/// Gives agimo's ServiceAccount these resources of its namespace, in place of those it had.
fn grant(namespace: &Namespace, resources: &[&str]) {
    let group = "rbac.authorization.k8s.io";
    let role = json!({
        "apiVersion": format!("{group}/v1"), "kind": "Role", "metadata": { "name": "given" },
        "rules": [{
            "apiGroups": ["", "apps", "discovery.k8s.io"], "resources": resources,
            "verbs": ["get", "list", "watch", "patch"],
        }],
    });
    let binding = json!({
        "apiVersion": format!("{group}/v1"), "kind": "RoleBinding", "metadata": { "name": "given" },
        "roleRef": { "apiGroup": group, "kind": "Role", "name": "given" },
        "subjects": [{ "kind": "ServiceAccount", "name": "agimo", "namespace": namespace.name }],
    });
    namespace.apply(&format!("{role}\n---\n{binding}"));
}

/// What agimo of the namespace `home` may do in another, beside what everybody may: each resource with its verbs.
fn may(home: &str, namespace: &str) -> BTreeSet<String> {
    let listed = |account: &str| {
        let account = format!("--as=system:serviceaccount:{account}");
        let words = ["auth", "can-i", "--list", "--no-headers", "--namespace", namespace, &account];
        let list = Kubectl::run(&words);
        let rights = list.lines().map(|line| {
            let words = line.split_whitespace().filter(|word| *word != "[]");
            words.collect::<Vec<_>>().join(" ")
        });
        rights.collect::<BTreeSet<String>>()
    };
    let everybody = listed("nobody:nobody");
    listed(&format!("{home}:agimo")).difference(&everybody).cloned().collect()
}
