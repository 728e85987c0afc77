//! A ServiceAccount with the permissions of one namespace: agimo works there, and reports a missing permission with its
//! fix.

use std::path::{Path, PathBuf};

use crate::fixtures::{Kubectl, Namespace, SampleRequest};
use crate::support::agimo::Agimo;
use crate::support::eventually;

#[tokio::test]
async fn permissions_in_one_namespace_suffice_for_it_and_a_missing_one_is_reported() {
    let namespace = Namespace::new("narrow").await;
    let web = namespace.deployment("web").apply().await;
    let folder = tempfile::tempdir().unwrap();
    let kubeconfig = kubeconfig(&namespace, folder.path());
    namespace.apply(&role(
        "watch",
        "endpointslices, services, deployments, statefulsets",
        "list, watch",
    ));
    let service = web.service_config("web.test", "scaler = \"agimo\"\ntimeout = \"2s\"");

    let unpermitted = Agimo::with(&service).environment("KUBECONFIG", &kubeconfig).start().await;
    let line = unpermitted.until_logged("let agimo list and watch them").await;
    assert!(line.contains("cannot list resource"), "{line}");
    let fix = "by a ClusterRole, or name the namespaces with --watch-namespaces";
    assert!(line.contains(fix), "{line}");
    assert_eq!(unpermitted.admin("/readyz").await.status, 503);
    unpermitted.until_reason("web.test", "readiness-unknown").await;
    drop(unpermitted);

    let unwatched =
        service.replace("web.test", "unwatched.test").replace(&namespace.name, "default");
    let agimo = Agimo::with(service + &unwatched)
        // Nothing can be read in the other namespace, as after it was deleted with its Roles.
        .arguments(&["--watch-namespaces", &format!("{},deleted", namespace.name)])
        .environment("KUBECONFIG", &kubeconfig)
        .start()
        .await;
    agimo.until_ready().await;
    agimo.until_logged("in namespace deleted").await;
    let response = agimo.get("unwatched.test", "/").await;
    assert_eq!((response.status, response.reason()), (504, Some("namespace-unwatched")));
    let response = agimo.get("web.test", "/").await;
    assert_eq!((response.status, response.reason()), (504, Some("scale-refused")));
    let detail = response.header("x-agimo-detail").unwrap();
    assert!(detail.contains("let agimo get and patch its scale subresource"), "{detail}");

    namespace.apply(&role("scale", "deployments/scale", "get, patch"));
    eventually("a wake with the permission to scale", || async {
        (agimo.get("web.test", "/").await.status == 200).then_some(())
    })
    .await;
    SampleRequest::get("web.test").send_once(agimo.address).await;
    // agimo has no permission to watch pods and uses EndpointSlices alone.
    agimo.until_logged("the pods cannot be watched").await;
}

/// Writes a kubeconfig for a new ServiceAccount of this namespace.
fn kubeconfig(namespace: &Namespace, folder: &Path) -> PathBuf {
    namespace.kubectl(&["create", "serviceaccount", "narrow"]);
    let token = namespace.kubectl(&["create", "token", "narrow"]);
    let file = folder.join("kubeconfig");
    std::fs::copy(std::env::var_os("KUBECONFIG").unwrap(), &file).unwrap();
    let config = |words: &[&str]| {
        let file = file.to_str().unwrap();
        Kubectl::run(&[&["--kubeconfig", file, "config"], words].concat());
    };
    config(&["set-credentials", "narrow", "--token", token.trim()]);
    config(&["set-context", "--current", "--user", "narrow"]);
    file
}

/// A Role with these permissions, bound to the ServiceAccount.
fn role(name: &str, resources: &str, verbs: &str) -> String {
    format!(
        "apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {{ name: {name} }}
rules: [{{ apiGroups: ['', apps, discovery.k8s.io], resources: [{resources}], verbs: [{verbs}] }}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {{ name: {name} }}
subjects: [{{ kind: ServiceAccount, name: narrow }}]
roleRef: {{ apiGroup: rbac.authorization.k8s.io, kind: Role, name: {name} }}
"
    )
}
