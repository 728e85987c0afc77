//! `agimo check --cluster`: it finds an installation with its services, and names what is wrong and how to fix it.

use std::process::Command;

use serde_json::{Value, json};

use crate::fixtures::{Namespace, Release};
use crate::support::eventually;

/// Runs the command, and returns whether it succeeded and its output.
async fn check(arguments: &[&str]) -> (bool, String) {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_agimo"));
    // No configuration file is there: the services are those of the agimo that runs.
    command.args(["check", "--cluster"]).args(arguments).current_dir(folder.path());
    let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
    (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The findings of a section: level, text and fix.
fn findings(report: &Value, section: &str) -> Vec<(String, String, String)> {
    let sections = report["sections"].as_array().unwrap();
    let found = sections.iter().find(|found| found["name"] == section);
    let found = found.unwrap_or_else(|| panic!("{section} in {report}"));
    let text = |finding: &Value, key: &str| finding[key].as_str().unwrap_or_default().to_owned();
    let findings = found["findings"].as_array().unwrap().iter();
    findings
        .map(|finding| (text(finding, "level"), text(finding, "text"), text(finding, "fix")))
        .collect()
}

#[tokio::test]
async fn an_installation_and_its_services_are_checked_and_each_failure_has_its_fix() {
    let namespace = Namespace::new("checked").await;
    let web = namespace.deployment("web").apply().await;
    let api = namespace.deployment("api").without_readiness_probe().apply().await;
    let keys = "scaler = \"auto\"";
    let good = web.service_config("web.test", keys) + &api.service_config("api.test", keys);
    let values = json!({ "config": good, "watchNamespaces": [namespace.name], "replicas": 2 });
    let release = Release::install(&namespace, &values).await;
    release.until_pod_count(2).await;
    let report = eventually("a check without failures", || async {
        let (succeeded, report) =
            check(&["--namespace", &namespace.name, "--output", "json"]).await;
        // The replicas need a moment to choose a leader.
        succeeded.then(|| serde_json::from_str::<Value>(&report).unwrap())
    })
    .await;
    assert_eq!(report["failed"], 0);
    for (section, part) in [
        ("Kubernetes", "Kubernetes v1."),
        ("agimo", "2 of 2 pods"),
        ("agimo", "2 replicas know each other"),
        ("agimo", "one replica leads"),
        ("permissions", "has all"),
        ("KEDA", "no ScaledObject asks agimo"),
        ("service web.test", "has the port"),
        ("service web.test", "agimo scales the workload"),
    ] {
        let found = findings(&report, section);
        assert!(
            found.iter().any(|(level, text, _)| level == "ok" && text.contains(part)),
            "{part}: {found:?}"
        );
    }
    let warned = findings(&report, "service api.test");
    assert!(
        warned.iter().any(|(level, text, fix)| level == "warning"
            && text.contains("no container has a readiness probe")
            && fix.contains("periodSeconds: 1")),
        "{warned:?}"
    );

    // A missing permission, a port that the Service lacks, and a second writer of `replicas`.
    let rules = namespace.kubectl(&["get", "roles", "--output", "json"]);
    let roles: Value = serde_json::from_str(&rules).unwrap();
    let mut role = roles["items"]
        .as_array()
        .unwrap()
        .iter()
        .find(|role| role["rules"].to_string().contains("deployments/scale"))
        .unwrap()
        .clone();
    role["rules"]
        .as_array_mut()
        .unwrap()
        .retain(|rule| !rule.to_string().contains("deployments/scale"));
    role["metadata"].as_object_mut().unwrap().remove("managedFields");
    role["metadata"].as_object_mut().unwrap().remove("resourceVersion");
    namespace.apply(&role.to_string());
    let port = json!([{ "op": "replace", "path": "/spec/ports/0/port", "value": 81 }]).to_string();
    namespace.kubectl(&["patch", "service", "web", "--type=json", "--patch", &port]);
    for name in ["one", "two"] {
        let target = json!({ "apiVersion": "apps/v1", "kind": "Deployment", "name": "api" });
        let spec = json!({ "minReplicas": 1, "maxReplicas": 2, "scaleTargetRef": target });
        let metadata = json!({ "name": name });
        namespace.apply(&json!({ "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": metadata, "spec": spec }).to_string());
    }
    let (succeeded, report) = check(&["--namespace", &namespace.name, "--output", "json"]).await;
    assert!(!succeeded);
    let report: Value = serde_json::from_str(&report).unwrap();
    for (section, part, fix_part) in [
        ("permissions", "may not patch deployments/scale.apps", "upgrade the chart"),
        ("service web.test", "has no TCP port 80; it has 81", "service_port"),
        ("service api.test", "undo what the others write", "keep one of them"),
    ] {
        let found = findings(&report, section);
        let is_found = |(level, text, fix): &(String, String, String)| {
            level == "failed" && text.contains(part) && fix.contains(fix_part)
        };
        assert!(found.iter().any(is_found), "{part}: {found:?}");
    }
    let (succeeded, text) = check(&["--namespace", &namespace.name]).await;
    assert!(
        !succeeded && text.contains("\nservice web.test\n") && text.contains("           fix: "),
        "{text}"
    );
}

#[tokio::test]
async fn a_cluster_without_agimo_is_checked_for_a_configuration_file() {
    let namespace = Namespace::new("unchecked").await;
    let web = namespace.deployment("web").apply().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("new.toml");
    let config = web.service_config("web.test", "scaler = \"agimo\"")
        + &web.service_config("gone.test", "").replace("name = \"web\"", "name = \"gone\"");
    std::fs::write(&file, config).unwrap();
    let (succeeded, text) =
        check(&["--namespace", &namespace.name, "--conf", file.to_str().unwrap()]).await;
    assert!(!succeeded);
    for part in [
        "no agimo runs in the namespace",
        &format!("deployment {}/web exists", namespace.name),
        &format!("deployment {}/gone does not exist", namespace.name),
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
}
