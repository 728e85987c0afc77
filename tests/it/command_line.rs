//! The command line: options, subcommands, environment variables and error messages.

use std::path::Path;
use std::process::{Output, Stdio};

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

use crate::support::agimo::Agimo;
use crate::support::client::Client;
use crate::support::python::PythonApplication;
use crate::support::within;

/// The configuration file that agimo must accept unchanged.
const REFERENCE_CONFIG: &str = r#"timeout = '5s'
[[services]]
host = "example.com"
type = "deploy" # deployment | deploy | statefulset | sts | process
namespace = "default"
name = "example"
service_name = "example"
service_port = 80
"#;

fn command(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_agimo"));
    command
        .args(arguments)
        .current_dir(folder)
        .env_remove("AGIMO_CONF")
        .env_remove("AGIMO_PROMETHEUS_ADDRESS")
        .env_remove("AGIMO_READINESS")
        .env_remove("AGIMO_READINESS_SOURCE")
        // Tests never reach a cluster of the user.
        .env_remove("KUBECONFIG")
        .env("HOME", folder)
        .stdin(Stdio::null())
        .kill_on_drop(true);
    command
}

/// Runs agimo until it exits.
async fn run(folder: &Path, arguments: &[&str]) -> Output {
    within("agimo to exit", command(folder, arguments).output()).await.unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Starts agimo with the reference configuration, waits until it serves, and sends a request. Returns the log.
async fn serve_reference_config(mut command: Command) -> Vec<String> {
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let mut log = Vec::new();
    loop {
        let line = within("a log line", lines.next_line()).await.unwrap();
        log.push(line.unwrap_or_else(|| panic!("agimo exited: {log:?}")));
        let Ok(line) = serde_json::from_str::<serde_json::Value>(&log[log.len() - 1]) else {
            continue;
        };
        if line["message"] != "serving" {
            continue;
        }
        let port = line["address"].as_str().unwrap().rsplit(':').next().unwrap().parse().unwrap();
        let mut client = Client::connect(([127, 0, 0, 1], port).into()).await;
        client.send("GET / HTTP/1.1\r\nHost: example.com\r\n\r\n").await;
        let response = client.response().await;
        // No Prometheus runs at that address, so the readiness of the workload is unknown.
        assert_eq!((response.status, response.reason()), (504, Some("readiness-unknown")));
        return log;
    }
}

#[tokio::test]
async fn check_reports_every_problem_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let invalid = "timeout = 'soon'\n[[services]]\nhost = \"a.test\"\ntype = \"process\"\n\
                 comand = [\"x\"]\n[[services]]\nhost = \"b test\"\ntype = \"deploy\"\n";
    std::fs::write(folder.path().join("config.toml"), invalid).unwrap();
    let output = run(folder.path(), &["check"]).await;
    assert_eq!(output.status.code(), Some(1));
    let text = stderr(&output);
    for part in ["config.toml:1:", "soon", "config.toml:5:", "comand", "command", "b test"] {
        assert!(text.contains(part), "{part:?} in\n{text}");
    }
    let last = text.lines().last().unwrap();
    assert!(last.starts_with("agimo: ") && last.contains("problems in ./config.toml"), "{last}");
}

#[tokio::test]
async fn check_accepts_the_reference_configuration() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("reference.toml"), REFERENCE_CONFIG).unwrap();
    for arguments in [["check", "--conf", "reference.toml"], ["--conf", "reference.toml", "check"]]
    {
        let output = run(folder.path(), &arguments).await;
        assert!(output.status.success(), "{}", stderr(&output));
        assert!(stdout(&output).contains("1 service"), "{}", stdout(&output));
    }
}

#[tokio::test]
async fn the_reference_command_line_serves_the_reference_configuration() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("config.toml"), REFERENCE_CONFIG).unwrap();
    let arguments = ["--prometheus-address", "http://prometheus", "--conf", "./config.toml"];
    let ports = ["--port", "0", "--prometheus-exporter-port", "0"];
    serve_reference_config(command(folder.path(), &[arguments.as_slice(), &ports].concat())).await;
}

#[tokio::test]
async fn environment_variables_replace_both_options() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("elsewhere.toml"), REFERENCE_CONFIG).unwrap();
    let mut command = command(folder.path(), &["--port", "0", "--prometheus-exporter-port", "0"]);
    command.env("AGIMO_CONF", "elsewhere.toml").env("AGIMO_PROMETHEUS_ADDRESS", "http://prom:9090");
    let log = serve_reference_config(command).await;
    assert!(log.iter().any(|line| line.contains("http://prom:9090")), "{log:?}");
}

#[tokio::test]
async fn the_readiness_source_is_read_from_both_variables() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("config.toml"), REFERENCE_CONFIG).unwrap();
    let no_cluster = "and none is found";
    let no_address = "needs --prometheus-address";
    for (variables, expected) in [
        (&[("AGIMO_READINESS_SOURCE", "kubernetes")][..], no_cluster),
        (&[("AGIMO_READINESS", "kubernetes")], no_cluster),
        (&[("AGIMO_READINESS", "prometheus")], no_address),
        (
            &[("AGIMO_READINESS", "kubernetes"), ("AGIMO_READINESS_SOURCE", "prometheus")],
            no_address,
        ),
        (&[("AGIMO_READINESS", "maybe")], "invalid value 'maybe'"),
    ] {
        let mut command = command(folder.path(), &["--port", "0", "--admin-port", "0"]);
        command.envs(variables.iter().copied());
        let output = within("agimo to exit", command.output()).await.unwrap();
        assert!(!output.status.success(), "{variables:?}");
        assert!(stderr(&output).contains(expected), "{variables:?}: {}", stderr(&output));
    }
}

#[tokio::test]
async fn an_invalid_prometheus_address_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let output = run(folder.path(), &["--prometheus-address", "prometheus"]).await;
    assert!(!output.status.success());
    assert!(stderr(&output).contains("http://prometheus:9090"), "{}", stderr(&output));
}

#[tokio::test]
async fn committed_schema_and_manual_match_what_agimo_prints() {
    let folder = tempfile::tempdir().unwrap();
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
    for (arguments, file) in [
        (["schema"].as_slice(), "configuration.schema.json"),
        (&["schema", "--markdown"], "configuration.md"),
    ] {
        let output = run(folder.path(), arguments).await;
        assert!(output.status.success());
        let committed = std::fs::read_to_string(docs.join(file)).unwrap();
        assert!(
            stdout(&output) == committed,
            "docs/{file} is outdated: write it with agimo {arguments:?}"
        );
    }
}

#[tokio::test]
async fn the_version_is_printed_and_internal_commands_are_hidden() {
    let folder = tempfile::tempdir().unwrap();
    let version = run(folder.path(), &["version"]).await;
    assert_eq!(stdout(&version), format!("agimo {}\n", agimo::version::TEXT));
    for hidden in ["exec-child", "demo-application"] {
        assert!(!stdout(&run(folder.path(), &["--help"]).await).contains(hidden));
    }
}

#[tokio::test]
async fn a_trace_is_replayed_with_the_keys_of_a_service() {
    let folder = tempfile::tempdir().unwrap();
    let config = format!("{REFERENCE_CONFIG}scaler = \"agimo\"\ntarget_concurrency = 10\n");
    let two = format!(
        "{config}{}",
        REFERENCE_CONFIG.replace("example", "other").replace("timeout = '5s'", "")
    );
    std::fs::write(folder.path().join("config.toml"), two).unwrap();
    std::fs::write(folder.path().join("trace.csv"), "0,300\n30,0\n").unwrap();
    let simulate = ["simulate", "--trace", "trace.csv", "--duration", "5s"];
    let ambiguous = run(folder.path(), &simulate).await;
    assert!(stderr(&ambiguous).contains("--host must name one service"), "{}", stderr(&ambiguous));
    let of_host = [&simulate[..], &["--host", "example.com"]].concat();
    let text = run(folder.path(), &of_host).await;
    assert!(stdout(&text).contains("cold starts       1\n"), "{}", stdout(&text));
    assert!(stdout(&text).contains("peak replicas     6\n"), "{}", stdout(&text));
    let json = run(folder.path(), &[&of_host[..], &["--format", "json"]].concat()).await;
    let json: serde_json::Value = serde_json::from_str(&stdout(&json)).unwrap();
    assert_eq!(json["peak_replicas"], 6);
    let svg = run(folder.path(), &[&of_host[..], &["--format", "svg"]].concat()).await;
    assert!(stdout(&svg).starts_with("<svg "));
}

#[tokio::test]
async fn a_port_in_use_is_reported_with_a_fix() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("config.toml"), REFERENCE_CONFIG).unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    for (flag, other) in [("--port", "--admin-port"), ("--admin-port", "--port")] {
        let output = run(folder.path(), &["--bind", "127.0.0.1", flag, &port, other, "0"]).await;
        let text = stderr(&output);
        assert_eq!(output.status.code(), Some(1));
        let fix = format!("choose another port with {flag}");
        assert!(text.contains(&fix) && text.contains(&port), "{fix:?} in {text}");
        assert!(text.contains("in use"), "no cause in {text}");
    }
}

#[tokio::test]
async fn a_missing_configuration_file_is_reported_with_the_option_that_names_it() {
    let folder = tempfile::tempdir().unwrap();
    for arguments in [["--conf", "none.toml"].as_slice(), &["check", "--conf", "none.toml"]] {
        let output = run(folder.path(), arguments).await;
        let text = stderr(&output);
        assert_eq!(output.status.code(), Some(1));
        assert!(text.contains("none.toml") && text.contains("--conf"), "{text}");
    }
}

#[tokio::test]
async fn the_access_log_has_one_line_per_request_with_its_timings() {
    let service = PythonApplication::new("a.test").env("START_DELAY", "0.2").service();
    let agimo = Agimo::with(service.clone()).arguments(&["--access-log"]).start().await;
    agimo.get("a.test", "/slow/0.1").await;
    agimo.until_logged("\"uri\":\"/slow/0.1\"").await;
    agimo.get("A.test", "/?b=1").await;
    agimo.until_logged("\"uri\":\"/?b=1\"").await;
    let log = agimo.log();
    let lines: Vec<serde_json::Value> = log
        .iter()
        .filter(|line| line.contains("\"held_ms\""))
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len(), 2, "{lines:?}");
    let cold = &lines[0];
    assert_eq!((cold["method"].as_str(), cold["status"].as_u64()), (Some("GET"), Some(200)));
    assert_eq!(
        (cold["uri"].as_str(), cold["target"].as_str()),
        (Some("/slow/0.1"), Some("access"))
    );
    assert_eq!(
        (cold["service"].as_str(), cold["client"].as_str()),
        (Some("a.test"), Some("127.0.0.1"))
    );
    let millis = |field: &str| cold[field].as_f64().unwrap();
    assert!(millis("held_ms") >= 200.0 && millis("waiting_ms") >= 100.0, "{cold}");
    assert!(millis("connecting_ms") >= 0.0 && millis("total_ms") >= 300.0, "{cold}");
    assert_eq!(lines[1]["held_ms"].as_f64(), Some(0.0));
    let quiet = Agimo::with(service).start().await;
    quiet.get("a.test", "/").await;
    quiet.until_event("first_answer").await;
    assert!(
        !quiet.log().iter().any(|line| line.contains("\"held_ms\"")),
        "the access log is off by default"
    );
}
