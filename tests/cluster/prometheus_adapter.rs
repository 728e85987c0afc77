//! HPAs that read the metrics of agimo from Prometheus, by way of prometheus-adapter: any scaler that reads Prometheus can scale
//! on them.

use std::time::Duration;

use serde_json::{Value, json};

use crate::fixtures::external_api::{API_SERVICE, ExternalMetricsApi};
use crate::fixtures::hpa::{hpa, until_condition, until_hpa_reads};
use crate::fixtures::load::send_crowd;
use crate::fixtures::{Kubectl, Namespace, PROMETHEUS_URL, Prometheus, Release, SampleRequest};

/// The metric as its documentation describes it: the sum over the replicas of agimo, for one host.
const CONFIG: &str = "\
externalRules:
- seriesQuery: agimo_active_requests
  resources: {namespaced: false}
  metricsQuery: sum(<<.Series>>{<<.LabelMatchers>>})
";

/// prometheus-adapter in the namespace of a test, and its cluster-wide objects, which are removed when it is dropped.
struct PrometheusAdapter {
    bindings: [(&'static str, String); 3],
}

impl PrometheusAdapter {
    async fn install(namespace: &Namespace) -> Self {
        let name = format!("{}-prometheus-adapter", namespace.name);
        let subject =
            json!({ "kind": "ServiceAccount", "name": "default", "namespace": namespace.name });
        let binding = |role: &str, suffix: &str| {
            json!({
                "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
                "metadata": { "name": format!("{name}{suffix}") },
                "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role },
                "subjects": [subject],
            })
        };
        let mut reader = binding("", "");
        reader["kind"] = json!("RoleBinding");
        reader["metadata"]["namespace"] = json!("kube-system");
        reader["roleRef"]["kind"] = json!("Role");
        reader["roleRef"]["name"] = json!("extension-apiserver-authentication-reader");
        let api_service = json!({
            "apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService",
            "metadata": { "name": API_SERVICE },
            "spec": {
                "group": "external.metrics.k8s.io", "version": "v1beta1",
                "groupPriorityMinimum": 100, "versionPriority": 100, "insecureSkipTLSVerify": true,
                "service": { "name": "prometheus-adapter", "namespace": namespace.name },
            },
        });
        let all = [
            binding("system:auth-delegator", "-access"),
            binding("view", "-view"),
            reader,
            api_service,
        ];
        let all: Vec<String> = all.iter().map(Value::to_string).collect();
        Kubectl::apply(&[], &all.join("\n---\n"));
        let own: Vec<String> = workload().iter().map(Value::to_string).collect();
        namespace.apply(&own.join("\n---\n"));
        ExternalMetricsApi::until_available().await;
        Self {
            bindings: [
                ("clusterrolebinding", format!("{name}-access")),
                ("clusterrolebinding", format!("{name}-view")),
                ("rolebinding", name),
            ],
        }
    }
}

impl Drop for PrometheusAdapter {
    fn drop(&mut self) {
        for (kind, name) in &self.bindings {
            Kubectl::run(&["--namespace", "kube-system", "delete", kind, name]);
        }
    }
}

/// Its ConfigMap, Deployment and Service.
fn workload() -> [Value; 3] {
    let name = json!({ "name": "prometheus-adapter" });
    let labels = json!({ "app": "prometheus-adapter" });
    let container = json!({
        "name": "adapter", "image": "agimo.test/prometheus-adapter:0.12.0", "imagePullPolicy": "Never",
        "args": [
            format!("--prometheus-url={PROMETHEUS_URL}"), "--config=/etc/adapter/config.yaml",
            "--metrics-relist-interval=1s", "--metrics-max-age=1m", "--secure-port=6443",
            "--cert-dir=/certificates",
        ],
        "readinessProbe": { "httpGet": { "scheme": "HTTPS", "path": "/readyz", "port": 6443 }, "periodSeconds": 1 },
        "volumeMounts": [
            { "name": "config", "mountPath": "/etc/adapter" },
            { "name": "certificates", "mountPath": "/certificates" },
        ],
    });
    let volumes = json!([
        { "name": "config", "configMap": name },
        { "name": "certificates", "emptyDir": {} },
    ]);
    [
        json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": name, "data": { "config.yaml": CONFIG } }),
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": name,
            "spec": {
                "selector": { "matchLabels": labels },
                "template": {
                    "metadata": { "labels": labels },
                    "spec": {
                        "securityContext": { "fsGroup": 65532 }, "terminationGracePeriodSeconds": 1,
                        "containers": [container], "volumes": volumes,
                    },
                },
            },
        }),
        json!({
            "apiVersion": "v1", "kind": "Service", "metadata": name,
            "spec": { "selector": labels, "ports": [{ "port": 443, "targetPort": 6443 }] },
        }),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_hpa_scales_to_zero_and_back_by_the_metric_in_prometheus() {
    let namespace = Namespace::exclusive("adapter").await;
    let web = namespace.deployment("web").replicas(1).apply().await;
    let cold = namespace.deployment("cold").apply().await;
    let woken = namespace.deployment("woken").apply().await;
    let config = [
        web.service_config("web.test", ""),
        cold.service_config("cold.test", "timeout = \"60s\""),
        woken.service_config("woken.test", "scaler = \"auto\""),
    ];
    let annotations = json!({ "prometheus.io/scrape": "true", "prometheus.io/port": "9090" });
    let values = json!({ "config": config.concat(), "replicas": 2, "podAnnotations": annotations });
    let _api = ExternalMetricsApi::take_from_keda(&namespace);
    let release = Release::install(&namespace, &values).await;
    let _adapter = PrometheusAdapter::install(&namespace).await;
    for (name, host) in [("web", "web.test"), ("cold", "cold.test"), ("woken", "woken.test")] {
        namespace.apply(&hpa(name, "agimo_active_requests", &json!({ "host": host })).to_string());
    }

    // What the HPA has scaled to zero itself, it wakes: 0 -> 3 -> 0.
    web.until_asleep().await;
    until_condition(&web, "ScaledToZero", "True").await;
    let address = release.address().await;
    let crowd = send_crowd(address, "web.test", 30, Duration::from_secs(8));
    tokio::join!(crowd, web.until_replicas(3));
    web.until_asleep().await;

    // What was at zero before, it leaves there, although its metric has risen; agimo only reports.
    until_condition(&cold, "ScalingActive", "False").await;
    let held = SampleRequest::get("cold.test");
    let held = tokio::spawn(async move { held.send_once(address).await });
    Prometheus::until_value("sum(agimo_active_requests{host=\"cold.test\"})", 1.0).await;
    // Another HPA reads the same metric from then on, so that there was a round in which the first one could have.
    let reader = namespace.deployment("reader").replicas(1).apply().await;
    let labels = json!({ "host": "cold.test" });
    namespace.apply(&hpa("reader", "agimo_active_requests", &labels).to_string());
    until_hpa_reads(&reader, "1").await;
    until_condition(&cold, "ScalingActive", "False").await;
    assert_eq!(cold.current_replicas().await, 0);
    // Whoever scales it from zero switches the HPA on.
    cold.scale(1).await;
    held.await.unwrap();
    cold.until_asleep().await;
    until_condition(&cold, "ScaledToZero", "True").await;

    // With `auto`, agimo is the one who does.
    until_condition(&woken, "ScalingActive", "False").await;
    SampleRequest::get("woken.test").send_once(address).await;
    woken.until_asleep().await;
    until_condition(&woken, "ScaledToZero", "True").await;
}
