//! The manifests in the documentation: the API server accepts them, and they fit the chart.

use crate::fixtures::{CHART, Helm, Namespace};

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
