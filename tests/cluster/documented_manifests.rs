//! The manifests in the documentation: the API server accepts them, and they fit the chart.

use serde_json::Value;

use crate::fixtures::{CHART, Helm, Namespace, start_agimo_with_arguments};
use crate::support::documentation::blocks;
use crate::support::eventually;

/// The documented manifests and values.
const DOCUMENTED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/manifests");

#[tokio::test]
async fn the_api_server_accepts_the_documented_manifests() {
    let namespace = Namespace::new("manifests").await;
    let folder = tempfile::tempdir().unwrap();
    for (name, original, accepted) in [
        ("ingress.yaml", "agimo", vec!["ingress.networking.k8s.io/example"]),
        ("example.yaml", "default", vec!["deployment.apps/example", "service/example"]),
        ("hpa.yaml", "default", vec!["horizontalpodautoscaler.autoscaling/example"]),
        ("scaledobject-push.yaml", "default", vec!["scaledobject.keda.sh/example"]),
        ("scaledobject.yaml", "default", vec!["scaledobject.keda.sh/example"]),
    ] {
        let manifest = std::fs::read_to_string(format!("{DOCUMENTED}/{name}")).unwrap();
        let original = format!("namespace: {original}");
        assert!(manifest.contains(&original), "{name}");
        let manifest = manifest.replace(&original, &format!("namespace: {}", namespace.name));
        let file = folder.path().join(name);
        std::fs::write(&file, manifest).unwrap();
        let output =
            namespace.kubectl(&["apply", "--dry-run=server", "-f", file.to_str().unwrap()]);
        for object in accepted {
            assert!(output.contains(&format!("{object} created (server dry run)")), "{output}");
        }
    }
}

#[tokio::test]
async fn the_manifests_in_the_pages_are_accepted_and_become_services() {
    let namespace = Namespace::new("pages").await;
    let folder = tempfile::tempdir().unwrap();
    let blocks = blocks().into_iter();
    let manifests =
        blocks.filter(|block| block.is_manifest() && !block.mark.starts_with("not run"));
    let mut count = 0;
    for block in manifests {
        count += 1;
        let place = block.place();
        let mut manifest = block.code;
        for original in ["agimo", "default"] {
            let own = format!("namespace: {}\n", namespace.name);
            manifest = manifest.replace(&format!("namespace: {original}\n"), &own);
        }
        let manifest: Vec<_> = manifest.split("---\n").map(without_pods).collect();
        let file = folder.path().join(format!("{count}.yaml"));
        std::fs::write(&file, manifest.join("---\n")).unwrap();
        let output = namespace.kubectl(&["apply", "--filename", file.to_str().unwrap()]);
        assert!(output.contains(" created") || output.contains(" configured"), "{place}: {output}");
    }
    assert!(count >= 6, "{count} manifests");
    let agimo =
        start_agimo_with_arguments("annotations = true", &["--watch-namespaces", &namespace.name])
            .await;
    for host in
        ["model.example.com", "shop.example.com", "notebook.example.com", "wiki.example.com"]
    {
        eventually(host, || async {
            let services = agimo.admin("/services").await.text();
            let services: Vec<Value> = serde_json::from_str(&services).unwrap();
            services.iter().any(|service| service["host"] == host).then_some(())
        })
        .await;
    }
}

/// A Deployment or StatefulSet at zero replicas: its images are not in this cluster.
fn without_pods(manifest: &str) -> String {
    let is_workload = ["Deployment", "StatefulSet"]
        .into_iter()
        .any(|kind| manifest.contains(&format!("kind: {kind}\n")));
    if is_workload {
        manifest.replacen("\nspec:\n", "\nspec:\n  replicas: 0\n", 1)
    } else {
        manifest.to_owned()
    }
}

#[tokio::test]
async fn the_documented_ingress_names_the_service_and_port_of_the_chart() {
    let values = format!("{DOCUMENTED}/values-agimo.yaml");
    let template = "templates/service.yaml";
    let words = ["template", "agimo", CHART, "--values", &values, "--show-only", template];
    let service = Helm::run(&words).await;
    let ingress = std::fs::read_to_string(format!("{DOCUMENTED}/ingress.yaml")).unwrap();
    let backend = "name: agimo\n                port:\n                  name: http";
    assert!(ingress.contains(backend), "{ingress}");
    assert!(service.contains("\n  name: agimo\n"), "{service}");
    assert!(service.contains("\n    - name: http\n      port: 80\n"), "{service}");
}

#[tokio::test]
async fn the_manifest_for_those_without_helm_is_what_the_chart_makes_and_is_accepted() {
    let words = [
        "template",
        "agimo",
        CHART,
        "--namespace",
        "agimo",
        "--set",
        "peers.existingSecret=agimo-peers",
        "--set",
        "image.repository=registry.example.com/agimo",
    ];
    let file = format!("{DOCUMENTED}/agimo.yaml");
    let manifest = std::fs::read_to_string(&file).unwrap();
    let rendered = Helm::run(&words).await;
    let without_introduction = manifest.split_once("---\n").map(|(_, rest)| format!("---\n{rest}"));
    assert_eq!(without_introduction, Some(rendered), "render it again: helm {}", words.join(" "));

    let namespace = Namespace::new("rendered").await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("agimo.yaml");
    let own = manifest.replace("namespace: agimo\n", &format!("namespace: {}\n", namespace.name));
    std::fs::write(&path, own).unwrap();
    let output = namespace.kubectl(&["apply", "--dry-run=server", "-f", path.to_str().unwrap()]);
    for object in [
        "deployment.apps/agimo",
        "service/agimo",
        "service/agimo-admin",
        "configmap/agimo-replicas",
    ] {
        assert!(output.contains(&format!("{object} created (server dry run)")), "{output}");
    }
}
