//! The Autobahn test suite for WebSockets (RFC 6455), directly against an application and through agimo: no case may differ.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
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
const WOKEN: &str = "agimo_wakes_total{host=\"127.0.0.1\",result=\"ready\"}";
const LIMIT: Duration = Duration::from_secs(120);

type Report = BTreeMap<String, Value>;

/// The configuration of a service with the application that echoes. The client names the server by its address.
fn echo(host: &str) -> String {
    format!(
        "[[services]]\nhost = \"{host}\"\ntype = \"process\"\ncommand = [\"node\", \"-e\", '''{ECHO}''']\n"
    )
}

/// The client with the cases, connected to one server.
struct Client {
    cases: ChildStdin,
    results: Lines<BufReader<ChildStdout>>,
    _process: Child,
}

impl Client {
    fn start(server: SocketAddr) -> Self {
        let mut command = Command::new("python3");
        command.args(["-c", CLIENT, &format!("ws://{server}/")]);
        command.env("PYTHONPATH", installed("PYTHON_CLIENTS"));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut process = command.spawn().unwrap();
        let cases = process.stdin.take().unwrap();
        let results = BufReader::new(process.stdout.take().unwrap()).lines();
        Self { cases, results, _process: process }
    }

    /// Runs these cases, up to eight at a time.
    async fn run(&mut self, cases: &str) -> Report {
        self.cases.write_all(format!("{cases}\n").as_bytes()).await.unwrap();
        let line = timeout(LIMIT, self.results.next_line()).await;
        let line = line.expect("the cases end in time").unwrap();
        serde_json::from_str(&line.expect("a result of the client")).unwrap()
    }
}

/// Runs all cases against the server at this address.
async fn run(address: SocketAddr) -> Report {
    let report = Client::start(address).run("1.* 2.* 3.* 4.* 5.* 6.* 7.*").await;
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

/// Compares what the client has found at this agimo with what the application itself does.
async fn assert_same(agimo: &Agimo, expected: &Report, found: &Report) {
    let differences: Vec<_> = expected
        .iter()
        .filter(|(case, result)| found.get(*case) != Some(result))
        .map(|(case, result)| format!("{case}: {result} became {:?}", found.get(case)))
        .collect();
    assert!(differences.is_empty(), "{differences:#?}");
    agimo.until_metric("agimo_active_requests{host=\"127.0.0.1\"}", 0.0).await;
}

/// Runs all cases against the application and against this agimo, and compares.
async fn assert_no_case_differs(agimo: &Agimo) {
    assert_same(agimo, &direct().await, &run(agimo.address).await).await;
}

#[tokio::test]
#[ignore = "needs programs of others: cargo xtask test"]
async fn no_case_differs_when_the_application_is_awake() {
    let agimo = Agimo::with(echo("127.0.0.1")).start().await;
    assert_eq!(agimo.get("127.0.0.1", "/").await.status, 200);
    assert_no_case_differs(&agimo).await;
}

#[tokio::test]
#[ignore = "needs programs of others: cargo xtask test"]
async fn no_case_differs_when_every_connection_finds_the_application_asleep() {
    let service = echo("127.0.0.1") + "sleep_after = \"1ms\"\n";
    let agimo = Agimo::with(service).start().await;
    let expected = direct().await;
    let cases: Vec<&str> = expected.keys().map(String::as_str).collect();
    let mut client = Client::start(agimo.address);
    let mut found = Report::new();
    // Eight connections at once are held for one wake; before the next eight it sleeps again.
    for cases in cases.chunks(8) {
        found.extend(client.run(&cases.join(" ")).await);
        let wakes = agimo.metric(WOKEN).await.expect("the application was woken");
        agimo.until_sleep_count("127.0.0.1", wakes as usize).await;
    }
    assert_same(&agimo, &expected, &found).await;
}

#[tokio::test]
#[ignore = "needs programs of others: cargo xtask test"]
async fn no_case_differs_over_http2() {
    // The client speaks HTTP/1.1 only: another agimo before the first one speaks HTTP/2 for it.
    let behind = Agimo::with(echo("127.0.0.1")).start().await;
    let service = service_at(behind.address, "127.0.0.1", "protocol = \"h2c\"");
    let agimo = Agimo::with(service).start().await;
    assert_no_case_differs(&agimo).await;
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
        assert_no_case_differs(&agimo).await;
    }
}
