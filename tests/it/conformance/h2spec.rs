//! h2spec against agimo, before an application with HTTP/1.1 and one with HTTP/2. `cargo xtask test` builds h2spec.

use std::net::SocketAddr;

use tokio::process::Command;

use super::installed;
use crate::support::agimo::Agimo;
use crate::support::node::http2_application;
use crate::support::python::PythonApplication;
use crate::support::tls::Authority;
use crate::support::within;

/// h2spec expects GOAWAY for an invalid preface. On a port that also serves HTTP/1.1 such bytes are a malformed request: agimo
/// answers it with an error of HTTP/1.1 and closes the connection.
const EXPECTED_FAILURES: &[&str] = &["Sends invalid connection preface"];

/// The number of tests in the three groups of this version.
const TESTS: usize = 145;

/// Runs all tests of h2spec against a service with this configuration, which is woken before: in cleartext, and over TLS. Some
/// of them need a response of some length, and one a response that does not begin before the request has ended: `path` gives both.
async fn assert_conforms(service: String, path: &str) {
    let authority = Authority::new();
    authority.issue("a", &["127.0.0.1"]);
    let agimo = Agimo::with(service + &authority.table("a")).with_tls().start().await;
    assert_eq!(agimo.get("127.0.0.1", path).await.status, 200);
    run(agimo.address, path, &[], EXPECTED_FAILURES).await;
    // ALPN has chosen HTTP/2 before.
    run(agimo.tls_address(), path, &["--tls", "--insecure"], &[]).await;
    assert_eq!(agimo.metric("agimo_panics_total").await, Some(0.0));
}

async fn run(address: SocketAddr, path: &str, tls: &[&str], expected_failures: &[&str]) {
    let port = address.port().to_string();
    let run = Command::new(installed("H2SPEC"))
        .args(["-h", "127.0.0.1", "-p", &port, "-P", path, "-o", "5"])
        .args(tls)
        .args(["generic", "http2", "hpack"])
        .kill_on_drop(true)
        .output();
    let output = within("h2spec to end", run).await.unwrap();
    let report = String::from_utf8_lossy(&output.stdout).into_owned();
    let (run, failures) = report.split_once("Failures:").unwrap_or((&report, ""));
    let passed = run.matches('\u{2714}').count();
    let failed: Vec<&str> = failures
        .lines()
        .filter_map(|line| line.trim().strip_prefix("\u{d7} ")?.split_once(": "))
        .map(|(_, title)| title)
        .collect();
    assert_eq!(failed, expected_failures, "{report}");
    assert_eq!(passed + failed.len(), TESTS, "{report}");
}

#[tokio::test]
#[ignore = "needs programs of others: cargo xtask test"]
async fn h2spec_passes_before_an_http1_application() {
    assert_conforms(PythonApplication::new("127.0.0.1").service(), "/cwd").await;
}

#[tokio::test]
#[ignore = "needs programs of others: cargo xtask test"]
async fn h2spec_passes_before_an_http2_application() {
    assert_conforms(http2_application("127.0.0.1", ""), "/whole").await;
}
