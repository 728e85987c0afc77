//! The Autobahn test suite for WebSockets (RFC 6455), directly against an application and through agimo: no case may differ.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tokio::process::Command;
use tokio::time::timeout;

use super::installed;
use crate::support::agimo::Agimo;
use crate::support::application::service_at;
use crate::support::tls::Authority;

const ECHO: &str = include_str!("echo.js");
const CLIENT: &str = include_str!("autobahn.py");

/// The number of cases in the groups 1 to 7.
const CASES: usize = 246;
/// Those for which any answer of the server is right.
const INFORMATIONAL: [&str; 3] = ["7.1.6", "7.13.1", "7.13.2"];
const LIMIT: Duration = Duration::from_secs(120);

type Report = BTreeMap<String, Value>;

/// The configuration of a service with the application that echoes. The client names the server by its address.
fn echo(host: &str) -> String {
    format!(
        "[[services]]\nhost = \"{host}\"\ntype = \"process\"\ncommand = [\"node\", \"-e\", '''{ECHO}''']\n"
    )
}

/// Runs all cases against the server at this address.
async fn run(address: SocketAddr) -> Report {
    let mut client = Command::new("python3");
    client.args(["-c", CLIENT, &format!("ws://{address}/")]);
    client.env("PYTHONPATH", installed("PYTHON_CLIENTS")).stdout(Stdio::piped()).kill_on_drop(true);
    let output = timeout(LIMIT, client.spawn().unwrap().wait_with_output()).await;
    let output = output.expect("the cases end in time").unwrap();
    let report: Report = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report.len(), CASES);
    report
}

/// What the application itself does.
async fn direct() -> Report {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let mut server = Command::new("node");
    let server = server.args(["-e", ECHO]).env("PORT", address.port().to_string());
    let _server = server.kill_on_drop(true).spawn().unwrap();
    crate::support::eventually("the application to listen", || async {
        tokio::net::TcpStream::connect(address).await.ok()
    })
    .await;
    let report = run(address).await;
    for (case, result) in &report {
        let expected = if INFORMATIONAL.contains(&&**case) { "INFORMATIONAL" } else { "OK" };
        assert_eq!((&result[0], &result[1]), (&expected.into(), &expected.into()), "{case}");
    }
    report
}

/// Compares what the client finds at this agimo with what the application itself does.
async fn assert_same(agimo: &Agimo) {
    let (expected, found) = (direct().await, run(agimo.address).await);
    let differences: Vec<_> = expected
        .iter()
        .filter(|(case, result)| found.get(*case) != Some(result))
        .map(|(case, result)| format!("{case}: {result} became {}", found[case]))
        .collect();
    assert!(differences.is_empty(), "{differences:#?}");
    agimo.until_metric("agimo_active_requests{host=\"127.0.0.1\"}", 0.0).await;
}

#[tokio::test]
#[ignore = "needs programs of others: cargo xtask test"]
async fn no_case_differs_when_the_application_is_awake() {
    let agimo = Agimo::with(echo("127.0.0.1")).start().await;
    assert_eq!(agimo.get("127.0.0.1", "/").await.status, 200);
    assert_same(&agimo).await;
}

#[tokio::test]
#[ignore = "needs programs of others: cargo xtask test"]
async fn no_case_differs_when_each_connection_may_find_the_application_asleep() {
    // Between two cases the application is put to sleep as often as that is possible.
    let service = echo("127.0.0.1") + "sleep_after = \"1ms\"\n";
    let agimo = Agimo::with(service).start().await;
    assert_same(&agimo).await;
    assert!(agimo.sleep_count("127.0.0.1") > 0);
}

#[tokio::test]
#[ignore = "needs programs of others: cargo xtask test"]
async fn no_case_differs_over_http2() {
    // The client speaks HTTP/1.1 only: another agimo before the first one speaks HTTP/2 for it.
    let behind = Agimo::with(echo("127.0.0.1")).start().await;
    let service = service_at(behind.address, "127.0.0.1", "protocol = \"h2c\"");
    let agimo = Agimo::with(service).start().await;
    assert_same(&agimo).await;
}

#[tokio::test]
#[ignore = "needs programs of others: cargo xtask test"]
async fn no_case_differs_over_tls() {
    let authority = Authority::new();
    authority.issue("a", &["a.test"]);
    let behind = Agimo::with(echo("127.0.0.1") + &authority.table("a")).with_tls().start().await;
    for protocol in ["https", "h2"] {
        let keys = format!(
            "protocol = \"{protocol}\"\ntls_ca = '{}'\ntls_server_name = 'a.test'",
            authority.path("ca.crt")
        );
        let service = service_at(behind.tls_address(), "127.0.0.1", &keys);
        let agimo = Agimo::with(service).start().await;
        assert_same(&agimo).await;
    }
}
