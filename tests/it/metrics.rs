//! The metrics page: families, labels and values.

use std::collections::BTreeSet;
use std::process::Stdio;

use tokio::io::AsyncWriteExt;

use crate::support::agimo::Agimo;
use crate::support::application::ScriptedServer;
use crate::support::python::PythonApplication;
use crate::support::{eventually, within};

const RESPONSE: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";

/// The names of all metric families on a page.
fn families(page: &str) -> BTreeSet<String> {
    let names = page.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    names.map(|line| line.split(' ').next().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn every_configured_host_is_listed_from_the_start_and_not_after_its_removal() {
    let (one, other) =
        (ScriptedServer::answering(RESPONSE).await, ScriptedServer::answering(RESPONSE).await);
    let (a, b) = (one.service("a.test", ""), other.service("b.test", ""));
    let seed = "[[services]]\nhost = \"example.com\"\ntype = \"deploy\"\nnamespace = \"default\"\n\
                name = \"example\"\nservice_name = \"example\"\nservice_port = 80\n";
    let agimo = Agimo::with(format!("{a}{b}{seed}")).start().await;
    for host in ["a.test", "b.test", "example.com"] {
        for family in ["agimo_requests_total", "agimo_active_requests", "agimo_held_requests"] {
            assert_eq!(agimo.metric(&format!("{family}{{host=\"{host}\"}}")).await, Some(0.0));
        }
    }
    agimo.get("b.test", "/").await;
    agimo.reconfigure(&a);
    eventually("the removed hosts to leave the page", || async {
        let page = agimo.admin("/metrics").await.text();
        (!page.contains("b.test") && !page.contains("example.com")).then_some(())
    })
    .await;
    assert_eq!(agimo.metric("agimo_requests_total{host=\"a.test\"}").await, Some(0.0));
}

#[tokio::test]
async fn the_host_label_is_the_configured_host_and_not_what_a_client_sent() {
    let (one, other) =
        (ScriptedServer::answering(RESPONSE).await, ScriptedServer::answering(RESPONSE).await);
    let config = one.service("a.test", "") + &other.service("*.wild.test", "");
    let agimo = Agimo::with(config).start().await;
    for host in ["A.TEST", "a.test:8080", "a.test."] {
        assert_eq!(agimo.get(host, "/").await.status, 200, "{host}");
    }
    for host in ["one.wild.test", "TWO.wild.test"] {
        assert_eq!(agimo.get(host, "/").await.status, 200, "{host}");
    }
    assert_eq!(agimo.get("stranger.test", "/").await.reason(), Some("unknown-host"));
    assert_eq!(agimo.metric("agimo_requests_total{host=\"a.test\"}").await, Some(3.0));
    assert_eq!(agimo.metric("agimo_requests_total{host=\"*.wild.test\"}").await, Some(2.0));
    let page = agimo.admin("/metrics").await.text();
    let hosts = page.split("host=\"").skip(1).map(|rest| rest.split('"').next().unwrap());
    assert_eq!(hosts.collect::<BTreeSet<_>>(), BTreeSet::from(["a.test", "*.wild.test"]));
}

#[tokio::test]
async fn promtool_accepts_the_page() {
    let (one, other) =
        (ScriptedServer::answering(RESPONSE).await, ScriptedServer::answering(RESPONSE).await);
    let config = one.service("a.test", "") + &other.service("a.test", "path_prefix = \"/b\"");
    let agimo = Agimo::with(config).start().await;
    agimo.get("a.test", "/").await;
    agimo.get("a.test", "/b").await;
    let page = agimo.admin("/metrics").await;
    let media_type = page.header("content-type").unwrap();
    assert!(media_type.starts_with("text/plain; version=0.0.4"), "{media_type}");
    let mut promtool = tokio::process::Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool, from the Debian package prometheus");
    let mut stdin = promtool.stdin.take().unwrap();
    stdin.write_all(&page.body).await.unwrap();
    drop(stdin);
    let output = within("promtool", promtool.wait_with_output()).await.unwrap();
    let printed = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && printed.trim().is_empty(), "{printed}");
}

#[tokio::test]
async fn both_paths_of_the_page_have_the_same_families() {
    let server = ScriptedServer::answering(RESPONSE).await;
    let agimo = Agimo::with(server.service("a.test", "")).start().await;
    let page = families(&agimo.admin("/metrics").await.text());
    assert_eq!(page, families(&agimo.admin("/").await.text()));
    for family in [
        "agimo_requests_total",
        "agimo_active_requests",
        "agimo_held_requests",
        "agimo_wakes_total",
        "agimo_cold_start_seconds",
        "agimo_responses_total",
        "agimo_request_duration_seconds",
        "agimo_upstream_retries_total",
        "agimo_config_last_reload_successful",
        "agimo_config_last_reload_success_timestamp_seconds",
        "agimo_build_info",
        "process_cpu_seconds_total",
        "process_resident_memory_bytes",
        "process_open_fds",
        "process_start_time_seconds",
    ] {
        assert!(page.contains(family), "{family} in {page:?}");
    }
}

#[tokio::test]
async fn counters_and_gauges_match_a_known_sequence_of_requests() {
    let service = PythonApplication::new("a.test").env("START_DELAY", "0.3").service();
    let failing = "[[services]]\nhost = \"b.test\"\ntype = \"process\"\ncommand = [\"false\"]\n";
    let agimo = Agimo::with(service + failing).start().await;
    let value = async |family: &str, more: &str| {
        agimo.metric(&format!("agimo_{family}{{host=\"a.test\"{more}}}")).await.unwrap()
    };
    let mut first = agimo.connect().await;
    first.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n").await;
    agimo.until_metric("agimo_held_requests{host=\"a.test\"}", 1.0).await;
    assert_eq!(value("requests_total", "").await, 1.0);
    assert_eq!(value("active_requests", "").await, 1.0);
    assert_eq!(first.response().await.status, 200);
    let mut stream = agimo.connect().await;
    stream.send("GET /stream HTTP/1.1\r\nHost: a.test\r\n\r\n").await;
    stream.read_until("begin").await;
    assert_eq!(value("held_requests", "").await, 0.0);
    agimo.until_metric("agimo_active_requests{host=\"a.test\"}", 1.0).await;
    agimo.get("a.test", "/release").await;
    stream.read_until("0\r\n\r\n").await;
    agimo.until_metric("agimo_active_requests{host=\"a.test\"}", 0.0).await;
    assert_eq!(value("requests_total", "").await, 3.0);
    assert_eq!(value("responses_total", ",class=\"2xx\"").await, 3.0);
    assert_eq!(value("responses_total", ",class=\"5xx\"").await, 0.0);
    assert_eq!(value("request_duration_seconds_count", "").await, 3.0);
    assert!(value("request_duration_seconds_sum", "").await >= 0.3);
    assert_eq!(value("wakes_total", ",result=\"ready\"").await, 1.0);
    assert_eq!(value("wakes_total", ",result=\"failed\"").await, 0.0);
    let mut sums = Vec::new();
    agimo
        .until_metric("agimo_cold_start_seconds_count{host=\"a.test\",phase=\"forwarded\"}", 1.0)
        .await;
    for phase in ["start", "ready", "connect", "total"] {
        let label = format!(",phase=\"{phase}\"");
        assert_eq!(value("cold_start_seconds_count", &label).await, 1.0, "{phase}");
        sums.push(value("cold_start_seconds_sum", &label).await);
    }
    assert!(sums[0] < sums[1] && sums[1] <= sums[3], "start < ready <= total: {sums:?}");
    assert!(sums[1] >= 0.3 && sums[2] < sums[1], "{sums:?}");
    assert_eq!(agimo.get("b.test", "/").await.status, 503);
    let failed = "agimo_wakes_total{host=\"b.test\",result=\"failed\"}";
    assert_eq!(agimo.metric(failed).await, Some(1.0));
    let refused = "agimo_responses_total{host=\"b.test\",class=\"5xx\"}";
    assert_eq!(agimo.metric(refused).await, Some(1.0));
}
