//! The chart by itself: what it refuses, and a release's whole life: installed, changed without a restart, rolled back,
//! gone without a trace.

use serde_json::json;

use crate::fixtures::{CHART, Helm, Namespace, Release};
use crate::support::eventually;

const MANUALS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/manifests");

#[tokio::test]
async fn the_chart_passes_the_strict_linter_with_the_values_of_the_manual() {
    for values in ["values-agimo.yaml", "values-keda.yaml"] {
        let values = format!("{MANUALS}/{values}");
        let said = Helm::run(&["lint", "--strict", CHART, "--values", &values]).await;
        assert!(said.contains("0 chart(s) failed"), "{said}");
    }
}

#[tokio::test]
async fn wrong_values_are_refused_by_their_names() {
    let values = format!("{MANUALS}/values-keda.yaml");
    for (set, named) in [
        ("replica=2", "'replica' not allowed"),
        ("replicas=two", "'/replicas'"),
        ("prometheus.adress=http://x", "'adress' not allowed"),
        ("prometheus.address=prometheus", "'/prometheus/address'"),
        ("readiness=maybe", "'/readiness'"),
        ("image.pullPolicy=never", "'/image/pullPolicy'"),
        ("drainTimeout=30", "'/drainTimeout'"),
        ("service.type=External", "'/service/type'"),
        ("service.port=70000", "'/service/port'"),
        ("watchNamespaces={Shop}", "'/watchNamespaces/0'"),
        ("log=loud", "'/log'"),
        ("terminationGracePeriodSeconds=10", "terminationGracePeriodSeconds is 10"),
        ("podDisruptionBudget.minAvailable=1,replicas=2", "podDisruptionBudget.maxUnavailable"),
        ("config=", "`config` is empty"),
        ("existingConfigMap=mine", "not both"),
        ("serviceMonitor.enabled=true,podMonitor.enabled=true", "counted twice"),
        ("readiness=prometheus,prometheus.address=", "prometheus.address"),
    ] {
        let arguments = ["template", "agimo", CHART, "--values", &values, "--set", set];
        let complaint = Helm::refused(&arguments).await;
        assert!(complaint.contains(named), "{set}: {complaint}");
    }
}

#[tokio::test]
async fn the_api_server_accepts_what_is_off_by_default() {
    let namespace = Namespace::new("options").await;
    let spread = json!({
        "maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "ScheduleAnyway",
    });
    let values = json!({
        "config": namespace.deployment("web").service("web.test", ""),
        "replicas": 3, "watchNamespaces": [namespace.name], "threads": 2, "accessLog": true,
        "service": { "type": "LoadBalancer", "externalTrafficPolicy": "Local", "nodePort": 30123 },
        "networkPolicy": { "enabled": true, "trafficFrom": [{ "ipBlock": { "cidr": "10.0.0.0/8" } }] },
        "topologySpreadConstraints": [spread], "extraEnv": [{ "name": "A", "value": "b" }],
        "podDisruptionBudget": { "minAvailable": "50%", "maxUnavailable": null },
        "startupProbe": { "httpGet": { "path": "/livez", "port": "admin" } },
        "commonLabels": { "team": "web" }, "podLabels": { "mesh": "off" },
    });
    let release = Release::prepare(&namespace, &values.to_string());
    let manifests = release.helm(&["template", "agimo", CHART]).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("all.yaml");
    std::fs::write(&file, manifests).unwrap();
    let said = release.kubectl(&["apply", "--dry-run=server", "-f", file.to_str().unwrap()]).await;
    for object in
        ["networkpolicy.networking.k8s.io", "poddisruptionbudget.policy", "deployment.apps"]
    {
        assert!(said.contains(&format!("{object}/agimo created (server dry run)")), "{said}");
    }
    // Their definitions come with the Prometheus operator, which is not here.
    for (monitor, kind) in [("serviceMonitor", "ServiceMonitor"), ("podMonitor", "PodMonitor")] {
        let set = format!("{monitor}.enabled=true,{monitor}.interval=5s");
        let said = release.helm(&["template", "agimo", CHART, "--set", &set]).await;
        assert!(said.contains(&format!("kind: {kind}")) && said.contains("interval: 5s"), "{said}");
    }
}

#[tokio::test]
async fn a_release_changes_without_a_restart_and_leaves_nothing_behind() {
    let namespace = Namespace::new("release").await;
    let web = namespace.deployment("web").replicas(1).apply().await;
    let before = web.service("before.test", "");
    let release = Release::install(&namespace, &json!({ "config": before })).await;
    let pod = release.until_pods(1).await.remove(0);
    assert_eq!(release.get("before.test", "/").await.status, 200);
    assert_eq!(release.get("after.test", "/").await.reason(), Some("unknown-host"));

    release.reconfigure(&(before + &web.service("after.test", ""))).await;
    until_status(&release, "after.test", 200).await;
    assert_eq!(release.get("before.test", "/").await.status, 200);

    // A wrong one leaves the old one serving.
    release.reconfigure("[[services]]\nhost = 1\n").await;
    until_reloaded(&release, &pod, "0").await;
    assert_eq!(release.get("after.test", "/").await.status, 200);

    Helm::run(&["rollback", "agimo", "1", "--namespace", &namespace.name]).await;
    until_status(&release, "after.test", 404).await;
    until_reloaded(&release, &pod, "1").await;
    assert_eq!(release.get("before.test", "/").await.status, 200);
    assert_eq!(release.pods().await.join(" "), pod);
    let restarts = "{.status.containerStatuses[0].restartCount}";
    assert_eq!(release.field_of(&pod, restarts).await, "0");

    let made = objects(&release, &namespace).await;
    for kind in ["serviceaccount/", "configmap/", "service/", "deployment", "clusterrole."] {
        assert!(made.iter().any(|object| object.starts_with(kind)), "no {kind} in {made:?}");
    }
    Helm::run(&["uninstall", "agimo", "--namespace", &namespace.name]).await;
    eventually("everything gone", || async {
        objects(&release, &namespace).await.is_empty().then_some(())
    })
    .await;
    // The workload is the user's.
    assert_eq!(web.current_replicas().await, 1);
}

async fn until_status(release: &Release, host: &str, status: u16) {
    let what = format!("{host} answered {status}");
    eventually(&what, || async {
        release.hurry_the_kubelet().await;
        (release.get(host, "/").await.status == status).then_some(())
    })
    .await;
}

async fn until_reloaded(release: &Release, pod: &str, successful: &str) {
    let sample = format!("agimo_config_last_reload_successful {successful}\n");
    eventually(&sample, || async {
        release.hurry_the_kubelet().await;
        release.admin(pod, "/metrics").await.text().contains(&sample).then_some(())
    })
    .await;
}

/// What the release has made, in its namespace and outside of any; what Helm keeps of it included.
async fn objects(release: &Release, namespace: &Namespace) -> Vec<String> {
    let inside = "serviceaccounts,configmaps,services,deployments,poddisruptionbudgets,roles,rolebindings,pods";
    let label = "app.kubernetes.io/instance=agimo";
    let inside = release.kubectl(&["get", inside, "-l", label, "-o", "name"]).await;
    let secrets = release.kubectl(&["get", "secrets", "-o", "name"]).await;
    let outside = release.kubectl(&["get", "clusterroles,clusterrolebindings", "-o", "name"]).await;
    let outside = outside.lines().filter(|object| object.contains(&namespace.name));
    inside.lines().chain(secrets.lines()).chain(outside).map(ToOwned::to_owned).collect()
}
