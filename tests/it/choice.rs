//! What tells when workloads in Kubernetes are ready: which of its API and Prometheus is chosen, and what is said when
//! neither can be had. No cluster is needed for that: the API server of these tests is a port where nobody listens.

use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use tokio::process::Command;

use crate::support::agimo::Agimo;
use crate::support::within;

const SERVICE: &str = "timeout = '1s'\n[[services]]\nhost = \"web.test\"\ntype = \"deploy\"\nnamespace = \"default\"\n\
                       name = \"web\"\nservice_name = \"web\"\nservice_port = 80\n";

/// A kubeconfig with two contexts; the servers of both are where nobody listens (port 1, tcpmux).
fn kubeconfig(folder: &Path) -> PathBuf {
    let file = folder.join("kubeconfig");
    let text = "apiVersion: v1\nkind: Config\ncurrent-context: one\n\
        clusters:\n- {name: one, cluster: {server: \"http://127.0.0.1:1\"}}\n\
        - {name: two, cluster: {server: \"http://127.0.0.2:1\"}}\n\
        users: [{name: nobody, user: {}}]\n\
        contexts:\n- {name: one, context: {cluster: one, user: nobody}}\n\
        - {name: two, context: {cluster: two, user: nobody}}\n";
    std::fs::write(&file, text).unwrap();
    file
}

/// Runs agimo with a service in Kubernetes to its end, without a cluster unless these arguments name one.
async fn run(arguments: &[&str], kubeconfig: Option<&Path>) -> Output {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("config.toml"), SERVICE).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_agimo"));
    command
        .args(["--port", "0", "--prometheus-exporter-port", "0", "--bind", "127.0.0.1"])
        .args(arguments)
        .current_dir(folder.path())
        .env("HOME", folder.path())
        .env_remove("KUBECONFIG")
        .stdin(Stdio::null())
        .kill_on_drop(true);
    if let Some(file) = kubeconfig {
        command.env("KUBECONFIG", file);
    }
    within("its end", command.output()).await.unwrap()
}

fn complaint(output: &Output) -> String {
    assert!(!output.status.success());
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[tokio::test]
async fn what_is_asked_for_and_cannot_be_had_ends_it_with_the_cure() {
    let words = complaint(&run(&["--readiness", "kubernetes"], None).await);
    assert!(words.contains("no cluster is found: set KUBECONFIG"), "{words}");
    let words = complaint(&run(&["--readiness", "prometheus"], None).await);
    assert!(words.contains("needs --prometheus-address http://prometheus:9090"), "{words}");
    let words = complaint(&run(&["--kube-context", "one"], None).await);
    assert!(words.contains("or name another with KUBECONFIG or --kube-context"), "{words}");

    let folder = tempfile::tempdir().unwrap();
    let file = kubeconfig(folder.path());
    let words = complaint(&run(&["--kube-context", "three"], Some(&file)).await);
    assert!(words.contains("three"), "{words}");
    std::fs::write(&file, "clusters: [").unwrap();
    let words = complaint(&run(&[], Some(&file)).await);
    assert!(words.contains("the kubeconfig cannot be used"), "{words}");
}

#[tokio::test]
async fn with_both_kubernetes_goes_first_and_an_api_server_that_is_away_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let file = kubeconfig(folder.path());
    let agimo = Agimo::with(SERVICE)
        .arguments(&["--prometheus-address", "http://127.0.0.1:1", "--kube-context", "two"])
        .environment("KUBECONFIG", &file)
        .start()
        .await;
    agimo.until_logged("which goes before Prometheus").await;
    agimo.until_logged("the API server cannot be read").await;
    assert_eq!(agimo.admin("/readyz").await.status, 503, "nothing is known of any service yet");
    assert_eq!(agimo.admin("/livez").await.status, 200);
    let response = agimo.get("web.test", "/").await;
    assert_eq!((response.status, response.reason()), (504, Some("readiness-unknown")));
    let detail = response.header("x-agimo-detail").unwrap();
    assert!(detail.contains("the API server cannot be read"), "{detail}");
    assert!(agimo.admin("/services").await.text().contains("readiness-unknown"));
}

#[tokio::test]
async fn prometheus_may_be_chosen_where_there_is_a_cluster() {
    let folder = tempfile::tempdir().unwrap();
    let file = kubeconfig(folder.path());
    let agimo = Agimo::with(SERVICE)
        .arguments(&["--prometheus-address", "http://127.0.0.1:1", "--readiness", "prometheus"])
        .environment("KUBECONFIG", &file)
        .start()
        .await;
    agimo.until_logged("readiness comes from Prometheus").await;
    assert_eq!(agimo.admin("/readyz").await.status, 200);
    let response = agimo.get("web.test", "/").await;
    assert_eq!((response.status, response.reason()), (504, Some("readiness-unknown")));
    let detail = response.header("x-agimo-detail").unwrap();
    assert!(detail.contains("Prometheus at http://127.0.0.1:1 cannot be asked"), "{detail}");
}

#[tokio::test]
async fn a_cluster_that_no_service_needs_is_not_asked() {
    let folder = tempfile::tempdir().unwrap();
    let file = kubeconfig(folder.path());
    let process =
        "[[services]]\nhost = \"a.test\"\ntype = \"process\"\ncommand = [\"sleep\", \"1000\"]\n";
    let agimo = Agimo::with(process).environment("KUBECONFIG", &file).start().await;
    assert_eq!(agimo.admin("/readyz").await.status, 200);
    agimo.reconfigure(&format!("{process}{}", &SERVICE[15..]));
    agimo.until_logged("the API server cannot be read").await;
    assert_eq!(agimo.admin("/readyz").await.status, 200, "what was ready stays so");
}
