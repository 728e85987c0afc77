//! The source of readiness for workloads in Kubernetes: its API or Prometheus, and the errors when neither is available.
//! No cluster is needed: the API server of these tests is a port on which nothing answers.

use std::io::ErrorKind;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use tokio::process::Command;

use crate::support::agimo::Agimo;
use crate::support::{eventually, within};

/// Requests to the main thread, which is the one that would contact the API server.
const ROUNDS: usize = 50;

const SERVICE: &str = "timeout = '1s'\n[[services]]\nhost = \"web.test\"\ntype = \"deploy\"\nnamespace = \"default\"\n\
                       name = \"web\"\nservice_name = \"web\"\nservice_port = 80\n";

/// A server on which nothing listens (port 1, tcpmux).
const UNREACHABLE: &str = "127.0.0.1:1";

/// A kubeconfig with two contexts: `one`, the current one, with this server, and `two` with an unreachable one.
fn kubeconfig(folder: &Path, server: &str) -> PathBuf {
    let file = folder.join("kubeconfig");
    let text = format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: one\n\
        clusters:\n- {{name: one, cluster: {{server: \"http://{server}\"}}}}\n\
        - {{name: two, cluster: {{server: \"http://127.0.0.2:1\"}}}}\n\
        users: [{{name: nobody, user: {{}}}}]\n\
        contexts:\n- {{name: one, context: {{cluster: one, user: nobody}}}}\n\
        - {{name: two, context: {{cluster: two, user: nobody}}}}\n"
    );
    std::fs::write(&file, text).unwrap();
    file
}

/// Runs agimo with a service in Kubernetes until it exits. It knows no cluster unless `kubeconfig` is given.
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
    within("agimo to exit", command.output()).await.unwrap()
}

/// What agimo printed to stderr before it failed.
fn error_text(output: &Output) -> String {
    assert!(!output.status.success());
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[tokio::test]
async fn an_unavailable_source_ends_agimo_with_an_error_that_names_the_fix() {
    let error = error_text(&run(&["--readiness", "kubernetes"], None).await);
    assert!(error.contains("none is found: set KUBECONFIG"), "{error}");
    let error = error_text(&run(&["--readiness", "prometheus"], None).await);
    assert!(error.contains("needs --prometheus-address http://prometheus:9090"), "{error}");
    let error = error_text(&run(&["--kube-context", "one"], None).await);
    assert!(error.contains("or name another with KUBECONFIG or --kube-context"), "{error}");

    let folder = tempfile::tempdir().unwrap();
    let file = kubeconfig(folder.path(), UNREACHABLE);
    let error = error_text(&run(&["--kube-context", "three"], Some(&file)).await);
    assert!(error.contains("three"), "{error}");
    std::fs::write(&file, "clusters: [").unwrap();
    let error = error_text(&run(&[], Some(&file)).await);
    assert!(error.contains("cannot use the kubeconfig"), "{error}");
}

#[tokio::test]
async fn kubernetes_precedes_prometheus_and_an_unreachable_api_server_is_reported() {
    let folder = tempfile::tempdir().unwrap();
    let file = kubeconfig(folder.path(), UNREACHABLE);
    let agimo = Agimo::with(SERVICE)
        .arguments(&["--prometheus-address", "http://127.0.0.1:1", "--kube-context", "two"])
        .environment("KUBECONFIG", &file)
        .start()
        .await;
    agimo.until_logged("which has precedence").await;
    agimo.until_logged("the API server cannot be read").await;
    assert_eq!(agimo.admin("/readyz").await.status, 503, "ready although no service has been read");
    assert_eq!(agimo.admin("/livez").await.status, 200);
    let response = agimo.get("web.test", "/").await;
    assert_eq!((response.status, response.reason()), (504, Some("readiness-unknown")));
    let detail = response.header("x-agimo-detail").unwrap();
    assert!(detail.contains("the API server cannot be read"), "{detail}");
    assert!(agimo.admin("/services").await.text().contains("readiness-unknown"));
}

#[tokio::test]
async fn prometheus_can_be_chosen_although_a_cluster_is_configured() {
    let folder = tempfile::tempdir().unwrap();
    let file = kubeconfig(folder.path(), UNREACHABLE);
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
    assert!(detail.contains("Prometheus at http://127.0.0.1:1 cannot be queried"), "{detail}");
}

#[tokio::test]
async fn agimo_does_not_contact_a_cluster_that_no_service_needs() {
    let folder = tempfile::tempdir().unwrap();
    let api = TcpListener::bind("127.0.0.1:0").unwrap();
    api.set_nonblocking(true).unwrap();
    let file = kubeconfig(folder.path(), &api.local_addr().unwrap().to_string());
    let process =
        "[[services]]\nhost = \"a.test\"\ntype = \"process\"\ncommand = [\"sleep\", \"1000\"]\n";
    let agimo = Agimo::with(process).environment("KUBECONFIG", &file).start().await;
    for _ in 0..ROUNDS {
        assert_eq!(agimo.admin("/readyz").await.status, 200);
    }
    let accepted = api.accept().map(drop).map_err(|error| error.kind());
    assert_eq!(accepted, Err(ErrorKind::WouldBlock), "agimo has contacted the API server");
    agimo.reconfigure(&format!("{process}{}", &SERVICE[15..]));
    eventually("agimo to contact the API server", || async { api.accept().ok() }).await;
    drop(api);
    agimo.until_logged("the API server cannot be read").await;
    assert_eq!(agimo.admin("/readyz").await.status, 200, "a new service makes agimo not ready");
}
