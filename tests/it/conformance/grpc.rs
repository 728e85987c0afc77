//! The interoperability tests of gRPC with a client and a server in Go, and a client and a server in Python with health checks
//! and reflection: directly, awake and asleep, in cleartext and over TLS.

use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::process::Command;
use tokio::time::timeout;

use super::installed;
use crate::support::agimo::Agimo;
use crate::support::tls::Authority;
use crate::support::{eventually, within};

const SERVER: &str = include_str!("grpc_server.py");
const CLIENT: &str = include_str!("grpc_client.py");

/// Every case that client and server pass when they are connected directly. The others need accounts of a cloud, or a server
/// that gives itself a name.
const CASES: [&str; 18] = [
    "empty_unary",
    "large_unary",
    "client_streaming",
    "server_streaming",
    "ping_pong",
    "empty_stream",
    "timeout_on_sleeping_server",
    "cancel_after_begin",
    "cancel_after_first_response",
    "status_code_and_message",
    "special_status_message",
    "custom_metadata",
    "unimplemented_method",
    "unimplemented_service",
    "rpc_soak",
    "channel_soak",
    "orca_per_rpc",
    "orca_oob",
];
/// Without it, two of the cases ask for a balancer that is not there.
const BALANCER: &str = r#"{"loadBalancingConfig":[{"test_backend_metrics_load_balancer":{}}]}"#;
const CASE_LIMIT: Duration = Duration::from_secs(40);

/// The configuration of a service with the server in Go; `more` are further keys.
fn go_server(more: &str) -> String {
    let program = installed("GRPC_INTEROP").join("server");
    format!(
        "[[services]]\nhost = \"127.0.0.1\"\ntype = \"process\"\n\
         command = [\"{}\", \"-port\", \"{{port}}\"]\n{more}\n",
        program.display()
    )
}

/// Runs one case of the client in Go, with these arguments for TLS.
async fn run_case(address: SocketAddr, case: &str, tls: &[&str]) {
    let mut client = Command::new(installed("GRPC_INTEROP").join("client"));
    client
        .args(["-server_host", "127.0.0.1", "-server_port", &address.port().to_string()])
        .args(["-service_config_json", BALANCER, "-test_case", case])
        .args(tls)
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let ended = timeout(CASE_LIMIT, client.spawn().unwrap().wait_with_output()).await;
    let output = ended.unwrap_or_else(|_| panic!("{case} does not end")).unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{case}: {told}");
}

#[tokio::test]
#[ignore = "needs programs of others: cargo xtask test"]
async fn every_interoperability_case_passes_when_the_server_is_awake() {
    let agimo = Agimo::with(go_server("")).start().await;
    for case in CASES {
        run_case(agimo.address, case, &[]).await;
    }
    agimo.until_metric("agimo_active_requests{host=\"127.0.0.1\"}", 0.0).await;
}

#[tokio::test]
#[ignore = "needs programs of others: cargo xtask test"]
async fn every_interoperability_case_passes_when_the_server_is_asleep() {
    let agimo = Agimo::with(go_server("sleep_after = \"1ms\"")).start().await;
    for case in CASES {
        run_case(agimo.address, case, &[]).await;
        // Some clients cancel so early that nothing is woken.
        eventually("the server to be asleep", || async {
            let status: Value =
                serde_json::from_str(&agimo.admin("/services").await.text()).unwrap();
            (status[0]["state"] == "asleep").then_some(())
        })
        .await;
    }
    assert!(agimo.sleep_count("127.0.0.1") >= CASES.len() - 2);
}

#[tokio::test]
#[ignore = "needs programs of others: cargo xtask test"]
async fn every_interoperability_case_passes_over_tls_on_both_sides() {
    let authority = Authority::new();
    authority.issue("a", &["127.0.0.1", "localhost"]);
    let ca = authority.path("ca.crt");
    let keys = format!("protocol = \"h2\"\ntls_ca = '{ca}'");
    let (certificate, key) = (authority.path("a.crt"), authority.path("a.key"));
    let server = go_server(&keys).replace(
        "\"-port\",",
        &format!(
            "\"-use_tls\", \"-tls_cert_file\", '{certificate}', \"-tls_key_file\", '{key}', \"-port\","
        ),
    );
    let agimo = Agimo::with(server + &authority.table("a")).with_tls().start().await;
    let tls = ["-use_tls", "-use_test_ca", "-ca_file", &ca];
    for case in CASES {
        run_case(agimo.tls_address(), case, &tls).await;
    }
}

/// What the client in Python finds.
fn expected() -> Vec<Value> {
    let services =
        ["agimo.test.Echo", "grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection"];
    vec![
        json!([3 << 20, "OK", "i", "t"]),
        json!(["x", "x", "x", "x", "x"]),
        json!("ab"),
        json!([["echo:0", "echo:1", "echo:2"], 0, "OK"]),
        json!(["FAILED_PRECONDITION", "told to fail \u{e9}%"]),
        json!("UNIMPLEMENTED"),
        json!(1),
        json!(1),
        json!(services),
    ]
}

async fn run_python(address: SocketAddr, authority: Option<&str>) -> Vec<Value> {
    let mut client = Command::new("python3");
    client.args(["-c", CLIENT, &address.to_string()]).args(authority);
    client.env("PYTHONPATH", installed("PYTHON_CLIENTS")).stdout(Stdio::piped()).kill_on_drop(true);
    let client = client.spawn().unwrap();
    let output = within("the client to end", client.wait_with_output()).await.unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test]
#[ignore = "needs programs of others: cargo xtask test"]
async fn calls_health_checks_and_reflection_of_a_python_client_pass_in_cleartext_and_over_tls() {
    let authority = Authority::new();
    authority.issue("a", &["grpc.test"]);
    let packages = installed("PYTHON_CLIENTS");
    let service = format!(
        "[[services]]\nhost = \"grpc.test\"\ntype = \"process\"\nsleep_after = \"1ms\"\n\
         command = [\"python3\", \"-c\", '''{SERVER}''']\nenv = {{ PYTHONPATH = '{}' }}\n{}",
        packages.display(),
        authority.table("a")
    );
    let agimo = Agimo::with(service).with_tls().start().await;
    assert_eq!(run_python(agimo.address, None).await, expected());
    agimo.until_sleep_count("grpc.test", 1).await;
    let ca = authority.path("ca.crt");
    assert_eq!(run_python(agimo.tls_address(), Some(&ca)).await, expected());
}
