//! The Helm chart: which values it refuses, and the life of a release: install, upgrade without a restart, rollback,
//! uninstall.

use agimo::cli::Cli;
use agimo::cli::serving::OtlpProtocol;
use clap::Parser;
use serde_json::json;

use crate::fixtures::{CHART, Helm, Namespace, Release};
use crate::support::eventually;

/// The documented manifests and values.
const DOCUMENTED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/manifests");

#[tokio::test]
async fn the_chart_passes_the_strict_linter_with_the_documented_values() {
    for values in ["values-agimo.yaml", "values-keda.yaml"] {
        let values = format!("{DOCUMENTED}/{values}");
        let output = Helm::run(&["lint", "--strict", CHART, "--values", &values]).await;
        assert!(output.contains("0 chart(s) failed"), "{output}");
    }
}

#[tokio::test]
async fn by_default_there_are_two_replicas_on_different_nodes_if_possible() {
    let words = ["template", "agimo", CHART, "--show-only", "templates/deployment.yaml"];
    let deployment = Helm::run(&words).await;
    for part in ["\n  replicas: 2\n", "podAntiAffinity", "topologyKey: kubernetes.io/hostname"] {
        assert!(deployment.contains(part), "{part} in {deployment}");
    }
}

#[tokio::test]
async fn the_collector_of_traces_becomes_valid_arguments_of_agimo() {
    let set = "otlp.endpoint=http://collector:4317,otlp.protocol=grpc,otlp.sampleRatio=0.05";
    let template = "templates/deployment.yaml";
    let rendered =
        Helm::run(&["template", "agimo", CHART, "--show-only", template, "--set", set]).await;
    let arguments = rendered.lines().filter_map(|line| line.trim().strip_prefix("- "));
    let arguments = arguments.map(|argument| argument.trim_matches('"'));
    let arguments = arguments.filter(|argument| argument.starts_with("--"));
    let serve = Cli::try_parse_from(["agimo"].into_iter().chain(arguments)).unwrap().serve;
    assert_eq!(serve.otlp_endpoint.as_deref(), Some("http://collector:4317"));
    assert_eq!((serve.otlp_protocol, serve.otlp_sample_ratio), (OtlpProtocol::Grpc, 0.05));
    let error = Helm::error(&["template", "agimo", CHART, "--set", "otlp.sampleRatio=2"]).await;
    assert!(error.contains("'/otlp/sampleRatio'"), "{error}");
}

#[tokio::test]
async fn the_error_for_an_invalid_value_names_it() {
    let values = format!("{DOCUMENTED}/values-keda.yaml");
    for (set, expected) in [
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
        ("config=,readiness=prometheus", "`config` is empty"),
        ("existingConfigMap=mine", "not both"),
        ("serviceMonitor.enabled=true,podMonitor.enabled=true", "counted twice"),
        ("readiness=prometheus,prometheus.address=", "prometheus.address"),
    ] {
        let arguments = ["template", "agimo", CHART, "--values", &values, "--set", set];
        let error = Helm::error(&arguments).await;
        assert!(error.contains(expected), "{set}: {error}");
    }
}

#[tokio::test]
async fn the_api_server_accepts_the_objects_and_fields_that_are_off_by_default() {
    let namespace = Namespace::new("options").await;
    let spread = json!({
        "maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "ScheduleAnyway",
    });
    let values = json!({
        "config": namespace.deployment("web").service_config("web.test", ""),
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
    let applied =
        release.kubectl(&["apply", "--dry-run=server", "-f", file.to_str().unwrap()]).await;
    for object in
        ["networkpolicy.networking.k8s.io", "poddisruptionbudget.policy", "deployment.apps"]
    {
        assert!(applied.contains(&format!("{object}/agimo created (server dry run)")), "{applied}");
    }
    // The cluster lacks their CustomResourceDefinitions, which come with the Prometheus operator.
    for (monitor, kind) in [("serviceMonitor", "ServiceMonitor"), ("podMonitor", "PodMonitor")] {
        let set = format!("{monitor}.enabled=true,{monitor}.interval=5s");
        let rendered = release.helm(&["template", "agimo", CHART, "--set", &set]).await;
        let has_kind = rendered.contains(&format!("kind: {kind}"));
        assert!(has_kind && rendered.contains("interval: 5s"), "{rendered}");
    }
}

#[tokio::test]
async fn a_release_is_reconfigured_without_a_restart_and_uninstalled_completely() {
    let namespace = Namespace::new("release").await;
    let web = namespace.deployment("web").replicas(1).apply().await;
    let before = web.service_config("before.test", "");
    let release = Release::install(&namespace, &json!({ "config": before })).await;
    let pod = release.until_pod_count(1).await.remove(0);
    assert_eq!(release.get("before.test", "/").await.status, 200);
    assert_eq!(release.get("after.test", "/").await.reason(), Some("unknown-host"));

    release.reconfigure(&(before + &web.service_config("after.test", ""))).await;
    until_response_status(&release, "after.test", 200).await;
    assert_eq!(release.get("before.test", "/").await.status, 200);

    // After an invalid configuration the previous one remains in force.
    release.reconfigure("[[services]]\nhost = 1\n").await;
    until_reloaded(&release, &pod, "0").await;
    assert_eq!(release.get("after.test", "/").await.status, 200);

    Helm::run(&["rollback", "agimo", "1", "--namespace", &namespace.name]).await;
    until_response_status(&release, "after.test", 404).await;
    until_reloaded(&release, &pod, "1").await;
    assert_eq!(release.get("before.test", "/").await.status, 200);
    assert_eq!(release.pod_names().await.join(" "), pod);
    let restarts = "{.status.containerStatuses[0].restartCount}";
    assert_eq!(release.pod_field(&pod, restarts).await, "0");

    let created = objects(&release, &namespace).await;
    for kind in ["serviceaccount/", "configmap/", "service/", "deployment", "clusterrole."] {
        assert!(created.iter().any(|object| object.starts_with(kind)), "no {kind} in {created:?}");
    }
    Helm::run(&["uninstall", "agimo", "--namespace", &namespace.name]).await;
    eventually("no object of the release", || async {
        objects(&release, &namespace).await.is_empty().then_some(())
    })
    .await;
    // The workload belongs to the user: uninstalling agimo leaves it as it is.
    assert_eq!(web.current_replicas().await, 1);
}

async fn until_response_status(release: &Release, host: &str, status: u16) {
    let what = format!("status {status} from {host}");
    eventually(&what, || async {
        release.trigger_config_map_sync().await;
        (release.get(host, "/").await.status == status).then_some(())
    })
    .await;
}

/// Waits until `agimo_config_last_reload_successful` has this value.
async fn until_reloaded(release: &Release, pod: &str, successful: &str) {
    let sample = format!("agimo_config_last_reload_successful {successful}\n");
    eventually(&sample, || async {
        release.trigger_config_map_sync().await;
        release.admin(pod, "/metrics").await.text().contains(&sample).then_some(())
    })
    .await;
}

/// The objects of the release, namespaced and cluster-wide, and the Secrets in which Helm stores it.
async fn objects(release: &Release, namespace: &Namespace) -> Vec<String> {
    let kinds = "serviceaccounts,configmaps,services,deployments,poddisruptionbudgets,roles,rolebindings,pods";
    let label = "app.kubernetes.io/instance=agimo";
    let namespaced = release.kubectl(&["get", kinds, "-l", label, "-o", "name"]).await;
    let secrets = release.kubectl(&["get", "secrets", "-o", "name"]).await;
    let cluster_wide =
        release.kubectl(&["get", "clusterroles,clusterrolebindings", "-o", "name"]).await;
    let cluster_wide = cluster_wide.lines().filter(|object| object.contains(&namespace.name));
    namespaced.lines().chain(secrets.lines()).chain(cluster_wide).map(ToOwned::to_owned).collect()
}
