//! The manifests of the manual, as far as the API server judges them.

use crate::fixtures::{CHART, Helm, Namespace};

const MANUALS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/manifests");

#[tokio::test]
async fn the_api_server_accepts_the_manifests_of_the_manual() {
    let namespace = Namespace::new("manifests").await;
    let folder = tempfile::tempdir().unwrap();
    for (name, theirs, accepted) in [
        ("ingress.yaml", "agimo", vec!["ingress.networking.k8s.io/example"]),
        ("example.yaml", "default", vec!["deployment.apps/example", "service/example"]),
        ("scaledobject.yaml", "default", vec!["scaledobject.keda.sh/example"]),
    ] {
        let manifest = std::fs::read_to_string(format!("{MANUALS}/{name}")).unwrap();
        let theirs = format!("namespace: {theirs}");
        assert!(manifest.contains(&theirs), "{name}");
        let ours = manifest.replace(&theirs, &format!("namespace: {}", namespace.name));
        let file = folder.path().join(name);
        std::fs::write(&file, ours).unwrap();
        let said = namespace.kubectl(&["apply", "--dry-run=server", "-f", file.to_str().unwrap()]);
        for object in accepted {
            assert!(said.contains(&format!("{object} created (server dry run)")), "{said}");
        }
    }
}

#[tokio::test]
async fn the_ingress_of_the_manual_leads_to_the_service_of_the_chart() {
    let values = format!("{MANUALS}/values-agimo.yaml");
    let only = "templates/service.yaml";
    let words = ["template", "agimo", CHART, "--values", &values, "--show-only", only];
    let service = Helm::run(&words).await;
    let ingress = std::fs::read_to_string(format!("{MANUALS}/ingress.yaml")).unwrap();
    let backend = "name: agimo\n                port:\n                  name: http";
    assert!(ingress.contains(backend), "{ingress}");
    assert!(service.contains("\n  name: agimo\n"), "{service}");
    assert!(service.contains("\n    - name: http\n      port: 80\n"), "{service}");
}
